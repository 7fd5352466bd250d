-- What a key is called, whether a retry of its calls may go on in another price group than its own, and when it
-- was made and changed; NULL for keys of an older version.
ALTER TABLE api_keys ADD COLUMN name TEXT;
ALTER TABLE api_keys ADD COLUMN cross_group_retry INTEGER NOT NULL DEFAULT 0 CHECK (cross_group_retry IN (0, 1));
ALTER TABLE api_keys ADD COLUMN created_at INTEGER;
ALTER TABLE api_keys ADD COLUMN changed_at INTEGER;
