//! Ports that nothing stands behind: every call "cannot be reached"; asked for the account `slow`, the
//! database never answers at all.

mod onboarding;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    engine::{
        Engine, Settings,
        codes::Codes,
        ports::{
            AccountPatch, AdjustCall, Audit, Changes, ChargeCall, CodeFilter, CodePatch, CodeStore, Counters, Drain,
            Edited, ExtendCall, GuessBound, KeyPatch, LedgerStore, Ledgered, Listed, Made, MendCall, NewCodes,
            PolicyStore, Position, Posted, Put, Redemption, RefundCall, Reply, ReserveCall, ResetCall, SettingPut,
            SettingStore, SettleCall, StoreError, Stored, StoredSettings, TariffVersion, Unavailable, UndoCall,
        },
        settings::Values,
    },
    quota::{
        change::{Change, Recorded},
        clock::{Clock, Millis},
        code::{Code, CodeState},
        counter::AccountCounters,
        entry::{Entry, Kind},
        id::{AccountId, Actor, CodeId, KeyId, OpId, ReservationId},
        policy::Policy,
        reservation::Record,
        tally::Tally,
    },
};

struct Nobody;

pub(super) fn engine() -> Arc<Engine> {
    let values = Values { default_hold: 1, ..Values::builtin() };
    let settings = Settings {
        deployment: values.into(),
        trust_sidecars: 4,
        policy_cache_accounts: 10,
        log_ip: false,
        time_budget: std::time::Duration::from_millis(200),
    };
    let [counters, policies, ledger, drain] = [(); 4].map(|()| Arc::new(Nobody));
    Arc::new(Engine::new(counters, policies, ledger, drain, Arc::new(Clock::default()), settings))
}

pub(super) fn codes() -> Arc<Codes> {
    Arc::new(Codes::new(engine(), Arc::new(Nobody)))
}

fn gone<T>() -> Result<T, Unavailable> {
    Err(Unavailable::Connection("nobody".into()))
}

fn lost<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("nobody".into()))
}

