//! Exact under concurrency: of 200 requests at the same moment as many pass as there is room for,
//! and who is refused leaves no trace.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, Sidecar, USD, at_once, redis::Redis};

const CALLS: usize = 200;

/// Reserves 1 USD (1 token) 200 times at once: how many got which status and code.
fn storm(sidecars: &[&Sidecar], account: &str, more: &Value) -> BTreeMap<(u16, String), usize> {
    let answers = at_once(CALLS, |number| {
        let mut body = json!({"account": account, "id": format!("r-{number}"), "platform": "openai",
            "model": "gpt-4o", "amount": USD, "tokens": 1, "ttl_ms": 600_000});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        sidecars[number % sidecars.len()].reserve(body)
    });
    count(&answers)
}

fn count(answers: &[Answer]) -> BTreeMap<(u16, String), usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry((answer.status, answer.code())).or_default() += 1;
    }
    counts
}

fn half(status: u16, code: &str) -> BTreeMap<(u16, String), usize> {
    BTreeMap::from([((200, String::new()), 100), ((status, code.to_owned()), 100)])
}

#[test]
fn of_200_reserves_of_1_usd_against_100_usd_exactly_100_pass() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 100 * USD}));
    assert_eq!(storm(&[&quotad], "a", &json!({})), half(402, "insufficient_balance"));
    assert_eq!(quotad.money("a"), [100 * USD, 100 * USD, 0]);
    let refused = quotad.reserve(json!({"account": "a", "id": "one-more", "amount": 1}));
    let problem = refused.problem(402, "insufficient_balance");
    assert_eq!((&problem["requested"], &problem["available"]), (&json!(1), &json!(0)));
    // Everything is settled at half of its hold, all at once; what was refused is not known.
    let settled = at_once(CALLS, |number| {
        let id = format!("r-{number}");
        let held = quotad.admin.get(&format!("/admin/v1/reservations/a/{id}")).status == 200;
        held.then(|| quotad.settle(json!({"account": "a", "id": id, "amount": USD / 2})))
    });
    let settled: Vec<Answer> = settled.into_iter().flatten().collect();
    assert_eq!(count(&settled), BTreeMap::from([((200, String::new()), 100)]));
    assert_eq!(quotad.money("a"), [50 * USD, 0, 50 * USD]);
    let sheet = quotad.balance("a");
    assert_eq!((&sheet["used"], &sheet["requests"]), (&json!(50 * USD), &json!(100)));
    quotad.assert_reconciled();
}

#[test]
fn a_key_allowance_is_as_exact_as_a_balance() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000 * USD}));
    quotad.key("a", "k", json!({"allowance": 100 * USD}));
    quotad.key("a", "free", json!({"allowance": null}));
    assert_eq!(storm(&[&quotad], "a", &json!({"key": "k"})), half(402, "key_exhausted"));
    assert_eq!(quotad.money("a"), [1000 * USD, 100 * USD, 900 * USD]);
    let keys = quotad.balance("a")["keys"].clone();
    let k = keys.as_array().unwrap().iter().find(|key| key["key"] == "k").unwrap();
    assert_eq!((&k["left"], &k["held"], &k["used"]), (&json!(0), &json!(100 * USD), &json!(0)));
    quotad.reserve(json!({"account": "a", "key": "free", "id": "x", "amount": USD})).expect(200);
    // Raising the allowance revives the key.
    quotad.admin.put("/admin/v1/accounts/a/keys/k", &json!({"allowance": 101 * USD})).expect(200);
    quotad.reserve(json!({"account": "a", "key": "k", "id": "y", "amount": USD})).expect(200);
    let again = quotad.reserve(json!({"account": "a", "key": "k", "id": "z", "amount": 1}));
    let problem = again.problem(402, "key_exhausted");
    assert_eq!((&problem["requested"], &problem["available"]), (&json!(1), &json!(0)));
}

