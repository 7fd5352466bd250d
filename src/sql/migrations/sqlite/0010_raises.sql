-- Policy versions that Redis may not have yet, each written in the transaction that raised it in `accounts`.
CREATE TABLE raises (
    account TEXT    NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    due_at  INTEGER NOT NULL               -- when to look whether whoever raised it has told Redis
) STRICT, WITHOUT ROWID;
CREATE INDEX raises_due ON raises (due_at);
