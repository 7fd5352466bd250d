-- The tables of migrations/sqlite/0009, with the comments that say what they are for.

CREATE TABLE IF NOT EXISTS outbox (
    account    VARCHAR(128) NOT NULL,
    op_id      VARCHAR(128) NOT NULL,
    kind       VARCHAR(16)  NOT NULL CHECK (kind IN ('topup', 'grant', 'redeem', 'referral', 'adjust')),
    amount     BIGINT       NOT NULL CHECK (amount > 0),
    note       TEXT,
    created_at BIGINT       NOT NULL,
    due_at     BIGINT,
    attempts   BIGINT       NOT NULL,
    done_at    BIGINT,
    outcome    VARCHAR(64),
    PRIMARY KEY (account, op_id),
    KEY outbox_due (due_at)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS code_batches (
    op_id      VARCHAR(128) NOT NULL PRIMARY KEY,
    maker      VARCHAR(64)  NOT NULL,
    name       VARCHAR(128) NOT NULL,
    amount     BIGINT       NOT NULL,
    expires_at BIGINT,
    size       BIGINT       NOT NULL,
    created_at BIGINT       NOT NULL
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS codes (
    id         VARCHAR(64)   NOT NULL PRIMARY KEY,
    batch      VARCHAR(128)  NOT NULL,
    sha256     VARBINARY(32) NOT NULL UNIQUE CHECK (LENGTH(sha256) = 32),
    head       VARCHAR(16)   NOT NULL,
    tail       VARCHAR(16)   NOT NULL,
    name       VARCHAR(128)  NOT NULL,
    amount     BIGINT        NOT NULL CHECK (amount BETWEEN 1 AND 4503599627370496),
    status     VARCHAR(16)   NOT NULL CHECK (status IN ('enabled', 'disabled', 'used')),
    expires_at BIGINT,
    created_at BIGINT        NOT NULL,
    used_by    VARCHAR(128),
    used_at    BIGINT,
    CHECK ((status = 'used') = (used_by IS NOT NULL)),
    KEY codes_batch (batch, id),
    KEY codes_head (head)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS code_guesses (
    account  VARCHAR(128) NOT NULL PRIMARY KEY,
    begun_at BIGINT       NOT NULL,
    failures BIGINT       NOT NULL
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
