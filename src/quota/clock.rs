//! Time. Redis' `TIME` decides; the sidecar only guesses it (its own clock plus the offset last
//! seen) to pick windows, and a script that finds the guess outside the windows says so.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

impl Millis {
    /// RFC 3339 in UTC with milliseconds: `2026-11-20T10:00:00.000Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.to_string()
    }

    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = jiff::Timestamp::from_millisecond(self.0) else {
            return write!(f, "{}ms", self.0);
        };
        write!(f, "{at:.3}")
    }
}

/// The sidecar's guess of Redis' clock.
#[derive(Debug, Default)]
pub struct Clock {
    offset_ms: AtomicI64,
}

impl Clock {
    /// The guess of Redis' time now.
    #[must_use]
    pub fn now(&self) -> Millis {
        Millis(local_now().0 + self.offset_ms.load(Ordering::Relaxed))
    }

    /// Takes over the time that a script answered.
    pub fn observe(&self, redis_now: Millis) {
        self.offset_ms.store(redis_now.0 - local_now().0, Ordering::Relaxed);
    }
}

/// The machine's own clock; the one place that reads it (clippy bans it elsewhere).
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn local_now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_utc_with_milliseconds() {
        assert_eq!(Millis(1_795_168_800_000).rfc3339(), "2026-11-20T10:00:00.000Z");
        assert_eq!(Millis(1_795_168_800_007).rfc3339(), "2026-11-20T10:00:00.007Z");
    }

    #[test]
    fn observing_shifts_the_guess() {
        let clock = Clock::default();
        clock.observe(Millis(local_now().0 + 3_600_000));
        assert!((clock.now().0 - local_now().0 - 3_600_000).abs() < 1_000);
    }
}
