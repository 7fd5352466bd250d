//! Referrals: who invited whom, and what the inviter may move to its balance.

use serde_json::{Value as Json, json};

use super::{
    changes,
    outbox::owe,
    policy::row_of,
    policy_rows::corrupt,
    session::{Dialect, Row, Session},
};
use crate::{
    engine::{
        adjust::CreditKind,
        ports::{Invitee, Owed, Provisioning, Referrals, StoreError, Transfer, Transferred},
    },
    quota::{
        change::{Change, Subject},
        clock::{Millis, local_now},
        defaults::Source,
        id::{AccountId, Actor, OpId},
    },
};

/// Invitees on one page at most, and one more that tells whether there is another.
const PAGE_MAX: u32 = 1001;

/// Keeps a new account's referral and gives its inviter the reward; false when that name was invited
/// before. The caller has locked the invitee's row.
pub(super) async fn add(
    session: &mut dyn Session,
    dialect: &Dialect,
    by: &Actor,
    inviter: &AccountId,
    ask: &Provisioning,
    now: Millis,
) -> Result<bool, StoreError> {
    let invitee = ask.account.as_str();
    let known = session.fetch("SELECT 1 FROM referrals WHERE invitee = ?".into(), &[invitee.into()]).await?;
    if !known.is_empty() {
        return Ok(false);
    }
    let values = [
        invitee.into(),
        inviter.as_str().into(),
        ask.source.as_str().into(),
        ask.terms.inviter_reward.into(),
        ask.terms.invitee_reward.into(),
        now.0.into(),
    ];
    let insert = "INSERT INTO referrals (invitee, inviter, source, reward, bonus, at) VALUES (?, ?, ?, ?, ?, ?)";
    session.execute(insert.into(), &values).await?;
    let keep_first = (dialect.keep_first)("account");
    let begin = format!("INSERT INTO referral_balances (account, pending, history) VALUES (?, 0, 0){keep_first}");
    session.execute(begin.into(), &[inviter.as_str().into()]).await?;
    let reward = ask.terms.inviter_reward;
    let add = "UPDATE referral_balances SET pending = pending + ?, history = history + ? WHERE account = ?";
    session.execute(add.into(), &[reward.into(), reward.into(), inviter.as_str().into()]).await?;
    if reward > 0 {
        let [pending, history] = sums(session, inviter, "").await?;
        let mut after = doc(pending, history);
        after["invitee"] = invitee.into();
        let before = doc(pending - reward, history - reward);
        let change = Change::new(by, "reward", Subject::account(inviter), before, after);
        changes::record(session, &change, now).await?;
    }
    Ok(true)
}

/// What is pending of an account that is being deleted goes with it: how much that was.
pub(super) async fn forfeit(
    session: &mut dyn Session,
    dialect: &Dialect,
    by: &Actor,
    account: &AccountId,
    now: Millis,
) -> Result<i64, StoreError> {
    let [pending, history] = sums(session, account, dialect.for_update).await?;
    if pending > 0 {
        let sql = "UPDATE referral_balances SET pending = 0 WHERE account = ?";
        session.execute(sql.into(), &[account.as_str().into()]).await?;
        let change = Change::new(by, "forfeit", Subject::account(account), doc(pending, history), doc(0, history));
        changes::record(session, &change, now).await?;
    }
    Ok(pending)
}

/// An account's rewards for the audit.
fn doc(pending: i64, history: i64) -> Json {
    json!({"referral_pending": pending, "referral_history": history})
}

/// Pending, and all there ever was.
async fn sums(session: &mut dyn Session, account: &AccountId, for_update: &str) -> Result<[i64; 2], StoreError> {
    let sql = format!("SELECT pending, history FROM referral_balances WHERE account = ?{for_update}");
    let rows = session.fetch(sql.into(), &[account.as_str().into()]).await?;
    rows.first().map_or(Ok([0, 0]), |row| Ok([row.int(0)?, row.int(1)?]))
}

