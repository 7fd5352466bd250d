//! Calls priced by the shipped price list. What is expected is computed here by hand, in units of
//! 10^-8 USD per token: gpt-4o 250 in, 125 cached, 1 000 out; claude-sonnet-4-5 300 in, 30 cache
//! read, 375 and 600 cache written for 5 minutes and 1 hour, 1 500 out; gemini-2.5-pro 125 in,
//! 12.5 cached, 1 000 out, above 200 000 prompt tokens 250 and 1 500.

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, USD};

/// Model, usage object, cost in units.
fn priced_usages() -> [(&'static str, Value, i64); 8] {
    [
        (
            "gpt-4o",
            json!({"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500,
                "prompt_tokens_details": {"cached_tokens": 200}}),
            1000 * 250 + 200 * 125 + 300 * 1000,
        ),
        (
            "gpt-4o",
            json!({"input_tokens": 1200, "output_tokens": 300, "total_tokens": 1500,
                "input_tokens_details": {"cached_tokens": 200}, "output_tokens_details": {"reasoning_tokens": 100}}),
            1000 * 250 + 200 * 125 + 300 * 1000,
        ),
        ("gpt-4o", json!({"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}), 250),
        (
            "claude-sonnet-4-5",
            json!({"input_tokens": 100, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 50,
                "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 10},
                "output_tokens": 200}),
            100 * 300 + 1000 * 30 + 40 * 375 + 10 * 600 + 200 * 1500,
        ),
        (
            "claude-sonnet-4-5",
            json!({"input_tokens": 100, "cache_creation_input_tokens": 50, "output_tokens": 200}),
            100 * 300 + 50 * 375 + 200 * 1500,
        ),
        // 125 000 + 12.5 + 60 000: rounded once, half away from zero.
        (
            "gemini-2.5-pro",
            json!({"promptTokenCount": 1001, "cachedContentTokenCount": 1, "candidatesTokenCount": 50,
                "thoughtsTokenCount": 10, "totalTokenCount": 1061}),
            185_013,
        ),
        (
            "gemini-2.5-pro",
            json!({"promptTokenCount": 250_000, "candidatesTokenCount": 100, "totalTokenCount": 250_100}),
            250_000 * 250 + 100 * 1500,
        ),
        (
            "gemini-2.5-pro",
            json!({"promptTokenCount": 200_000, "candidatesTokenCount": 100, "totalTokenCount": 200_100}),
            200_000 * 125 + 100 * 1000,
        ),
    ]
}

#[test]
fn usage_objects_of_three_upstreams_are_priced_to_the_unit() {
    let quotad = Sidecar::start();
    quotad.account("u", json!({"initial_balance": 100 * USD}));
    let cases = priced_usages();
    let mut spent = 0;
    for (number, (model, usage, cost)) in cases.into_iter().enumerate() {
        let id = format!("u-{number}");
        quotad.reserve(json!({"account": "u", "id": id, "model": model, "amount": USD})).expect(200);
        let settle = json!({"account": "u", "id": id, "model": model, "usage": usage});
        let settled = quotad.settle(settle.clone()).expect(200);
        spent += cost;
        assert_eq!((&settled["charged"], &settled["returned"]), (&json!(cost), &json!(USD - cost)), "{model} {usage}");
        assert_eq!(settled["balance"], 100 * USD - spent);
        assert_eq!(quotad.settle(settle).expect(200)["replayed"], true);
        // The same without a reserve, and as a charge.
        let unreserved =
            quotad.settle(json!({"account": "u", "id": format!("n-{number}"), "model": model, "usage": usage}));
        assert_eq!(unreserved.expect(200)["charged"], cost);
        let charge = json!({"account": "u", "id": format!("c-{number}"), "model": model, "usage": usage});
        assert_eq!(quotad.gateway.post("/v1/charge", &charge).expect(200)["charged"], cost);
        spent += 2 * cost;
    }
    for usage in [
        json!({}),
        json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        json!({"prompt_tokens": -5, "completion_tokens": 10}),
        json!({"prompt_tokens": 1.5, "completion_tokens": 10}),
        json!({"tokens": 10}),
        json!("100"),
    ] {
        let answer = quotad.settle(json!({"account": "u", "id": "bad", "model": "gpt-4o", "usage": usage}));
        let problem = answer.problem(400, "invalid_request");
        assert!(problem["field"].as_str().is_some_and(|field| field.starts_with("usage")), "{usage}: {problem}");
    }
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 10});
    let unpriced = quotad.settle(json!({"account": "u", "id": "bad", "model": "no-such-model", "usage": usage}));
    unpriced.problem(400, "model_not_priced");
    quotad.settle(json!({"account": "u", "id": "bad", "usage": usage})).problem(400, "invalid_request");
    assert_eq!(quotad.money("u"), [100 * USD - spent, 0, 100 * USD - spent]);
    quotad.assert_reconciled();
}

#[test]
fn an_estimate_holds_the_prompt_and_the_whole_output() {
    let quotad = Sidecar::start();
    let limits = json!([{"metric": "tokens", "period": "day", "cap": 1_000_000}]);
    quotad.account("e", json!({"initial_balance": 100 * USD, "limits": limits}));
    let cases = [
        // At least 500 prompt tokens.
        (json!({"prompt_tokens": 100, "max_tokens": 1000}), 500 * 250 + 1000 * 1000),
        (json!({"prompt_tokens": 2000, "max_tokens": 0}), 2000 * 250),
        // 8 192 when the caller does not say, the model's 16 384 when it says too much.
        (json!({"prompt_tokens": 500}), 500 * 250 + 8192 * 1000),
        (json!({"prompt_tokens": 500, "max_tokens": 1_000_000}), 500 * 250 + 16_384 * 1000),
    ];
    for (number, (estimate, held)) in cases.into_iter().enumerate() {
        let body = json!({"account": "e", "id": format!("e-{number}"), "model": "gpt-4o", "estimate": estimate});
        assert_eq!(quotad.reserve(body).expect(200)["held"], held, "{estimate}");
    }
    let tokens = quotad.balance("e")["limits"][0]["held"].as_i64().unwrap();
    assert!(tokens >= 1000 + 2000 + 500 + 8192 + 500 + 16_384, "prompt and output are counted: {tokens}");
    // The actual tokens replace the estimate's.
    let usage = json!({"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100});
    quotad.settle(json!({"account": "e", "id": "e-0", "model": "gpt-4o", "usage": usage})).expect(200);
    for id in ["e-1", "e-2", "e-3"] {
        quotad.gateway.post("/v1/release", &json!({"account": "e", "id": id})).expect(200);
    }
    let limit = quotad.balance("e")["limits"][0].clone();
    assert_eq!((&limit["used"], &limit["held"]), (&json!(100), &json!(0)));
    let unnamed = quotad.reserve(json!({"account": "e", "id": "x", "estimate": {"prompt_tokens": 1}}));
    assert_eq!(unnamed.status, 400, "{unnamed}");
    quotad.assert_reconciled();
}

#[test]
fn a_call_that_was_aborted_costs_what_the_policy_says() {
    let quotad = Sidecar::start();
    quotad.account("p", json!({"initial_balance": 100 * USD}));
    let prompt = 500 * 250;
    let hold = prompt + 1000 * 1000;
    let run = |quotad: &Sidecar, id: &str, outcome: Option<&str>, charged: i64| {
        let estimate = json!({"prompt_tokens": 100, "max_tokens": 1000});
        quotad.reserve(json!({"account": "p", "id": id, "model": "gpt-4o", "estimate": estimate})).expect(200);
        let mut settle = json!({"account": "p", "id": id});
        if let Some(outcome) = outcome {
            settle["outcome"] = outcome.into();
        }
        let settled = quotad.settle(settle).expect(200);
        assert_eq!((&settled["charged"], &settled["returned"]), (&json!(charged), &json!(hold - charged)), "{id}");
    };
    run(&quotad, "client", Some("client_abort"), prompt);
    run(&quotad, "upstream", Some("upstream_error"), 0);
    run(&quotad, "unknown", Some("unknown"), hold);
    run(&quotad, "unsaid", None, hold);
    let bad = quotad.settle(json!({"account": "p", "id": "client", "outcome": "bored"}));
    assert_eq!(bad.problem(400, "invalid_request")["field"], "outcome");
    // What the caller says goes before any policy.
    quotad.reserve(json!({"account": "p", "id": "said", "amount": 100})).expect(200);
    let said = quotad.settle(json!({"account": "p", "id": "said", "outcome": "upstream_error", "amount": 30}));
    assert_eq!(said.expect(200)["charged"], 30);
    // Nothing is known of an id without a reserve: nothing can be charged.
    let nothing = quotad.settle(json!({"account": "p", "id": "never", "outcome": "upstream_error"})).expect(200);
    assert_eq!(nothing["charged"], 0);
    quotad.assert_reconciled();

    let other = Setup::default()
        .set("abort_client_abort", "nothing")
        .set("abort_upstream_error", "estimate")
        .set("abort_unknown", "prompt")
        .start();
    other.account("p", json!({"initial_balance": 100 * USD}));
    run(&other, "client", Some("client_abort"), 0);
    run(&other, "upstream", Some("upstream_error"), hold);
    run(&other, "unknown", Some("unknown"), prompt);
}
