//! How a code is redeemed: one transaction that marks it as used, leaves the credit in the outbox, and
//! counts what failed. Locks are taken in the order attempts, code, so that no two wait for each other.

use std::collections::BTreeMap;

use super::{
    Store, changes,
    codes::{COLUMNS, doc, read_code, subject},
    outbox::owe,
    policy_rows::corrupt,
    session::{Dialect, Row, Session},
};
use crate::{
    engine::ports::{GuessBound, Owed, Redemption, StoreError},
    quota::{
        change::Change,
        clock::Millis,
        code::{Code, CodeState, Use, code_of_credit},
        entry::{Entry, Kind},
        id::{AccountId, Actor},
    },
};

/// Failed attempts of an account, since the first of them.
#[derive(Clone, Copy)]
struct Guesses {
    begun_at: i64,
    failures: i64,
}

pub(super) async fn redeem(
    store: &Store,
    by: &Actor,
    account: &AccountId,
    sha256: &[u8; 32],
    bound: GuessBound,
    now: Millis,
) -> Result<Redemption, StoreError> {
    let dialect = store.backend.dialect();
    // Whoever has failed too often costs a read, and stands in nobody's way.
    let known = guesses(&mut *store.read().await?, account, "").await?;
    if let Some(until) = known.and_then(|known| known.barred(bound, now)) {
        return Ok(Redemption::TooMany { until });
    }
    let mut session = store.write().await?;
    let known = lock_guesses(&mut *session, dialect, account, now).await?;
    if let Some(until) = known.barred(bound, now) {
        return Ok(Redemption::TooMany { until });
    }
    let alive = "SELECT version FROM accounts WHERE account = ? AND deleted = 0";
    if session.fetch(alive.into(), &[account.as_str().into()]).await?.is_empty() {
        return Ok(Redemption::NoAccount);
    }
    let sql = format!("SELECT {COLUMNS} FROM codes WHERE sha256 = ?{}", dialect.for_update);
    let rows = session.fetch(sql.into(), &[sha256.as_slice().into()]).await?;
    let found = rows.first().map(read_code).transpose()?;
    let redemption = judge(found, account, now);
    match &redemption {
        Redemption::Done { first: false, .. } => return Ok(redemption),
        Redemption::Done { code, first: true } => hand_over(&mut *session, by, account, code, now).await?,
        _ => count_failure(&mut *session, account, known, bound, now).await?,
    }
    session.commit().await?;
    Ok(redemption)
}

/// What the code, as it was found, is for the account.
fn judge(found: Option<Code>, account: &AccountId, now: Millis) -> Redemption {
    let Some(code) = found else { return Redemption::Unknown };
    match (code.state(now), &code.used) {
        (_, Some(used)) if used.by == *account => Redemption::Done { code: Box::new(code), first: false },
        (CodeState::Used, _) => Redemption::Used,
        (CodeState::Disabled, _) => Redemption::Disabled,
        (CodeState::Expired, _) => Redemption::Expired,
        (CodeState::Enabled, _) => Redemption::Done { code: Box::new(code), first: true },
    }
}

async fn hand_over(
    session: &mut dyn Session,
    by: &Actor,
    account: &AccountId,
    code: &Code,
    now: Millis,
) -> Result<(), StoreError> {
    use_up(session, by, account, code, now).await?;
    owe(session, &Owed::for_code(account, code), now).await
}

/// The credits of codes among entries, by the ids of the codes.
pub(super) fn credits_of_codes<'e>(entries: impl Iterator<Item = &'e Entry>) -> BTreeMap<&'e str, &'e Entry> {
    let mut credits = BTreeMap::new();
    for entry in entries.filter(|entry| entry.kind == Kind::Credit) {
        if let Some(id) = code_of_credit(&entry.op_id) {
            credits.entry(id).or_insert(entry);
        }
    }
    credits
}

/// The credits of a batch mark their codes as used by whoever was credited. They are, unless SQL was restored from a
/// copy: then nobody else may redeem them again. One after the other by their ids, as a purge locks them.
pub(super) async fn mark_redeemed(
    session: &mut dyn Session,
    dialect: &Dialect,
    credits: BTreeMap<&str, &Entry>,
) -> Result<(), StoreError> {
    for (id, entry) in credits {
        let sql = format!("SELECT {COLUMNS} FROM codes WHERE id = ? AND status <> 'used'{}", dialect.for_update);
        let rows = session.fetch(sql.into(), &[id.into()]).await?;
        let Some(code) = rows.first().map(read_code).transpose()? else { continue };
        tracing::warn!(code = id, account = %entry.account, "a code was redeemed that the database has as unused");
        use_up(session, &Actor::account(&entry.account), &entry.account, &code, entry.at).await?;
    }
    Ok(())
}

/// Marks a locked code as used, with its row of the audit.
async fn use_up(
    session: &mut dyn Session,
    by: &Actor,
    account: &AccountId,
    code: &Code,
    now: Millis,
) -> Result<(), StoreError> {
    let values = [account.as_str().into(), now.0.into(), code.id.as_str().into()];
    let sql = "UPDATE codes SET status = 'used', used_by = ?, used_at = ? WHERE id = ? AND status <> 'used'";
    if session.execute(sql.into(), &values).await? != 1 {
        return Err(corrupt("a locked code was changed"));
    }
    let used = Code { used: Some(Use { by: account.clone(), at: now }), ..code.clone() };
    let change = Change::new(by, "redeem", subject(&code.id), doc(code), doc(&used));
    changes::record(session, &change, now).await
}

impl Guesses {
    /// Until when the account must wait.
    fn barred(self, bound: GuessBound, now: Millis) -> Option<Millis> {
        let over = self.begun_at + bound.window_ms;
        (self.failures >= i64::from(bound.failures_max) && now.0 < over).then_some(Millis(over))
    }
}

async fn guesses(
    session: &mut dyn Session,
    account: &AccountId,
    for_update: &str,
) -> Result<Option<Guesses>, StoreError> {
    let sql = format!("SELECT begun_at, failures FROM code_guesses WHERE account = ?{for_update}");
    let rows = session.fetch(sql.into(), &[account.as_str().into()]).await?;
    let read = |row: &Row| Ok(Guesses { begun_at: row.int(0)?, failures: row.int(1)? });
    rows.first().map(read).transpose()
}

/// The account's row, made where there is none: attempts of one account go one by one.
async fn lock_guesses(
    session: &mut dyn Session,
    dialect: &Dialect,
    account: &AccountId,
    now: Millis,
) -> Result<Guesses, StoreError> {
    if let Some(known) = guesses(session, account, dialect.for_update).await? {
        return Ok(known);
    }
    let end = (dialect.keep_first)("account");
    let sql = format!("INSERT INTO code_guesses (account, begun_at, failures) VALUES (?, ?, 0){end}");
    session.execute(sql.into(), &[account.as_str().into(), now.0.into()]).await?;
    guesses(session, account, dialect.for_update).await?.ok_or_else(|| corrupt("a count of attempts vanished"))
}

async fn count_failure(
    session: &mut dyn Session,
    account: &AccountId,
    known: Guesses,
    bound: GuessBound,
    now: Millis,
) -> Result<(), StoreError> {
    let over = known.failures == 0 || now.0 >= known.begun_at + bound.window_ms;
    let (begun_at, failures) = if over { (now.0, 1) } else { (known.begun_at, known.failures + 1) };
    let sql = "UPDATE code_guesses SET begun_at = ?, failures = ? WHERE account = ?";
    session.execute(sql.into(), &[begun_at.into(), failures.into(), account.as_str().into()]).await?;
    Ok(())
}