/// `None`: no such account.
pub(super) async fn of(
    session: &mut dyn Session,
    account: &AccountId,
    cursor: Option<&AccountId>,
    most: u32,
) -> Result<Option<Referrals>, StoreError> {
    if !is_alive(session, account, "").await? {
        return Ok(None);
    }
    let id = account.as_str();
    let [pending, history] = sums(session, account, "").await?;
    let page = "SELECT invitee, source, reward, bonus, at FROM referrals WHERE inviter = ? AND invitee > ? \
                ORDER BY invitee LIMIT ?";
    let values = [id.into(), cursor.map_or("", AccountId::as_str).into(), most.min(PAGE_MAX).into()];
    let rows = session.fetch(page.into(), &values).await?;
    let invitees = rows.iter().map(read_invitee).collect::<Result<_, _>>()?;
    Ok(Some(Referrals { pending, history, invitees }))
}

async fn is_alive(session: &mut dyn Session, account: &AccountId, for_update: &str) -> Result<bool, StoreError> {
    Ok(row_of(session, account, for_update).await?.is_some_and(|row| !row.deleted))
}

fn read_invitee(row: &Row) -> Result<Invitee, StoreError> {
    let source = row.text(1)?;
    Ok(Invitee {
        account: AccountId::new(row.text(0)?).map_err(corrupt)?,
        source: Source::parse(source).ok_or_else(|| corrupt(format!("source {source}")))?,
        reward: row.int(2)?,
        bonus: row.int(3)?,
        at: Millis(row.int(4)?),
    })
}

/// Moves units, all or nothing. Nothing is changed unless the answer is `Done` with `first`.
pub(super) async fn transfer(
    session: &mut dyn Session,
    dialect: &Dialect,
    by: &Actor,
    ask: &Transfer,
) -> Result<Transferred, StoreError> {
    if !is_alive(session, &ask.account, dialect.for_update).await? {
        return Ok(Transferred::NoAccount);
    }
    let [pending, history] = sums(session, &ask.account, dialect.for_update).await?;
    let id = ask.account.as_str();
    let known = "SELECT amount, credit_op FROM referral_transfers WHERE account = ? AND op_id = ?";
    let known = session.fetch(known.into(), &[id.into(), ask.op_id.as_str().into()]).await?;
    if let Some(row) = known.first() {
        if row.int(0)? != ask.amount {
            return Ok(Transferred::Conflict);
        }
        let owed = owed(ask, OpId::new(row.text(1)?).map_err(corrupt)?);
        return Ok(Transferred::Done { owed, pending, first: false });
    }
    if ask.amount < ask.least {
        return Ok(Transferred::TooLittle);
    }
    if ask.amount > pending {
        return Ok(Transferred::Lacking { pending });
    }
    let now = local_now();
    let take = "UPDATE referral_balances SET pending = pending - ? WHERE account = ?";
    session.execute(take.into(), &[ask.amount.into(), id.into()]).await?;
    let values = [id.into(), ask.op_id.as_str().into(), ask.amount.into(), ask.credit_op.as_str().into(), now.0.into()];
    let keep = "INSERT INTO referral_transfers (account, op_id, amount, credit_op, at) VALUES (?, ?, ?, ?, ?)";
    session.execute(keep.into(), &values).await?;
    let owed = owed(ask, ask.credit_op.clone());
    owe(session, &owed, now).await?;
    let left = pending - ask.amount;
    let [before, after] = [pending, left].map(|pending| doc(pending, history));
    let change = Change::new(by, "transfer", Subject::account(&ask.account), before, after).with_op(&ask.op_id);
    changes::record(session, &change, now).await?;
    Ok(Transferred::Done { owed, pending: left, first: true })
}

fn owed(ask: &Transfer, op_id: OpId) -> Owed {
    Owed { account: ask.account.clone(), op_id, kind: CreditKind::Referral, amount: ask.amount, note: None }
}
