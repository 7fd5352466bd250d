//! The fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) for the
//! tightest limit: the one of which the smallest part is left.

use std::fmt::Write as _;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};

use super::answer::Answer;
use crate::quota::{
    clock::Millis,
    limit::{Metric, Period},
    verdict::LimitState,
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Structured fields end integers at fifteen digits.
const INTEGER_MAX: i64 = 999_999_999_999_999;

/// Adds both fields, when any limit has a cap.
pub(super) fn describe(answer: &mut Answer, limits: &[LimitState], now: Millis) {
    let Some((cap, left, state)) = tightest(limits) else { return };
    // Both fields in one buffer, which their values share: this is part of every reserve.
    let mut text = String::with_capacity(192);
    push_name(&mut text, state);
    let name = text.len();
    push_number(&mut text, ";q=", cap.min(INTEGER_MAX));
    if let Some(seconds) = window_s(state.limit.period) {
        push_number(&mut text, ";w=", seconds.into());
    }
    // The draft's other units do not fit money and tokens; the name says what is counted.
    if state.limit.metric == Metric::Concurrency {
        text.push_str(";qu=\"concurrent-requests\"");
    }
    let policy = text.len();
    text.extend_from_within(..name);
    push_number(&mut text, ";r=", left.min(INTEGER_MAX));
    if let Some(at) = state.resets_at {
        push_number(&mut text, ";t=", wait_s(at, now));
    }
    let text = Bytes::from(text);
    for (field, value) in [(POLICY, text.slice(..policy)), (LIMIT, text.slice(policy..))] {
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            answer.header(field, value);
        }
    }
}

fn push_number(text: &mut String, parameter: &str, number: i64) {
    text.push_str(parameter);
    // Writing into memory cannot fail.
    let _ = write!(text, "{number}");
}

/// Cap, what is left of it, and the limit.
fn tightest(limits: &[LimitState]) -> Option<(i64, i64, &LimitState)> {
    let capped = limits.iter().filter_map(|state| {
        let cap = state.limit.cap?;
        Some((cap, cap.saturating_sub(state.used.saturating_add(state.held)).max(0), state))
    });
    // left / cap, compared crosswise to stay in integers; a cap of 0 is tighter than anything.
    capped.min_by(|(cap_a, left_a, _), (cap_b, left_b, _)| {
        let crosswise = |left: i64, cap: i64| i128::from(left) * i128::from(cap.max(1));
        crosswise(*left_a, *cap_b).cmp(&crosswise(*left_b, *cap_a)).then(cap_a.cmp(cap_b))
    })
}

/// `"platform/model/metric[/period]"`, escaped for a structured field's string.
fn push_name(name: &mut String, state: &LimitState) {
    let limit = &state.limit;
    name.push('"');
    for part in [&limit.platform, &limit.model] {
        for c in part.chars() {
            if matches!(c, '"' | '\\') {
                name.push('\\');
            }
            name.push(c);
        }
        name.push('/');
    }
    name.push_str(limit.metric.as_str());
    if let Some(period) = limit.period.as_text() {
        name.push('/');
        name.push_str(&period);
    }
    name.push('"');
}

/// The window's length; a month's is not fixed, so it has none.
fn window_s(period: Period) -> Option<u32> {
    match period {
        Period::Minute => Some(60),
        Period::Hour => Some(3600),
        Period::Day => Some(86_400),
        Period::Week => Some(604_800),
        Period::Rolling(seconds) => Some(seconds),
        Period::Month | Period::None => None,
    }
}

fn wait_s(at: Millis, now: Millis) -> i64 {
    (at.0 - now.0).max(0).saturating_add(999) / 1000
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::quota::limit::Limit;

    fn state(platform: &str, metric: Metric, period: Period, cap: Option<i64>, used: i64) -> LimitState {
        let resets_at = (period != Period::None).then_some(Millis(61_001));
        let limit = Arc::new(Limit { platform: platform.into(), model: "*".into(), metric, period, cap });
        LimitState { limit, key: None, used, held: 0, resets_at }
    }

    fn fields(limits: &[LimitState]) -> Option<(String, String)> {
        let mut answer = Answer::nothing();
        describe(&mut answer, limits, Millis(1_000));
        Some((answer.find("ratelimit-policy")?.into(), answer.find("ratelimit")?.into()))
    }

    #[test]
    fn the_tightest_limit_is_described() {
        let limits = [
            state("a", Metric::Cost, Period::Day, Some(100), 50),
            state("b", Metric::Requests, Period::Minute, Some(1000), 900),
            state("c", Metric::Tokens, Period::Hour, None, 5),
        ];
        let (policy, limit) = fields(&limits).unwrap();
        assert_eq!(policy, r#""b/*/requests/minute";q=1000;w=60"#);
        assert_eq!(limit, r#""b/*/requests/minute";r=100;t=61"#);
    }

    #[test]
    fn a_disabled_limit_is_tighter_than_a_full_one() {
        let limits =
            [state("full", Metric::Cost, Period::Day, Some(5), 9), state("off", Metric::Cost, Period::Day, Some(0), 0)];
        assert!(fields(&limits).unwrap().0.starts_with("\"off"));
        assert!(fields(&limits).unwrap().1.contains(";r=0;"));
    }

    #[test]
    fn fields_stay_within_the_syntax() {
        let (policy, limit) = fields(&[state("a\"b\\", Metric::Concurrency, Period::None, Some(1 << 53), 0)]).unwrap();
        assert_eq!(policy, r#""a\"b\\/*/concurrency";q=999999999999999;qu="concurrent-requests""#);
        assert_eq!(limit, r#""a\"b\\/*/concurrency";r=999999999999999"#);
        assert_eq!(fields(&[state("a", Metric::Cost, Period::Day, None, 0)]), None);
    }
}
