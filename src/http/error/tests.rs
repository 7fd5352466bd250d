use std::sync::Arc;

use super::*;
use crate::quota::limit::{Limit, Metric, Period};

fn json(problem: &Problem) -> serde_json::Value {
    serde_json::from_slice(&problem.body()).unwrap()
}

#[test]
fn statuses_are_those_of_the_protocol() {
    let table = [
        ("unauthorized", 401),
        ("invalid_request", 400),
        ("payload_too_large", 413),
        ("account_not_found", 404),
        ("reservation_not_found", 404),
        ("code_not_found", 404),
        ("code_used", 409),
        ("code_disabled", 403),
        ("code_expired", 403),
        ("conflict", 409),
        ("already_settled", 409),
        ("already_released", 409),
        ("refund_exceeds_charge", 409),
        ("account_disabled", 403),
        ("account_restricted", 403),
        ("key_not_found", 403),
        ("key_disabled", 403),
        ("key_expired", 403),
        ("ip_not_allowed", 403),
        ("model_not_allowed", 403),
        ("group_not_allowed", 403),
        ("platform_disabled", 403),
        ("model_not_priced", 400),
        ("insufficient_balance", 402),
        ("key_exhausted", 402),
        ("limit_exceeded", 429),
        ("too_many_attempts", 429),
        ("unavailable", 503),
        ("not_found", 404),
        ("method_not_allowed", 405),
        ("request_timeout", 408),
        ("internal", 500),
    ];
    let words: Vec<_> = Word::all().map(|word| (word.as_str(), word.status())).collect();
    assert_eq!(words, table);
}

#[test]
fn a_denial_says_what_is_missing() {
    let state = LimitState {
        limit: Arc::new(Limit {
            platform: "openai".into(),
            model: "*".into(),
            metric: Metric::Cost,
            period: Period::Day,
            cap: Some(10),
        }),
        key: None,
        used: 8,
        held: 2,
        resets_at: Some(crate::quota::clock::Millis(1_795_168_800_000)),
    };
    let mut refusal = Refusal::new(Code::LimitExceeded, "a limit says no");
    refusal.violated = vec![state];
    refusal.retry_after_ms = Some(1001);
    let problem = Problem::from(refusal);
    assert_eq!(
        json(&problem),
        serde_json::json!({
            "type": "/problems/limit_exceeded", "title": "A limit is exceeded", "status": 429,
            "detail": "a limit says no", "code": "limit_exceeded", "retry_after_ms": 1001,
            "violated": [{"platform": "openai", "model": "*", "metric": "cost", "period": "day", "cap": 10,
                "used": 8, "held": 2, "resets_at": "2026-11-20T10:00:00.000Z"}],
        })
    );
    assert_eq!(problem.answer().find("retry-after"), Some("2"));
}

#[test]
fn a_429_and_a_503_always_say_when_to_come_back() {
    for code in [Code::LimitExceeded, Code::Unavailable] {
        let answer = Problem::of(code, "x").answer();
        assert_eq!(answer.find("retry-after"), Some("1"));
    }
    let answer = Problem::of(Code::InsufficientBalance, "x").answer();
    assert_eq!(answer.find("retry-after"), None);
}

#[test]
fn causes_do_not_reach_the_client() {
    let problem = Problem::from(Unavailable::Connection("redis://user:secret@10.0.0.1".into()));
    assert!(!String::from_utf8(problem.body()).unwrap().contains("secret"));
    assert_eq!(json(&problem)["retry_after_ms"], 1000);
}

#[test]
fn a_401_says_how_to_authenticate() {
    let answer = Problem::unauthorized("no").answer();
    assert_eq!(answer.find("www-authenticate"), Some("Bearer realm=\"quotad\""));
}

#[test]
fn a_bad_field_is_named() {
    let problem = Problem::from(Bad::at("prompt_tokens", "is required").within("estimate"));
    assert_eq!(json(&problem)["field"], "estimate.prompt_tokens");
    assert_eq!(json(&problem)["detail"], "estimate.prompt_tokens is required");
}
