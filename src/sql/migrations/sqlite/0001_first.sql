-- What money was counted with; written once (Posting::constants).
CREATE TABLE constants (
    one           INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    shards        INTEGER NOT NULL CHECK (shards BETWEEN 1 AND 65535),
    units_per_usd INTEGER NOT NULL CHECK (units_per_usd > 0)
) STRICT;

-- The Redis process whose append-only file was last rewritten by attach.
CREATE TABLE server (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    run_id TEXT    NOT NULL
) STRICT;

-- The mark of each shard: up to where its stream is in the ledger. Moves only together with the data.
CREATE TABLE shards (
    shard      INTEGER NOT NULL PRIMARY KEY,
    generation INTEGER NOT NULL,
    seq        INTEGER NOT NULL CHECK (seq >= 0),
    digest     TEXT    NOT NULL CHECK (length(digest) = 40),
    fence      INTEGER NOT NULL
) STRICT;

CREATE TABLE generations (
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL DEFAULT 0, -- final once closed_at is set
    opened_at  INTEGER NOT NULL,           -- instants are milliseconds since 1970 UTC everywhere
    closed_at  INTEGER,
    PRIMARY KEY (shard, generation)
) STRICT, WITHOUT ROWID;

-- Policy of an account, and the sums of its ledger. A deleted account keeps its row: its ledger
-- goes on, and its version must keep growing.
CREATE TABLE accounts (
    account         TEXT    NOT NULL PRIMARY KEY,
    version         INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    deleted         INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    status          TEXT    NOT NULL CHECK (status IN ('enabled', 'disabled', 'restricted')),
    price_group     TEXT    NOT NULL,
    credit_limit    INTEGER NOT NULL,
    zone            TEXT    NOT NULL,
    trust           INTEGER CHECK (trust >= -1), -- NULL: the deployment's setting; -1: off; else units
    name            TEXT,
    contact         TEXT,
    initial_balance INTEGER NOT NULL DEFAULT 0,
    initial_op      TEXT    NOT NULL,            -- v<version at creation>
    created_at      INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL,
    balance         INTEGER NOT NULL DEFAULT 0 CHECK (balance BETWEEN -9007199254740992 AND 9007199254740992),
    used            INTEGER NOT NULL DEFAULT 0 CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    requests        INTEGER NOT NULL DEFAULT 0 CHECK (requests BETWEEN -9007199254740992 AND 9007199254740992)
) STRICT;

CREATE TABLE api_keys (
    account       TEXT NOT NULL REFERENCES accounts (account),
    key_id        TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('enabled', 'disabled')),
    allowance     INTEGER,
    expires_at    INTEGER,
    models        TEXT NOT NULL, -- JSON array of names
    networks      TEXT NOT NULL, -- JSON array of networks
    price_group   TEXT,
    secret_sha256 BLOB UNIQUE CHECK (length(secret_sha256) = 32),
    PRIMARY KEY (account, key_id)
) STRICT, WITHOUT ROWID;

-- Of the account (key_id '') and of its keys.
CREATE TABLE limits (
    account  TEXT    NOT NULL REFERENCES accounts (account),
    key_id   TEXT    NOT NULL,
    position INTEGER NOT NULL,
    platform TEXT    NOT NULL,
    model    TEXT    NOT NULL,
    metric   TEXT    NOT NULL CHECK (metric IN ('cost', 'tokens', 'requests', 'concurrency')),
    period   TEXT    NOT NULL, -- '' for concurrency
    cap      INTEGER,          -- NULL: unlimited
    PRIMARY KEY (account, key_id, position),
    UNIQUE (account, key_id, platform, model, metric, period)
) STRICT, WITHOUT ROWID;

-- Sums of the ledger per key and per window. They outlive the key and the limit: what is removed
-- and added again finds its usage.
CREATE TABLE key_usage (
    account  TEXT    NOT NULL REFERENCES accounts (account),
    key_id   TEXT    NOT NULL,
    used     INTEGER NOT NULL CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    requests INTEGER NOT NULL CHECK (requests BETWEEN -9007199254740992 AND 9007199254740992),
    PRIMARY KEY (account, key_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE windows (
    account TEXT    NOT NULL REFERENCES accounts (account),
    field   TEXT    NOT NULL, -- the group's name in Redis: w␟platform␟model␟key
    code    INTEGER NOT NULL, -- metric and period, see quota/limit.rs
    start_s INTEGER NOT NULL,
    used    INTEGER NOT NULL CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    PRIMARY KEY (account, field, code)
) STRICT, WITHOUT ROWID;

-- One row for every entry of every stream. The payload is the entry as the stream held it, byte for
-- byte, so that the digest can be checked here too; the other columns are for people.
CREATE TABLE ledger (
    shard             INTEGER NOT NULL,
    generation        INTEGER NOT NULL,
    seq               INTEGER NOT NULL,
    account           TEXT    NOT NULL,
    op_id             TEXT    NOT NULL,
    kind              TEXT    NOT NULL,
    part              INTEGER NOT NULL, -- number of a partial settle, else 0
    status            TEXT    NOT NULL CHECK (status IN ('posted', 'rejected')),
    at                INTEGER NOT NULL,
    balance           INTEGER NOT NULL, -- deltas
    used              INTEGER NOT NULL,
    requests          INTEGER NOT NULL,
    tokens            INTEGER NOT NULL,
    key_id            TEXT,
    platform          TEXT,
    model             TEXT,
    price_group       TEXT,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    cached_tokens     INTEGER,
    duration_ms       INTEGER,
    stream            INTEGER,
    ip                TEXT,
    outcome           TEXT,
    sub_kind          TEXT,
    note              TEXT,
    refund_of         TEXT,
    meta              TEXT,
    digest            TEXT    NOT NULL,
    payload           BLOB    NOT NULL,
    PRIMARY KEY (shard, generation, seq)
) STRICT;

CREATE UNIQUE INDEX ledger_operation ON ledger (account, op_id, kind, part) WHERE status = 'posted';
CREATE INDEX ledger_refunds ON ledger (account, refund_of) WHERE refund_of IS NOT NULL;

CREATE TRIGGER ledger_keeps_rows BEFORE DELETE ON ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: a row cannot be deleted');
END;

CREATE TRIGGER ledger_keeps_content BEFORE UPDATE ON ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: a row cannot be changed');
END;

CREATE TABLE tariffs (
    version     INTEGER NOT NULL PRIMARY KEY,
    source      TEXT    NOT NULL,
    imported_at INTEGER NOT NULL,
    content     BLOB    NOT NULL
) STRICT;
