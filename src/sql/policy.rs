//! The port `PolicyStore`. Every change reads, merges and writes in one transaction, and raises the
//! account's version by one in it.

use async_trait::async_trait;

use super::{
    Store, changes,
    merge::{KEYS_MAX, merge_account, merge_key},
    policy_rows::{corrupt, load, remove_key, save_account, save_key, save_limits},
    raises::{self, raise},
    referrals,
    session::{Dialect, Session, Value},
    tariffs,
};
use crate::{
    engine::ports::{AccountPatch, KeyPatch, PolicyStore, Posted, StoreError, TariffVersion},
    quota::{
        change::Change,
        clock::{Millis, local_now},
        counter::{AccountCounters, Head, KeyCounter, WindowCounter, WindowCounters},
        id::{AccountId, Actor, KeyId, OpId},
        limit::{CounterCode, GroupField},
        policy::{KeyPolicy, Policy},
        window::Zone,
    },
};

/// Policies on one page at most, and one more that tells whether there is another.
const PAGE_MAX: u32 = 1001;

#[async_trait]
impl PolicyStore for Store {
    async fn policy(&self, account: &AccountId) -> Result<Option<Policy>, StoreError> {
        let mut session = self.read().await?;
        load_one(&mut *session, account).await
    }

    async fn secret(&self, sha256: &[u8; 32]) -> Result<Option<(AccountId, KeyId)>, StoreError> {
        let mut session = self.read().await?;
        owner(&mut *session, sha256).await
    }

    async fn put_account(
        &self,
        by: &Actor,
        account: &AccountId,
        patch: &AccountPatch,
    ) -> Result<(Policy, bool), StoreError> {
        let mut session = self.write().await?;
        let now = local_now();
        let dialect = self.backend.dialect();
        let blank = blank_of(&mut *session, dialect, account, &self.zone, now).await?;
        let created = blank.is_some();
        let before = match blank {
            Some(blank) => blank,
            None => {
                let policy = self.load_to_change(&mut *session, account).await?;
                policy.ok_or_else(|| corrupt("an account vanished"))?
            }
        };
        let policy = merge_account(before.clone(), patch)?;
        if created {
            begin_account(&mut *session, &policy, patch.initial_balance.unwrap_or(0), now).await?;
        }
        save_account(&mut *session, dialect, &policy, now).await?;
        if patch.limits.is_some() {
            save_limits(&mut *session, account, None, &policy.limits).await?;
        }
        let initial_balance = if created { patch.initial_balance } else { None };
        let change = Change::put_account(by, (!created).then_some(&before), &policy, initial_balance);
        changes::record(&mut *session, &change, now).await?;
        session.commit().await?;
        Ok((policy, created))
    }

