-- The digest chain runs through generations, each belongs to one Redis process, and its row is the audit
-- of how it came to be.
ALTER TABLE generations ADD COLUMN start_digest TEXT NOT NULL DEFAULT '0000000000000000000000000000000000000000'
    CHECK (length(start_digest) = 40);
ALTER TABLE generations ADD COLUMN run_id TEXT NOT NULL DEFAULT '';
ALTER TABLE generations ADD COLUMN cause TEXT NOT NULL DEFAULT 'unknown'
    CHECK (cause IN ('unknown', 'first', 'restarted', 'behind', 'missing', 'diverged'));
ALTER TABLE generations ADD COLUMN redone INTEGER NOT NULL DEFAULT 0; -- ledger rows applied to Redis again
ALTER TABLE generations ADD COLUMN merged INTEGER NOT NULL DEFAULT 0; -- entries of a branch of Redis' added to the ledger
ALTER TABLE generations ADD COLUMN seen TEXT;          -- <generation>-<seq> known to have been in Redis and lost
ALTER TABLE generations ADD COLUMN kept_until INTEGER; -- Redis' time at the last thing it kept

-- Of a rejected row that changed anything: the op id of the credit or debit that takes it back.
ALTER TABLE ledger ADD COLUMN undone_by TEXT;
DROP TRIGGER ledger_keeps_content;
UPDATE ledger SET undone_by = 'dup:' || generation || '-' || shard || '-' || seq
    WHERE status = 'rejected' AND balance <> 0;
CREATE TRIGGER ledger_keeps_content BEFORE UPDATE ON ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: a row cannot be changed');
END;
CREATE INDEX ledger_rejected ON ledger (at, shard, generation, seq) WHERE undone_by IS NOT NULL;
