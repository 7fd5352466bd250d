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
    /// Of every shard below `shards`, in one exchange.
    async fn metas(&self, shards: u16) -> Result<Vec<Option<ShardMeta>>, Unavailable> {
        let mut metas = Vec::with_capacity(shards.into());
        for shard in 0..shards {
            metas.push(self.meta(shard).await?);
        }
        Ok(metas)
    }
    /// Entries from `from` inclusive, oldest first.
    async fn read(&self, shard: u16, from: Position, most: usize) -> Result<Vec<RawEntry>, Unavailable>;
    /// Like [`read`](Stream::read), from places of many shards in one exchange; a shard whose stream cannot be
    /// read has an error of its own.
    async fn read_many(
        &self,
        from: &[(u16, Position)],
        most: usize,
    ) -> Result<Vec<Result<Vec<RawEntry>, Unavailable>>, Unavailable> {
        let mut streams = Vec::with_capacity(from.len());
        for (shard, at) in from {
            streams.push(self.read(*shard, *at, most).await);
        }
        Ok(streams)
    }
    /// Drops what is older than the place, of each of these shards, in one exchange.
    async fn trim(&self, keep_from: &[(u16, Position)]) -> Result<(), Unavailable>;
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
    /// From now on calls for the shard are made under this generation, if this still is `era`
    /// ([`Counters::era`](super::Counters::era)), compared in the same step: what was found out of a server that has been
    /// replaced serves nothing. Whether they are.
    fn serve(&self, shard: u16, generation: u32, era: u64) -> bool;
    /// From now on calls for the shard are answered `Recovering`.
    fn stop(&self, shard: u16);
    /// Resolves when shards need attaching: a new server, a lost script, another generation.
    async fn needs_attach(&self);
}
