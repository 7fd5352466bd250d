//! What the engine needs from the floor above it: counters that decide atomically (Redis, and the
//! in-memory model of the tests) and a store that remembers (SQL). Neither knows the other.

use std::time::Duration;

use async_trait::async_trait;
use smallvec::SmallVec;

use crate::quota::{
    clock::Millis,
    counter::{AccountCounters, Head, KeyCounter, WindowCounters},
    entry::{Entry, Kind},
    fingerprint::Fingerprint,
    id::{AccountId, KeyId, OpId, ReservationId},
    limit::{CounterCode, GroupField},
    policy::{Admission, Group, Policy},
    reservation::Record,
};

pub use super::patch::{AccountPatch, KeyPatch};

/// "We could not tell": no verdict. The caller answers 503 and may ask again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("Redis did not answer within the time budget")]
    Timeout,
    #[error("too many calls in flight")]
    Overloaded,
    #[error("Redis cannot be reached: {0}")]
    Connection(String),
    /// The shard is being attached or recovered, or its generation changed.
    #[error("the shard is being recovered")]
    Recovering,
    #[error("the database cannot be reached: {0}")]
    Store(String),
    /// A script or a stored value broke an invariant; alarmed where it is found.
    #[error("stored state is corrupt: {0}")]
    Corrupt(String),
}

impl Unavailable {
    /// How long a client should wait before it asks again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// What a script decided; the number is the script's answer (table in `lua/README.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done now.
    Done = 1,
    /// Done before by the same call.
    Replayed = 2,
    /// The call's policy version is older than the account's: reload, decide again.
    Stale = 3,
    /// The account is not loaded in Redis.
    Absent = 4,
    /// The call's generation is not the shard's.
    Generation = 5,
    /// Redis' time is outside the windows the call was made for: recompute with `now`.
    Window = 6,
    /// Same id, other content (compare with the record's fingerprint).
    Conflict = 7,
    AlreadySettled = 8,
    AlreadyReleased = 9,
    /// The policy denial that came with the call stands.
    Denied = 10,
    InsufficientBalance = 11,
    KeyExhausted = 12,
    LimitExceeded = 13,
    /// No such reservation.
    Unknown = 14,
    /// The reservation was made with other prices: price again with its `price_tag`.
    Reprice = 15,
    RefundExceedsCharge = 16,
    /// A balance or counter would leave ±2^52.
    OutOfRange = 17,
    /// Settle: the cumulative amount is below what was charged. Extend: below the present hold.
    Decreasing = 18,
    /// Nothing to do: not due (expire), nonce gone or already loaded (hydrate), holds live (close).
    Idle = 19,
}

/// A script's answer: status, Redis' time, and the state after it (before it, when denied).
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub status: Status,
    pub now: Millis,
    /// `None` when the account is absent or the generation wrong.
    pub head: Option<Head>,
    /// Of the call's key.
    pub key: Option<KeyCounter>,
    /// The reservation (or operation, see [`OpRecord`]) as it stands, where there is one.
    pub record: Option<Record>,
    pub op: Option<OpRecord>,
    /// Counters of the call's groups, in the call's order, rolled to the call's windows; each
    /// holds the call's gauges first, in order, then counters of limits that no longer exist.
    pub windows: SmallVec<[WindowCounters; 2]>,
}

/// Tombstone of a refund, credit or debit: `<i7 i7 i7 I6 c18` amount, balance after, charge left
/// (refund only), at, fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpRecord {
    pub amount: i64,
    pub balance: i64,
    pub at: Millis,
    pub fingerprint: Fingerprint,
}

/// Reserve. `amount` is held (or at least `min_amount` of it), `tokens` and one request counted.
#[derive(Clone, Debug)]
pub struct ReserveCall<'a> {
    pub account: &'a AccountId,
    pub id: &'a ReservationId,
    pub version: u32,
    /// Refusal → the script answers `Denied` when nothing before it (replay, conflict) applies.
    pub admission: &'a Admission,
    pub key: Option<&'a KeyId>,
    pub amount: i64,
    /// Equal to `amount` in strict mode.
    pub min_amount: i64,
    pub tokens: i64,
    pub prompt_cost: i64,
    pub ttl_ms: u32,
    pub check_only: bool,
    pub charge_on_expiry: bool,
    pub fingerprint: Fingerprint,
    pub price_tag: &'a [u8],
}

/// What a settle costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    Units(i64),
    /// The estimate's prompt part, as reserve stored it.
    Prompt,
    /// The whole hold.
    Held,
    /// None. This one, `Prompt` and `Held` never take back what partial settles have charged.
    Nothing,
}

