//! The small background loops: watching that Redis stays fit for money and SQL reachable, and
//! keeping metric samples small, sending idle accounts away, taking over settings that changed.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, error, info, warn};

use super::tasks::Stop;
use crate::{
    embedded::checks,
    engine::{
        Engine,
        ports::{News, Posting, Stream, Unavailable},
        unload::{Place, Unloader},
    },
    metrics::Exporter,
};

/// How often Redis is asked whether it is still fit (eviction would lose balances silently); also how
/// soon readyz knows that it is away.
const FITNESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often SQL is asked whether it is there, and how long it may take to say so.
const REACH_INTERVAL: Duration = Duration::from_secs(2);
/// Metric samples wait in memory until they are folded.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);

/// Of the sidecar that unloads idle accounts: one is enough.
const UNLOAD_LEASE: &str = "unload";
const UNLOAD_LEASE_TTL: Duration = Duration::from_secs(10);
/// Between two pages of loaded accounts: a walk over millions may take its time.
const UNLOAD_PAGE_PAUSE: Duration = Duration::from_millis(20);
/// Between two walks: a tenth of the time that makes an account idle, within these.
const UNLOAD_ROUND_MIN: Duration = Duration::from_millis(100);
const UNLOAD_ROUND_MAX: Duration = Duration::from_secs(600);

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

/// What a sidecar needs to take its turn at unloading.
pub(super) struct Round {
    pub stream: Arc<dyn Stream>,
    /// Names this sidecar.
    pub holder: String,
    pub idle: Duration,
}

/// Walks over all loaded accounts again and again, slowly, and unloads the idle ones.
pub(super) async fn unload_idle(unloader: Unloader, round: Round, mut stop: Stop) {
    let between = (round.idle / 10).clamp(UNLOAD_ROUND_MIN, UNLOAD_ROUND_MAX);
    let (mut at, mut gone) = (Place::default(), 0);
    loop {
        let pause = match unload_page(&unloader, &round, at).await {
            Ok(None) => UNLOAD_LEASE_TTL,
            Ok(Some((unloaded, next))) => {
                gone += unloaded;
                if next.is_none() && gone > 0 {
                    info!(accounts = std::mem::take(&mut gone), "unloaded idle accounts");
                }
                at = next.unwrap_or_default();
                if next.is_some() { UNLOAD_PAGE_PAUSE } else { between }
            }
            Err(reason) => {
                debug!(%reason, "idle accounts cannot be unloaded now");
                UNLOAD_LEASE_TTL
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.told() => return,
        }
    }
}

/// `None`: another sidecar does it.
async fn unload_page(
    unloader: &Unloader,
    round: &Round,
    at: Place,
) -> Result<Option<(u64, Option<Place>)>, Unavailable> {
    let ttl_ms = u64::try_from(UNLOAD_LEASE_TTL.as_millis()).unwrap_or(u64::MAX);
    if !round.stream.lease(UNLOAD_LEASE, &round.holder, ttl_ms).await? {
        return Ok(None);
    }
    unloader.page(at).await.map(Some)
}

/// Looks for newer settings and price lists in SQL every so often.
pub(super) async fn look_for_settings(engine: Arc<Engine>, every: Duration, mut stop: Stop) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.told() => return,
        }
        let looked = engine.refresh().await;
        match (&looked, failing) {
            (Err(reason), false) => {
                warn!(%reason, "newer settings and prices could not be read; the present ones stay")
            }
            (Ok(()), true) => info!("settings and prices can be read again"),
            (Err(_), true) | (Ok(()), false) => {}
        }
        failing = looked.is_err();
    }
}

/// The same whenever another sidecar says that there are some.
pub(super) async fn listen_for_settings(engine: Arc<Engine>, news: Arc<dyn News>, mut stop: Stop) {
    let mut listener = news.listen();
    loop {
        tokio::select! {
            () = listener.heard() => {}
            () = stop.told() => return,
        }
        // What fails here is tried again by the one that looks.
        if let Err(reason) = engine.refresh().await {
            debug!(%reason, "newer settings could not be read at once");
        }
    }
}
