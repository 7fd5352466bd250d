-- The tables of migrations/sqlite/0008_onboarding.sql, with the comments that say what they are for. Every
-- statement can be repeated.
CREATE TABLE IF NOT EXISTS signup_defaults (
    layer  VARCHAR(32) NOT NULL PRIMARY KEY,
    quotas MEDIUMTEXT NOT NULL
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS provisions (
    account         VARCHAR(128) NOT NULL PRIMARY KEY,
    initial_op      VARCHAR(128) NOT NULL,
    content         MEDIUMTEXT NOT NULL,
    source          VARCHAR(32) NOT NULL,
    inviter         VARCHAR(128),
    key_id          VARCHAR(128),
    initial_balance BIGINT NOT NULL,
    bonus           BIGINT NOT NULL,
    at              BIGINT NOT NULL
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS referrals (
    invitee VARCHAR(128) NOT NULL PRIMARY KEY,
    inviter VARCHAR(128) NOT NULL,
    source  VARCHAR(32) NOT NULL,
    reward  BIGINT NOT NULL,
    bonus   BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    KEY referrals_of_inviter (inviter, invitee)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS referral_balances (
    account VARCHAR(128) NOT NULL PRIMARY KEY,
    pending BIGINT NOT NULL CHECK (pending >= 0),
    history BIGINT NOT NULL CHECK (history >= 0)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS referral_transfers (
    account   VARCHAR(128) NOT NULL,
    op_id     VARCHAR(128) NOT NULL,
    amount    BIGINT NOT NULL CHECK (amount > 0),
    credit_op VARCHAR(128) NOT NULL,
    at        BIGINT NOT NULL,
    PRIMARY KEY (account, op_id)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