    async fn list_accounts(&self, cursor: Option<&AccountId>, most: u32) -> Result<Vec<Policy>, StoreError> {
        let mut session = self.read().await?;
        let page = session
            .fetch(
                "SELECT account FROM accounts WHERE account > ? AND deleted = 0 ORDER BY account LIMIT ?".into(),
                &[cursor.map_or("", AccountId::as_str).into(), most.min(PAGE_MAX).into()],
            )
            .await?;
        match (page.first(), page.last()) {
            (Some(first), Some(last)) => load(&mut *session, first.text(0)?, last.text(0)?).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn delete_account(&self, by: &Actor, account: &AccountId, closed: i64) -> Result<Option<u32>, StoreError> {
        let mut session = self.write().await?;
        let Some(policy) = self.load_to_change(&mut *session, account).await? else { return Ok(None) };
        let (version, now) = (policy.version, local_now());
        let id = [Value::Text(account.as_str())];
        session.execute("DELETE FROM api_keys WHERE account = ?".into(), &id).await?;
        session.execute("DELETE FROM limits WHERE account = ?".into(), &id).await?;
        session
            .execute(
                "UPDATE accounts SET deleted = 1, version = ?, changed_at = ? WHERE account = ?".into(),
                &[version.into(), now.0.into(), account.as_str().into()],
            )
            .await?;
        raise(&mut *session, self.backend.dialect(), account, version, now).await?;
        let forfeited = referrals::forfeit(&mut *session, self.backend.dialect(), by, account, now).await?;
        changes::record(&mut *session, &Change::delete_account(by, &policy, closed, forfeited), now).await?;
        session.commit().await?;
        Ok(Some(version))
    }

    async fn overtake(&self, account: &AccountId, seen: u32) -> Result<Option<u32>, StoreError> {
        raises::overtake(self, account, seen).await
    }

    async fn put_key(
        &self,
        by: &Actor,
        account: &AccountId,
        key: &KeyId,
        patch: &KeyPatch,
    ) -> Result<Option<(Policy, bool)>, StoreError> {
        let mut session = self.write().await?;
        let Some(mut policy) = self.load_to_change(&mut *session, account).await? else { return Ok(None) };
        let before = policy.keys.remove(key);
        let created = before.is_none();
        if policy.keys.len() >= KEYS_MAX {
            let detail = format!("an account may have at most {KEYS_MAX} keys");
            return Err(StoreError::Refused { field: "key", detail });
        }
        let now = local_now();
        let merged = write_key(&mut *session, account, key, before.clone(), patch, now).await?;
        let change = Change::put_key(by, account, key, before.as_ref(), &merged);
        policy.keys.insert(key.clone(), merged);
        save_account(&mut *session, self.backend.dialect(), &policy, now).await?;
        changes::record(&mut *session, &change, now).await?;
        session.commit().await?;
        Ok(Some((policy, created)))
    }

    async fn delete_key(&self, by: &Actor, account: &AccountId, key: &KeyId) -> Result<Option<Policy>, StoreError> {
        let mut session = self.write().await?;
        let Some(mut policy) = self.load_to_change(&mut *session, account).await? else { return Ok(None) };
        let Some(before) = policy.keys.remove(key) else { return Ok(None) };
        let now = local_now();
        save_limits(&mut *session, account, Some(key), &[]).await?;
        remove_key(&mut *session, account, key).await?;
        save_account(&mut *session, self.backend.dialect(), &policy, now).await?;
        changes::record(&mut *session, &Change::delete_key(by, account, key, &before), now).await?;
        session.commit().await?;
        Ok(Some(policy))
    }

    async fn posted(&self, account: &AccountId) -> Result<Option<Posted>, StoreError> {
        let mut session = self.read().await?;
        read_posted(&mut *session, account).await
    }

    async fn tariff_version(&self) -> Result<u32, StoreError> {
        tariffs::newest(&mut *self.read().await?).await
    }

    async fn tariff(&self, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
        tariffs::content(&mut *self.read().await?, version).await
    }

    async fn tariff_versions(&self, before: Option<u32>, most: u32) -> Result<Vec<TariffVersion>, StoreError> {
        tariffs::versions(&mut *self.read().await?, before, most).await
    }

    async fn put_tariff(&self, by: &Actor, content: &[u8], source: &str, base: Option<u32>) -> Result<u32, StoreError> {
        tariffs::put(self, by, content, source, base).await
    }
}

impl Store {
    /// The policy with its version already raised; `None` when there is no such account.
    pub(super) async fn load_to_change(
        &self,
        session: &mut dyn Session,
        account: &AccountId,
    ) -> Result<Option<Policy>, StoreError> {
        match row_of(session, account, self.backend.dialect().for_update).await? {
            Some(row) if !row.deleted => {
                let policy = load_one(session, account).await?.ok_or_else(|| corrupt("an account vanished"))?;
                Ok(Some(Policy { version: next(row.version)?, ..policy }))
            }
            _ => Ok(None),
        }
    }
}

pub(super) struct AccountRow {
    pub(super) version: u32,
    pub(super) deleted: bool,
    /// Made in this transaction: nothing of it counts yet.
    blank: bool,
}

pub(super) async fn row_of(
    session: &mut dyn Session,
    account: &AccountId,
    for_update: &str,
) -> Result<Option<AccountRow>, StoreError> {
    let sql = format!("SELECT version, deleted, initial_op FROM accounts WHERE account = ?{for_update}");
    let rows = session.fetch(sql.into(), &[account.as_str().into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(AccountRow { version: row.number(0)?, deleted: row.int(1)? != 0, blank: row.text(2)?.is_empty() }))
}

pub(super) fn next(version: u32) -> Result<u32, StoreError> {
    version.checked_add(1).ok_or_else(|| corrupt("an account's version reached its end"))
}

pub(super) async fn load_one(session: &mut dyn Session, account: &AccountId) -> Result<Option<Policy>, StoreError> {
    Ok(load(session, account.as_str(), account.as_str()).await?.pop())
}

/// Account and key that a secret belongs to.
async fn owner(session: &mut dyn Session, sha256: &[u8; 32]) -> Result<Option<(AccountId, KeyId)>, StoreError> {
    let rows = session
        .fetch("SELECT account, key_id FROM api_keys WHERE secret_sha256 = ?".into(), &[sha256.as_slice().into()])
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some((AccountId::new(row.text(0)?).map_err(corrupt)?, KeyId::new(row.text(1)?).map_err(corrupt)?)))
}

/// Writes what a patch makes of a key, and its limits. The caller has locked the account.
pub(super) async fn write_key(
    session: &mut dyn Session,
    account: &AccountId,
    key: &KeyId,
    before: Option<KeyPolicy>,
    patch: &KeyPatch,
    now: Millis,
) -> Result<KeyPolicy, StoreError> {
    let first = || {
        let (secret_sha256, created_at) = (patch.first_secret_sha256, Some(now));
        KeyPolicy { secret_sha256, created_at, ..KeyPolicy::default() }
    };
    let merged = KeyPolicy { changed_at: Some(now), ..merge_key(before.unwrap_or_else(first), patch)? };
    if let Some(secret) = &merged.secret_sha256
        && let Some(owner) = owner(session, secret).await?
        && owner != (account.clone(), key.clone())
    {
        return Err(secret_taken());
    }
    save_key(session, account, key, &merged).await.map_err(|error| match error {
        // Another key got it since: the column is unique, and named in whatever words the database has.
        StoreError::Refused { detail, .. } if detail.contains("secret_sha256") => secret_taken(),
        other => other,
    })?;
    if patch.limits.is_some() {
        save_limits(session, account, Some(key), &merged.limits).await?;
    }
    Ok(merged)
}

fn secret_taken() -> StoreError {
    StoreError::Refused { field: "secret_sha256", detail: "this secret belongs to another key".to_owned() }
}

/// What a new account begins from, and its row is locked; `None` when there is an account of that name.
/// Of many who ask at the same moment, the first to have the lock makes it.
pub(super) async fn blank_of(
    session: &mut dyn Session,
    dialect: &Dialect,
    account: &AccountId,
    zone: &Zone,
    now: Millis,
) -> Result<Option<Policy>, StoreError> {
    let row = match row_of(session, account, dialect.for_update).await? {
        Some(row) => row,
        None => {
            insert_blank(session, dialect, account, now).await?;
            row_of(session, account, dialect.for_update).await?.ok_or_else(|| corrupt("an account vanished"))?
        }
    };
    let version = match (row.blank, row.deleted) {
        (true, _) => row.version,
        (false, true) => next(row.version)?,
        (false, false) => return Ok(None),
    };
    Ok(Some(Policy::blank(account.clone(), version, zone.clone())))
}

/// The row of an account that has none, of version 1; left alone when there is one by now.
async fn insert_blank(
    session: &mut dyn Session,
    dialect: &Dialect,
    account: &AccountId,
    now: Millis,
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO accounts (account, version, status, price_group, credit_limit, zone, initial_op, created_at, \
         changed_at) VALUES (?, 1, 'enabled', '', 0, 'UTC', '', ?, ?){}",
        (dialect.keep_first)("account")
    );
    session.execute(sql.into(), &[account.as_str().into(), now.0.into(), now.0.into()]).await?;
    Ok(())
}

/// A new account's row, or the row of a deleted one put to use again: sums and version go on.
pub(super) async fn begin_account(
    session: &mut dyn Session,
    policy: &Policy,
    initial_balance: i64,
    now: Millis,
) -> Result<(), StoreError> {
    let initial_op = format!("v{}", policy.version);
    session
        .execute(
            "UPDATE accounts SET initial_balance = ?, initial_op = ?, created_at = ? WHERE account = ?".into(),
            &[initial_balance.into(), initial_op.as_str().into(), now.0.into(), policy.account.as_str().into()],
        )
        .await?;
    Ok(())
}

pub(super) async fn read_posted(session: &mut dyn Session, account: &AccountId) -> Result<Option<Posted>, StoreError> {
    let id = [Value::Text(account.as_str())];
    let accounts = session
        .fetch(
            "SELECT version, balance, used, requests, initial_op, CASE WHEN deleted = 0 AND initial_balance > 0 \
             AND NOT EXISTS (SELECT 1 FROM ledger WHERE ledger.account = accounts.account \
             AND op_id = initial_op AND kind = 'initial' AND ledger.status = 'posted') \
             THEN initial_balance ELSE 0 END FROM accounts WHERE account = ?"
                .into(),
            &id,
        )
        .await?;
    let Some(row) = accounts.first() else { return Ok(None) };
    let head = Head {
        version: row.number(0)?,
        balance: row.int(1)?,
        held: 0,
        used: row.int(2)?,
        requests: row.int(3)?,
        now: Millis(0),
    };
    let initial = match row.int(5)? {
        0 => None,
        units => Some((OpId::new(row.text(4)?).map_err(corrupt)?, units)),
    };
    let mut counters = AccountCounters { head, keys: Vec::new(), groups: Vec::new() };
    let keys = "SELECT key_id, used, requests FROM key_usage WHERE account = ? ORDER BY key_id";
    for row in session.fetch(keys.into(), &id).await? {
        let counter = KeyCounter { used: row.int(1)?, held: 0, requests: row.int(2)? };
        counters.keys.push((KeyId::new(row.text(0)?).map_err(corrupt)?, counter));
    }
    let windows = "SELECT field, code, start_s, used FROM windows WHERE account = ? ORDER BY field, code";
    for row in session.fetch(windows.into(), &id).await? {
        let (field, _) = GroupField::parse(row.text(0)?).ok_or_else(|| corrupt("the name of a window group"))?;
        let counter =
            WindowCounter { code: CounterCode(row.number(1)?), start_s: row.number(2)?, used: row.int(3)?, held: 0 };
        match counters.groups.last_mut() {
            Some((last, group)) if *last == field => group.push(counter),
            _ => counters.groups.push((field, WindowCounters::from_slice(&[counter]))),
        }
    }
    Ok(Some(Posted { counters, initial }))
}
