//! One batch of one shard: read the mark, read the stream from it, check, post, trim. The worker and
//! [`super::Drainer`] both call it; other sidecars may do the same at the same time, and the mark's
//! compare-and-set lets one of them win.

use tokio::sync::{Mutex, MutexGuard};
use tracing::debug;

use super::{Ports, Settings, checkpoint, compensate::compensate, gauges};
use crate::{
    engine::ports::{Batch, Mark, Position, StoreError, Unavailable},
    quota::clock::Millis,
};

/// A stream is trimmed when so many of its entries can go.
const TRIM_ENTRIES_MIN: u64 = 128;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing followed the mark.
    Idle,
    /// A batch was posted; `more` when it was as large as batches get.
    Posted { more: bool },
    /// Somebody else moved the mark: look again.
    Overtaken,
}

/// Why a step did not get done.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum PostError {
    /// Redis or SQL did not answer: later. A commit may or may not have happened.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The shard's write-back stands still until somebody looks; nothing is skipped.
    #[error("{0}")]
    Stopped(String),
}

/// What is known of a shard's write-back between steps.
#[derive(Debug, Default)]
struct ShardState {
    /// SQL's mark when last seen. May be old; then posting from it changes nothing.
    mark: Option<Mark>,
    /// When the oldest entry not yet posted was made, as far as known.
    oldest: Option<Millis>,
    /// Up to here the stream was trimmed.
    trimmed: Position,
}

pub(super) struct Poster {
    pub ports: Ports,
    pub settings: Settings,
    shards: Vec<Mutex<ShardState>>,
}

impl Poster {
    pub fn new(ports: Ports, settings: Settings) -> Self {
        let shards = (0..settings.constants.shards).map(|_| Mutex::default()).collect();
        Self { ports, settings, shards }
    }

    async fn state(&self, shard: u16) -> Result<MutexGuard<'_, ShardState>, Unavailable> {
        match self.shards.get(usize::from(shard)) {
            Some(state) => Ok(state.lock().await),
            None => Err(Unavailable::Corrupt(format!("there is no shard {shard}"))),
        }
    }

    /// The mark as it was last seen, from SQL when it never was; `Recovering` for a shard that was
    /// never opened. SQL may be further by now.
    pub async fn seen(&self, shard: u16) -> Result<Position, Unavailable> {
        let mut state = self.state(shard).await?;
        Ok(self.mark(shard, &mut state).await?.at)
    }

    /// When the oldest entry not yet posted was made, as far as known.
    pub async fn oldest(&self, shard: u16) -> Option<Millis> {
        self.state(shard).await.ok()?.oldest
    }

    /// Posts the next batch of the shard.
    pub async fn post_once(&self, shard: u16) -> Result<Step, PostError> {
        let mut state = self.state(shard).await?;
        let mark = self.mark(shard, &mut state).await?;
        // One more than a batch: the mark's own entry comes first.
        let most = self.settings.batch_entries_max;
        let stream = self.ports.stream.read(shard, mark.at, most.saturating_add(1)).await?;
        let batch = match checkpoint::batch(shard, &mark, &stream) {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                state.oldest = None;
                // Nobody posts a shard that seems up to date: if this one seemed behind, its mark is
                // of a generation that a rebuild has closed. Read it again the next time.
                state.mark = None;
                return Ok(Step::Idle);
            }
            Err(divergence) => {
                state.mark = None;
                return self.diverged(shard, &mark, &divergence).await;
            }
        };
        state.oldest = batch.entries.first().map(|(_, _, entry)| entry.at);
        // Until the answer is here, the mark is unknown; so it is when this future is dropped.
        state.mark = None;
        let applied = self.ports.posting.apply(&batch).await.map_err(|error| refused(shard, &batch, error))?;
        if !applied.moved {
            return Ok(Step::Overtaken);
        }
        let more = batch.entries.len() >= most;
        state.mark = Some(batch.to);
        state.oldest = batch.entries.last().filter(|_| more).map(|(_, _, entry)| entry.at);
        gauges::posted(batch.entries.len() as u64, applied.duplicates.len() as u64);
        for (at, _, entry) in batch.entries.iter().filter(|(at, _, _)| applied.duplicates.contains(at)) {
            compensate(&*self.ports.counters, shard, *at, entry).await;
        }
        self.trim(shard, &batch.to, &mut state).await;
        Ok(Step::Posted { more })
    }

    async fn mark(&self, shard: u16, state: &mut ShardState) -> Result<Mark, Unavailable> {
        match state.mark {
            Some(mark) => Ok(mark),
            None => {
                let mark = self.ports.posting.mark(shard).await?.ok_or(Unavailable::Recovering)?;
                state.mark = Some(mark);
                Ok(mark)
            }
        }
    }

    /// A stream that does not follow from the mark is alarming only when both still stand as they
    /// were compared: another sidecar may have posted and trimmed, or attach may be at work.
    async fn diverged(&self, shard: u16, mark: &Mark, divergence: &checkpoint::Divergence) -> Result<Step, PostError> {
        if self.ports.posting.mark(shard).await.map_err(Unavailable::from)? != Some(*mark) {
            return Ok(Step::Overtaken);
        }
        match self.ports.stream.meta(shard).await? {
            Some(meta) if meta.open && meta.top >= mark.at && meta.top.generation == mark.at.generation => {
                Err(PostError::Stopped(format!("shard {shard}: {divergence}")))
            }
            _ => Err(Unavailable::Recovering.into()),
        }
    }

    /// Only ever after the commit. Keeps the mark's entry and the retention tail before it. A trim
    /// that failed is made up for by the next one.
    async fn trim(&self, shard: u16, mark: &Mark, state: &mut ShardState) {
        let keep_from = Position { seq: mark.at.seq.saturating_sub(self.settings.retention_entries), ..mark.at };
        let trimmed = if state.trimmed.generation == keep_from.generation { state.trimmed.seq } else { 0 };
        if keep_from.seq < trimmed.saturating_add(TRIM_ENTRIES_MIN) {
            return;
        }
        match self.ports.stream.trim(shard, keep_from).await {
            Ok(()) => state.trimmed = keep_from,
            Err(reason) => debug!(shard, %reason, "a stream could not be trimmed"),
        }
    }
}

fn refused(shard: u16, batch: &Batch, error: StoreError) -> PostError {
    gauges::failed();
    match error {
        StoreError::Unavailable(_) => Unavailable::from(error).into(),
        StoreError::Refused { .. } | StoreError::Corrupt(_) => {
            let (from, to) = (checkpoint::Text(batch.from.at), checkpoint::Text(batch.to.at));
            PostError::Stopped(format!(
                "shard {shard}: the database refuses the entries after {from} up to {to}: {error}"
            ))
        }
    }
}
