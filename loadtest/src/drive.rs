//! Makes calls happen: at the instants of a schedule (open loop), or as fast as answers come
//! (closed loop).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, mpsc};

use crate::{
    life::Stage,
    meter::Verb,
    schedule::{Due, Schedule},
    workload::Call,
};

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The trace's own arrivals, so many times faster.
    Trace { speed: f64 },
    /// So many calls per second, evenly.
    Rate { per_second: f64 },
    /// So many callers, each beginning its next call when the last is over.
    Closed { callers: u32 },
}

/// How much there is to do; whichever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub calls: u64,
    pub duration: Option<Duration>,
}

/// Calls alive at once in an open loop. When the server falls so far behind, the next calls wait;
/// their latency counts from when they were due all the same.
const IN_FLIGHT_MAX: u32 = 50_000;
/// Calls that are due and not yet begun.
const DUE_MAX: usize = 10_000;
/// How often a waiting pacer looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// From now to the first call, so that the pacer is ready for it.
const HEAD_START: Duration = Duration::from_millis(50);

/// Runs the calls to their end; how long it took.
///
/// # Errors
/// A sentence when the pacer cannot be started.
pub async fn drive(stage: &Arc<Stage>, pace: Pace, extent: Extent, stop: &Arc<AtomicBool>) -> Result<Duration, String> {
    let begun = Instant::now();
    match pace {
        Pace::Closed { callers } => closed(stage, callers, extent, stop).await,
        Pace::Trace { .. } | Pace::Rate { .. } => open(stage, pace, extent, stop).await?,
    }
    let took = begun.elapsed();
    stage.drain().await;
    Ok(took)
}

async fn open(stage: &Arc<Stage>, pace: Pace, extent: Extent, stop: &Arc<AtomicBool>) -> Result<(), String> {
    let (sender, mut due_calls) = mpsc::channel(DUE_MAX);
    let (for_pacer, stop) = (Arc::clone(stage), Arc::clone(stop));
    let start = Instant::now() + HEAD_START;
    let pacer = std::thread::Builder::new()
        .name("pacer".into())
        .spawn(move || keep_pace(&for_pacer, pace, extent, start, &stop, &sender))
        .map_err(|error| format!("the pacer cannot be started: {error}"))?;
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize));
    while let Some((call, due)) = due_calls.recv().await {
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { break };
        let stage = Arc::clone(stage);
        // Joined below, through the permits.
        tokio::spawn(async move {
            stage.meter.record(Verb::Start, Instant::now().saturating_duration_since(due));
            stage.live(call, Due::at(due)).await;
            drop(permit);
        });
    }
    // The semaphore is never closed.
    let _ = in_flight.acquire_many(IN_FLIGHT_MAX).await;
    pacer.join().map_err(|_| "the pacer panicked".to_owned())
}

/// Sends each call when it is due. A thread of its own: the runtime's timer is too coarse.
fn keep_pace(
    stage: &Stage,
    pace: Pace,
    extent: Extent,
    start: Instant,
    stop: &AtomicBool,
    calls: &mpsc::Sender<(Call, Instant)>,
) {
    // Sleeps end to the microsecond then; without it up to 50 µs later, which is only less precise.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let schedule = match pace {
        Pace::Trace { speed } => Schedule::Trace { trace: &stage.workload.trace, speed },
        Pace::Rate { per_second } => Schedule::Rate { per_second },
        Pace::Closed { .. } => return,
    };
    for index in 0..extent.calls {
        let offset = schedule.offset(index);
        if extent.duration.is_some_and(|duration| offset >= duration) {
            return;
        }
        let due = start + offset;
        // Made before it is due, so that making it takes no time of its own.
        let call = stage.workload.call(index);
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if wait.is_zero() {
                break;
            }
            std::thread::sleep(wait.min(STOP_CHECK));
        }
        if calls.blocking_send((call, due)).is_err() {
            return;
        }
    }
}

async fn closed(stage: &Arc<Stage>, callers: u32, extent: Extent, stop: &Arc<AtomicBool>) {
    let next = Arc::new(AtomicU64::new(0));
    let until = extent.duration.map(|duration| Instant::now() + duration);
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (stage, next, stop) = (Arc::clone(stage), Arc::clone(&next), Arc::clone(stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= extent.calls {
                        return;
                    }
                    let call = stage.workload.call(index);
                    stage.live(call, Due::at(Instant::now())).await;
                }
            })
        })
        .collect();
    for caller in callers {
        if caller.await.is_err() {
            stage.journal.finding("a caller panicked; its call is in doubt".into());
        }
    }
}
