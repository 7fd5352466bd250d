-- The tables of migrations/sqlite, with the comments that say what they are for. Ids compare byte for byte
-- (collation C), whatever the database's own order is.

CREATE TABLE constants (
    one           BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    shards        BIGINT NOT NULL CHECK (shards BETWEEN 1 AND 65535),
    units_per_usd BIGINT NOT NULL CHECK (units_per_usd > 0)
);

CREATE TABLE server (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    run_id TEXT   NOT NULL
);

CREATE TABLE shards (
    shard      BIGINT NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    seq        BIGINT NOT NULL CHECK (seq >= 0),
    digest     TEXT   NOT NULL CHECK (length(digest) = 40),
    fence      BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE generations (
    shard        BIGINT NOT NULL,
    generation   BIGINT NOT NULL,
    last_seq     BIGINT NOT NULL DEFAULT 0,
    opened_at    BIGINT NOT NULL,
    closed_at    BIGINT,
    start_digest TEXT   NOT NULL CHECK (length(start_digest) = 40),
    run_id       TEXT   NOT NULL,
    cause        TEXT   NOT NULL CHECK (cause IN ('unknown', 'first', 'restarted', 'behind', 'missing', 'diverged')),
    redone       BIGINT NOT NULL DEFAULT 0,
    merged       BIGINT NOT NULL DEFAULT 0,
    seen         TEXT,
    kept_until   BIGINT,
    PRIMARY KEY (shard, generation)
);

CREATE TABLE accounts (
    account         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version         BIGINT NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    deleted         BIGINT NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    status          TEXT   NOT NULL CHECK (status IN ('enabled', 'disabled', 'restricted')),
    price_group     TEXT   NOT NULL,
    credit_limit    BIGINT NOT NULL,
    zone            TEXT   NOT NULL,
    trust           BIGINT CHECK (trust >= -1),
    on_unavailable  TEXT   CHECK (on_unavailable IN ('deny', 'allow')), -- NULL: the deployment's setting
    name            TEXT,
    contact         TEXT,
    initial_balance BIGINT NOT NULL DEFAULT 0,
    initial_op      TEXT COLLATE "C" NOT NULL,
    created_at      BIGINT NOT NULL,
    changed_at      BIGINT NOT NULL,
    balance         BIGINT NOT NULL DEFAULT 0 CHECK (balance BETWEEN -9007199254740992 AND 9007199254740992),
    used            BIGINT NOT NULL DEFAULT 0 CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    requests        BIGINT NOT NULL DEFAULT 0 CHECK (requests BETWEEN -9007199254740992 AND 9007199254740992)
) WITH (fillfactor = 70);

CREATE TABLE api_keys (
    account       TEXT COLLATE "C" NOT NULL REFERENCES accounts (account),
    key_id        TEXT COLLATE "C" NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('enabled', 'disabled')),
    allowance     BIGINT,
    expires_at    BIGINT,
    models        TEXT NOT NULL,
    networks      TEXT NOT NULL,
    price_group   TEXT,
    secret_sha256 BYTEA UNIQUE CHECK (length(secret_sha256) = 32),
    PRIMARY KEY (account, key_id)
);

CREATE TABLE limits (
    account  TEXT COLLATE "C" NOT NULL REFERENCES accounts (account),
    key_id   TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    platform TEXT COLLATE "C" NOT NULL,
    model    TEXT COLLATE "C" NOT NULL,
    metric   TEXT NOT NULL CHECK (metric IN ('cost', 'tokens', 'requests', 'concurrency')),
    period   TEXT NOT NULL,
    cap      BIGINT,
    PRIMARY KEY (account, key_id, position),
    UNIQUE (account, key_id, platform, model, metric, period)
);

CREATE TABLE key_usage (
    account  TEXT COLLATE "C" NOT NULL REFERENCES accounts (account),
    key_id   TEXT COLLATE "C" NOT NULL,
    used     BIGINT NOT NULL CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    requests BIGINT NOT NULL CHECK (requests BETWEEN -9007199254740992 AND 9007199254740992),
    PRIMARY KEY (account, key_id)
) WITH (fillfactor = 70);

CREATE TABLE windows (
    account TEXT COLLATE "C" NOT NULL REFERENCES accounts (account),
    field   TEXT COLLATE "C" NOT NULL,
    code    BIGINT NOT NULL,
    start_s BIGINT NOT NULL,
    used    BIGINT NOT NULL CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    PRIMARY KEY (account, field, code)
) WITH (fillfactor = 70);

CREATE TABLE ledger (
    shard             BIGINT NOT NULL,
    generation        BIGINT NOT NULL,
    seq               BIGINT NOT NULL,
    account           TEXT COLLATE "C" NOT NULL,
    op_id             TEXT COLLATE "C" NOT NULL,
    kind              TEXT COLLATE "C" NOT NULL,
    part              BIGINT NOT NULL,
    status            TEXT   NOT NULL CHECK (status IN ('posted', 'rejected')),
    at                BIGINT NOT NULL,
    balance           BIGINT NOT NULL,
    used              BIGINT NOT NULL,
    requests          BIGINT NOT NULL,
    tokens            BIGINT NOT NULL,
    key_id            TEXT,
    platform          TEXT,
    model             TEXT,
    price_group       TEXT,
    prompt_tokens     BIGINT,
    completion_tokens BIGINT,
    cached_tokens     BIGINT,
    duration_ms       BIGINT,
    stream            BIGINT,
    ip                TEXT,
    outcome           TEXT,
    sub_kind          TEXT,
    note              TEXT,
    refund_of         TEXT COLLATE "C",
    meta              TEXT,
    undone_by         TEXT COLLATE "C",
    digest            TEXT   NOT NULL,
    payload           BYTEA  NOT NULL,
    PRIMARY KEY (shard, generation, seq)
);

CREATE UNIQUE INDEX ledger_operation ON ledger (account, op_id, kind, part) WHERE status = 'posted';
CREATE INDEX ledger_of_account ON ledger (account, generation, seq);
CREATE INDEX ledger_refunds ON ledger (account, refund_of) WHERE refund_of IS NOT NULL;
CREATE INDEX ledger_rejected ON ledger (at, shard, generation, seq) WHERE undone_by IS NOT NULL;

CREATE FUNCTION ledger_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger only grows: a row cannot be changed or deleted';
END
$$;
CREATE TRIGGER ledger_keeps_rows BEFORE UPDATE OR DELETE ON ledger FOR EACH ROW EXECUTE FUNCTION ledger_keeps();
CREATE TRIGGER ledger_keeps_all BEFORE TRUNCATE ON ledger FOR EACH STATEMENT EXECUTE FUNCTION ledger_keeps();

CREATE TABLE tariffs (
    version     BIGINT NOT NULL PRIMARY KEY,
    source      TEXT   NOT NULL,
    imported_at BIGINT NOT NULL,
    content     BYTEA  NOT NULL
);
