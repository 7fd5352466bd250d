-- Platform quotas that new accounts get, by layer: `system`, or a source of sign-ups.
CREATE TABLE signup_defaults (
    layer  TEXT NOT NULL PRIMARY KEY,
    quotas TEXT NOT NULL              -- JSON: {"openai":{"daily":1000000000,"weekly":null,"monthly":0}}, in units
) STRICT, WITHOUT ROWID;

-- How an account was provisioned in its present life (initial_op is that of the account).
CREATE TABLE provisions (
    account         TEXT    NOT NULL PRIMARY KEY,
    initial_op      TEXT    NOT NULL,
    content         TEXT    NOT NULL, -- JSON: what was asked for; the same again is the same call
    source          TEXT    NOT NULL,
    inviter         TEXT,
    key_id          TEXT,
    initial_balance INTEGER NOT NULL,
    bonus           INTEGER NOT NULL,
    at              INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who invited whom; a name is invited once, whatever becomes of the account.
CREATE TABLE referrals (
    invitee TEXT    NOT NULL PRIMARY KEY,
    inviter TEXT    NOT NULL,
    source  TEXT    NOT NULL,
    reward  INTEGER NOT NULL,         -- units to the inviter's pending balance
    bonus   INTEGER NOT NULL,         -- units to the invitee's balance
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX referrals_of_inviter ON referrals (inviter, invitee);

CREATE TABLE referral_balances (
    account TEXT    NOT NULL PRIMARY KEY,
    pending INTEGER NOT NULL CHECK (pending >= 0),
    history INTEGER NOT NULL CHECK (history >= 0)
) STRICT, WITHOUT ROWID;

-- Units moved from pending to the balance; the credit itself is a row of the outbox.
CREATE TABLE referral_transfers (
    account   TEXT    NOT NULL,
    op_id     TEXT    NOT NULL,
    amount    INTEGER NOT NULL CHECK (amount > 0),
    credit_op TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (account, op_id)
) STRICT, WITHOUT ROWID;