#[test]
fn every_limit_metric_is_exact() {
    let quotad = Sidecar::start();
    let limits = [
        ("cost", json!({"metric": "cost", "period": "day", "cap": 100 * USD})),
        ("tokens", json!({"metric": "tokens", "period": "week", "cap": 100})),
        ("requests", json!({"metric": "requests", "period": "rolling:86400", "cap": 100})),
        ("concurrency", json!({"metric": "concurrency", "cap": 100})),
    ];
    for (metric, mut limit) in limits {
        limit["platform"] = "openai".into();
        quotad.account(metric, json!({"initial_balance": 1000 * USD, "limits": [limit]}));
        assert_eq!(storm(&[&quotad], metric, &json!({})), half(429, "limit_exceeded"), "{metric}");
        assert_eq!(quotad.money(metric), [1000 * USD, 100 * USD, 900 * USD], "{metric}");
        let state = quotad.balance(metric)["limits"][0].clone();
        let full = if metric == "cost" { 100 * USD } else { 100 };
        assert_eq!((&state["held"], &state["used"]), (&json!(full), &json!(0)), "{metric}");
        // Another platform is not concerned.
        let other = json!({"account": metric, "id": "other", "platform": "gemini", "amount": 1, "tokens": 1});
        quotad.reserve(other).expect(200);
        let more = json!({"account": metric, "id": "more", "platform": "openai", "amount": 1, "tokens": 1});
        let problem = quotad.reserve(more).problem(429, "limit_exceeded");
        assert_eq!(problem["violated"].as_array().map(Vec::len), Some(1), "{metric}: {problem}");
        assert_eq!(problem["violated"][0]["metric"], metric);
        assert_eq!(problem["violated"][0]["held"], full);
    }
}

#[test]
fn balance_key_and_every_limit_at_once() {
    let quotad = Sidecar::start();
    let all = json!([
        {"platform": "openai", "metric": "cost", "period": "day", "cap": 100 * USD},
        {"platform": "*", "model": "gpt-4o", "metric": "tokens", "period": "hour", "cap": 100},
        {"metric": "requests", "period": "rolling:3600", "cap": 100},
        {"platform": "openai", "model": "gpt-4o", "metric": "concurrency", "cap": 100},
    ]);
    quotad.account("a", json!({"initial_balance": 100 * USD, "limits": all}));
    quotad.key("a", "k", json!({"allowance": 100 * USD, "limits": all}));
    // The checks run in the protocol's order: the balance answers first.
    assert_eq!(storm(&[&quotad], "a", &json!({"key": "k"})), half(402, "insufficient_balance"));
    let sheet = quotad.balance("a");
    assert_eq!(sheet["limits"].as_array().map(Vec::len), Some(8), "{sheet}");
    for limit in sheet["limits"].as_array().unwrap() {
        let full = if limit["metric"] == "cost" { 100 * USD } else { 100 };
        assert_eq!((&limit["held"], &limit["used"]), (&json!(full), &json!(0)), "{limit}");
    }
    // With enough money and allowance the limits answer, all eight of them at once.
    quotad.admin.post("/admin/v1/accounts/a/credit", &json!({"op_id": "c", "amount": 100 * USD})).expect(200);
    quotad.admin.put("/admin/v1/accounts/a/keys/k", &json!({"allowance": null})).expect(200);
    let body = json!({"account": "a", "key": "k", "id": "more", "platform": "openai", "model": "gpt-4o",
        "amount": 1, "tokens": 1});
    let problem = quotad.reserve(body).problem(429, "limit_exceeded");
    assert_eq!(problem["violated"].as_array().map(Vec::len), Some(8), "{problem}");
    // Everything is given back by releases, whatever it was counted in.
    let answers = at_once(CALLS, |number| {
        quotad.gateway.post("/v1/release", &json!({"account": "a", "id": format!("r-{number}")}))
    });
    assert_eq!(count(&answers), BTreeMap::from([((200, String::new()), CALLS)]));
    let sheet = quotad.balance("a");
    assert_eq!((&sheet["held"], &sheet["available"]), (&json!(0), &json!(200 * USD)));
    for limit in sheet["limits"].as_array().unwrap() {
        assert_eq!((&limit["held"], &limit["used"]), (&json!(0), &json!(0)), "{limit}");
    }
}

