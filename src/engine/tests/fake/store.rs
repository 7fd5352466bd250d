//! The fake as store, ledger and write-back.

use async_trait::async_trait;

use super::Fake;
use crate::{
    engine::ports::{
        AccountPatch, Audit, Changes, Drain, KeyPatch, LedgerStore, Ledgered, PolicyStore, Position, Posted, Put,
        SettingPut, SettingStore, StoreError, Stored, StoredSettings, TariffVersion, Unavailable,
    },
    quota::{
        change::{Change, Recorded},
        clock::Millis,
        entry::{Entry, Kind},
        id::{AccountId, Actor, KeyId, OpId, ReservationId},
        policy::Policy,
        reservation::Record,
        tally::Tally,
    },
};

#[async_trait]
impl PolicyStore for Fake {
    async fn policy(&self, account: &AccountId) -> Result<Option<Policy>, StoreError> {
        self.note("policy", account.as_str());
        self.store().await;
        tokio::task::yield_now().await;
        Ok(self.state.lock().unwrap().policies.get(account).cloned())
    }

    async fn secret(&self, sha256: &[u8; 32]) -> Result<Option<(AccountId, KeyId)>, StoreError> {
        self.note("secret", "");
        Ok(self.state.lock().unwrap().secrets.get(sha256).cloned())
    }

    async fn put_account(
        &self,
        _: &Actor,
        account: &AccountId,
        _: &AccountPatch,
    ) -> Result<(Policy, bool), StoreError> {
        let mut state = self.state.lock().unwrap();
        let before = state.policies.get(account).cloned();
        let version = before.as_ref().map_or(1, |policy| policy.version + 1);
        let policy = Policy { version, account: account.clone(), ..super::super::policy(1) };
        state.policies.insert(account.clone(), policy.clone());
        Ok((policy, before.is_none()))
    }

    async fn list_accounts(&self, cursor: Option<&AccountId>, most: u32) -> Result<Vec<Policy>, StoreError> {
        let state = self.state.lock().unwrap();
        let mut page: Vec<_> = state.policies.values().filter(|p| Some(&p.account) > cursor).cloned().collect();
        page.sort_by(|a, b| a.account.cmp(&b.account));
        page.truncate(most as usize);
        Ok(page)
    }

    async fn delete_account(&self, _: &Actor, account: &AccountId, _: i64) -> Result<Option<u32>, StoreError> {
        self.note("delete", account.as_str());
        Ok(self.state.lock().unwrap().policies.remove(account).map(|policy| policy.version + 1))
    }

    async fn overtake(&self, account: &AccountId, seen: u32) -> Result<Option<u32>, StoreError> {
        self.note("overtake", account.as_str());
        let mut state = self.state.lock().unwrap();
        let policy = state.policies.get_mut(account).filter(|policy| policy.version < seen);
        Ok(policy.map(|policy| {
            policy.version = seen + 1;
            policy.version
        }))
    }

    async fn put_key(
        &self,
        _: &Actor,
        account: &AccountId,
        key: &KeyId,
        patch: &KeyPatch,
    ) -> Result<Option<(Policy, bool)>, StoreError> {
        let mut state = self.state.lock().unwrap();
        let Some(policy) = state.policies.get_mut(account) else { return Ok(None) };
        policy.version += 1;
        let created = !policy.keys.contains_key(key);
        let rules = policy.keys.entry(key.clone()).or_default();
        let given = patch.secret_sha256.or(patch.first_secret_sha256.filter(|_| created));
        rules.secret_sha256 = given.or(rules.secret_sha256);
        let policy = policy.clone();
        if let Some(sha256) = given {
            state.secrets.retain(|_, owner| owner.1 != *key);
            state.secrets.insert(sha256, (account.clone(), key.clone()));
        }
        Ok(Some((policy, created)))
    }

    async fn delete_key(&self, _: &Actor, account: &AccountId, key: &KeyId) -> Result<Option<Policy>, StoreError> {
        let mut state = self.state.lock().unwrap();
        let Some(policy) = state.policies.get_mut(account) else { return Ok(None) };
        let removed = policy.keys.remove(key);
        policy.version += u32::from(removed.is_some());
        Ok(removed.map(|_| policy.clone()))
    }

    async fn posted(&self, account: &AccountId) -> Result<Option<Posted>, StoreError> {
        self.note("posted", account.as_str());
        self.store().await;
        Ok(self.state.lock().unwrap().posted.clone())
    }

    async fn tariff_version(&self) -> Result<u32, StoreError> {
        Ok(self.state.lock().unwrap().tariffs.len() as u32)
    }

    async fn tariff(&self, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
        self.note("tariff", &version.to_string());
        Ok(version.checked_sub(1).and_then(|at| self.state.lock().unwrap().tariffs.get(at as usize).cloned()))
    }

