//! The small background loops: watching that Redis stays fit for money and SQL reachable, and
//! keeping metric samples small.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

use super::tasks::Stop;
use crate::{
    embedded::checks,
    engine::ports::{Posting, Stream},
    metrics::Exporter,
};

/// How often Redis is asked whether it is still fit (eviction would lose balances silently); also how
/// soon readyz knows that it is away.
const FITNESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often SQL is asked whether it is there, and how long it may take to say so.
const REACH_INTERVAL: Duration = Duration::from_secs(2);
/// Metric samples wait in memory until they are folded.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);

/// Asks Redis every second how it is and tells `report` whether money may be counted in it.
pub(super) async fn watch_redis(stream: Arc<dyn Stream>, report: impl Fn(bool) + Send, mut stop: Stop) {
    let mut ticks = interval(FITNESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fit_before = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.told() => return,
        }
        let reasons = match stream.server().await {
            Ok(facts) => checks::check(&facts).refusals,
            Err(reason) => vec![reason.to_string()],
        };
        let fit = reasons.is_empty();
        report(fit);
        match (fit_before, fit) {
            (true, false) => error!(reasons = reasons.join("; "), "Redis is not fit to count money in"),
            (false, true) => info!("Redis is fit again"),
            (false, false) | (true, true) => {}
        }
        fit_before = fit;
    }
}

/// Asks SQL every few seconds whether it is there. Without it nothing is lost, but the streams grow.
pub(super) async fn watch_sql(posting: Arc<dyn Posting>, report: impl Fn(bool) + Send, mut stop: Stop) {
    let mut ticks = interval(REACH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut there_before = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.told() => return,
        }
        let there = matches!(timeout(REACH_INTERVAL, posting.last_run_id()).await, Ok(Ok(_)));
        report(there);
        match (there_before, there) {
            (true, false) => warn!("the database does not answer; entries wait in Redis"),
            (false, true) => info!("the database answers again"),
            (false, false) | (true, true) => {}
        }
        there_before = there;
    }
}

/// Folds metric samples into their buckets.
pub(super) async fn fold_samples(exporter: Exporter, mut stop: Stop) {
    let mut ticks = interval(FOLD_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => exporter.upkeep(),
            () = stop.told() => return,
        }
    }
}