#[test]
fn two_sidecars_are_one() {
    let redis = Redis::start();
    let first = Setup::default().set("redis_url", redis.url());
    let database = format!("sqlite:{}", first.folder().join("shared.db").display());
    let first = first.set("database_url", &database).start();
    let second = Setup::default().set("redis_url", redis.url()).set("database_url", &database).start();
    first.account("a", json!({"initial_balance": 100 * USD}));
    assert_eq!(storm(&[&first, &second], "a", &json!({})), half(402, "insufficient_balance"));
    assert_eq!(second.money("a"), [100 * USD, 100 * USD, 0]);
    // The same id on both at once: one is first, the other hears that it was.
    first.account("b", json!({"initial_balance": 100 * USD}));
    let answers = at_once(40, |number| {
        let sidecar = if number % 2 == 0 { &first } else { &second };
        sidecar.reserve(json!({"account": "b", "id": format!("same-{}", number / 8), "amount": USD})).expect(200)
    });
    let fresh = answers.iter().filter(|answer| answer["replayed"] != true).count();
    assert_eq!(fresh, 5);
    assert_eq!(first.money("b"), [100 * USD, 5 * USD, 95 * USD]);
    let settled = at_once(20, |number| {
        let sidecar = if number % 2 == 0 { &first } else { &second };
        sidecar.settle(json!({"account": "b", "id": format!("same-{}", number / 4), "amount": USD})).expect(200)
    });
    assert_eq!(settled.iter().filter(|answer| answer["replayed"] != true).count(), 5);
    assert_eq!(second.money("b"), [95 * USD, 0, 95 * USD]);
    first.assert_reconciled();
    second.assert_reconciled();
    // A key that one of them disables is denied by the other at its very next request.
    second.key("b", "k", json!({}));
    let ask = |id: &str| json!({"account": "b", "key": "k", "id": id, "amount": 1});
    first.reserve(ask("before")).expect(200);
    second.reserve(ask("before-too")).expect(200);
    for round in 0..10 {
        first.admin.put("/admin/v1/accounts/b/keys/k", &json!({"status": "disabled"})).expect(200);
        second.reserve(ask(&format!("no-{round}"))).problem(403, "key_disabled");
        second.admin.put("/admin/v1/accounts/b/keys/k", &json!({"status": "enabled"})).expect(200);
        first.reserve(ask(&format!("yes-{round}"))).expect(200);
    }
    first.admin.delete("/admin/v1/accounts/b/keys/k").expect(204);
    second.reserve(ask("gone")).problem(403, "key_not_found");
}

