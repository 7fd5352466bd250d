//! Floor 2: from the streams of Redis into the ledger of SQL, exactly once in effect; and attach, which
//! decides whether what Redis holds may be served at all. Knows the ports, neither Redis nor SQL.
//!
//! `checkpoint` is pure: does what a stream says follow from the mark? `poster` knows the steps of
//! posting a batch; `drain` does them for one account's shard at once, the `worker`, who has the `lease`,
//! for all shards in the background (`round`: one transaction). `lag` tells how far SQL is behind.
//!
//! `attach` looks at the server and then at every shard: `standing` compares a shard's two sides (pure),
//! `recovery` acts on it, one step at a time: `redo` brings an older Redis up, `merge` adds a branch to
//! the ledger, `rebuild` empties a shard and fills it from SQL. Safety is compare-and-set everywhere;
//! leases only save double work.

mod attach;
mod checkpoint;
mod compensate;
mod concurrent;
mod drain;
mod gauges;
mod lag;
mod lease;
mod merge;
mod poster;
mod rebuild;
mod recovery;
mod redo;
mod report;
mod round;
mod standing;
mod worker;

use std::{sync::Arc, time::Duration};

pub use attach::{Attach, AttachError};
pub use checkpoint::chain;
pub use drain::Drainer;
pub use lag::Lag;
pub use report::{Recovered, Report};
pub use worker::{Turn, Worker};

use crate::{
    engine::ports::{Backlog, Constants, Counters, Posting, Stream},
    quota::clock::Clock,
};
use poster::Poster;

/// The room's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Entries of one shard posted in one transaction at most.
    pub batch_entries_max: usize,
    /// Pause of the worker when there was nothing to post; it grows to eight times this while that
    /// lasts.
    pub poll: Duration,
    /// Posted entries that stay in each stream: the cure for SQL restored from an older copy.
    pub retention_entries: u64,
    /// How long Redis remembers ended reservations; a rebuild restores those of this age.
    pub tombstone_ttl: Duration,
    /// A Redis that is further behind than so many ledger rows is rebuilt instead of brought up.
    pub redo_rows_max: u64,
    /// The engine takes on no more while SQL is further behind; `None`: it always does.
    pub lag_max: Option<Duration>,
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

/// [`Settings::redo_rows_max`] of a deployment: some seconds of redo.
pub const REDO_ROWS_MAX: u64 = 50_000;

/// The room, built: nothing runs until [`Worker::run`], [`Attach::run`] and [`Lag::run`] are.
#[derive(Clone)]
pub struct Writeback {
    pub drain: Arc<Drainer>,
    pub worker: Arc<Worker>,
    pub attach: Arc<Attach>,
    pub lag: Arc<Lag>,
    /// For the engine.
    pub backlog: Arc<Backlog>,
}

/// Puts the room together.
#[must_use]
pub fn build(ports: &Ports, settings: &Settings) -> Writeback {
    let backlog = Arc::new(Backlog::new(settings.lag_max));
    let poster = Arc::new(Poster::new(ports.clone(), settings.clone()));
    Writeback {
        drain: Arc::new(Drainer::new(poster.clone())),
        worker: Arc::new(Worker::new(poster.clone())),
        lag: Arc::new(Lag::new(poster.clone(), backlog.clone())),
        attach: Arc::new(Attach::new(poster)),
        backlog,
    }
}
