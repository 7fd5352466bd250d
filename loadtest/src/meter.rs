//! What a run measures: latencies by verb, denials by code, calls done.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// What is measured apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Reserve,
    Settle,
    Release,
    /// Calls sent again on purpose.
    Repeat,
    /// Not a call: how late the program itself was to begin one (open loop). It is part of the
    /// reserves' latency.
    Start,
}

impl Verb {
    pub const ALL: [Verb; 5] = [Verb::Reserve, Verb::Settle, Verb::Release, Verb::Repeat, Verb::Start];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Reserve => "reserve",
            Verb::Settle => "settle",
            Verb::Release => "release",
            Verb::Repeat => "repeat",
            Verb::Start => "(start)",
        }
    }
}

/// Latencies from 1 µs to 10 minutes, to three digits.
const LATENCY_MAX_US: u64 = 600_000_000;

/// Percentiles of one verb, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub struct Percentiles {
    pub count: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p99_9_us: u64,
    pub max_us: u64,
}

#[derive(Debug)]
pub struct Meter {
    latencies: Vec<Mutex<Histogram<u64>>>,
    denials: Mutex<BTreeMap<&'static str, u64>>,
    /// Calls whose life is over, whatever it was.
    pub calls: AtomicU64,
    /// Settles that found no reservation.
    pub unreserved: AtomicU64,
}

impl Meter {
    /// # Errors
    /// A sentence if a histogram cannot be made.
    pub fn new() -> Result<Self, String> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).map(Mutex::new);
        let latencies = Verb::ALL.iter().map(|_| histogram()).collect::<Result<_, _>>();
        Ok(Self {
            latencies: latencies.map_err(|error| format!("no histogram: {error}"))?,
            denials: Mutex::default(),
            calls: AtomicU64::new(0),
            unreserved: AtomicU64::new(0),
        })
    }

    pub fn record(&self, verb: Verb, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        self.histogram(verb).saturating_record(microseconds);
    }

    pub fn denied(&self, code: &'static str) {
        *self.denials.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    pub fn done(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn denials(&self) -> BTreeMap<&'static str, u64> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `None` when the verb was never used.
    #[must_use]
    pub fn percentiles(&self, verb: Verb) -> Option<Percentiles> {
        let histogram = self.histogram(verb);
        (!histogram.is_empty()).then(|| Percentiles {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p99_9_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        })
    }

    fn histogram(&self, verb: Verb) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.latencies[verb as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_their_verb() {
        let meter = Meter::new().unwrap();
        (1..=1000).for_each(|millis| meter.record(Verb::Settle, Duration::from_millis(millis)));
        assert_eq!(meter.percentiles(Verb::Reserve), None);
        let settle = meter.percentiles(Verb::Settle).unwrap();
        assert_eq!(settle.count, 1000);
        let near = |value: u64, millis: u64| value.abs_diff(millis * 1000) <= millis;
        assert!(near(settle.p50_us, 500) && near(settle.p90_us, 900) && near(settle.p99_us, 990), "{settle:?}");
        assert!(near(settle.p99_9_us, 999) && near(settle.max_us, 1000), "{settle:?}");
    }
}
