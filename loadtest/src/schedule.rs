//! When calls are due. An open loop sends at those instants whatever the server does, and latency is
//! measured from the instant a request was due, not from when it got away: a server that stalls for
//! a second is charged that second by every request that had to wait (no coordinated omission).

use std::time::{Duration, Instant};

use crate::trace::Trace;

/// Arrivals, as offsets from the start of the run.
#[derive(Debug)]
pub enum Schedule<'a> {
    /// The trace's own arrivals, `speed` times faster, repeated as long as needed.
    Trace { trace: &'a Trace, speed: f64 },
    /// One call every `1 / per_second`.
    Rate { per_second: f64 },
}

impl Schedule<'_> {
    /// When call `index` is due.
    #[must_use]
    pub fn offset(&self, index: u64) -> Duration {
        match self {
            Schedule::Trace { trace, speed } => Duration::from_secs_f64(trace.offset(index).as_secs_f64() / speed),
            Schedule::Rate { per_second } => Duration::from_secs_f64(index as f64 / per_second),
        }
    }
}

/// How late the runtime's timer may fire: it counts whole milliseconds.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// The instant a request was due, from which its latency counts.
#[derive(Clone, Copy, Debug)]
pub struct Due(Instant);

impl Due {
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// For a request that follows a wait inside the program (the upstream's work): due at the end of
    /// the wait. Being woken later than the timer's grain is the program's own stall and counts.
    #[must_use]
    pub fn after_wait(planned: Instant, woken: Instant) -> Self {
        if woken.saturating_duration_since(planned) <= TIMER_GRAIN { Self(woken) } else { Self(planned) }
    }

    #[must_use]
    pub fn latency(self, answered: Instant) -> Duration {
        answered.saturating_duration_since(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_do_not_depend_on_answers() {
        let schedule = Schedule::Rate { per_second: 200.0 };
        let at: Vec<u128> = (0..4).map(|index| schedule.offset(index).as_millis()).collect();
        assert_eq!(at, [0, 5, 10, 15]);
        let trace = Trace::named("conv").unwrap();
        let schedule = Schedule::Trace { trace: &trace, speed: 60.0 };
        let last = trace.rows.len() as u64 - 1;
        assert!((schedule.offset(last).as_secs_f64() - 3501.721937 / 60.0).abs() < 1e-3);
        assert!(schedule.offset(last + 1) > schedule.offset(last));
    }

    /// One server thread that stalls: 1 000 calls due every millisecond, each served in 100 µs, but
    /// the first takes 500 ms. Measured from the send, one call in a thousand looks slow; measured
    /// from when they were due, half of them are.
    #[test]
    fn a_stall_is_charged_to_all_who_waited() {
        let start = Instant::now();
        let schedule = Schedule::Rate { per_second: 1000.0 };
        let mut free = start;
        let (mut slow_from_due, mut slow_from_send) = (0, 0);
        for index in 0..1000 {
            let due = start + schedule.offset(index);
            let sent = due.max(free);
            let service = if index == 0 { Duration::from_millis(500) } else { Duration::from_micros(100) };
            free = sent + service;
            slow_from_due += usize::from(Due::at(due).latency(free) > Duration::from_millis(10));
            slow_from_send += usize::from(Due::at(sent).latency(free) > Duration::from_millis(10));
        }
        assert_eq!(slow_from_send, 1);
        assert!(slow_from_due > 500, "{slow_from_due}");
    }

    #[test]
    fn the_timer_may_be_coarse_but_not_late() {
        let planned = Instant::now();
        let answered = planned + Duration::from_millis(50);
        let soon = planned + Duration::from_millis(1);
        assert_eq!(Due::after_wait(planned, soon).latency(answered), Duration::from_millis(49));
        let late = planned + Duration::from_millis(20);
        assert_eq!(Due::after_wait(planned, late).latency(answered), Duration::from_millis(50));
    }
}