/// Settle of a reservation that exists; `Unknown` when there is none (then [`ChargeCall`] with
/// `unreserved`).
#[derive(Clone, Debug)]
pub struct SettleCall<'a> {
    pub account: &'a AccountId,
    pub id: &'a ReservationId,
    pub cost: Cost,
    /// Actual tokens; `None`: as reserved.
    pub tokens: Option<i64>,
    /// False: a partial settle, `cost` is cumulative.
    pub last: bool,
    pub clamped: bool,
    pub fingerprint: Fingerprint,
    /// The prices `cost` was computed with; `None` when it was not computed from prices.
    pub price_tag: Option<&'a [u8]>,
    pub log: &'a [u8],
}

/// Charge at once. `force` skips balance and limits; `unreserved` (a settle that found no
/// reservation) also skips policy denials, and leaves the record of a settle.
#[derive(Clone, Debug)]
pub struct ChargeCall<'a> {
    pub account: &'a AccountId,
    pub id: &'a ReservationId,
    pub version: u32,
    pub admission: &'a Admission,
    pub key: Option<&'a KeyId>,
    pub amount: i64,
    pub tokens: i64,
    pub force: bool,
    pub unreserved: bool,
    pub clamped: bool,
    pub fingerprint: Fingerprint,
    pub price_tag: &'a [u8],
    pub log: &'a [u8],
}

/// Extend: `amount` is the new whole hold (`None`: as it is), `ttl_ms` from now (`None`: as it is).
/// Needs the record's groups with the present caps: the caller reads the record first and passes
/// the gauges of its groups, cost metric only.
#[derive(Clone, Debug)]
pub struct ExtendCall<'a> {
    pub account: &'a AccountId,
    pub id: &'a ReservationId,
    pub version: u32,
    pub credit_limit: i64,
    pub allowance: Option<i64>,
    pub denied: bool,
    /// The groups of the reservation as policy sees them today (cost gauges only).
    pub groups: &'a [Group],
    pub amount: Option<i64>,
    pub ttl_ms: Option<u32>,
}

/// Refund of a settled reservation.
#[derive(Clone, Debug)]
pub struct RefundCall<'a> {
    pub account: &'a AccountId,
    pub op_id: &'a OpId,
    pub of: &'a ReservationId,
    pub amount: i64,
    pub fingerprint: Fingerprint,
    pub log: &'a [u8],
}

/// Credit, debit, initial balance, close. `kind` is one of `Credit`, `Debit`, `Initial`, `Close`.
#[derive(Clone, Debug)]
pub struct AdjustCall<'a> {
    pub account: &'a AccountId,
    pub kind: Kind,
    pub op_id: &'a OpId,
    /// Units to add (credit, initial) or take (debit); ignored by close, which takes all there is.
    pub amount: i64,
    /// Debit only: also below what is not held.
    pub force: bool,
    pub fingerprint: Fingerprint,
    pub log: &'a [u8],
}

/// Sets the usage of the named counters to 0; window and held stay.
#[derive(Clone, Debug)]
pub struct ResetCall<'a> {
    pub account: &'a AccountId,
    pub op_id: &'a OpId,
    pub field: &'a GroupField,
    pub codes: &'a [CounterCode],
    pub log: &'a [u8],
}

