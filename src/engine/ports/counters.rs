//! The port [`Counters`]: every verb as one atomic call.

use async_trait::async_trait;
use smallvec::SmallVec;

use super::Unavailable;
use crate::quota::{
    clock::Millis,
    counter::{AccountCounters, Head, KeyCounter, WindowCounters},
    entry::{Entry, Kind},
    fingerprint::Fingerprint,
    id::{AccountId, KeyId, OpId, ReservationId},
    limit::{CounterCode, GroupField},
    policy::{Admission, Group},
    reservation::Record,
};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
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
/// the gauges of its groups, of cost and tokens.
#[derive(Clone, Debug)]
pub struct ExtendCall<'a> {
    pub account: &'a AccountId,
    pub id: &'a ReservationId,
    pub version: u32,
    pub credit_limit: i64,
    pub allowance: Option<i64>,
    pub denied: bool,
    /// The groups of the reservation as policy sees them today (gauges of cost, and of tokens for another estimate).
    pub groups: &'a [Group],
    pub amount: Option<i64>,
    pub ttl_ms: Option<u32>,
    pub reprice: Option<Reprice<'a>>,
}

/// Another estimate for a live hold, perhaps at other prices. `Status::Reprice` when its tag is not `from` any more.
#[derive(Clone, Copy, Debug)]
pub struct Reprice<'a> {
    /// The tag that the change was worked out from, and the one it shall have.
    pub from: &'a [u8],
    pub to: &'a [u8],
    /// What the estimate's prompt part costs by it.
    pub prompt_cost: i64,
    /// Tokens that it counts; fewer than are held change nothing. `None`: as they are.
    pub tokens: Option<i64>,
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

/// Takes every effect of a ledger entry back, as an entry of its own: a duplicate that its tombstone
/// was too old to stop. `Replayed` when an operation of that name is known.
#[derive(Clone, Debug)]
pub struct UndoCall<'a> {
    /// The new entry's: `dup:<generation>-<shard>-<seq>`.
    pub op_id: &'a OpId,
    /// What was done twice. Its negated deltas of balance, used, requests, tokens, key and windows are
    /// applied; windows that began anew since are left alone.
    pub entry: &'a Entry,
    pub fingerprint: Fingerprint,
    pub log: &'a [u8],
}

/// A field of an account's hash and its value, both as Redis stores them; an empty value: absent.
pub type Field = (Vec<u8>, Vec<u8>);

/// Puts counters right that were proven wrong: all fields or none, and only while each still is what
/// was seen (`Idle` when one is not). No ledger entry: the ledger is what they are mended after.
#[derive(Clone, Debug)]
pub struct MendCall<'a> {
    pub account: &'a AccountId,
    /// Field, what was seen, what it shall be.
    pub fields: &'a [(Vec<u8>, Vec<u8>, Vec<u8>)],
}

/// What the list of deadlines has of an account.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Reservations, and when each is due.
    pub deadlines: Vec<(ReservationId, Millis)>,
    /// Those of them that are live holds.
    pub holds: Vec<(ReservationId, Record)>,
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

    async fn undo(&self, call: &UndoCall<'_>) -> Result<Reply, Unavailable>;
    async fn mend(&self, call: &MendCall<'_>) -> Result<Reply, Unavailable>;
    /// Removes a loaded account that holds nothing and has no entry after `posted` (by place, or because
    /// the account was last written before `posted_at`, when the entry at `posted` was made): `Done`;
    /// `Idle` when it may not go. SQL has all of it.
    async fn unload(
        &self,
        account: &AccountId,
        posted: super::Position,
        posted_at: Millis,
    ) -> Result<Reply, Unavailable>;
    /// A page of the loaded accounts of a shard and when each was last written; the cursor of the next
    /// page, 0 after the last. An account may come twice.
    async fn loaded(&self, shard: u16, cursor: u64) -> Result<(u64, Vec<(AccountId, Millis)>), Unavailable>;
    /// What the list of deadlines has of an account, read bit by bit: the caller compares heads before and after.
    async fn listed(&self, account: &AccountId) -> Result<Listed, Unavailable>;
    /// Live holds of an account that the list of deadlines lacks. Walks over all keys of Redis: only for
    /// an account whose holds do not add up.
    async fn unlisted(&self, account: &AccountId) -> Result<Vec<(ReservationId, Record)>, Unavailable>;
    /// Grows whenever another server may have taken over. What was learnt of policies before may be
    /// outdated: a version that was raised can have been lost.
    fn era(&self) -> u64;

    /// All counters of a loaded account and Redis' time; `None` when it is not loaded.
    async fn read_account(&self, account: &AccountId) -> Result<Option<(Millis, AccountCounters)>, Unavailable>;
    async fn read_record(&self, account: &AccountId, id: &ReservationId) -> Result<Option<Record>, Unavailable>;
    /// Holds of a shard whose deadline has passed, in no order.
    async fn due(&self, shard: u16, most: usize) -> Result<Vec<(AccountId, ReservationId)>, Unavailable>;
    /// Queues of a shard whose holds are due soon: until they were taken out of it, none of them is.
    async fn queues(&self, shard: u16) -> Result<Vec<String>, Unavailable>;
    /// Takes some holds out of a queue; whether it has more.
    async fn cascade(&self, shard: u16, queue: &str) -> Result<bool, Unavailable>;
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