    async fn tariff_versions(&self, before: Option<u32>, most: u32) -> Result<Vec<TariffVersion>, StoreError> {
        let state = self.state.lock().unwrap();
        let row = |(at, content): (usize, &Vec<u8>)| TariffVersion {
            version: at as u32 + 1,
            source: "test".into(),
            // Another content came at another time.
            imported_at: Millis(content.iter().map(|byte| i64::from(*byte)).sum()),
        };
        let rows = state.tariffs.iter().enumerate().map(row).filter(|row| before.is_none_or(|end| row.version < end));
        Ok(rows.rev().take(most as usize).collect())
    }

    async fn put_tariff(&self, _: &Actor, content: &[u8], _: &str, _: Option<u32>) -> Result<u32, StoreError> {
        let mut state = self.state.lock().unwrap();
        state.tariffs.push(content.to_vec());
        Ok(state.tariffs.len() as u32)
    }
}

#[async_trait]
impl Changes for Fake {
    async fn record_change(&self, change: &Change) -> Result<(), StoreError> {
        self.store().await;
        self.state.lock().unwrap().changes.push(change.clone());
        Ok(())
    }

    async fn changes(&self, _: Option<&str>, _: Option<i64>, _: u32) -> Result<Vec<Recorded>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl SettingStore for Fake {
    async fn settings_revision(&self) -> Result<u32, StoreError> {
        self.store().await;
        Ok(self.state.lock().unwrap().settings.revision)
    }

    async fn settings(&self) -> Result<StoredSettings, StoreError> {
        self.note("settings", "");
        Ok(self.state.lock().unwrap().settings.clone())
    }

    async fn put_setting(
        &self,
        by: &Actor,
        put: SettingPut<'_>,
        judge: &(dyn for<'s> Fn(&'s [Stored]) -> Result<(), StoreError> + Sync),
    ) -> Result<Put, StoreError> {
        let mut state = self.state.lock().unwrap();
        let mut all = state.settings.clone();
        let version = all.settings.iter().find(|stored| stored.name == put.name).map_or(0, |stored| stored.version);
        if put.version.is_some_and(|known| known != version) {
            return Ok(Put::Conflict(version));
        }
        all.settings.retain(|stored| stored.name != put.name);
        all.settings.push(Stored {
            name: put.name.to_owned(),
            version: version + 1,
            content: put.content.map(str::to_owned),
            changed_at: Millis(1),
            changed_by: by.to_string(),
        });
        judge(&all.settings)?;
        all.revision += 1;
        state.settings = all.clone();
        Ok(Put::Saved(all))
    }
}

#[async_trait]
impl LedgerStore for Fake {
    async fn operation(&self, _: &AccountId, _: Kind, _: &OpId) -> Result<Option<Entry>, StoreError> {
        Ok(self.state.lock().unwrap().operation.clone())
    }

    async fn record(&self, _: &AccountId, id: &ReservationId) -> Result<Option<Record>, StoreError> {
        self.note("ledger_record", id.as_str());
        let state = self.state.lock().unwrap();
        if state.ledger_down { Err(StoreError::Unavailable("gone".into())) } else { Ok(state.ledger_record.clone()) }
    }

    /// The ledger adds up to `tally`, or else to what is posted; `tail` follows it.
    async fn audit(&self, account: &AccountId, _: Ledgered, at: Position) -> Result<Option<Audit>, StoreError> {
        self.note("audit", account.as_str());
        let state = self.state.lock().unwrap();
        let Some(posted) = &state.posted else { return Ok(None) };
        let stored = Tally::of(&posted.counters);
        let tally = state.tally.clone().unwrap_or_else(|| stored.clone());
        Ok(Some(Audit { stored, ledger: Ledgered { at, tally }, tail: state.tail.clone() }))
    }

    async fn mend_sums(&self, account: &AccountId, _: Ledgered) -> Result<Option<[Tally; 2]>, StoreError> {
        self.note("mend_sums", account.as_str());
        let mut state = self.state.lock().unwrap();
        let Some(posted) = &mut state.posted else { return Ok(None) };
        let before = Tally::of(&posted.counters);
        let Some(after) = state.tally.clone() else { return Ok(Some([before.clone(), before])) };
        let posted = state.posted.as_mut().unwrap();
        let head = &mut posted.counters.head;
        (head.balance, head.used, head.requests) = (after.balance, after.used, after.requests);
        Ok(Some([before, after]))
    }
}

#[async_trait]
impl Drain for Fake {
    async fn drain(&self, account: &AccountId) -> Result<Position, Unavailable> {
        self.note("drain", account.as_str());
        let mut state = self.state.lock().unwrap();
        Ok(if state.tops.is_empty() { Position::default() } else { state.tops.remove(0) })
    }
}
