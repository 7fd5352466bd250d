//! From the streams into SQL: read the mark, read the stream from it, check, post, trim. [`Poster::post`]
//! does one batch of one shard, for drain and attach; the worker does many shards in one transaction
//! with the same steps. Other sidecars may do the same at the same time, and the mark's compare-and-set
//! lets one of them win.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tracing::{debug, warn};

use super::{
    Ports, Settings,
    checkpoint::{self, Divergence, Next, Text},
    compensate::compensate,
    gauges,
};
use crate::engine::ports::{
    Applied, Batch, Cause, Mark, Opening, Position, RawEntry, ShardMeta, StoreError, Unavailable,
};

/// A stream is trimmed when so many of its entries can go.
const TRIM_ENTRIES_MIN: u64 = 128;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing followed the mark.
    Idle,
    /// A batch of so many entries was posted; `more` when it was as large as batches get.
    Posted { rows: usize, more: bool },
    /// Somebody else moved the mark, or a generation was opened: look again.
    Overtaken,
}

/// Why a step did not get done.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum PostError {
    /// Redis or SQL did not answer: later. A commit may or may not have happened.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The stream does not follow from the mark, and both still are what they were.
    #[error("{0}")]
    Diverged(Divergence),
    /// SQL refuses the entries. Nothing is skipped: somebody must look.
    #[error("{0}")]
    Stopped(String),
}

/// What is known of a shard's write-back between steps.
#[derive(Debug, Default)]
pub(super) struct ShardState {
    /// SQL's mark when last seen. May be old; then posting from it changes nothing.
    mark: Option<Mark>,
    /// Up to here the stream was trimmed.
    trimmed: Position,
}

pub(super) type Held = OwnedMutexGuard<ShardState>;

/// A mark to read on from, and whether SQL has just said it.
pub(super) struct Start {
    pub mark: Mark,
    is_fresh: bool,
}

/// What this process has seen of a shard.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Where SQL was, at least until it was restored from a copy.
    posted: Option<Position>,
    /// The highest place that Redis was at.
    top: Position,
}

pub(super) struct Poster {
    pub ports: Ports,
    pub settings: Settings,
    /// One step per shard and process at a time: drains that come second find it done.
    shards: Vec<Arc<tokio::sync::Mutex<ShardState>>>,
    seen: Mutex<Vec<Seen>>,
    /// The server that was attached last.
    attached: Mutex<Option<String>>,
}

impl Poster {
    pub fn new(ports: Ports, settings: Settings) -> Self {
        let count = usize::from(settings.constants.shards);
        let shards = (0..count).map(|_| Arc::default()).collect();
        let seen = Mutex::new(vec![Seen::default(); count]);
        Self { ports, settings, shards, seen, attached: Mutex::default() }
    }

    /// The server that was attached last.
    pub fn attached_to(&self) -> Option<String> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_attached(&self, run_id: Option<String>) {
        *self.attached.lock().unwrap_or_else(PoisonError::into_inner) = run_id;
    }

    /// Where SQL was when somebody here last looked; `None` before the first look.
    pub fn posted(&self, shard: u16) -> Option<Position> {
        self.with_seen(shard, |seen| seen.posted).flatten()
    }

    /// SQL is there.
    pub fn saw_posted(&self, shard: u16, at: Position) {
        self.with_seen(shard, |seen| seen.posted = Some(at));
    }

    /// Redis is there.
    pub fn saw_top(&self, shard: u16, top: Position) {
        self.with_seen(shard, |seen| seen.top = seen.top.max(top));
    }

    /// The highest place that Redis was known to be at.
    pub fn top_seen(&self, shard: u16) -> Position {
        self.with_seen(shard, |seen| seen.top).unwrap_or_default()
    }

