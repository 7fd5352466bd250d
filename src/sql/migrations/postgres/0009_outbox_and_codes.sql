-- The tables of migrations/sqlite/0009, with the comments that say what they are for.

CREATE TABLE outbox (
    account    TEXT COLLATE "C" NOT NULL,
    op_id      TEXT COLLATE "C" NOT NULL,
    kind       TEXT   NOT NULL CHECK (kind IN ('topup', 'grant', 'redeem', 'referral', 'adjust')),
    amount     BIGINT NOT NULL CHECK (amount > 0),
    note       TEXT,
    created_at BIGINT NOT NULL,
    due_at     BIGINT,
    attempts   BIGINT NOT NULL,
    done_at    BIGINT,
    outcome    TEXT,
    PRIMARY KEY (account, op_id)
);
CREATE INDEX outbox_due ON outbox (due_at);

CREATE TABLE code_batches (
    op_id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    maker      TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    amount     BIGINT NOT NULL,
    expires_at BIGINT,
    size       BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE codes (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    batch      TEXT COLLATE "C" NOT NULL,
    sha256     BYTEA  NOT NULL UNIQUE CHECK (length(sha256) = 32),
    head       TEXT COLLATE "C" NOT NULL,
    tail       TEXT COLLATE "C" NOT NULL,
    name       TEXT   NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount BETWEEN 1 AND 4503599627370496),
    status     TEXT   NOT NULL CHECK (status IN ('enabled', 'disabled', 'used')),
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    used_by    TEXT COLLATE "C",
    used_at    BIGINT,
    CHECK ((status = 'used') = (used_by IS NOT NULL))
);
CREATE INDEX codes_batch ON codes (batch, id);
CREATE INDEX codes_head ON codes (head);

CREATE TABLE code_guesses (
    account  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    begun_at BIGINT NOT NULL,
    failures BIGINT NOT NULL
);
