//! The fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) for the
//! tightest limit: the one of which the smallest part is left.

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
    let name = name(state);
    let window = window_s(state.limit.period).map_or(String::new(), |seconds| format!(";w={seconds}"));
    // The draft's other units do not fit money and tokens; the name says what is counted.
    let unit = if state.limit.metric == Metric::Concurrency { ";qu=\"concurrent-requests\"" } else { "" };
    let resets = state.resets_at.map_or(String::new(), |at| format!(";t={}", wait_s(at, now)));
    let fields = [
        (POLICY, format!("\"{name}\";q={}{window}{unit}", cap.min(INTEGER_MAX))),
        (LIMIT, format!("\"{name}\";r={}{resets}", left.min(INTEGER_MAX))),
    ];
    for (field, text) in fields {
        if let Ok(value) = HeaderValue::try_from(text) {
            answer.header(field, value);
        }
    }
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

/// `platform/model/metric[/period]`, escaped for a structured field's string.
fn name(state: &LimitState) -> String {
    let limit = &state.limit;
    let mut name = String::with_capacity(48);
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
    name
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
    use super::*;
    use crate::quota::limit::Limit;

    fn state(platform: &str, metric: Metric, period: Period, cap: Option<i64>, used: i64) -> LimitState {
        let resets_at = (period != Period::None).then_some(Millis(61_001));
        let limit = Limit { platform: platform.into(), model: "*".into(), metric, period, cap };
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
