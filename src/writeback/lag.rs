//! How far SQL is behind, known to every sidecar: the one that posts, those that do not, and all of
//! them while SQL is away (then by the marks last known).

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info};

use super::{gauges, poster::Poster};
use crate::{
    engine::ports::{Backlog, Position, ShardMeta, Unavailable},
    quota::{clock::Millis, entry::Entry},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// SQL may take so long to say where it is; then what it said last is used.
const SQL_PATIENCE: Duration = Duration::from_millis(500);
/// A lag above this is an alarm: write-back takes milliseconds.
const ALARM: Duration = Duration::from_secs(10);

/// Looks at all shards every second.
pub struct Lag {
    poster: Arc<Poster>,
    backlog: Arc<Backlog>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Per shard the mark it was seen behind, and when the entry after that was made.
    oldest: HashMap<u16, (Position, Millis)>,
    is_alarmed: bool,
}

impl Lag {
    pub(super) fn new(poster: Arc<Poster>, backlog: Arc<Backlog>) -> Self {
        Self { poster, backlog, memory: Mutex::default() }
    }

    /// Looks until `stop` resolves.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                _ = ticks.tick() => {
                    // Without Redis nothing is known, and nothing is served: what was known stays.
                    let _ = self.look().await;
                }
            }
        }
    }

    /// Looks once, and tells the engine and the gauges.
    ///
    /// # Errors
    /// Redis is away; what was known stays.
    pub async fn look(&self) -> Result<(), Unavailable> {
        let poster = &self.poster;
        if let Ok(Ok(all)) = timeout(SQL_PATIENCE, poster.ports.posting.all_opened()).await {
            for opened in all {
                poster.saw_posted(opened.shard, opened.mark.at);
            }
        }
        let metas = metas(poster).await?;
        let behind: Vec<_> = metas
            .into_iter()
            .filter_map(|(shard, meta)| Some((shard, poster.posted(shard)?, meta.top)))
            .filter(|(_, posted, top)| posted < top)
            .collect();
        let mut entries = 0;
        for (_, posted, top) in &behind {
            let same = posted.generation == top.generation;
            entries += top.seq.saturating_sub(if same { posted.seq } else { 0 });
        }
        let mut oldest = self.memory().oldest.clone();
        oldest.retain(|shard, (mark, _)| behind.iter().any(|(one, posted, _)| (one, posted) == (shard, &*mark)));
        let unknown = behind.iter().filter(|(shard, ..)| !oldest.contains_key(shard));
        let unknown: Vec<(u16, Position)> = unknown.map(|(shard, posted, _)| (*shard, *posted)).collect();
        oldest.extend(oldest_after(poster, &unknown).await?);
        let now = poster.ports.clock.now();
        let age_ms = oldest.values().map(|(_, at)| now.0.saturating_sub(at.0)).max().unwrap_or(0);
        self.tell(entries, Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)), oldest);
        Ok(())
    }

    fn tell(&self, entries: u64, age: Duration, oldest: HashMap<u16, (Position, Millis)>) {
        self.backlog.set(age);
        let mut memory = self.memory();
        memory.oldest = oldest;
        let is_late = age > ALARM;
        let seconds = age.as_secs();
        match (memory.is_alarmed, is_late) {
            (false, true) => error!(entries, seconds, "the database is far behind; entries wait in Redis"),
            (true, false) => info!(entries, seconds, "the database has caught up"),
            (false, false) | (true, true) => {}
        }
        memory.is_alarmed = is_late;
        gauges::lag(entries, age, is_late);
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the entries after these places were made; nothing of shards that have none.
async fn oldest_after(
    poster: &Poster,
    places: &[(u16, Position)],
) -> Result<Vec<(u16, (Position, Millis))>, Unavailable> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let streams = poster.ports.stream.read_many(places, 2).await?;
    let mut oldest = Vec::with_capacity(places.len());
    for ((shard, posted), stream) in places.iter().zip(streams) {
        let next = stream?.into_iter().find(|raw| raw.at > *posted);
        let entry = next.and_then(|raw| Entry::unpack(&raw.payload).ok());
        oldest.extend(entry.map(|entry| (*shard, (*posted, entry.at))));
    }
    Ok(oldest)
}

/// Metas of the open shards; one without meta, or fenced, is attach's business.
pub(super) async fn metas(poster: &Poster) -> Result<Vec<(u16, ShardMeta)>, Unavailable> {
    let metas = poster.ports.stream.metas(poster.settings.constants.shards).await?;
    let open = (0..).zip(metas).filter_map(|(shard, meta)| Some((shard, meta.filter(|meta| meta.open)?)));
    Ok(open.inspect(|(shard, meta)| poster.saw_top(*shard, meta.top)).collect())
}
