//! Calls priced by the shipped price list. What is expected is computed here by hand, in units of
//! 10^-8 USD per token: gpt-4o 250 in, 125 cached, 1 000 out; claude-sonnet-4-5 300 in, 30 cache
//! read, 375 and 600 cache written for 5 minutes and 1 hour, 1 500 out; gemini-2.5-pro 125 in,
//! 12.5 cached, 1 000 out, above 200 000 prompt tokens 250 and 1 500.

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, USD};

fn metric(quotad: &Sidecar, name: &str) -> i64 {
    let page = String::from_utf8(quotad.admin.get("/metrics").body).unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or(0)
}

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

/// Once a picture cost one unit, because the list says its price by what goes in; and so did a film of any length.
#[test]
fn pictures_and_films_are_priced_by_their_measure_or_refused() {
    let quotad = Sidecar::start();
    quotad.account("u", json!({"initial_balance": 100 * USD}));
    let settle = |id: &str, model: &str, usage: Value| {
        quotad.settle(json!({"account": "u", "id": id, "model": model, "usage": usage}))
    };
    let picture = "high/1024-x-1024/gpt-image-1";
    assert_eq!(settle("p", picture, json!({"output_images": 2})).expect(200)["charged"], 33_400_000);
    let film = "runwayml/gen4.5";
    quotad.reserve(json!({"account": "u", "id": "f", "model": film, "amount": 2 * USD})).expect(200);
    for usage in [json!({"requests": 1}), json!({"prompt_tokens": 9, "completion_tokens": 9})] {
        let problem = settle("f", film, usage).problem(400, "invalid_request");
        assert_eq!(problem["field"], "usage");
        assert!(problem["detail"].as_str().unwrap().contains("output_seconds"), "{problem}");
    }
    let estimate = json!({"account": "u", "model": film, "estimate": {"prompt_tokens": 100}});
    let problem = quotad.reserve(estimate).problem(400, "invalid_request");
    assert_eq!(
        (&problem["field"], problem["detail"].as_str().unwrap().contains("output_seconds")),
        (&json!("estimate"), true)
    );
    let estimate = |body: Value| quotad.gateway.post("/v1/estimate", &body);
    assert_eq!(estimate(json!({"model": film})).problem(400, "invalid_request")["field"], "output_seconds");
    assert_eq!(estimate(json!({"model": "whisper-1"})).problem(400, "invalid_request")["field"], "audio_seconds");
    assert_eq!(estimate(json!({"model": film, "output_seconds": 5})).expect(200)["held"], 60_000_000);
    let charge = |body: Value| quotad.gateway.post("/v1/charge", &body);
    let body = json!({"account": "u", "model": film, "usage": {"requests": 1}});
    assert_eq!(charge(body).problem(400, "invalid_request")["field"], "usage");
    // What it cost, or what it is priced by, is always taken.
    assert_eq!(charge(json!({"account": "u", "model": film, "amount": 7})).expect(200)["charged"], 7);
    assert_eq!(settle("f", film, json!({"output_seconds": 5})).expect(200)["charged"], 60_000_000);
    assert_eq!(quotad.money("u")[0], 100 * USD - 33_400_000 - 7 - 60_000_000);
}

