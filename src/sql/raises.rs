//! The port `Raises`, and [`raise`], by which the transaction that raises a version leaves a row behind.

use async_trait::async_trait;
use serde_json::json;

use super::{
    Store, changes,
    policy::{next, row_of},
    policy_rows::corrupt,
    session::{Dialect, Row, Session},
};
use crate::{
    engine::{
        outbox::FIRST_LOOK_MS,
        ports::{Raise, Raises, StoreError},
    },
    quota::{
        change::{Change, Subject},
        clock::{Millis, local_now},
        id::{AccountId, Actor},
    },
};

/// Writes down that Redis must hear of a version, which the caller has written and whose account it has locked.
pub(super) async fn raise(
    session: &mut dyn Session,
    dialect: &Dialect,
    account: &AccountId,
    version: u32,
    now: Millis,
) -> Result<(), StoreError> {
    let sql = format!("INSERT INTO raises (account, version, due_at) VALUES (?, ?, ?){}", dialect.replace_raise);
    let values = [account.as_str().into(), version.into(), (now.0 + FIRST_LOOK_MS).into()];
    session.execute(sql.into(), &values).await?;
    Ok(())
}

/// Raises an account's version above one that Redis has seen, when it is below; a deleted one's too, for sidecars may
/// remember it.
pub(super) async fn overtake(store: &Store, account: &AccountId, seen: u32) -> Result<Option<u32>, StoreError> {
    let mut session = store.write().await?;
    let dialect = store.backend.dialect();
    let row = row_of(&mut *session, account, dialect.for_update).await?;
    let Some(row) = row.filter(|row| row.version < seen) else { return Ok(None) };
    let (version, now) = (next(seen)?, local_now());
    let sql = "UPDATE accounts SET version = ?, changed_at = ? WHERE account = ?";
    session.execute(sql.into(), &[version.into(), now.0.into(), account.as_str().into()]).await?;
    raise(&mut *session, dialect, account, version, now).await?;
    let [before, after] = [row.version, version].map(|version| json!({"version": version}));
    let change = Change::new(&Actor::quotad(), "overtake", Subject::account(account), before, after);
    changes::record(&mut *session, &change, now).await?;
    session.commit().await?;
    Ok(Some(version))
}

#[async_trait]
impl Raises for Store {
    async fn raises(&self, now: Millis, cursor: Option<&AccountId>, most: u32) -> Result<Vec<Raise>, StoreError> {
        let sql = "SELECT account, version FROM raises WHERE due_at <= ? AND account > ? ORDER BY account LIMIT ?";
        let values = [now.0.into(), cursor.map_or("", AccountId::as_str).into(), most.into()];
        let rows = self.read().await?.fetch(sql.into(), &values).await?;
        rows.iter().map(read_raise).collect()
    }

    async fn raised(&self, raises: &[Raise]) -> Result<(), StoreError> {
        // Every sidecar takes row locks in the same order.
        let mut raises: Vec<&Raise> = raises.iter().collect();
        raises.sort_unstable_by_key(|raise| &raise.account);
        let mut session = self.write().await?;
        for Raise { account, version } in raises {
            let sql = "DELETE FROM raises WHERE account = ? AND version = ?";
            session.execute(sql.into(), &[account.as_str().into(), (*version).into()]).await?;
        }
        session.commit().await
    }
}

fn read_raise(row: &Row) -> Result<Raise, StoreError> {
    Ok(Raise { account: AccountId::new(row.text(0)?).map_err(corrupt)?, version: row.number(1)? })
}
