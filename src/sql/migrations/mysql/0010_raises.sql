-- The table of migrations/sqlite/0010, with the comments that say what it is for.

CREATE TABLE IF NOT EXISTS raises (
    account VARCHAR(128) NOT NULL PRIMARY KEY,
    version BIGINT       NOT NULL,
    due_at  BIGINT       NOT NULL,
    KEY raises_due (due_at)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
