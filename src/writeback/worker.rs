//! The background side of write-back: one of the sidecars that share a Redis holds the lease and posts
//! all shards; the others look in on it now and then. An idle turn costs one small read per shard.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracing::{error, info, warn};

use super::{
    concurrent, gauges,
    poster::{PostError, Poster, Step},
};
use crate::engine::ports::{ShardMeta, Unavailable};

/// The lease of the posting sidecar; renewed at a third of it.
const LEASE: &str = "writeback";
const LEASE_TTL: Duration = Duration::from_secs(3);
/// Shards asked at once for their meta, and posted at once.
const METAS_AT_ONCE: usize = 16;
const POSTS_AT_ONCE: usize = 4;
/// A stopped shard is tried again this often: somebody may have put it right.
const STOPPED_RETRY: Duration = Duration::from_secs(10);
/// Pauses while Redis or SQL is away grow up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The poll pause grows by doubling up to so many times the setting while nothing comes.
const IDLE_DOUBLINGS: u32 = 3;
/// Turns after the stop signal at most, to post what is left.
const LAST_TURNS: usize = 1000;

/// What a turn over all shards came to.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Another sidecar posts.
    Elsewhere,
    /// Nothing was left to post.
    Idle,
    /// Batches were posted; `more` when there is surely more.
    Busy { more: bool },
    /// Redis or SQL did not answer.
    Away(Unavailable),
}

/// Posts all shards in the background.
pub struct Worker {
    poster: Arc<Poster>,
    wake: Notify,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    lease_renewed: Option<Instant>,
    /// Shards that stand still: why, and when to try again.
    stopped: HashMap<u16, (String, Instant)>,
}

impl Worker {
    pub(super) fn new(poster: Arc<Poster>) -> Self {
        Self { poster, wake: Notify::new(), memory: Mutex::default() }
    }

    /// Ends the present pause.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Posts until `stop` resolves, then what is left, and gives the lease back.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let (mut idle, mut away) = (0, 0);
        loop {
            let turn = self.turn().await;
            idle = if matches!(turn, Turn::Idle) { idle + 1 } else { 0 };
            away = self.note_away(&turn, away);
            let pause = self.pause(&turn, idle, away);
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
        for _ in 0..LAST_TURNS {
            if !matches!(self.turn().await, Turn::Busy { .. }) {
                break;
            }
        }
        self.give_lease_back().await;
    }

    /// One look at every shard, and one batch for each that has entries to post.
    pub async fn turn(&self) -> Turn {
        match self.holds_lease().await {
            Ok(true) => {}
            Ok(false) => {
                gauges::lag(0, Duration::ZERO);
                return Turn::Elsewhere;
            }
            Err(reason) => return Turn::Away(reason),
        }
        let metas = match self.metas().await {
            Ok(metas) => metas,
            Err(reason) => return Turn::Away(reason),
        };
        let mut behind = Vec::new();
        for (shard, meta) in &metas {
            match self.poster.seen(*shard).await {
                Ok(mark) if mark < meta.top && !self.stands_still(*shard) => behind.push(*shard),
                Ok(_) | Err(Unavailable::Recovering) => {}
                Err(reason) => return Turn::Away(reason),
            }
        }
        let turn = self.post(behind).await;
        self.report_lag(&metas).await;
        turn
    }

    async fn post(&self, behind: Vec<u16>) -> Turn {
        let poster = &self.poster;
        let steps = concurrent::map(behind, POSTS_AT_ONCE, |shard| {
            let poster = poster.clone();
            async move { (shard, poster.post_once(shard).await) }
        })
        .await;
        let mut turn = Turn::Idle;
        for (shard, step) in steps {
            if !matches!(step, Err(PostError::Unavailable(_))) {
                self.note_stopped(shard, step.as_ref().err());
            }
            let next = match step {
                Ok(Step::Idle) | Err(PostError::Stopped(_)) => continue,
                // Attach is at work on this shard; the others go on.
                Err(PostError::Unavailable(Unavailable::Recovering)) => continue,
                Err(PostError::Unavailable(reason)) => Turn::Away(reason),
                Ok(Step::Posted { more }) => Turn::Busy { more },
                Ok(Step::Overtaken) => Turn::Busy { more: true },
            };
            turn = match (turn, next) {
                (Turn::Away(reason), _) => Turn::Away(reason),
                (Turn::Busy { more: true }, Turn::Busy { .. }) => Turn::Busy { more: true },
                (_, next) => next,
            };
        }
        turn
    }