    fn with_seen<T>(&self, shard: u16, look: impl FnOnce(&mut Seen) -> T) -> Option<T> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get_mut(usize::from(shard)).map(look)
    }

    async fn hold(&self, shard: u16) -> Result<Held, Unavailable> {
        match self.shards.get(usize::from(shard)) {
            Some(state) => Ok(state.clone().lock_owned().await),
            None => Err(Unavailable::Corrupt(format!("there is no shard {shard}"))),
        }
    }

    /// `None` while somebody here is at work on the shard.
    pub fn try_hold(&self, shard: u16) -> Option<Held> {
        self.shards.get(usize::from(shard))?.clone().try_lock_owned().ok()
    }

    /// The mark as it was last seen, from SQL when it never was; `Recovering` for a shard that was
    /// never opened. SQL may be further by now.
    pub async fn mark(&self, shard: u16, state: &mut ShardState) -> Result<Mark, Unavailable> {
        match state.mark {
            Some(mark) => Ok(mark),
            None => {
                let mark = self.ports.posting.opened(shard).await?.ok_or(Unavailable::Recovering)?.mark;
                state.mark = Some(mark);
                self.saw_posted(shard, mark.at);
                Ok(mark)
            }
        }
    }

    /// Whether SQL has everything up to the top of this meta. SQL is asked: it may have been restored
    /// from a copy since the mark was last seen, and a cold load must not revive spent money.
    pub async fn has(&self, shard: u16, meta: &ShardMeta) -> Result<bool, Unavailable> {
        let mut state = self.hold(shard).await?;
        state.mark = None;
        let mark = self.mark(shard, &mut state).await?;
        Ok(mark.at >= meta.top || mark.digest == meta.digest)
    }

    /// Posts the next batch of the shard.
    pub async fn post(&self, shard: u16) -> Result<Step, PostError> {
        let mut state = self.hold(shard).await?;
        let most = self.settings.batch_entries_max;
        let batch = match self.read(shard, &mut state, most).await? {
            Next::Batch(batch) => batch,
            Next::Nothing => return Ok(Step::Idle),
            Next::Generation(mark, generation) => return Ok(self.open(shard, &mark, generation).await?),
        };
        crate::fail_point!("batch-read");
        let applied = self.ports.posting.apply(std::slice::from_ref(&batch)).await;
        let applied = applied.map_err(|error| refused(&batch, error))?.pop().unwrap_or_default();
        crate::fail_point!("after-commit-before-trim");
        let step = self.posted_batch(&mut state, &batch, &applied, most).await;
        self.trim([(shard, &mut *state)]).await;
        Ok(step)
    }

    /// What follows the mark, at most so many entries. From here on the mark counts as unknown, until
    /// the batch's fate is: the future may be dropped, and an answer lost.
    pub async fn read(&self, shard: u16, state: &mut ShardState, most: usize) -> Result<Next, PostError> {
        loop {
            let start = self.start(shard, state).await?;
            let stream = self.ports.stream.read(shard, start.mark.at, read_most(most)).await?;
            if let Some(next) = self.follow(shard, state, &start, &stream, most).await? {
                return Ok(next);
            }
        }
    }

    /// Where to read the shard's stream from.
    pub async fn start(&self, shard: u16, state: &mut ShardState) -> Result<Start, Unavailable> {
        let is_fresh = state.mark.is_none();
        Ok(Start { mark: self.mark(shard, state).await?, is_fresh })
    }

    /// What a stream that was read from there makes of it. `None`: the mark was an old one, read again.
    pub async fn follow(
        &self,
        shard: u16,
        state: &mut ShardState,
        start: &Start,
        stream: &[RawEntry],
        most: usize,
    ) -> Result<Option<Next>, PostError> {
        let Start { mark, is_fresh } = start;
        state.mark = None;
        match checkpoint::next(shard, mark, short(stream, mark, most)) {
            // The mark is where a recovery, a restored database or another sidecar has put it.
            Ok(Next::Nothing) | Err(_) if !is_fresh => Ok(None),
            Ok(next) => Ok(Some(next)),
            Err(divergence) => {
                // Only when the mark is where it was: others may have posted and trimmed.
                let now = self.ports.posting.opened(shard).await.map_err(Unavailable::from)?;
                let stands = now.map(|opened| opened.mark) == Some(*mark);
                if stands { Err(PostError::Diverged(divergence)) } else { Ok(Some(Next::Nothing)) }
            }
        }
    }

    /// What is left to do when a batch was posted, or overtaken; but for the trim.
    pub async fn posted_batch(&self, state: &mut ShardState, batch: &Batch, applied: &Applied, most: usize) -> Step {
        if !applied.moved {
            return Step::Overtaken;
        }
        let (shard, more) = (batch.shard, batch.entries.len() >= most);
        state.mark = Some(batch.to);
        self.saw_posted(shard, batch.to.at);
        gauges::posted(batch.entries.len() as u64, applied.duplicates.len() as u64);
        for line in batch.entries.iter().filter(|line| applied.duplicates.contains(&line.at)) {
            compensate(&*self.ports.counters, shard, line.at, &line.entry).await;
        }
        Step::Posted { rows: batch.entries.len(), more }
    }

    /// The stream begins a generation that SQL lacks: SQL was restored from an older copy. Opens it
    /// there too, for the server that is attached; its entries follow.
    pub async fn open(&self, shard: u16, mark: &Mark, generation: u32) -> Result<Step, Unavailable> {
        let opening = Opening {
            generation,
            run_id: self.attached_to().ok_or(Unavailable::Recovering)?,
            cause: Cause::Restarted,
            redone: 0,
            merged: 0,
            seen: None,
            kept_until: None,
        };
        if self.ports.posting.open_generation(shard, Some(mark), &opening).await?.is_some() {
            let after = Text(mark.at).to_string();
            warn!(shard, after, generation, "the database lacks a generation that Redis has: it is posted again");
        }
        Ok(Step::Overtaken)
    }

    /// A stream that does not follow is alarming only when attach is not at work on the shard.
    pub async fn judge(&self, shard: u16, error: PostError) -> PostError {
        match error {
            PostError::Diverged(divergence) => match self.ports.stream.meta(shard).await {
                Ok(Some(meta)) if meta.open => PostError::Stopped(format!("shard {shard}: {divergence}")),
                Ok(_) => Unavailable::Recovering.into(),
                Err(reason) => reason.into(),
            },
            PostError::Unavailable(_) | PostError::Stopped(_) => error,
        }
    }

    /// Only ever after the commit: to the marks that are known to be in SQL. A trim that failed is made up for by
    /// the next one.
    pub async fn trim<'s>(&self, shards: impl IntoIterator<Item = (u16, &'s mut ShardState)>) {
        let (mut states, mut keep) = (Vec::new(), Vec::new());
        for (shard, state) in shards {
            if let Some(keep_from) = self.keep_from(state) {
                states.push(state);
                keep.push((shard, keep_from));
            }
        }
        if keep.is_empty() {
            return;
        }
        match self.ports.stream.trim(&keep).await {
            Ok(()) => states.into_iter().zip(keep).for_each(|(state, (_, keep_from))| state.trimmed = keep_from),
            Err(reason) => debug!(%reason, "streams could not be trimmed"),
        }
    }

    /// The first entry to keep, if enough can go: the mark's entry, and the retention tail before it.
    fn keep_from(&self, state: &ShardState) -> Option<Position> {
        let mark = state.mark?;
        let keep_from = Position { seq: mark.at.seq.saturating_sub(self.settings.retention_entries), ..mark.at };
        let trimmed = if state.trimmed.generation == keep_from.generation { state.trimmed.seq } else { 0 };
        (keep_from.seq >= trimmed.saturating_add(TRIM_ENTRIES_MIN)).then_some(keep_from)
    }
}

/// Entries to read for a batch: one more, because the mark's own comes first.
pub(super) fn read_most(most: usize) -> usize {
    most.saturating_add(1)
}

/// A stream that does not begin with the mark's entry gives one more than was asked for.
fn short<'a>(stream: &'a [RawEntry], mark: &Mark, most: usize) -> &'a [RawEntry] {
    let overlap = usize::from(stream.first().is_some_and(|first| first.at == mark.at));
    stream.get(..most.saturating_add(overlap)).unwrap_or(stream)
}

pub(super) fn refused(batch: &Batch, error: StoreError) -> PostError {
    gauges::failed();
    match error {
        StoreError::Unavailable(_) => Unavailable::from(error).into(),
        StoreError::Refused { .. } | StoreError::Corrupt(_) => {
            let (shard, from, to) = (batch.shard, Text(batch.from.at), Text(batch.to.at));
            PostError::Stopped(format!(
                "shard {shard}: the database refuses the entries after {from} up to {to}: {error}"
            ))
        }
    }
}
