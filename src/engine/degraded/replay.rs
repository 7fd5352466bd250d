//! The way back: what was answered without Redis is done in it, by the ordinary verbs under the same
//! ids. A settle whose reserve did reach Redis ends that hold, another is charged once as unreserved,
//! and what was done before is a replay; so doing all of it again after a crash is harmless.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::record::{Spooled, Verb};
use crate::{
    engine::{
        Answer, Engine,
        ports::{Spool, Unavailable},
    },
    metrics,
    quota::{id::AccountId, verdict::Verdict},
};

/// Pause between two looks at Redis.
const EVERY: Duration = Duration::from_millis(200);
/// An outage has ended when all shards have served, nothing waits and nothing was answered without
/// Redis for so long. A Redis that comes and goes does not renew the allowance each time.
const CALM: Duration = Duration::from_secs(10);
/// Accounts replayed at once: the gateway's own calls come first.
const AT_ONCE: usize = 16;

/// Operations of one account with their tickets, in order.
type Lane = Vec<(u64, Spooled)>;

/// What became of one operation.
enum Outcome {
    Decided,
    /// Ask again later, and keep the account's next ones until then.
    Undecided,
}

impl Engine {
    /// Replays again and again until `stop` turns true or its sender is gone.
    pub async fn run_replay(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Some(spool) = self.local.spool.clone() else {
            let _ = stop.wait_for(|stop| *stop).await;
            return;
        };
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut served_since = None;
        metrics::spool_entries(spool.entries());
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            if spool.entries() == 0 && !self.local.active.load(Ordering::Acquire) {
                continue;
            }
            let (some, all) = self.shards_serving().await;
            if !all {
                served_since = None;
            }
            if some && spool.entries() > 0 {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = self.clone().replay_once() => {}
                }
            }
            if all {
                let since = *served_since.get_or_insert_with(Instant::now);
                self.end_outage(since, spool.entries());
            }
        }
    }

    /// Whether some, and whether all shards can be asked.
    async fn shards_serving(&self) -> (bool, bool) {
        let (mut some, mut all) = (false, true);
        for shard in 0..self.counters.shards() {
            match self.counters.due(shard, 1).await {
                Ok(_) => some = true,
                Err(Unavailable::Recovering) => all = false,
                // A Redis that is silent would be waited for at every shard.
                Err(_) => return (some, false),
            }
        }
        (some, all)
    }

    fn end_outage(&self, served_since: Instant, waiting: usize) {
        let touched = *self.local.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = waiting == 0 && served_since.max(touched).elapsed() >= CALM;
        if calm && self.local.active.swap(false, Ordering::AcqRel) {
            self.local.book().close(self.clock.now());
            metrics::degraded(false);
            tracing::info!("Redis serves again, and has all that was done without it");
        }
    }

    /// Goes over the spool once: each account's operations in order, up to the first that Redis cannot
    /// decide yet.
    pub async fn replay_once(self: Arc<Self>) {
        let Some(spool) = self.local.spool.clone() else { return };
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut lanes = JoinSet::new();
        for lane in self.lanes(&*spool).await {
            let (engine, spool, turns) = (self.clone(), spool.clone(), turns.clone());
            lanes.spawn(async move {
                let _turn = turns.acquire().await;
                for (ticket, record) in lane {
                    if let Outcome::Undecided = engine.replay(&*spool, ticket, &record).await {
                        break;
                    }
                }
            });
        }
        while lanes.join_next().await.is_some() {}
        metrics::spool_entries(spool.entries());
    }

    async fn lanes(&self, spool: &dyn Spool) -> Vec<Lane> {
        let mut lanes: HashMap<AccountId, Lane> = HashMap::new();
        for (ticket, line) in spool.waiting() {
            match serde_json::from_slice::<Spooled>(&line) {
                Ok(record) => lanes.entry(record.account.clone()).or_default().push((ticket, record)),
                Err(error) => {
                    refuse(spool, ticket, &format!("it cannot be read: {error}")).await;
                }
            }
        }
        lanes.into_values().collect()
    }

    async fn replay(&self, spool: &dyn Spool, ticket: u64, record: &Spooled) -> Outcome {
        let answered = match record.verb {
            Verb::Settle => plain(self.in_time(self.try_settle(&record.as_settle(), Some(&record.bill()))).await),
            Verb::Charge => plain(self.in_time(self.try_charge(&record.as_charge(), Some(record.quote()))).await),
            Verb::Release => plain(self.in_time(self.try_release(&record.as_release())).await),
        };
        match answered {
            Ok(Verdict::Done { replayed, .. }) => {
                spool.done(ticket).await;
                metrics::spool_replayed(if replayed { "replayed" } else { "done" });
                Outcome::Decided
            }
            Ok(Verdict::Refused(refusal)) => {
                let reason = format!("{}: {}", refusal.code.as_str(), refusal.detail);
                refuse(spool, ticket, &reason).await
            }
            Err(unavailable) => {
                tracing::debug!(%unavailable, account = %record.account, "an operation waits on in the spool");
                Outcome::Undecided
            }
        }
    }
}

/// Only whether it was done matters here.
fn plain<T>(answer: Answer<T>) -> Answer<()> {
    answer.map(|verdict| match verdict {
        Verdict::Done { replayed, .. } => Verdict::Done { answer: (), replayed },
        Verdict::Refused(refusal) => Verdict::Refused(refusal),
    })
}

/// For good; but only once people can find it.
async fn refuse(spool: &dyn Spool, ticket: u64, reason: &str) -> Outcome {
    match spool.refuse(ticket, reason).await {
        Ok(()) => {
            metrics::spool_replayed("refused");
            tracing::error!(ticket, reason, "an operation done without Redis is refused by it, and kept aside");
            Outcome::Decided
        }
        Err(error) => {
            tracing::warn!(ticket, reason, %error, "a refused operation could not be kept aside yet");
            Outcome::Undecided
        }
    }
}
