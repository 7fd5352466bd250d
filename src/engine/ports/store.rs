//! The ports of what SQL remembers for the engine: policies, sums, the ledger by name.

use async_trait::async_trait;

use super::{AccountPatch, Changes, KeyPatch, Onboarding, Position, SettingStore, Unavailable};
use crate::quota::{
    clock::Millis,
    counter::AccountCounters,
    entry::{Entry, Kind},
    id::{AccountId, Actor, KeyId, OpId, ReservationId},
    policy::Policy,
    reservation::Record,
    tally::Tally,
};

/// What SQL has of an account: the sums of its ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Posted {
    /// `held` is 0 everywhere: holds live in Redis only.
    pub counters: AccountCounters,
    /// Balance to be credited once as `Kind::Initial` under op id `v<n>`, when not yet in the ledger.
    pub initial: Option<(OpId, i64)>,
}

/// What an account's ledger rows add up to, from the first one up to a place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledgered {
    pub at: Position,
    pub tally: Tally,
}

/// An account's sums and its ledger, read at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// The sums as SQL keeps them beside the ledger.
    pub stored: Tally,
    /// The rows up to the place that was asked for.
    pub ledger: Ledgered,
    /// The account's rows after that, in order.
    pub tail: Vec<(Position, Entry)>,
}

/// A price list that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TariffVersion {
    pub version: u32,
    /// Where it came from, for people.
    pub source: String,
    pub imported_at: Millis,
}

/// Why the store refuses a change.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The request cannot stand; field and sentence for the caller.
    #[error("{field}: {detail}")]
    Refused { field: &'static str, detail: String },
    #[error("the database holds what it should not: {0}")]
    Corrupt(String),
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        Unavailable::Store(error.to_string())
    }
}

/// Policies and what is posted. SQL is the truth; every change raises the account's version by one
/// in the same transaction, and keeps a row of the audit in it that names `by`. Called on a cache miss, by
/// the admin API and by the loader.
#[async_trait]
pub trait PolicyStore: Changes + Onboarding + SettingStore {
    /// `None`: no such account (or deleted).
    async fn policy(&self, account: &AccountId) -> Result<Option<Policy>, StoreError>;
    async fn secret(&self, sha256: &[u8; 32]) -> Result<Option<(AccountId, KeyId)>, StoreError>;
    /// Creates or merges; the new policy, and whether it was created.
    async fn put_account(
        &self,
        by: &Actor,
        account: &AccountId,
        patch: &AccountPatch,
    ) -> Result<(Policy, bool), StoreError>;
    /// Policies in order of account id, after `cursor`.
    async fn list_accounts(&self, cursor: Option<&AccountId>, most: u32) -> Result<Vec<Policy>, StoreError>;
    /// The version after deletion; `None` when there was none. Ledger rows stay. `closed` is the balance that was
    /// taken away, for the audit.
    async fn delete_account(&self, by: &Actor, account: &AccountId, closed: i64) -> Result<Option<u32>, StoreError>;
    /// Raises a living account's version above `seen` when it is below, with a row of the audit; the new version.
    /// `None`: it is not below, or there is no such account.
    async fn overtake(&self, account: &AccountId, seen: u32) -> Result<Option<u32>, StoreError>;
    /// Creates or merges a key; `None` when there is no such account. Refuses a secret in use
    /// elsewhere (`secret_sha256`) and more keys than an account may have (`key`).
    async fn put_key(
        &self,
        by: &Actor,
        account: &AccountId,
        key: &KeyId,
        patch: &KeyPatch,
    ) -> Result<Option<(Policy, bool)>, StoreError>;
    /// The policy without the key; `None` when account or key do not exist.
    async fn delete_key(&self, by: &Actor, account: &AccountId, key: &KeyId) -> Result<Option<Policy>, StoreError>;
    /// `None`: there never was such an account. A deleted one has no `initial`, but its sums go on.
    async fn posted(&self, account: &AccountId) -> Result<Option<Posted>, StoreError>;
    /// Price lists: the newest version's number, and one version's content (JSON of the tariff).
    async fn tariff_version(&self) -> Result<u32, StoreError>;
    async fn tariff(&self, version: u32) -> Result<Option<Vec<u8>>, StoreError>;
    /// Versions below `before`, the newest first.
    async fn tariff_versions(&self, before: Option<u32>, most: u32) -> Result<Vec<TariffVersion>, StoreError>;
    /// Adds the newest version; its number. Refused (`base`) when `base` is given and no longer the newest.
    async fn put_tariff(&self, by: &Actor, content: &[u8], source: &str, base: Option<u32>) -> Result<u32, StoreError>;
}

/// The ledger as the slow paths read it.
#[async_trait]
pub trait LedgerStore: Send + Sync + 'static {
    /// The entry of an operation, if it is posted.
    async fn operation(&self, account: &AccountId, kind: Kind, op_id: &OpId) -> Result<Option<Entry>, StoreError>;
    /// The latest record of a reservation in the ledger (charged, refunded), if it is posted.
    async fn record(&self, account: &AccountId, id: &ReservationId) -> Result<Option<Record>, StoreError>;
    /// Adds up the account's rows (rejected ones too) after `known` and up to `upto`, and reads what
    /// follows and the stored sums in the same view of the database; `None` when there never was such
    /// an account. Long for a long ledger, and in the way of nobody.
    async fn audit(&self, account: &AccountId, known: Ledgered, upto: Position) -> Result<Option<Audit>, StoreError>;
    /// Sets the stored sums to what all rows add up to, in one transaction that reads the rows after
    /// `known` again: the sums before and after, the same when nothing was wrong any more.
    async fn mend_sums(&self, account: &AccountId, known: Ledgered) -> Result<Option<[Tally; 2]>, StoreError>;
}

/// Write-back, as far as the engine needs it: SQL has every entry of the account's shard that was
/// in the stream when this was called. The place of the last of them.
#[async_trait]
pub trait Drain: Send + Sync + 'static {
    async fn drain(&self, account: &AccountId) -> Result<Position, Unavailable>;
}

/// The engine, as far as write-back needs it: sees to it that an account is loaded, if it exists. For
/// compensations of accounts that Redis does not hold; safe to repeat.
#[async_trait]
pub trait Load: Send + Sync + 'static {
    async fn load(&self, account: &AccountId) -> Result<(), Unavailable>;
}
