//! The sweep: holds whose deadline has passed are ended, by the same script on every sidecar;
//! whoever comes first ends it, the others find nothing to do.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Engine,
    again::again,
    ports::{Reply, Status, Unavailable},
};
use crate::{
    metrics,
    quota::{
        id::{AccountId, ReservationId},
        reservation::Flags,
    },
};

/// Holds of one shard taken up at once, and scripts in flight at the same time.
const BATCH: usize = 64;
/// Batches of one shard in one sweep; what is left waits for the next.
const BATCHES_MAX: usize = 64;

/// Queues are emptied fifteen seconds before their time, so they must be looked at more often than that.
const CASCADE_EVERY_MAX: Duration = Duration::from_secs(5);

type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

impl Engine {
    /// Ends every hold that is due, in all shards; how many were ended here.
    ///
    /// # Errors
    /// The first [`Unavailable`], after all shards were tried.
    pub async fn sweep_once(&self) -> Result<usize, Unavailable> {
        let (mut ended, mut failure) = (0, None);
        // All shards are asked at once: one write and one wake-up, where mostly nothing is due.
        let asked = (0..self.counters.shards()).map(|shard| self.counters.due(shard, BATCH)).collect();
        for (shard, due) in (0..).zip(all(asked).await) {
            let swept = match due {
                Ok(due) if due.is_empty() => continue,
                Ok(due) => self.sweep_shard(shard, due).await,
                Err(unavailable) => Err(unavailable),
            };
            match swept {
                Ok(of_shard) => ended += of_shard,
                Err(unavailable) => failure = failure.or(Some(unavailable)),
            }
        }
        failure.map_or(Ok(ended), Err)
    }

    /// Takes holds that are due soon out of their queues, shard by shard: gateways' calls wait behind one step at most.
    ///
    /// # Errors
    /// The first [`Unavailable`], after all shards were tried.
    pub async fn cascade_once(&self) -> Result<(), Unavailable> {
        let asked = (0..self.counters.shards()).map(|shard| self.counters.queues(shard)).collect();
        let mut failure = None;
        for (shard, queues) in (0..).zip(all(asked).await) {
            let emptied = match queues {
                Ok(queues) => self.empty(shard, &queues).await,
                Err(unavailable) => Err(unavailable),
            };
            failure = failure.or(emptied.err());
        }
        failure.map_or(Ok(()), Err)
    }

    async fn empty(&self, shard: u16, queues: &[String]) -> Result<(), Unavailable> {
        for queue in queues {
            while self.counters.cascade(shard, queue).await? {}
        }
        Ok(())
    }

    /// Empties queues again and again until `stop` turns true or its sender is gone. Beside the sweep, which must not wait
    /// for it: a queue of a busy shard is long, and is emptied well before its holds are due.
    pub async fn run_cascades(self: Arc<Self>, every: Duration, stop: watch::Receiver<bool>) {
        let failed = "queues of deadlines could not be emptied everywhere";
        again(every.min(CASCADE_EVERY_MAX), stop, failed, || self.cascade_once()).await;
    }

    /// Sweeps again and again until `stop` turns true or its sender is gone.
    pub async fn run_sweeper(self: Arc<Self>, every: Duration, stop: watch::Receiver<bool>) {
        let sweep = || async {
            self.trust.sweep(Instant::now());
            self.sweep_once().await.map(drop)
        };
        again(every, stop, "holds could not be swept everywhere", sweep).await;
    }

    /// From these holds on, which are due.
    async fn sweep_shard(&self, shard: u16, mut due: Vec<(AccountId, ReservationId)>) -> Result<usize, Unavailable> {
        let mut ended = 0;
        for _ in 0..BATCHES_MAX {
            let expiries = due.iter().map(|(account, id)| self.counters.expire(account, id)).collect();
            let mut progress = 0;
            for ((account, _), reply) in due.iter().zip(all(expiries).await) {
                let reply = reply?;
                match reply.status {
                    Status::Done => {
                        progress += 1;
                        metrics::hold_expired(action(&reply));
                    }
                    // Holds of an account that is not loaded: loaded now, swept the next time.
                    Status::Absent => self.load(account).await?,
                    Status::Generation => return Err(Unavailable::Recovering),
                    // Extended, settled or swept by another sidecar meanwhile.
                    _ => {}
                }
            }
            ended += progress;
            if due.len() < BATCH || progress == 0 {
                break;
            }
            due = self.counters.due(shard, BATCH).await?;
        }
        Ok(ended)
    }
}

/// What the expiry did with what was still held.
fn action(reply: &Reply) -> &'static str {
    let charges = reply.record.as_ref().is_some_and(|record| record.flags.has(Flags::CHARGE_ON_EXPIRY));
    if charges { "charged" } else { "released" }
}

/// Drives all of the calls at the same time; their replies in their order.
async fn all<T>(mut calls: Vec<Call<'_, T>>) -> Vec<Result<T, Unavailable>> {
    let mut replies: Vec<_> = calls.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (call, reply) in calls.iter_mut().zip(&mut replies).filter(|(_, reply)| reply.is_none()) {
            match call.as_mut().poll(cx) {
                Poll::Ready(ready) => *reply = Some(ready),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    replies.into_iter().flatten().collect()
}
