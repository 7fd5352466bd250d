//! One shard's way to being served: look at both sides, do one step, look again. Every step is a
//! compare-and-set on what was read, so that it can stop anywhere and anybody may go on; the lease
//! around the long ones only saves double work.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    checkpoint::{self, Next, Text},
    gauges,
    merge::{self, Merge},
    poster::{PostError, Poster, Step},
    rebuild::rebuild,
    redo::{self, Redo},
    report::Recovered,
    standing::{self, Standing, compare},
};
use crate::{
    engine::ports::{Cause, Mark, Opened, Opening, Position, ShardMeta, Unavailable},
    faults::{self, Mutant},
};

/// Looks at one shard before its attach is put off; each ends with somebody's step done.
const LOOKS_MAX: usize = 500;
/// Pause before looking again at a shard that another sidecar recovers.
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(25);
/// A recovery that has not got on for so long is taken over.
const LEASE_TTL_MS: u64 = 2_000;

/// The server that is being attached.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub run_id: String,
    /// Another server may have taken over when it is no longer this.
    pub era: u64,
}

/// How a shard ended up.
pub(super) enum Outcome {
    Agreed,
    Opened,
    Recovered(Recovered),
    Refused(String),
}

/// What a look led to.
enum Look {
    /// A step was done, here or elsewhere: look again.
    Again,
    /// Another sidecar is at work: look again a little later.
    Elsewhere,
    Done(Outcome),
    Refused(String),
}

/// Brings a shard to where it may be served. `view` is what SQL said a moment ago: good enough to
/// find that all is well, and nothing else is done on it.
pub(super) async fn attach_shard(
    poster: &Poster,
    server: &Server,
    shard: u16,
    view: Option<&Opened>,
) -> Result<Outcome, Unavailable> {
    let mut recovery = Recovery { poster, server, shard, cause: None, opening: None };
    let (posting, stream) = (&poster.ports.posting, &poster.ports.stream);
    if let (Some(view), Some(meta)) = (view, stream.meta(shard).await?)
        && compare(Some(view), Some(&meta), &server.run_id) == Standing::Agree
        && recovery.follows(&view.mark, &meta).await?
    {
        recovery.serve(&view.mark)?;
        return Ok(Outcome::Agreed);
    }
    for _ in 0..LOOKS_MAX {
        recovery.check_era()?;
        // In this order: a healthy Redis is never behind a mark that was read before it.
        let opened = posting.opened(shard).await?;
        let meta = stream.meta(shard).await?;
        match recovery.step(opened.as_ref(), meta.as_ref()).await? {
            Look::Again => {}
            Look::Elsewhere => sleep(ELSEWHERE_PAUSE).await,
            Look::Done(outcome) => return Ok(outcome),
            Look::Refused(sentence) => {
                // What was compared may have moved while it was: only what stands still is refused.
                if posting.opened(shard).await? == opened && is_still(stream.meta(shard).await?, meta) {
                    stream.stop(shard);
                    return Ok(Outcome::Refused(sentence));
                }
            }
        }
    }
    Err(Unavailable::Recovering)
}

/// A shard that takes traffic moves on; its fence and generation stay while nobody recovers it.
fn is_still(now: Option<ShardMeta>, before: Option<ShardMeta>) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => now.open == before.open && now.top.generation == before.top.generation,
        (now, before) => now == before,
    }
}

struct Recovery<'a> {
    poster: &'a Poster,
    server: &'a Server,
    shard: u16,
    /// Why an empty fence was put up, when it was here.
    cause: Option<Cause>,
    /// The first generation opened here: the closed place, what was told SQL, and what is lost for
    /// certain.
    opening: Option<(Position, Opening, u64)>,
}