#[test]
fn a_denial_changes_no_counter_at_all() {
    let quotad = Sidecar::start();
    let limits = json!([
        {"platform": "openai", "metric": "cost", "period": "day", "cap": 500},
        {"platform": "openai", "metric": "tokens", "period": "rolling:100000", "cap": 50},
        {"platform": "openai", "metric": "requests", "period": "month", "cap": 2},
        {"platform": "openai", "metric": "concurrency", "cap": 2},
        {"platform": "closed", "metric": "requests", "period": "day", "cap": 0},
    ]);
    quotad.account("a", json!({"initial_balance": 1000, "limits": limits}));
    quotad.key("a", "k", json!({"allowance": 600, "models": ["gpt-4o"], "networks": ["10.0.0.0/8"]}));
    quotad.key("a", "off", json!({"status": "disabled"}));
    quotad.key("a", "old", json!({"expires_at": "2020-01-01T00:00:00Z"}));
    quotad.play(
        r#"
        account a => 200
        reserve r1 platform=openai amount=300 tokens=30 => 200 held=300
        settle r1 amount=200 => 200 charged=200 returned=100
        reserve r2 platform=openai amount=100 tokens=10 => 200 held=100 balance=800 available=700
    "#,
    );
    let before = quotad.balance("a");
    let asks = [
        (json!({"amount": 701}), 402, "insufficient_balance"),
        (json!({"amount": 601, "key": "k", "model": "gpt-4o", "client_ip": "10.1.2.3"}), 402, "key_exhausted"),
        (json!({"amount": 201, "platform": "openai"}), 429, "limit_exceeded"),
        (json!({"amount": 1, "tokens": 11, "platform": "openai"}), 429, "limit_exceeded"),
        (json!({"amount": 1, "platform": "openai"}), 429, "limit_exceeded"),
        (json!({"amount": 1, "platform": "closed"}), 403, "platform_disabled"),
        (json!({"amount": 1, "key": "k", "model": "gpt-5", "client_ip": "10.1.2.3"}), 403, "model_not_allowed"),
        (json!({"amount": 1, "key": "k", "model": "gpt-4o", "client_ip": "11.1.2.3"}), 403, "ip_not_allowed"),
        (json!({"amount": 1, "key": "off"}), 403, "key_disabled"),
        (json!({"amount": 1, "key": "old"}), 403, "key_expired"),
        (json!({"amount": 1, "key": "none"}), 403, "key_not_found"),
        (json!({"estimate": {"prompt_tokens": 1}, "model": "no-such-model"}), 400, "model_not_priced"),
        (json!({"amount": 1, "amout": 2}), 400, "invalid_request"),
        (json!({"id": "r2", "amount": 99}), 409, "conflict"),
        (json!({"id": "r1", "amount": 99}), 409, "already_settled"),
    ];
    for (number, (ask, status, code)) in asks.into_iter().enumerate() {
        let mut body = json!({"account": "a", "id": format!("denied-{number}")});
        body.as_object_mut().unwrap().extend(ask.as_object().unwrap().clone());
        for verb in ["/v1/reserve", "/v1/charge"] {
            // A charge answers the same but for ids that a reserve made.
            if verb == "/v1/charge" && status == 409 {
                continue;
            }
            quotad.gateway.post(verb, &body).problem(status, code);
            assert_eq!(quotad.balance("a"), before, "{verb} {body}");
        }
        if status != 409 {
            let unknown = quotad.admin.get(&format!("/admin/v1/reservations/a/denied-{number}"));
            unknown.problem(404, "reservation_not_found");
        }
    }
    // A denial is not remembered: with the room there, the same ids are granted.
    quotad.play(
        r#"
        account a => 200
        release r2 => 200 returned=100
        reserve denied-2 platform=openai amount=201 => 200 held=201
    "#,
    );
}

#[test]
fn one_id_many_times_at_once_is_one_reservation() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 100}));
    let answers = at_once(64, |_| quotad.reserve(json!({"account": "a", "id": "r", "amount": 60})).expect(200));
    assert_eq!(answers.iter().filter(|answer| answer["replayed"] != true).count(), 1);
    assert!(answers.iter().all(|answer| answer["held"] == 60), "{answers:?}");
    assert_eq!(quotad.money("a"), [100, 60, 40]);
    let ends = at_once(64, |number| {
        let body = json!({"account": "a", "id": "r"});
        match number % 2 {
            0 => quotad.gateway.post("/v1/release", &body),
            _ => quotad.settle(json!({"account": "a", "id": "r", "amount": 50})),
        }
    });
    let settled = ends.iter().any(|answer| answer.status == 200 && answer.json()["outcome"] == "settled");
    let released = ends.iter().any(|answer| answer.status == 200 && answer.json()["outcome"] == "released");
    assert!(settled != released, "at most one resolution per reservation");
    let code = if settled { "already_settled" } else { "already_released" };
    assert!(ends.iter().filter(|answer| answer.status != 200).all(|answer| answer.code() == code), "{ends:?}");
    assert_eq!(quotad.money("a"), if settled { [50, 0, 50] } else { [100, 0, 100] });
    // Refunds never add up to more than the charge, however many ask at once.
    quotad.gateway.post("/v1/charge", &json!({"account": "a", "id": "c", "amount": 40})).expect(200);
    let after_charge = quotad.money("a")[0];
    let refunds = at_once(30, |number| {
        let op_id = format!("f-{number}");
        quotad.gateway.post("/v1/refund", &json!({"account": "a", "op_id": op_id, "of": "c", "amount": 9}))
    });
    let expected = BTreeMap::from([((200, String::new()), 4), ((409, "refund_exceeds_charge".to_owned()), 26)]);
    assert_eq!(count(&refunds), expected);
    assert_eq!(quotad.money("a")[0], after_charge + 36);
    quotad.assert_reconciled();
}