/// The counters. Every call is one script on one shard: atomic, and safe to repeat. Called from
/// request handlers and the sweeper; waits at most the call's time budget, never blocks a thread.
#[async_trait]
pub trait Counters: Send + Sync + 'static {
    async fn reserve(&self, call: &ReserveCall<'_>) -> Result<Reply, Unavailable>;
    async fn settle(&self, call: &SettleCall<'_>) -> Result<Reply, Unavailable>;
    async fn release(&self, account: &AccountId, id: &ReservationId) -> Result<Reply, Unavailable>;
    async fn extend(&self, call: &ExtendCall<'_>) -> Result<Reply, Unavailable>;
    async fn charge(&self, call: &ChargeCall<'_>) -> Result<Reply, Unavailable>;
    async fn refund(&self, call: &RefundCall<'_>) -> Result<Reply, Unavailable>;
    async fn adjust(&self, call: &AdjustCall<'_>) -> Result<Reply, Unavailable>;
    async fn reset(&self, call: &ResetCall<'_>) -> Result<Reply, Unavailable>;
    /// Ends a hold whose deadline has passed; `Idle` when it has not.
    async fn expire(&self, account: &AccountId, id: &ReservationId) -> Result<Reply, Unavailable>;
    /// Raises the account's policy version; `Absent` when it is not loaded (which is fine).
    async fn raise_version(&self, account: &AccountId, version: u32) -> Result<Reply, Unavailable>;

    /// All counters of a loaded account and Redis' time; `None` when it is not loaded.
    async fn read_account(&self, account: &AccountId) -> Result<Option<(Millis, AccountCounters)>, Unavailable>;
    async fn read_record(&self, account: &AccountId, id: &ReservationId) -> Result<Option<Record>, Unavailable>;
    /// Holds of a shard whose deadline has passed, oldest first.
    async fn due(&self, shard: u16, most: usize) -> Result<Vec<(AccountId, ReservationId)>, Unavailable>;
    fn shards(&self) -> u16;
    fn shard_of(&self, account: &AccountId) -> u16;

    /// First step of a cold load: a nonce in the account's slot, kept for a few seconds.
    async fn begin_load(&self, account: &AccountId) -> Result<u64, Unavailable>;
    /// Last step: installs the counters if the nonce is still there and the account still absent
    /// (`Done`); `Idle` when not, then look again.
    async fn hydrate(&self, account: &AccountId, nonce: u64, counters: &AccountCounters) -> Result<Reply, Unavailable>;
    /// Puts the tombstone of a settled reservation back (from the ledger) if there is none. Called
    /// while the shard is fenced; `Recovering` asks for it once more when it is open.
    async fn restore_record(&self, account: &AccountId, id: &ReservationId, record: &Record)
    -> Result<(), Unavailable>;
}

/// What SQL has of an account: the sums of its ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Posted {
    /// `held` is 0 everywhere: holds live in Redis only.
    pub counters: AccountCounters,
    /// Balance to be credited once as `Kind::Initial` under op id `v<n>`, when not yet in the ledger.
    pub initial: Option<(OpId, i64)>,
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
/// in the same transaction. Called on a cache miss, by the admin API and by the loader.
#[async_trait]
pub trait PolicyStore: Send + Sync + 'static {
    /// `None`: no such account (or deleted).
    async fn policy(&self, account: &AccountId) -> Result<Option<Policy>, StoreError>;
    async fn secret(&self, sha256: &[u8; 32]) -> Result<Option<(AccountId, KeyId)>, StoreError>;
    /// Creates or merges; the new policy, and whether it was created.
    async fn put_account(&self, account: &AccountId, patch: &AccountPatch) -> Result<(Policy, bool), StoreError>;
    /// Policies in order of account id, after `cursor`.
    async fn list_accounts(&self, cursor: Option<&AccountId>, most: u32) -> Result<Vec<Policy>, StoreError>;
    /// The version after deletion; `None` when there was none. Ledger rows stay.
    async fn delete_account(&self, account: &AccountId) -> Result<Option<u32>, StoreError>;
    /// Creates or merges a key; `None` when there is no such account. Refuses a secret in use
    /// elsewhere (`secret_sha256`) and more keys than an account may have (`key`).
    async fn put_key(
        &self,
        account: &AccountId,
        key: &KeyId,
        patch: &KeyPatch,
    ) -> Result<Option<(Policy, bool)>, StoreError>;
    /// The policy without the key; `None` when account or key do not exist.
    async fn delete_key(&self, account: &AccountId, key: &KeyId) -> Result<Option<Policy>, StoreError>;
    /// `None`: there never was such an account. A deleted one has no `initial`, but its sums go on.
    async fn posted(&self, account: &AccountId) -> Result<Option<Posted>, StoreError>;
    /// Price lists: the newest version's number, and one version's content (JSON of the tariff).
    async fn tariff_version(&self) -> Result<u32, StoreError>;
    async fn tariff(&self, version: u32) -> Result<Option<Vec<u8>>, StoreError>;
    async fn put_tariff(&self, content: &[u8], source: &str) -> Result<u32, StoreError>;
}

/// The ledger as the slow paths read it.
#[async_trait]
pub trait LedgerStore: Send + Sync + 'static {
    /// The entry of an operation, if it is posted.
    async fn operation(&self, account: &AccountId, kind: Kind, op_id: &OpId) -> Result<Option<Entry>, StoreError>;
    /// The latest record of a reservation in the ledger (charged, refunded), if it is posted.
    async fn record(&self, account: &AccountId, id: &ReservationId) -> Result<Option<Record>, StoreError>;
}

/// Write-back, as far as the engine needs it: SQL has every entry of the account's shard that was
/// in the stream when this was called.
#[async_trait]
pub trait Drain: Send + Sync + 'static {
    async fn drain(&self, account: &AccountId) -> Result<(), Unavailable>;
}

/// A place in a shard's history: stream id `<generation>-<seq>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub generation: u32,
    pub seq: u64,
}

/// Head of a shard's digest chain: `sha1(previous digest ‖ payload)` in hex, 40 characters;
/// forty zeros before the first entry.
pub type Digest = [u8; 40];

/// A shard as Redis has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMeta {
    /// The last entry written, or the place before the first one of the generation.
    pub top: Position,
    pub digest: Digest,
    /// False while the shard is fenced for recovery: every script answers `Generation`.
    pub open: bool,
    pub now: Millis,
}

/// An entry as the stream holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    pub at: Position,
    /// [`Entry`], packed.
    pub payload: Vec<u8>,
    pub digest: Digest,
}

