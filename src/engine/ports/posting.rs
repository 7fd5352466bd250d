//! The port [`Posting`]: SQL as write-back and attach see it.

use async_trait::async_trait;

use super::{Digest, Position, RawEntry, StoreError};
use crate::quota::{clock::Millis, entry::Entry};

/// The durable position of a shard in SQL. `fence` grows with every attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub at: Position,
    pub digest: Digest,
    pub fence: u64,
}

/// An entry on its way into the ledger, with the bytes that its digest covers: the ledger keeps them, and they are
/// what was read, so nobody packs an entry to have them.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: Position,
    pub digest: Digest,
    pub entry: Entry,
    /// [`Entry::pack`] of `entry`.
    pub payload: Vec<u8>,
}

impl Line {
    /// Of an entry that no stream holds.
    #[must_use]
    pub fn of(at: Position, digest: Digest, entry: Entry) -> Self {
        Self { at, digest, payload: entry.pack(), entry }
    }
}

/// Entries of one shard to be posted in one transaction, moving its mark from `from` to `to`.
#[derive(Clone, Debug)]
pub struct Batch {
    pub shard: u16,
    pub from: Mark,
    pub to: Mark,
    pub entries: Vec<Line>,
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

/// A shard as SQL has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub shard: u16,
    pub mark: Mark,
    /// The Redis process that the present generation was opened for; another one means recovery.
    pub run_id: String,
}

/// Why a generation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The shard was never opened before.
    First,
    /// Redis is another process than before, and stands where SQL stands or was ahead of it.
    Restarted,
    /// Redis was an older state of what SQL has.
    Behind,
    /// Redis had nothing of the shard.
    Missing,
    /// Redis and SQL had different entries after a common place; both tails are in the ledger now.
    Diverged,
}

impl Cause {
    /// The word for it, in SQL, in metrics and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::First => "first",
            Cause::Restarted => "restarted",
            Cause::Behind => "behind",
            Cause::Missing => "missing",
            Cause::Diverged => "diverged",
        }
    }
}

/// The op id that takes back the duplicate at a place: `dup:<generation>-<shard>-<seq>`. SQL looks for
/// it, and write-back makes it: the name is what lets that happen once.
#[must_use]
pub fn compensation_id(shard: u16, at: Position) -> String {
    format!("dup:{}-{shard}-{}", at.generation, at.seq)
}

/// A generation that begins, and what went before it. Kept with the generation: it is the audit row of
/// a recovery. What Redis acknowledged after the closed generation's last entry and neither kept nor
/// posted is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub generation: u32,
    pub run_id: String,
    pub cause: Cause,
    /// Ledger rows that were applied to Redis again.
    pub redone: u64,
    /// Entries of a branch of Redis' that were added to the ledger.
    pub merged: u64,
    /// The last place that this sidecar knows to have existed in the closed generation, if that is after
    /// its last entry: then loss is certain.
    pub seen: Option<Position>,
    /// Redis' time at the last thing it kept; `None` when it kept nothing.
    pub kept_until: Option<Millis>,
}

/// SQL, as write-back sees it.
#[async_trait]
pub trait Posting: Send + Sync + 'static {
    /// `None`: the shard was never opened.
    async fn opened(&self, shard: u16) -> Result<Option<Opened>, StoreError>;
    /// All shards that were ever opened, in one read.
    async fn all_opened(&self) -> Result<Vec<Opened>, StoreError>;
    /// One transaction for batches of different shards: ledger rows, summed deltas, the marks
    /// (compare-and-set). A batch whose mark was not `from` is left out, the others are posted; an
    /// error posts none. Answers in the order of the batches.
    async fn apply(&self, batches: &[Batch]) -> Result<Vec<Applied>, StoreError>;
    /// Opens a generation for a shard: closes the one before, fence + 1, the digest runs on.
    /// Compare-and-set on `expected`; the new mark when it was done.
    async fn open_generation(
        &self,
        shard: u16,
        expected: Option<&Mark>,
        opening: &Opening,
    ) -> Result<Option<Mark>, StoreError>;
    /// Constants fixed at the first initialisation: stored when absent, else the stored ones.
    async fn constants(&self, wanted: Constants) -> Result<Constants, StoreError>;
    /// The run_id of the Redis that was last attached, and its replacement.
    async fn last_run_id(&self) -> Result<Option<String>, StoreError>;
    async fn set_run_id(&self, run_id: &str) -> Result<(), StoreError>;
    /// The digest of an entry in the ledger, at sequence number 0 that of the generation's beginning;
    /// `None` when it is not there.
    async fn digest_at(&self, shard: u16, at: Position) -> Result<Option<Digest>, StoreError>;
    /// A page of a shard's ledger after a place, oldest first, across generations.
    async fn rows_after(&self, shard: u16, after: Position, most: u32) -> Result<Vec<RawEntry>, StoreError>;
    /// For each entry, whether its operation (account, kind, op id, part) is posted.
    async fn known(&self, entries: &[Entry]) -> Result<Vec<bool>, StoreError>;
    /// Rejected rows without an operation of their compensation's name (see [`Applied::duplicates`]),
    /// oldest first: a process died between commit and compensation.
    async fn uncompensated(&self, most: u32) -> Result<Vec<(u16, RawEntry)>, StoreError>;
    /// A page of a shard's ledger before `before` (`None`: from the end), newest first.
    async fn recent(&self, shard: u16, before: Option<Position>, most: u32) -> Result<Vec<RawEntry>, StoreError>;
}

/// What can never change once money has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constants {
    pub shards: u16,
    pub units_per_usd: i64,
}
