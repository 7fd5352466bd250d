//! What `readyz` reports. The rooms that know set it; the composition root hands it around.

use std::sync::atomic::{AtomicBool, Ordering};

use super::wire::answer::Readiness;

/// Facts about this sidecar. Begins as not ready.
#[derive(Debug, Default)]
pub struct Health {
    redis: AtomicBool,
    scripts: AtomicBool,
    sql_degraded: AtomicBool,
    draining: AtomicBool,
}

impl Health {
    /// Redis answers.
    pub fn set_redis(&self, ok: bool) {
        self.redis.store(ok, Ordering::Relaxed);
    }

    /// The scripts are loaded and at least one shard is served.
    pub fn set_scripts(&self, ok: bool) {
        self.scripts.store(ok, Ordering::Relaxed);
    }

    /// SQL cannot be written: money moves on, the stream grows.
    pub fn set_sql_degraded(&self, degraded: bool) {
        self.sql_degraded.store(degraded, Ordering::Relaxed);
    }

    /// No new work, please: shutting down.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness().ready
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let [redis, scripts, degraded, draining] =
            [&self.redis, &self.scripts, &self.sql_degraded, &self.draining].map(|flag| flag.load(Ordering::Relaxed));
        Readiness {
            ready: redis && scripts && !draining,
            redis: if redis { "ok" } else { "unreachable" },
            scripts: if scripts { "ok" } else { "missing" },
            sql: if degraded { "degraded" } else { "ok" },
            draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_needs_redis_and_scripts_but_not_sql() {
        let health = Health::default();
        assert!(!health.is_ready());
        health.set_redis(true);
        assert!(!health.is_ready());
        health.set_scripts(true);
        assert!(health.is_ready());
        health.set_sql_degraded(true);
        assert!(health.is_ready());
        assert_eq!(health.readiness().sql, "degraded");
        health.set_draining();
        assert!(!health.is_ready());
    }
}