    async fn metas(&self) -> Result<Vec<(u16, ShardMeta)>, Unavailable> {
        let stream = &self.poster.ports.stream;
        let shards = 0..self.poster.settings.constants.shards;
        let answers = concurrent::map(shards, METAS_AT_ONCE, |shard| {
            let stream = stream.clone();
            async move { (shard, stream.meta(shard).await) }
        })
        .await;
        let mut metas = Vec::with_capacity(answers.len());
        for (shard, meta) in answers {
            // A shard without meta, or fenced, is attach's business.
            if let Some(meta) = meta?.filter(|meta| meta.open) {
                metas.push((shard, meta));
            }
        }
        Ok(metas)
    }

    async fn report_lag(&self, metas: &[(u16, ShardMeta)]) {
        let now = self.poster.ports.clock.now();
        let (mut entries, mut oldest_ms) = (0_u64, 0);
        for (shard, meta) in metas {
            match self.poster.seen(*shard).await {
                Ok(mark) if mark.generation == meta.top.generation => {
                    entries += meta.top.seq.saturating_sub(mark.seq);
                }
                _ => {}
            }
            if let Some(oldest) = self.poster.oldest(*shard).await {
                oldest_ms = oldest_ms.max(now.0 - oldest.0);
            }
        }
        gauges::lag(entries, Duration::from_millis(u64::try_from(oldest_ms).unwrap_or(0)));
    }

    async fn holds_lease(&self) -> Result<bool, Unavailable> {
        let renewed = self.memory().lease_renewed;
        if renewed.is_some_and(|at| at.elapsed() < LEASE_TTL / 3) {
            return Ok(true);
        }
        let asked = Instant::now();
        let held = self.lease(LEASE_TTL).await?;
        if held && renewed.is_none() {
            info!("this sidecar does the write-back");
        }
        if !held && renewed.is_some() {
            info!("another sidecar took over the write-back");
        }
        self.memory().lease_renewed = held.then_some(asked);
        Ok(held)
    }

    async fn give_lease_back(&self) {
        if self.memory().lease_renewed.take().is_some() {
            // It runs out by itself when this fails.
            let _ = self.lease(Duration::from_millis(1)).await;
        }
    }

    async fn lease(&self, ttl: Duration) -> Result<bool, Unavailable> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.poster.ports.stream.lease(LEASE, &self.poster.settings.holder, ttl_ms).await
    }

    /// Raises the alarm once per reason, and takes it back when the shard goes on.
    fn note_stopped(&self, shard: u16, error: Option<&PostError>) {
        let mut memory = self.memory();
        match error {
            Some(error) => {
                let sentence = error.to_string();
                let known = memory.stopped.get(&shard).is_some_and(|(before, _)| *before == sentence);
                if !known {
                    error!(shard, reason = sentence, "write-back of a shard stands still");
                }
                memory.stopped.insert(shard, (sentence, Instant::now() + STOPPED_RETRY));
            }
            None => {
                if memory.stopped.remove(&shard).is_some() {
                    info!(shard, "write-back of a shard goes on");
                }
            }
        }
        gauges::stopped(memory.stopped.len());
    }

    fn stands_still(&self, shard: u16) -> bool {
        self.memory().stopped.get(&shard).is_some_and(|(_, retry)| Instant::now() < *retry)
    }

    /// Logs when Redis or SQL goes away and when it is back; the number of turns without them.
    fn note_away(&self, turn: &Turn, away: u32) -> u32 {
        match turn {
            Turn::Away(reason) => {
                if away == 0 {
                    warn!(%reason, "write-back waits");
                }
                away.saturating_add(1)
            }
            Turn::Elsewhere | Turn::Idle | Turn::Busy { .. } => {
                if away > 0 {
                    info!("write-back goes on");
                }
                0
            }
        }
    }

    fn pause(&self, turn: &Turn, idle: u32, away: u32) -> Duration {
        let poll = self.poster.settings.poll;
        match turn {
            Turn::Busy { more: true } => Duration::ZERO,
            Turn::Busy { more: false } => poll,
            Turn::Idle => poll.saturating_mul(1 << idle.saturating_sub(1).min(IDLE_DOUBLINGS)),
            Turn::Elsewhere => LEASE_TTL / 3,
            Turn::Away(_) => BACKOFF_MIN.saturating_mul(1 << away.saturating_sub(1).min(10)).min(BACKOFF_MAX),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
