//! The port [`Stream`]: what write-back and attach need of Redis.

use async_trait::async_trait;

use super::Unavailable;
use crate::quota::{
    clock::Millis,
    id::{AccountId, ReservationId},
    reservation::Record,
};

/// A place in a shard's history: stream id `<generation>-<seq>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub generation: u32,
    pub seq: u64,
}

impl Position {
    /// The next place of the same generation.
    #[must_use]
    pub fn following(self) -> Self {
        Self { seq: self.seq + 1, ..self }
    }
}

/// Head of a shard's digest chain: `sha1(previous digest ‖ payload)` in hex, 40 characters.
pub type Digest = [u8; 40];

/// The digest before the first entry of a shard. It runs on through generations: the first entry of a
/// later one follows from the last entry before it.
pub const NO_DIGEST: Digest = [b'0'; 40];

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

/// The memory of an ended reservation, on its way back into Redis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    pub account: AccountId,
    pub id: ReservationId,
    pub record: Record,
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
    /// Removes every key of the shard but its meta, as long as that is `fence` (every step looks again: a
    /// slow caller must not wipe what another one opened). False when it was not.
    async fn wipe(&self, shard: u16, fence: &ShardMeta) -> Result<bool, Unavailable>;
    /// Applies a ledger row to a fenced shard whose top is the place before it: the entry with its own id,
    /// its deltas where the account is loaded, the reservation as the entry left it. The meta after it;
    /// `None` when the meta was not `fence`, and nothing was done.
    async fn redo(&self, shard: u16, fence: &ShardMeta, row: &RawEntry) -> Result<Option<ShardMeta>, Unavailable>;
    /// Puts tombstones back that are not there, as long as the meta is `fence`; false when it was not.
    async fn restore(&self, shard: u16, fence: &ShardMeta, tombstones: &[Tombstone]) -> Result<bool, Unavailable>;
    /// Takes or renews a lease; true while `holder` has it.
    async fn lease(&self, name: &str, holder: &str, ttl_ms: u64) -> Result<bool, Unavailable>;
    /// From now on calls for the shard are made under this generation; `None`: answer `Recovering`.
    fn serve(&self, shard: u16, generation: Option<u32>);
    /// Resolves when shards need attaching: a new server, a lost script, another generation.
    async fn needs_attach(&self);
}
