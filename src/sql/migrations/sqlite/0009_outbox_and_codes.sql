-- Credits that SQL owes to Redis, each written in the transaction of its cause.
CREATE TABLE outbox (
    account    TEXT    NOT NULL,
    op_id      TEXT    NOT NULL,           -- of the credit in Redis and of its ledger entry
    kind       TEXT    NOT NULL CHECK (kind IN ('topup', 'grant', 'redeem', 'referral', 'adjust')),
    amount     INTEGER NOT NULL CHECK (amount > 0),
    note       TEXT,
    created_at INTEGER NOT NULL,
    due_at     INTEGER,                    -- the next look at it; NULL once it is over
    attempts   INTEGER NOT NULL,
    done_at    INTEGER,
    outcome    TEXT,                       -- 'credited' once the ledger has it, else why it never will
    PRIMARY KEY (account, op_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox (due_at);

-- Codes made by one call, under its op id: the call repeated makes no more.
CREATE TABLE code_batches (
    op_id      TEXT    NOT NULL PRIMARY KEY,
    maker      TEXT    NOT NULL,           -- random: tells the call that was first
    name       TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    expires_at INTEGER,
    size       INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Redemption codes. The code itself is nowhere: its hash, and a few characters to know it by.
CREATE TABLE codes (
    id         TEXT    NOT NULL PRIMARY KEY, -- ids grow with time
    batch      TEXT    NOT NULL,
    sha256     BLOB    NOT NULL UNIQUE CHECK (length(sha256) = 32),
    head       TEXT    NOT NULL,
    tail       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount BETWEEN 1 AND 4503599627370496),
    status     TEXT    NOT NULL CHECK (status IN ('enabled', 'disabled', 'used')),
    expires_at INTEGER,                    -- NULL: never
    created_at INTEGER NOT NULL,
    used_by    TEXT,
    used_at    INTEGER,
    CHECK ((status = 'used') = (used_by IS NOT NULL))
) STRICT;
CREATE INDEX codes_batch ON codes (batch, id);
CREATE INDEX codes_head ON codes (head);

-- Failed attempts of an account at redeeming, since `begun_at`.
CREATE TABLE code_guesses (
    account  TEXT    NOT NULL PRIMARY KEY,
    begun_at INTEGER NOT NULL,
    failures INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
