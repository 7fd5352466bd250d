//! How far SQL is behind, as the engine asks before it takes on more. Set by write-back on every
//! sidecar, read with every call.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Unavailable;

/// Age of the oldest entry that SQL does not have, and how old it may be.
#[derive(Debug, Default)]
pub struct Backlog {
    age_ms: AtomicU64,
    /// `None`: however old.
    max: Option<Duration>,
}

impl Backlog {
    #[must_use]
    pub fn new(max: Option<Duration>) -> Self {
        Self { age_ms: AtomicU64::new(0), max }
    }

    /// As it was just found; zero when nothing waits.
    pub fn set(&self, age: Duration) {
        self.age_ms.store(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether more may be taken on.
    ///
    /// # Errors
    /// [`Unavailable::Behind`].
    pub fn check(&self) -> Result<(), Unavailable> {
        let age = Duration::from_millis(self.age_ms.load(Ordering::Relaxed));
        match self.max {
            Some(max) if age > max => Err(Unavailable::Behind),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_taken_on_up_to_the_bound_and_without_one_always() {
        let bounded = Backlog::new(Some(Duration::from_secs(5)));
        assert!(bounded.check().is_ok());
        bounded.set(Duration::from_secs(6));
        assert!(matches!(bounded.check(), Err(Unavailable::Behind)));
        bounded.set(Duration::from_secs(5));
        assert!(bounded.check().is_ok());
        let unbounded = Backlog::default();
        unbounded.set(Duration::MAX);
        assert!(unbounded.check().is_ok());
    }
}
