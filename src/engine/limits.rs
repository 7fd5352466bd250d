//! Limits with their live numbers, as answers and denials show them.

use std::sync::Arc;

use crate::quota::{
    clock::Millis,
    counter::{WindowCounter, WindowCounters},
    id::KeyId,
    limit::{Limit, Metric, Period},
    policy::{Gauge, Group},
    verdict::LimitState,
    window::{Span, Zone, calendar},
};

/// What a call asks of each metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requested {
    pub(crate) cost: i64,
    pub(crate) tokens: i64,
    /// Requests, and calls at the same time: one, or none for a hold that only grows.
    pub(crate) calls: i64,
}

impl Requested {
    fn of(self, metric: Metric) -> i64 {
        match metric {
            Metric::Cost => self.cost,
            Metric::Tokens => self.tokens,
            Metric::Requests | Metric::Concurrency => self.calls,
        }
    }
}

/// Every gauge of a call with the numbers its script answered.
pub(crate) fn states(groups: &[Group], windows: &[WindowCounters], zone: &Zone, now: Millis) -> Vec<LimitState> {
    let mut states = Vec::with_capacity(groups.iter().map(|group| group.gauges.len()).sum());
    for (position, group) in groups.iter().enumerate() {
        let counters = windows.get(position).map_or(&[][..], WindowCounters::as_slice);
        for gauge in &group.gauges {
            let code = gauge.limit.code();
            let counter = counters.iter().find(|counter| counter.code == code);
            states.push(state(&gauge.limit, group.key.as_ref(), counter, open_span(gauge), zone, now));
        }
    }
    states
}

/// The limits that say no to a call: `used + held + requested > cap`.
pub(crate) fn violated(states: Vec<LimitState>, requested: Requested) -> Vec<LimitState> {
    let asked_of = |state: &LimitState| state.used + state.held + requested.of(state.limit.metric);
    states.into_iter().filter(|state| state.limit.cap.is_some_and(|cap| asked_of(state) > cap)).collect()
}

/// When to ask again: once all of the limits have begun anew; in a second when one of them waits
/// for other calls to end.
pub(crate) fn retry_after_ms(violated: &[LimitState], now: Millis) -> u64 {
    let waits = violated.iter().map(|state| state.resets_at.map_or(1_000, |at| at.0 - now.0));
    waits.max().unwrap_or(1_000).max(1).unsigned_abs()
}

/// A limit of the rules with what is stored of it, rolled to `now` (balance sheet).
pub(crate) fn live(
    limit: &Arc<Limit>,
    key: Option<&KeyId>,
    counter: Option<&WindowCounter>,
    zone: &Zone,
    now: Millis,
) -> LimitState {
    state(limit, key, counter, calendar(limit.period, zone, now), zone, now)
}

fn open_span(gauge: &Gauge) -> Option<Span> {
    (gauge.start_s > 0).then_some(Span { start_s: gauge.start_s, end_s: gauge.end_s })
}

/// `open` is the calendar window open at `now`. The rule is that of the scripts: a window that is
/// over reads 0, one that is newer than `open` (clocks differ) is shown as it is.
fn state(
    limit: &Arc<Limit>,
    key: Option<&KeyId>,
    counter: Option<&WindowCounter>,
    open: Option<Span>,
    zone: &Zone,
    now: Millis,
) -> LimitState {
    let (mut used, mut held) = counter.map_or((0, 0), |counter| (counter.used, counter.held));
    let start_s = counter.map_or(0, |counter| counter.start_s);
    let resets_at_s = match (limit.period, open) {
        (Period::None, _) => {
            used = 0;
            None
        }
        (Period::Rolling(_), _) if start_s == 0 => None,
        (Period::Rolling(period_s), _) => {
            let (start_s, period_s) = (i64::from(start_s), i64::from(period_s));
            let steps = ((now.seconds() - start_s) / period_s).max(0);
            if steps > 0 {
                (used, held) = (0, 0);
            }
            Some(start_s + (steps + 1) * period_s)
        }
        (_, Some(open)) if start_s <= open.start_s => {
            if start_s < open.start_s {
                (used, held) = (0, 0);
            }
            Some(open.end_s.into())
        }
        (_, _) => calendar(limit.period, zone, Millis(i64::from(start_s) * 1_000)).map(|span| span.end_s.into()),
    };
    LimitState {
        limit: limit.clone(),
        key: key.cloned(),
        used,
        held,
        resets_at: resets_at_s.map(|seconds: i64| Millis(seconds * 1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(metric: Metric, period: Period, cap: i64) -> Arc<Limit> {
        Arc::new(Limit { platform: "*".into(), model: "*".into(), metric, period, cap: Some(cap) })
    }

    fn counter(limit: &Limit, start_s: u32, used: i64, held: i64) -> WindowCounter {
        WindowCounter { code: limit.code(), start_s, used, held }
    }

    /// 2026-11-20T10:00:00Z
    const NOW: Millis = Millis(1_795_168_800_000);
    const DAY: u32 = 1_795_132_800;

    #[test]
    fn windows_that_are_over_read_zero() {
        let day = limit(Metric::Cost, Period::Day, 10);
        let rolling = limit(Metric::Cost, Period::Rolling(3_600), 10);
        let parallel = limit(Metric::Concurrency, Period::None, 10);
        let now_s = NOW.seconds() as u32;
        let cases = [
            (&day, DAY, (5, 2), Some(DAY + 86_400)),
            (&day, DAY - 86_400, (0, 0), Some(DAY + 86_400)),
            (&day, DAY + 86_400, (5, 2), Some(DAY + 2 * 86_400)),
            (&rolling, 0, (5, 2), None),
            (&rolling, now_s - 10, (5, 2), Some(now_s + 3_590)),
            (&rolling, now_s - 3_600, (0, 0), Some(now_s + 3_600)),
            (&rolling, now_s - 9_000, (0, 0), Some(now_s + 1_800)),
            (&parallel, 0, (0, 2), None),
        ];
        for (limit, start_s, numbers, resets_at_s) in cases {
            let state = live(limit, None, Some(&counter(limit, start_s, 5, 2)), &Zone::utc(), NOW);
            assert_eq!((state.used, state.held), numbers, "{limit:?} from {start_s}");
            assert_eq!(state.resets_at, resets_at_s.map(|seconds| Millis(i64::from(seconds) * 1_000)));
        }
        assert_eq!(live(&day, None, None, &Zone::utc(), NOW).used, 0);
    }

    #[test]
    fn only_limits_that_say_no_are_named() {
        let state = |metric, cap| LimitState {
            limit: limit(metric, Period::Day, cap),
            key: None,
            used: 4,
            held: 3,
            resets_at: Some(Millis(NOW.0 + 60_000)),
        };
        let requested = Requested { cost: 3, tokens: 0, calls: 1 };
        let all = vec![
            state(Metric::Cost, 10),
            state(Metric::Cost, 9),
            state(Metric::Tokens, 7),
            state(Metric::Requests, 8),
            state(Metric::Concurrency, 7),
        ];
        let metrics: Vec<_> = violated(all, requested).iter().map(|state| state.limit.metric).collect();
        assert_eq!(metrics, [Metric::Cost, Metric::Concurrency]);
        assert_eq!(retry_after_ms(&[state(Metric::Cost, 9)], NOW), 60_000);
        assert_eq!(retry_after_ms(&[], NOW), 1_000);
    }
}
