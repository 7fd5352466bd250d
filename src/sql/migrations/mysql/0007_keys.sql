-- See migrations/sqlite. MySQL knows no ADD COLUMN IF NOT EXISTS, and a migration that died half way is run again.
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'api_keys' AND column_name = 'cross_group_retry');
SET @step = IF(@missing,
    'ALTER TABLE api_keys ADD COLUMN name TEXT, ADD COLUMN cross_group_retry BIGINT NOT NULL DEFAULT 0 CHECK (cross_group_retry IN (0, 1)), ADD COLUMN created_at BIGINT, ADD COLUMN changed_at BIGINT',
    'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
