-- The table of migrations/sqlite/0010, with the comments that say what it is for.

CREATE TABLE raises (
    account TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    due_at  BIGINT NOT NULL
);
CREATE INDEX raises_due ON raises (due_at);