/// Once such a settle was refused, the hold ended by itself, and the call was free.
#[test]
fn a_usage_that_cannot_be_is_clamped_and_charged() {
    let quotad = Setup::default().set("max_amount", "10 USD").start();
    quotad.account("u", json!({"initial_balance": 100 * USD}));
    let clamped = || metric(&quotad, "quotad_settles_clamped_total");
    assert_eq!(clamped(), 0);
    quotad.reserve(json!({"account": "u", "id": "r", "model": "gpt-4o", "amount": USD})).expect(200);
    let absurd = json!({"prompt_tokens": 9_000_000_000_000_000_000_u64, "completion_tokens": 3});
    let settle = |id: &str, model: &str, usage: &Value| {
        quotad.settle(json!({"account": "u", "id": id, "model": model, "usage": usage})).expect(200)
    };
    let settled = settle("r", "gpt-4o", &absurd);
    assert_eq!((&settled["charged"], &settled["clamped"]), (&json!(10 * USD), &json!(true)));
    assert_eq!((clamped(), settle("r", "gpt-4o", &absurd)["replayed"].clone()), (1, json!(true)));
    assert_eq!(clamped(), 1, "a replay is no other clamp");
    let film = settle("f", "runwayml/gen4.5", &json!({"output_seconds": 1e9}));
    assert_eq!((&film["charged"], &film["clamped"], clamped()), (&json!(10 * USD), &json!(true), 2));
    // Spelled with a point it is a whole number all the same.
    let pointed = settle("p", "gpt-4o", &json!({"prompt_tokens": 12.0, "completion_tokens": 1.0}));
    assert_eq!((&pointed["charged"], pointed.get("clamped").and_then(Value::as_bool)), (&json!(4_000), None));
    assert_eq!(quotad.money("u")[0], 80 * USD - 4_000);
    // On the way it is refused: what is charged there cannot be taken back, and the next number may be the true one.
    quotad.reserve(json!({"account": "u", "id": "s", "model": "gpt-4o", "amount": USD})).expect(200);
    let part = json!({"account": "u", "id": "s", "model": "gpt-4o", "usage": absurd, "final": false});
    assert_eq!(quotad.settle(part).problem(400, "invalid_request")["field"], "usage");
    quotad.gateway.post("/v1/release", &json!({"account": "u", "id": "s"})).expect(200);
    // Before the work, too, as ever.
    let charge = json!({"account": "u", "model": "gpt-4o", "usage": absurd});
    assert_eq!(quotad.gateway.post("/v1/charge", &charge).problem(400, "invalid_request")["field"], "usage");
    let estimate =
        json!({"account": "u", "model": "gpt-4o", "estimate": {"prompt_tokens": 9_000_000_000_000_000_000_u64}});
    quotad.reserve(estimate).problem(400, "invalid_request");
    assert_eq!((quotad.money("u")[0], clamped()), (80 * USD - 4_000, 2));
    quotad.assert_reconciled();
}

/// claude-sonnet-4-5: 300 in, 30 read, 375 and 600 written for 5 minutes and 1 hour, 1 500 out.
#[test]
fn cache_writes_in_the_shape_of_new_api_have_their_price() {
    let quotad = Sidecar::start();
    quotad.account("u", json!({"initial_balance": 100 * USD}));
    let charged = |id: &str, usage: Value| {
        quotad.settle(json!({"account": "u", "id": id, "model": "claude-sonnet-4-5", "usage": usage})).expect(200)
            ["charged"]
            .clone()
    };
    let within = json!({"prompt_tokens": 1_150, "completion_tokens": 200, "total_tokens": 1_350,
        "prompt_tokens_details": {"cached_tokens": 1_000, "cached_creation_tokens": 50},
        "claude_cache_creation_5_m_tokens": 40, "claude_cache_creation_1_h_tokens": 10});
    let cost = 100 * 300 + 1_000 * 30 + 40 * 375 + 10 * 600 + 200 * 1_500;
    assert_eq!(charged("within", within), cost);
    // A relay that kept Anthropic's way of counting: refused once, and so free.
    let beside = json!({"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300,
        "prompt_tokens_details": {"cached_tokens": 1_000, "cached_creation_tokens": 50},
        "claude_cache_creation_5_m_tokens": 40, "claude_cache_creation_1_h_tokens": 10});
    assert_eq!(charged("beside", beside), cost);
}

