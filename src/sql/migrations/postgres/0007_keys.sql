-- See migrations/sqlite.
ALTER TABLE api_keys
    ADD COLUMN name              TEXT,
    ADD COLUMN cross_group_retry BIGINT NOT NULL DEFAULT 0 CHECK (cross_group_retry IN (0, 1)),
    ADD COLUMN created_at        BIGINT,
    ADD COLUMN changed_at        BIGINT;