/// What a Redis server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    pub run_id: String,
    /// e.g. `7.0.15`; Valkey answers its own version and is told apart by `valkey`.
    pub version: String,
    pub valkey: bool,
    pub master: bool,
    pub loading: bool,
    pub maxmemory_policy: String,
    pub append_only: bool,
    pub aof_last_write_ok: bool,
}

/// The stream side of Redis, for write-back and attach. Every call may be repeated.
#[async_trait]
pub trait Stream: Send + Sync + 'static {
    async fn server(&self) -> Result<ServerFacts, Unavailable>;
    /// Rewrites the append-only file and waits for it; nothing to do without one.
    async fn rewrite_aof(&self) -> Result<(), Unavailable>;
    async fn meta(&self, shard: u16) -> Result<Option<ShardMeta>, Unavailable>;
    /// Entries from `from` inclusive, oldest first.
    async fn read(&self, shard: u16, from: Position, most: usize) -> Result<Vec<RawEntry>, Unavailable>;
    /// Drops what is older than `keep_from`.
    async fn trim(&self, shard: u16, keep_from: Position) -> Result<(), Unavailable>;
    /// Writes the shard's meta if what is there is still `expected`; false when it is not.
    async fn set_meta(&self, shard: u16, expected: Option<&ShardMeta>, meta: &ShardMeta) -> Result<bool, Unavailable>;
    /// Removes every key of the shard but its meta, which must be fenced, checked again by every step
    /// (a slow caller must not wipe what another one opened): the first step of a rebuild.
    async fn wipe(&self, shard: u16) -> Result<u64, Unavailable>;
    /// Takes or renews a lease; true while `holder` has it.
    async fn lease(&self, name: &str, holder: &str, ttl_ms: u64) -> Result<bool, Unavailable>;
    /// From now on calls for the shard are made under this generation; `None`: answer `Recovering`.
    fn serve(&self, shard: u16, generation: Option<u32>);
    /// Resolves when shards need attaching: a new server, a lost script, another generation.
    async fn needs_attach(&self);
}

/// The durable position of a shard in SQL. `fence` grows with every attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub at: Position,
    pub digest: Digest,
    pub fence: u64,
}

/// Entries of one shard to be posted in one transaction, moving its mark from `from` to `to`.
#[derive(Clone, Debug)]
pub struct Batch {
    pub shard: u16,
    pub from: Mark,
    pub to: Mark,
    pub entries: Vec<(Position, Digest, Entry)>,
}

/// What posting a batch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// False: the mark was not `from` (another sidecar posted); nothing was done.
    pub moved: bool,
    /// Entries whose operation was posted before (account, kind, op id, part): kept as rejected rows.
    /// Their amounts are in the sums, as they are in Redis; one compensating operation in Redis, which
    /// comes back as an entry of its own, takes them out of both.
    pub duplicates: Vec<Position>,
}

/// SQL, as write-back sees it.
#[async_trait]
pub trait Posting: Send + Sync + 'static {
    /// `None`: the shard was never opened.
    async fn mark(&self, shard: u16) -> Result<Option<Mark>, StoreError>;
    /// One transaction: ledger rows, summed deltas, the mark (compare-and-set).
    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError>;
    /// Opens `generation` for a shard: closes the one before, fence + 1. Compare-and-set on
    /// `expected`; the new mark when it was done.
    async fn open_generation(
        &self,
        shard: u16,
        expected: Option<&Mark>,
        generation: u32,
    ) -> Result<Option<Mark>, StoreError>;
    /// Constants fixed at the first initialisation: stored when absent, else the stored ones.
    async fn constants(&self, wanted: Constants) -> Result<Constants, StoreError>;
    /// The run_id of the Redis that was last attached, and its replacement.
    async fn last_run_id(&self) -> Result<Option<String>, StoreError>;
    async fn set_run_id(&self, run_id: &str) -> Result<(), StoreError>;
    /// The digest of an entry in the ledger; `None` when it is not there.
    async fn digest_at(&self, shard: u16, at: Position) -> Result<Option<Digest>, StoreError>;
    /// A page of a shard's ledger before `before` (`None`: from the end), newest first.
    async fn recent(&self, shard: u16, before: Option<Position>, most: u32) -> Result<Vec<RawEntry>, StoreError>;
}

/// What can never change once money has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constants {
    pub shards: u16,
    pub units_per_usd: i64,
}
