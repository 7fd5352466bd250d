-- The tables of migrations/sqlite, with the comments that say what they are for, for MySQL and MariaDB. Tables
-- cannot be made in a transaction here: every statement can be repeated, because a migration that died
-- half way is run again. Ids compare byte for byte; texts in an index are as long as ids can be.

CREATE TABLE IF NOT EXISTS constants (
    one           BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    shards        BIGINT NOT NULL CHECK (shards BETWEEN 1 AND 65535),
    units_per_usd BIGINT NOT NULL CHECK (units_per_usd > 0)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS server (
    one    BIGINT       NOT NULL PRIMARY KEY CHECK (one = 1),
    run_id VARCHAR(128) NOT NULL
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS shards (
    shard      BIGINT      NOT NULL PRIMARY KEY,
    generation BIGINT      NOT NULL,
    seq        BIGINT      NOT NULL CHECK (seq >= 0),
    digest     VARCHAR(40) NOT NULL CHECK (LENGTH(digest) = 40),
    fence      BIGINT      NOT NULL
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS generations (
    shard        BIGINT       NOT NULL,
    generation   BIGINT       NOT NULL,
    last_seq     BIGINT       NOT NULL DEFAULT 0,
    opened_at    BIGINT       NOT NULL,
    closed_at    BIGINT,
    start_digest VARCHAR(40)  NOT NULL CHECK (LENGTH(start_digest) = 40),
    run_id       VARCHAR(128) NOT NULL,
    cause        VARCHAR(16)  NOT NULL
        CHECK (cause IN ('unknown', 'first', 'restarted', 'behind', 'missing', 'diverged')),
    redone       BIGINT       NOT NULL DEFAULT 0,
    merged       BIGINT       NOT NULL DEFAULT 0,
    seen         VARCHAR(64),
    kept_until   BIGINT,
    PRIMARY KEY (shard, generation)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS accounts (
    account         VARCHAR(128) NOT NULL PRIMARY KEY,
    version         BIGINT       NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    deleted         BIGINT       NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    status          VARCHAR(16)  NOT NULL CHECK (status IN ('enabled', 'disabled', 'restricted')),
    price_group     TEXT         NOT NULL,
    credit_limit    BIGINT       NOT NULL,
    zone            VARCHAR(128) NOT NULL,
    trust           BIGINT CHECK (trust >= -1),
    on_unavailable  VARCHAR(8)   CHECK (on_unavailable IN ('deny', 'allow')), -- NULL: the deployment's setting
    name            TEXT,
    contact         TEXT,
    initial_balance BIGINT       NOT NULL DEFAULT 0,
    initial_op      VARCHAR(128) NOT NULL,
    created_at      BIGINT       NOT NULL,
    changed_at      BIGINT       NOT NULL,
    balance         BIGINT       NOT NULL DEFAULT 0 CHECK (balance BETWEEN -9007199254740992 AND 9007199254740992),
    used            BIGINT       NOT NULL DEFAULT 0 CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    requests        BIGINT       NOT NULL DEFAULT 0 CHECK (requests BETWEEN -9007199254740992 AND 9007199254740992)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS api_keys (
    account       VARCHAR(128) NOT NULL,
    key_id        VARCHAR(128) NOT NULL,
    status        VARCHAR(16)  NOT NULL CHECK (status IN ('enabled', 'disabled')),
    allowance     BIGINT,
    expires_at    BIGINT,
    models        MEDIUMTEXT   NOT NULL,
    networks      MEDIUMTEXT   NOT NULL,
    price_group   TEXT,
    secret_sha256 VARBINARY(32) UNIQUE CHECK (LENGTH(secret_sha256) = 32),
    PRIMARY KEY (account, key_id),
    FOREIGN KEY (account) REFERENCES accounts (account)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS limits (
    account  VARCHAR(128) NOT NULL,
    key_id   VARCHAR(128) NOT NULL,
    position BIGINT       NOT NULL,
    platform VARCHAR(128) NOT NULL,
    model    VARCHAR(128) NOT NULL,
    metric   VARCHAR(16)  NOT NULL CHECK (metric IN ('cost', 'tokens', 'requests', 'concurrency')),
    period   VARCHAR(32)  NOT NULL,
    cap      BIGINT,
    PRIMARY KEY (account, key_id, position),
    UNIQUE (account, key_id, platform, model, metric, period),
    FOREIGN KEY (account) REFERENCES accounts (account)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS key_usage (
    account  VARCHAR(128) NOT NULL,
    key_id   VARCHAR(128) NOT NULL,
    used     BIGINT       NOT NULL CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    requests BIGINT       NOT NULL CHECK (requests BETWEEN -9007199254740992 AND 9007199254740992),
    PRIMARY KEY (account, key_id),
    FOREIGN KEY (account) REFERENCES accounts (account)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS windows (
    account VARCHAR(128) NOT NULL,
    field   VARCHAR(512) NOT NULL,
    code    BIGINT       NOT NULL,
    start_s BIGINT       NOT NULL,
    used    BIGINT       NOT NULL CHECK (used BETWEEN -9007199254740992 AND 9007199254740992),
    PRIMARY KEY (account, field, code),
    FOREIGN KEY (account) REFERENCES accounts (account)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- There are no partial indexes: of rejected rows `posted` is NULL, and NULLs do not collide.
CREATE TABLE IF NOT EXISTS ledger (
    shard             BIGINT       NOT NULL,
    generation        BIGINT       NOT NULL,
    seq               BIGINT       NOT NULL,
    account           VARCHAR(128) NOT NULL,
    op_id             VARCHAR(128) NOT NULL,
    kind              VARCHAR(16)  NOT NULL,
    part              BIGINT       NOT NULL,
    status            VARCHAR(16)  NOT NULL CHECK (status IN ('posted', 'rejected')),
    at                BIGINT       NOT NULL,
    balance           BIGINT       NOT NULL,
    used              BIGINT       NOT NULL,
    requests          BIGINT       NOT NULL,
    tokens            BIGINT       NOT NULL,
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
    refund_of         VARCHAR(128),
    meta              MEDIUMTEXT,
    undone_by         VARCHAR(128),
    digest            VARCHAR(40)  NOT NULL,
    payload           MEDIUMBLOB   NOT NULL,
    posted            BIGINT AS (CASE WHEN status = 'posted' THEN 1 ELSE NULL END) STORED,
    PRIMARY KEY (shard, generation, seq),
    UNIQUE KEY ledger_operation (account, op_id, kind, part, posted),
    KEY ledger_of_account (account, generation, seq),
    KEY ledger_refunds (account, refund_of),
    KEY ledger_rejected (undone_by)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

DROP TRIGGER IF EXISTS ledger_keeps_rows;
CREATE TRIGGER ledger_keeps_rows BEFORE DELETE ON ledger FOR EACH ROW
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the ledger only grows: a row cannot be deleted';
DROP TRIGGER IF EXISTS ledger_keeps_content;
CREATE TRIGGER ledger_keeps_content BEFORE UPDATE ON ledger FOR EACH ROW
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the ledger only grows: a row cannot be changed';

CREATE TABLE IF NOT EXISTS tariffs (
    version     BIGINT   NOT NULL PRIMARY KEY,
    source      TEXT     NOT NULL,
    imported_at BIGINT   NOT NULL,
    content     LONGBLOB NOT NULL
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
