//! Floor 2: from the streams of Redis into the ledger of SQL, exactly once in effect; and attach, which
//! decides whether what Redis holds may be served at all. Knows the ports, neither Redis nor SQL.
//!
//! `checkpoint` is pure: does what a stream says follow from the mark? `poster` posts one batch of one
//! shard; the `worker` calls it for all shards in the background, `drain` for one account at once.
//! `standing` compares a shard's two sides (pure), `attach` acts on the outcome, `rebuild` empties a
//! shard whose memory was lost and gives it a new generation. Safety is compare-and-set everywhere;
//! leases only save double work.

mod attach;
mod checkpoint;
mod compensate;
mod concurrent;
mod drain;
mod gauges;
mod poster;
mod rebuild;
mod standing;
mod worker;

use std::{sync::Arc, time::Duration};

pub use attach::{Attach, AttachError, Rebuilt, Report};
pub use checkpoint::chain;
pub use compensate::compensation_id;
pub use drain::Drainer;
pub use worker::{Turn, Worker};

use crate::{
    engine::ports::{Constants, Counters, Posting, Stream},
    quota::clock::Clock,
};
use poster::Poster;

/// The room's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Entries posted in one transaction at most.
    pub batch_entries_max: usize,
    /// Pause of the worker when there was nothing to post; it grows to eight times this while that
    /// lasts.
    pub poll: Duration,
    /// Posted entries that stay in each stream: the cure for SQL restored from an older copy.
    pub retention_entries: u64,
    /// How long Redis remembers ended reservations; a rebuild restores those of this age.
    pub tombstone_ttl: Duration,
    /// What the deployment counts with; another number than the stored one refuses to start.
    pub constants: Constants,
    /// Names this sidecar in leases; no two processes that run at the same time share one.
    pub holder: String,
}

/// What the room works on.
#[derive(Clone)]
pub struct Ports {
    pub stream: Arc<dyn Stream>,
    pub counters: Arc<dyn Counters>,
    pub posting: Arc<dyn Posting>,
    pub clock: Arc<Clock>,
}

/// The room, built: nothing runs until [`Worker::run`] and [`Attach::run`] are.
#[derive(Clone)]
pub struct Writeback {
    pub drain: Arc<Drainer>,
    pub worker: Arc<Worker>,
    pub attach: Arc<Attach>,
}

/// Puts the room together.
#[must_use]
pub fn build(ports: &Ports, settings: &Settings) -> Writeback {
    let poster = Arc::new(Poster::new(ports.clone(), settings.clone()));
    Writeback {
        drain: Arc::new(Drainer::new(poster.clone())),
        worker: Arc::new(Worker::new(poster.clone())),
        attach: Arc::new(Attach::new(poster)),
    }
}
