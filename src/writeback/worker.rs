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
    compensate::compensate_left,
    gauges,
    lag::metas,
    lease::{self, Lease},
    poster::{PostError, Poster, Step},
    round::{Behind, Round},
};
use crate::engine::ports::{Load, Unavailable};

/// A stopped shard is tried again this often: somebody may have put it right.
const STOPPED_RETRY: Duration = Duration::from_secs(10);
/// How often rejected rows without a compensation are looked for.
const COMPENSATE_EVERY: Duration = Duration::from_secs(60);
const COMPENSATE_RETRY: Duration = Duration::from_secs(5);
/// Pauses while Redis or SQL is away grow up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The poll pause grows by doubling up to so many times the setting while nothing comes.
const IDLE_DOUBLINGS: u32 = 3;
/// Under load the pause grows, to so many times the setting: a transaction has a price of its own (the exchange with
/// Redis, the marks, the flush), which many rows share. By this many rows posted it grows once more.
const BUSY_POLLS_MAX: usize = 5;
const ROWS_PER_POLL: usize = 4;
/// Turns after the stop signal at most, to post what is left.
const LAST_TURNS: usize = 1000;

/// What a turn over all shards came to.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Another sidecar posts.
    Elsewhere,
    /// Nothing was left to post.
    Idle,
    /// So many entries were posted; `more` when there is surely more.
    Busy { rows: usize, more: bool },
    /// Redis or SQL did not answer.
    Away(Unavailable),
}

/// Posts all shards in the background.
pub struct Worker {
    poster: Arc<Poster>,
    lease: Lease,
    wake: Notify,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Shards that stand still: why, and when to try again.
    stopped: HashMap<u16, (String, Instant)>,
    /// When rejected rows are looked for again; `None`: as soon as the lease is there.
    compensate_at: Option<Instant>,
    /// The shard that the next turn begins with.
    first: usize,
}

impl Worker {
    pub(super) fn new(poster: Arc<Poster>) -> Self {
        Self { lease: Lease::new(poster.clone()), poster, wake: Notify::new(), memory: Mutex::default() }
    }

    /// Ends the present pause.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Posts until `stop` resolves, then what is left, and gives the lease back. `loader` loads the
    /// accounts of late compensations.
    pub async fn run(&self, loader: &dyn Load, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let (mut idle, mut away) = (0, 0);
        loop {
            let turn = self.turn().await;
            idle = if matches!(turn, Turn::Idle) { idle + 1 } else { 0 };
            away = self.note_away(&turn, away);
            let pause = self.pause(&turn, idle, away);
            let rest = async {
                self.compensate_in_time(loader, &turn).await;
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = sleep(pause) => {}
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = rest => {}
            }
        }
        for _ in 0..LAST_TURNS {
            if !matches!(self.turn().await, Turn::Busy { .. }) {
                break;
            }
        }
        self.lease.give_back().await;
    }

    /// One look at every shard, and one transaction for those that have entries to post.
    pub async fn turn(&self) -> Turn {
        match self.lease.holds().await {
            Ok(true) => {}
            Ok(false) => return Turn::Elsewhere,
            Err(reason) => return Turn::Away(reason),
        }
        let metas = match metas(&self.poster).await {
            Ok(metas) => metas,
            Err(reason) => return Turn::Away(reason),
        };
        let mut behind: Vec<Behind> = metas
            .into_iter()
            .map(|(shard, meta)| Behind { shard, top: meta.top, posted: self.poster.posted(shard) })
            .filter(|behind| behind.posted.is_none_or(|posted| posted < behind.top))
            .filter(|behind| !self.stands_still(behind.shard))
            .collect();
        if behind.is_empty() {
            return Turn::Idle;
        }
        // Whoever waits longest comes first when a transaction cannot take all.
        let count = behind.len();
        behind.rotate_left(self.memory().first % count);
        let round = Round::post(&self.poster, behind).await;
        self.memory().first += round.steps.len().max(1);
        let turn = self.judge(round).await;
        if let Turn::Away(Unavailable::Store(_)) = &turn {
            // Perhaps another sidecar reaches the database.
            self.lease.give_back().await;
        }
        turn
    }

    async fn judge(&self, round: Round) -> Turn {
        let mut turn = if round.more { Turn::Busy { rows: 0, more: true } } else { Turn::Idle };
        for (shard, step) in round.steps {
            let step = match step {
                Err(error) => Err(self.poster.judge(shard, error).await),
                step => step,
            };
            if !matches!(step, Err(PostError::Unavailable(_))) {
                self.note_stopped(shard, step.as_ref().err());
            }
            let next = match step {
                Ok(Step::Idle) | Err(PostError::Stopped(_) | PostError::Diverged(_)) => continue,
                // Attach is at work on this shard; the others go on.
                Err(PostError::Unavailable(Unavailable::Recovering)) => continue,
                Err(PostError::Unavailable(reason)) => Turn::Away(reason),
                Ok(Step::Posted { rows, more }) => Turn::Busy { rows, more },
                Ok(Step::Overtaken) => Turn::Busy { rows: 0, more: true },
            };
            turn = match (turn, next) {
                (Turn::Away(reason), _) => Turn::Away(reason),
                (Turn::Busy { rows, more }, Turn::Busy { rows: also, more: again }) => {
                    Turn::Busy { rows: rows + also, more: more || again }
                }
                (_, next) => next,
            };
        }
        turn
    }

    /// Under the lease, and every minute: duplicates that a process which is gone left uncompensated.
    async fn compensate_in_time(&self, loader: &dyn Load, turn: &Turn) {
        let due = match turn {
            Turn::Elsewhere => {
                self.memory().compensate_at = None;
                false
            }
            Turn::Away(_) => false,
            Turn::Idle | Turn::Busy { .. } => self.memory().compensate_at.is_none_or(|at| at <= Instant::now()),
        };
        if due {
            let pause = if self.compensate(loader).await.is_ok() { COMPENSATE_EVERY } else { COMPENSATE_RETRY };
            self.memory().compensate_at = Some(Instant::now() + pause);
        }
    }

    /// Compensates the duplicates that still are to be. How many were.
    ///
    /// # Errors
    /// Redis or SQL is away; what was not done is found again.
    pub async fn compensate(&self, loader: &dyn Load) -> Result<usize, Unavailable> {
        compensate_left(&self.poster, loader).await
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
            Turn::Busy { more: true, .. } => Duration::ZERO,
            Turn::Busy { rows, more: false } => busy_pause(poll, *rows),
            Turn::Idle => poll.saturating_mul(1 << idle.saturating_sub(1).min(IDLE_DOUBLINGS)),
            Turn::Elsewhere => lease::LOOK,
            Turn::Away(_) => BACKOFF_MIN.saturating_mul(1 << away.saturating_sub(1).min(10)).min(BACKOFF_MAX),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after a turn that posted so many rows and left none.
fn busy_pause(poll: Duration, rows: usize) -> Duration {
    poll.saturating_mul((rows / ROWS_PER_POLL).clamp(1, BUSY_POLLS_MAX) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_with_what_was_posted_and_is_bounded() {
        let pauses = [1, 7, 8, 19, 20, 4096].map(|rows| busy_pause(Duration::from_millis(20), rows).as_millis());
        assert_eq!(pauses, [20, 20, 40, 80, 100, 100]);
    }
}
