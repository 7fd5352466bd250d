-- The tables of migrations/sqlite/0008_onboarding.sql, with the comments that say what they are for.
CREATE TABLE signup_defaults (
    layer  TEXT NOT NULL PRIMARY KEY,
    quotas TEXT NOT NULL
);

CREATE TABLE provisions (
    account         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    initial_op      TEXT   NOT NULL,
    content         TEXT   NOT NULL,
    source          TEXT   NOT NULL,
    inviter         TEXT COLLATE "C",
    key_id          TEXT,
    initial_balance BIGINT NOT NULL,
    bonus           BIGINT NOT NULL,
    at              BIGINT NOT NULL
);

CREATE TABLE referrals (
    invitee TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    inviter TEXT COLLATE "C" NOT NULL,
    source  TEXT   NOT NULL,
    reward  BIGINT NOT NULL,
    bonus   BIGINT NOT NULL,
    at      BIGINT NOT NULL
);
CREATE INDEX referrals_of_inviter ON referrals (inviter, invitee);

CREATE TABLE referral_balances (
    account TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    pending BIGINT NOT NULL CHECK (pending >= 0),
    history BIGINT NOT NULL CHECK (history >= 0)
);

CREATE TABLE referral_transfers (
    account   TEXT COLLATE "C" NOT NULL,
    op_id     TEXT COLLATE "C" NOT NULL,
    amount    BIGINT NOT NULL CHECK (amount > 0),
    credit_op TEXT   NOT NULL,
    at        BIGINT NOT NULL,
    PRIMARY KEY (account, op_id)
);
