//! The lease of the posting sidecar. It only saves double work: a holder that was stopped past its
//! lease and goes on posting is stopped by the mark's compare-and-set.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::info;

use super::poster::Poster;
use crate::engine::ports::Unavailable;

const NAME: &str = "writeback";
/// When the holder is killed, another one posts after this time and a look at most: two seconds.
const TTL: Duration = Duration::from_millis(1500);
const RENEW_AFTER: Duration = Duration::from_millis(500);
/// How often the others look whether it is free.
pub(super) const LOOK: Duration = Duration::from_millis(250);

pub(super) struct Lease {
    poster: Arc<Poster>,
    /// When it was last renewed; `None` while another sidecar has it.
    renewed: Mutex<Option<Instant>>,
}

impl Lease {
    pub fn new(poster: Arc<Poster>) -> Self {
        Self { poster, renewed: Mutex::default() }
    }

    /// Whether this sidecar posts: takes the lease, or renews it.
    pub async fn holds(&self) -> Result<bool, Unavailable> {
        let renewed = *self.renewed();
        if renewed.is_some_and(|at| at.elapsed() < RENEW_AFTER) {
            return Ok(true);
        }
        let asked = Instant::now();
        let held = self.ask(TTL).await?;
        if held && renewed.is_none() {
            info!("this sidecar does the write-back");
        }
        if !held && renewed.is_some() {
            info!("another sidecar took over the write-back");
        }
        *self.renewed() = held.then_some(asked);
        Ok(held)
    }

    /// Lets another sidecar have it at once.
    pub async fn give_back(&self) {
        let renewed = self.renewed().take();
        if renewed.is_some() {
            // It runs out by itself when this fails.
            let _ = self.ask(Duration::from_millis(1)).await;
        }
    }

    async fn ask(&self, ttl: Duration) -> Result<bool, Unavailable> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.poster.ports.stream.lease(NAME, &self.poster.settings.holder, ttl_ms).await
    }

    fn renewed(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
