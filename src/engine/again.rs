//! What is done again and again beside the calls.

use std::{fmt::Display, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};

/// Does it every so often until `stop` turns true or its sender is gone. The first of failures in a row is told, after
/// the sentence `failed`.
pub(super) async fn again<E, F>(
    every: Duration,
    mut stop: watch::Receiver<bool>,
    failed: &str,
    mut once: impl FnMut() -> F,
) where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let done = once().await;
        if let (Err(error), false) = (&done, failing) {
            tracing::warn!("{failed}: {error}; trying again");
        }
        failing = done.is_err();
    }
}