#[async_trait]
impl Counters for Nobody {
    async fn reserve(&self, _: &ReserveCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn settle(&self, _: &SettleCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn release(&self, _: &AccountId, _: &ReservationId) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn extend(&self, _: &ExtendCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn charge(&self, _: &ChargeCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn refund(&self, _: &RefundCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn adjust(&self, _: &AdjustCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn reset(&self, _: &ResetCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn expire(&self, _: &AccountId, _: &ReservationId) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn raise_version(&self, _: &AccountId, _: u32) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn read_account(&self, _: &AccountId) -> Result<Option<(Millis, AccountCounters)>, Unavailable> {
        gone()
    }
    async fn read_record(&self, _: &AccountId, _: &ReservationId) -> Result<Option<Record>, Unavailable> {
        gone()
    }
    async fn due(&self, _: u16, _: usize) -> Result<Vec<(AccountId, ReservationId)>, Unavailable> {
        gone()
    }
    fn shards(&self) -> u16 {
        1
    }
    fn shard_of(&self, _: &AccountId) -> u16 {
        0
    }
    async fn begin_load(&self, _: &AccountId) -> Result<u64, Unavailable> {
        gone()
    }
    async fn hydrate(&self, _: &AccountId, _: u64, _: &AccountCounters) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn restore_record(&self, _: &AccountId, _: &ReservationId, _: &Record) -> Result<(), Unavailable> {
        gone()
    }
    async fn undo(&self, _: &UndoCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn mend(&self, _: &MendCall<'_>) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn unload(&self, _: &AccountId, _: Position, _: Millis) -> Result<Reply, Unavailable> {
        gone()
    }
    async fn loaded(&self, _: u16, _: u64) -> Result<(u64, Vec<(AccountId, Millis)>), Unavailable> {
        gone()
    }
    async fn listed(&self, _: &AccountId) -> Result<Listed, Unavailable> {
        gone()
    }
    async fn queues(&self, _: u16) -> Result<Vec<String>, Unavailable> {
        gone()
    }
    async fn cascade(&self, _: u16, _: &str) -> Result<bool, Unavailable> {
        gone()
    }
    async fn unlisted(&self, _: &AccountId) -> Result<Vec<(ReservationId, Record)>, Unavailable> {
        gone()
    }
    fn era(&self) -> u64 {
        0
    }
}

#[async_trait]
impl PolicyStore for Nobody {
    async fn policy(&self, account: &AccountId) -> Result<Option<Policy>, StoreError> {
        if account.as_str() == "slow" {
            std::future::pending::<()>().await;
        }
        lost()
    }
    async fn secret(&self, _: &[u8; 32]) -> Result<Option<(AccountId, KeyId)>, StoreError> {
        lost()
    }
    async fn put_account(&self, _: &Actor, _: &AccountId, _: &AccountPatch) -> Result<(Policy, bool), StoreError> {
        lost()
    }
    async fn list_accounts(&self, _: Option<&AccountId>, _: u32) -> Result<Vec<Policy>, StoreError> {
        lost()
    }
    async fn delete_account(&self, _: &Actor, _: &AccountId, _: i64) -> Result<Option<u32>, StoreError> {
        lost()
    }
    async fn overtake(&self, _: &AccountId, _: u32) -> Result<Option<u32>, StoreError> {
        lost()
    }
    async fn put_key(
        &self,
        _: &Actor,
        _: &AccountId,
        _: &KeyId,
        _: &KeyPatch,
    ) -> Result<Option<(Policy, bool)>, StoreError> {
        lost()
    }
    async fn delete_key(&self, _: &Actor, _: &AccountId, _: &KeyId) -> Result<Option<Policy>, StoreError> {
        lost()
    }
    async fn posted(&self, _: &AccountId) -> Result<Option<Posted>, StoreError> {
        lost()
    }
    async fn tariff_version(&self) -> Result<u32, StoreError> {
        lost()
    }
    async fn tariff(&self, _: u32) -> Result<Option<Vec<u8>>, StoreError> {
        lost()
    }
    async fn tariff_versions(&self, _: Option<u32>, _: u32) -> Result<Vec<TariffVersion>, StoreError> {
        lost()
    }
    async fn put_tariff(&self, _: &Actor, _: &[u8], _: &str, _: Option<u32>) -> Result<u32, StoreError> {
        lost()
    }
}

#[async_trait]
impl Changes for Nobody {
    async fn record_change(&self, _: &Change) -> Result<(), StoreError> {
        lost()
    }
    async fn changes(&self, _: Option<&str>, _: Option<i64>, _: u32) -> Result<Vec<Recorded>, StoreError> {
        lost()
    }
}

#[async_trait]
impl SettingStore for Nobody {
    async fn settings_revision(&self) -> Result<u32, StoreError> {
        lost()
    }
    async fn settings(&self) -> Result<StoredSettings, StoreError> {
        lost()
    }
    async fn put_setting(
        &self,
        _: &Actor,
        _: SettingPut<'_>,
        _: &(dyn for<'s> Fn(&'s [Stored]) -> Result<(), StoreError> + Sync),
    ) -> Result<Put, StoreError> {
        lost()
    }
}

#[async_trait]
impl LedgerStore for Nobody {
    async fn operation(&self, _: &AccountId, _: Kind, _: &OpId) -> Result<Option<Entry>, StoreError> {
        lost()
    }
    async fn record(&self, _: &AccountId, _: &ReservationId) -> Result<Option<Record>, StoreError> {
        lost()
    }
    async fn audit(&self, _: &AccountId, _: Ledgered, _: Position) -> Result<Option<Audit>, StoreError> {
        lost()
    }
    async fn mend_sums(&self, _: &AccountId, _: Ledgered) -> Result<Option<[Tally; 2]>, StoreError> {
        lost()
    }
}

#[async_trait]
impl Drain for Nobody {
    async fn drain(&self, _: &AccountId) -> Result<Position, Unavailable> {
        gone()
    }
}

#[async_trait]
impl CodeStore for Nobody {
    async fn make(&self, _: &Actor, _: &NewCodes, _: Millis) -> Result<Made, StoreError> {
        lost()
    }

    async fn code(&self, _: &CodeId) -> Result<Option<Code>, StoreError> {
        lost()
    }

    async fn codes(&self, _: &CodeFilter, _: Option<&CodeId>, _: u32, _: Millis) -> Result<Vec<Code>, StoreError> {
        lost()
    }

    async fn edit(&self, _: &Actor, _: &CodeId, _: &CodePatch, _: Millis) -> Result<Edited, StoreError> {
        lost()
    }

    async fn delete(&self, _: &Actor, _: &CodeId, _: Millis) -> Result<bool, StoreError> {
        lost()
    }

    async fn purge(&self, _: &Actor, _: &[CodeState], _: u32, _: Millis) -> Result<u64, StoreError> {
        lost()
    }

    async fn redeem(
        &self,
        _: &Actor,
        _: &AccountId,
        _: &[u8; 32],
        _: GuessBound,
        _: Millis,
    ) -> Result<Redemption, StoreError> {
        lost()
    }
}