impl Recovery<'_> {
    async fn step(&mut self, opened: Option<&Opened>, meta: Option<&ShardMeta>) -> Result<Look, Unavailable> {
        if let Some(meta) = meta {
            self.poster.saw_top(self.shard, meta.top);
        }
        let mark = opened.map(|opened| &opened.mark);
        match (compare(opened, meta, &self.server.run_id), opened, meta) {
            (Standing::Agree, Some(opened), Some(meta)) => self.agree(opened, meta).await,
            (Standing::Missing, _, _) => self.put(None, &standing::empty_fence(mark)).await,
            (Standing::Fence, opened, Some(meta)) => self.fence(opened, meta).await,
            (Standing::Misplaced, _, Some(meta)) => self.put(Some(meta), &standing::empty_fence(mark)).await,
            (Standing::Next(cause), _, Some(meta)) => self.open_next(mark, meta, cause, 0).await,
            (Standing::Unknown(sentence), _, _) => Ok(Look::Refused(sentence)),
            (Standing::Reopen, Some(opened), Some(meta)) => {
                let open = standing::open_at(&opened.mark, meta.now);
                if !self.poster.ports.stream.set_meta(self.shard, Some(meta), &open).await? {
                    return Ok(Look::Again);
                }
                self.reopened(&opened.mark, meta, false)
            }
            (long, Some(opened), Some(meta)) => {
                if !self.lease().await? {
                    return Ok(Look::Elsewhere);
                }
                match long {
                    Standing::Ahead => self.ahead(&opened.mark, meta).await,
                    Standing::Behind => self.behind(opened, meta).await,
                    Standing::Rebuild if rebuild(self.poster, self.shard, meta, &opened.mark).await? => {
                        self.reopened(&opened.mark, meta, true)
                    }
                    Standing::Rebuild => Ok(Look::Again),
                    _ => self.branch(&opened.mark, meta).await,
                }
            }
            (other, _, _) => Err(Unavailable::Corrupt(format!("shard {} stands {other:?}", self.shard))),
        }
    }

    async fn agree(&self, opened: &Opened, meta: &ShardMeta) -> Result<Look, Unavailable> {
        if self.follows(&opened.mark, meta).await? {
            self.serve(&opened.mark)?;
            return Ok(Look::Done(Outcome::Agreed));
        }
        // Others may have posted and trimmed meanwhile.
        self.fence(Some(opened), meta).await
    }

    /// Fences a shard that is open, if SQL still says what it was compared with: else another sidecar may have opened it
    /// between the two looks, and sidecars that fence what others have just opened go on for ever.
    async fn fence(&self, opened: Option<&Opened>, meta: &ShardMeta) -> Result<Look, Unavailable> {
        if self.poster.ports.posting.opened(self.shard).await?.as_ref() != opened {
            return Ok(Look::Again);
        }
        self.put(Some(meta), &standing::fence(meta)).await
    }

    /// Whether the stream goes on from the mark.
    async fn follows(&self, mark: &Mark, meta: &ShardMeta) -> Result<bool, Unavailable> {
        if meta.top == mark.at {
            return Ok(standing::is_same(mark, meta));
        }
        let stream = self.poster.ports.stream.read(self.shard, mark.at, 2).await?;
        Ok(matches!(checkpoint::next(self.shard, mark, &stream), Ok(Next::Batch(_))))
    }

    async fn put(&self, seen: Option<&ShardMeta>, fence: &ShardMeta) -> Result<Look, Unavailable> {
        if self.poster.ports.stream.set_meta(self.shard, seen, fence).await? {
            crate::fail_point!("fence-set");
        }
        Ok(Look::Again)
    }

    /// Posts what Redis has and SQL has not.
    async fn ahead(&mut self, mark: &Mark, fence: &ShardMeta) -> Result<Look, Unavailable> {
        loop {
            match self.poster.post(self.shard).await {
                Ok(Step::Posted { more: true, .. }) if self.lease().await? => {}
                Ok(Step::Posted { .. } | Step::Overtaken) => return Ok(Look::Again),
                Ok(Step::Idle) => {
                    return Ok(Look::Refused(format!("the stream ends before Redis' last entry {}", Text(fence.top))));
                }
                Err(PostError::Diverged(_)) => return self.branch(mark, fence).await,
                Err(PostError::Stopped(sentence)) => return Ok(Look::Refused(sentence)),
                Err(PostError::Unavailable(reason)) => return Err(reason),
            }
        }
    }

    /// Redis is below the mark: an older state of the same history, or a branch of its own.
    async fn behind(&mut self, opened: &Opened, fence: &ShardMeta) -> Result<Look, Unavailable> {
        let mark = &opened.mark;
        let in_ledger = self.poster.ports.posting.digest_at(self.shard, fence.top).await?;
        let same = in_ledger.is_some() && faults::is(Mutant::SeqWithoutDigest);
        if in_ledger != Some(fence.digest) && !same {
            return self.branch(mark, fence).await;
        }
        let Some(rows) = redo::rows_after(self.poster, self.shard, fence.top, mark).await? else {
            return self.give_up(fence, mark, Cause::Behind).await;
        };
        // The generation first: from then on nobody can post what this Redis has lost.
        if !standing::is_settled(opened, fence, &self.server.run_id) {
            return self.open_next(Some(mark), fence, Cause::Behind, rows).await;
        }
        Ok(match redo::redo_page(self.poster, self.shard, fence, mark).await? {
            Redo::Done | Redo::Again => Look::Again,
            Redo::Refused(sentence) => Look::Refused(sentence),
        })
    }

    async fn branch(&mut self, mark: &Mark, fence: &ShardMeta) -> Result<Look, Unavailable> {
        let (closed, opening, lost) = self.opening(Some(mark), fence, Cause::Diverged);
        match merge::merge(self.poster, self.shard, fence, mark, &opening).await? {
            Merge::Done { mark: now, merged } => {
                if merged > 0 {
                    gauges::lost(lost);
                    self.opening.get_or_insert((closed, Opening { merged, ..opening }, lost));
                }
                self.give_up(fence, &now, Cause::Diverged).await
            }
            Merge::Again => Ok(Look::Again),
            Merge::Refused(sentence) => Ok(Look::Refused(format!("{}: {sentence}", standing::differs(mark, fence)))),
        }
    }

    /// What Redis holds is worth nothing any more.
    async fn give_up(&mut self, fence: &ShardMeta, mark: &Mark, cause: Cause) -> Result<Look, Unavailable> {
        self.cause = Some(cause);
        self.put(Some(fence), &standing::empty_fence(Some(mark))).await
    }

    /// The next generation after both sides, the place it closes, and how many entries after that
    /// were seen to exist and are not there any more.
    fn opening(&self, mark: Option<&Mark>, fence: &ShardMeta, cause: Cause) -> (Position, Opening, u64) {
        let closed = mark.map_or(Position::default(), |mark| mark.at);
        let kept = if fence.top.generation == closed.generation { closed.max(fence.top) } else { closed };
        let seen =
            Some(self.poster.top_seen(self.shard)).filter(|seen| seen.generation == closed.generation && *seen > kept);
        let lost = seen.map_or(0, |seen| seen.seq - kept.seq);
        let opening = Opening {
            generation: closed.generation.max(fence.top.generation).saturating_add(1),
            run_id: self.server.run_id.clone(),
            cause,
            redone: 0,
            merged: 0,
            seen,
            kept_until: Some(fence.now).filter(|now| now.0 > 1),
        };
        (closed, opening, lost)
    }

    async fn open_next(
        &mut self,
        mark: Option<&Mark>,
        fence: &ShardMeta,
        cause: Cause,
        redone: u64,
    ) -> Result<Look, Unavailable> {
        let cause = self.cause.unwrap_or(cause);
        let (closed, opening, lost) = self.opening(mark, fence, cause);
        let opening = Opening { redone, ..opening };
        if self.poster.ports.posting.open_generation(self.shard, mark, &opening).await?.is_some() {
            gauges::lost(lost);
            self.opening.get_or_insert((closed, opening, lost));
        }
        Ok(Look::Again)
    }

    /// The shard is open. Whoever opened it tells, also of what a process that is gone began.
    fn reopened(&self, mark: &Mark, fence: &ShardMeta, rebuilt: bool) -> Result<Look, Unavailable> {
        crate::fail_point!("reopened");
        self.serve(mark)?;
        let resumed = || {
            let first = fence.top == Position::default();
            let cause = if first {
                Cause::First
            } else if rebuilt {
                Cause::Missing
            } else {
                Cause::Restarted
            };
            (fence.top, self.opening(Some(mark), fence, cause).1, 0)
        };
        let (after, opening, lost) = self.opening.clone().unwrap_or_else(resumed);
        if opening.cause == Cause::First {
            return Ok(Look::Done(Outcome::Opened));
        }
        Ok(Look::Done(Outcome::Recovered(Recovered {
            shard: self.shard,
            cause: opening.cause,
            after,
            generation: mark.at.generation,
            redone: opening.redone,
            merged: opening.merged,
            lost,
            kept_until: opening.kept_until,
            rebuilt,
        })))
    }

    /// What was compared was said by the server of this attach, or nothing is served.
    fn serve(&self, mark: &Mark) -> Result<(), Unavailable> {
        if !self.poster.ports.stream.serve(self.shard, mark.at.generation, self.server.era) {
            return Err(Unavailable::Recovering);
        }
        self.poster.saw_posted(self.shard, mark.at);
        Ok(())
    }

    fn check_era(&self) -> Result<(), Unavailable> {
        let now = self.poster.ports.counters.era();
        if now == self.server.era { Ok(()) } else { Err(Unavailable::Recovering) }
    }

    async fn lease(&self) -> Result<bool, Unavailable> {
        let (name, holder) = (format!("recover-{}", self.shard), &self.poster.settings.holder);
        self.poster.ports.stream.lease(&name, holder, LEASE_TTL_MS).await
    }
}
