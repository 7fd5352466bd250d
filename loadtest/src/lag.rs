//! How far SQL was behind while calls were made, as the server's own metrics say.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hyper::Method;
use serde::Serialize;
use tokio::time::sleep;

use crate::client::Client;

const LOOK: Duration = Duration::from_millis(250);

/// The worst that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Lag {
    /// Age of the oldest entry that SQL did not have.
    pub seconds: f64,
    /// How many entries it did not have.
    pub entries: f64,
}

/// Looks until `stop`. A look that fails is none: the server may be down on purpose.
pub async fn watch(admin: &Client, stop: &AtomicBool) -> Lag {
    let mut worst = Lag::default();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(page) = admin.try_once(Method::GET, "/metrics").await {
            let page = String::from_utf8_lossy(&page);
            worst.seconds = worst.seconds.max(value(&page, "quotad_writeback_lag_seconds"));
            worst.entries = worst.entries.max(value(&page, "quotad_writeback_lag_entries"));
        }
        sleep(LOOK).await;
    }
    worst
}

fn value(page: &str, metric: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# HELP lag x\nlag_more 7\nlag 0.25\n";
        assert_eq!((value(page, "lag"), value(page, "lag_more"), value(page, "la")), (0.25, 7.0, 0.0));
    }
}