#[test]
fn a_charge_without_a_usage_is_priced_by_its_text() {
    let quotad = Sidecar::start();
    quotad.account("u", json!({"initial_balance": USD}));
    let text = "hello world, hello world";
    let counted = json!({"model": "gpt-4o", "text": text, "max_tokens": 0});
    let tokens = quotad.gateway.post("/v1/estimate", &counted).expect(200)["prompt_tokens"].as_i64().unwrap();
    let mut body = json!({"account": "u", "id": "c", "model": "gpt-4o", "response_text": text, "prompt_tokens": 40});
    let charge = |body: &Value| quotad.gateway.post("/v1/charge", body);
    assert_eq!(charge(&body).expect(200)["charged"], 40 * 250 + tokens * 1_000);
    assert_eq!(charge(&body).expect(200)["replayed"], true);
    body["response_text"] = json!("something else");
    assert_eq!(charge(&body).problem(409, "conflict")["field"], "response_text");
    // No prompt is named: nothing is charged for it. In a batch too.
    let alone = json!({"op": "charge", "account": "u", "id": "d", "model": "gpt-4o", "response_text": text});
    let answers = quotad.gateway.post("/v1/batch", &json!({"ops": [alone]})).expect(200);
    assert_eq!(answers["ops"][0]["body"]["charged"], tokens * 1_000, "{answers}");
    let both = json!({"account": "u", "model": "gpt-4o", "response_text": text, "amount": 1});
    assert_eq!(charge(&both).problem(400, "invalid_request")["field"], "response_text");
    assert_eq!(quotad.money("u")[0], USD - 40 * 250 - 2 * tokens * 1_000);
}

/// A free call counts its tokens and itself; or, when the operator says so, is not held at all.
#[test]
fn free_models_cost_nothing_and_count_from_end_to_end() {
    let setup = Setup::default();
    let list = r#"{"format":1,"units_per_usd":100000000,"models":{"free":{"input":0,"output":0}}}"#;
    let file = setup.folder().join("free.json");
    std::fs::write(&file, list).unwrap();
    let (code, said) = setup.run("tariff", &["import", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let quotad = setup.start();
    let limits = json!([{"metric": "tokens", "period": "day", "cap": 2_000},
        {"metric": "requests", "period": "day", "cap": 3}]);
    quotad.account("u", json!({"initial_balance": 100, "limits": limits}));
    let reserve = |id: &str| {
        let estimate = json!({"prompt_tokens": 600, "max_tokens": 400});
        quotad.reserve(json!({"account": "u", "id": id, "model": "free", "estimate": estimate}))
    };
    let counted = || {
        let sheet = quotad.balance("u");
        let limit = |metric: &str| {
            let limits = sheet["limits"].as_array().unwrap();
            let limit = limits.iter().find(|limit| limit["metric"] == metric).unwrap();
            (limit["used"].as_i64().unwrap(), limit["held"].as_i64().unwrap())
        };
        (limit("tokens"), limit("requests"), sheet["requests"].as_i64().unwrap())
    };
    let usage = json!({"prompt_tokens": 500, "completion_tokens": 100});
    let settle =
        |id: &str| quotad.settle(json!({"account": "u", "id": id, "model": "free", "usage": usage})).expect(200);
    assert_eq!(reserve("r-1").expect(200)["held"], 0);
    assert_eq!(counted(), ((0, 1_000), (0, 1), 0));
    assert_eq!((settle("r-1")["charged"].clone(), counted()), (json!(0), ((600, 0), (1, 0), 1)));
    reserve("r-2").expect(200);
    reserve("r-3").problem(429, "limit_exceeded");
    quotad.gateway.post("/v1/release", &json!({"account": "u", "id": "r-2"})).expect(200);
    assert_eq!(counted(), ((600, 0), (1, 0), 1));
    quotad.admin.put("/admin/v1/settings/hold_free_models", &json!({"value": false})).expect(200);
    assert_eq!(reserve("r-4").expect(200)["held"], 0);
    quotad.admin.get("/admin/v1/reservations/u/r-4").problem(404, "reservation_not_found");
    assert_eq!(counted(), ((600, 0), (1, 0), 1), "nothing is held");
    let settled = settle("r-4");
    assert_eq!((&settled["charged"], &settled["unreserved"]), (&json!(0), &json!(true)));
    assert_eq!(counted(), ((1_200, 0), (2, 0), 2), "what was used is counted all the same");
    assert_eq!(quotad.money("u"), [100, 0, 100]);
    quotad.assert_reconciled();
}
