//! Keys as their operator and their owner see them: standings, pages, secrets, and what two sidecars make of a change.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, eventually, redis::Redis};

fn put(quotad: &Sidecar, key: &str, fields: Value) -> Value {
    quotad.admin.put(&format!("/admin/v1/accounts/a/keys/{key}"), &fields).expect(200)
}

fn shown(quotad: &Sidecar, key: &str) -> Value {
    quotad.admin.get(&format!("/admin/v1/accounts/a/keys/{key}")).expect(200)
}

#[test]
fn a_standing_is_derived_from_what_is_set_the_time_and_what_is_spent() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    quotad.key("a", "k", json!({"allowance": 100, "name": "Ada’s laptop"}));
    let standing = || {
        let shown = shown(&quotad, "k");
        // The same in the list, in the balance and by itself.
        let list = quotad.admin.get("/admin/v1/accounts/a/keys").expect(200);
        assert_eq!(list["keys"][0], shown);
        assert_eq!(quotad.balance("a")["keys"][0]["status"], shown["status"]);
        shown["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(standing(), "enabled");
    quotad.reserve(json!({"account": "a", "key": "k", "id": "r", "amount": 100})).expect(200);
    assert_eq!(standing(), "enabled", "what is held is not spent yet");
    quotad.reserve(json!({"account": "a", "key": "k", "id": "no", "amount": 1})).problem(402, "key_exhausted");
    quotad.settle(json!({"account": "a", "id": "r", "amount": 100})).expect(200);
    assert_eq!(standing(), "exhausted");
    assert_eq!((&shown(&quotad, "k")["used"], &shown(&quotad, "k")["left"]), (&json!(100), &json!(0)));
    // A larger allowance revives it, at once.
    put(&quotad, "k", json!({"allowance": 150}));
    assert_eq!(standing(), "enabled");
    quotad.reserve(json!({"account": "a", "key": "k", "id": "r2", "amount": 50})).expect(200);
    quotad.gateway.post("/v1/release", &json!({"account": "a", "id": "r2"})).expect(200);
    put(&quotad, "k", json!({"allowance": null}));
    assert_eq!(standing(), "enabled", "unlimited, and counted all the same");
    assert_eq!(shown(&quotad, "k")["used"], 100);
    put(&quotad, "k", json!({"allowance": 0, "expires_at": "2021-01-01T00:00:00Z"}));
    assert_eq!(standing(), "expired");
    put(&quotad, "k", json!({"status": "disabled"}));
    assert_eq!(standing(), "disabled");
    // What is not named stays; the times tell when it was made and changed.
    let last = put(&quotad, "k", json!({"status": "enabled", "expires_at": null, "allowance": 101}));
    assert_eq!((&last["name"], &last["status"]), (&json!("Ada’s laptop"), &json!("enabled")));
    assert!(last["created_at"].as_str().unwrap() < last["changed_at"].as_str().unwrap(), "{last}");
    assert_eq!(put(&quotad, "k", json!({"name": null}))["name"], Value::Null);
}

#[test]
fn keys_are_listed_in_pages_with_what_they_used() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    for number in 0..5 {
        quotad.key("a", &format!("k{number}"), json!({}));
        let charge = json!({"account": "a", "key": format!("k{number}"), "id": number.to_string(), "amount": number});
        quotad.gateway.post("/v1/charge", &charge).expect(200);
    }
    let mut cursor = String::new();
    let mut seen = Vec::new();
    loop {
        let path = format!("/admin/v1/accounts/a/keys?cursor={cursor}&limit=2");
        let page = quotad.admin.get(&path).expect(200);
        let keys = page["keys"].as_array().unwrap();
        assert!((1..=2).contains(&keys.len()));
        seen.extend(keys.iter().map(|key| (key["key"].as_str().unwrap().to_owned(), key["used"].as_i64().unwrap())));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    let expected: Vec<_> = (0..5).map(|number| (format!("k{number}"), number)).collect();
    assert_eq!(seen, expected);
    for (query, field) in [("limit=0", "limit"), ("limit=1001", "limit"), ("cursor=a%2Fb", "cursor")] {
        let answer = quotad.admin.get(&format!("/admin/v1/accounts/a/keys?{query}"));
        assert_eq!(answer.problem(400, "invalid_request")["field"], field);
    }
    quotad.admin.get("/admin/v1/accounts/nobody/keys").problem(404, "account_not_found");
}

/// Two creations at once both showed a secret, and one of the two opened nothing.
#[test]
fn of_many_creations_at_once_one_shows_the_secret_in_force() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    for round in 0..5 {
        let path = format!("/admin/v1/accounts/a/keys/k{round}");
        let answers: Vec<_> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| quotad.admin.put(&path, &json!({})))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        let created = answers.iter().filter(|answer| answer.status == 201).count();
        let secrets: HashSet<String> =
            answers.iter().filter_map(|answer| answer.json()["secret"].as_str().map(str::to_owned)).collect();
        assert_eq!((created, secrets.len()), (1, 1), "round {round}");
        for (number, secret) in secrets.iter().enumerate() {
            let id = format!("r-{round}-{number}");
            quotad.reserve(json!({"api_key": secret, "id": id, "amount": 1})).expect(200);
        }
    }
}

#[test]
fn a_secret_pays_on_every_verb() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let secret = quotad.key("a", "k", json!({}))["secret"].as_str().unwrap().to_owned();
    let call = |verb: &str, fields: Value| {
        let mut body = fields;
        body["api_key"] = secret.as_str().into();
        quotad.gateway.post(&format!("/v1/{verb}"), &body)
    };
    call("reserve", json!({"id": "r", "amount": 100})).expect(200);
    call("extend", json!({"id": "r", "amount": 120})).expect(200);
    call("settle", json!({"id": "r", "amount": 80})).expect(200);
    call("refund", json!({"op_id": "f", "of": "r", "amount": 30})).expect(200);
    call("reserve", json!({"id": "s", "amount": 10})).expect(200);
    call("release", json!({"id": "s"})).expect(200);
    call("charge", json!({"id": "c", "amount": 5})).expect(200);
    let batch = json!({"ops": [{"op": "charge", "api_key": secret, "id": "b", "amount": 2}]});
    assert_eq!(quotad.gateway.post("/v1/batch", &batch).expect(200)["ops"][0]["status"], 200);
    let shown = shown(&quotad, "k");
    assert_eq!((&shown["used"], &shown["held"], &shown["requests"]), (&json!(57), &json!(0), &json!(3)), "{shown}");
    assert_eq!(quotad.money("a"), [943, 0, 943]);
    quotad.assert_reconciled();
    quotad.admin.delete("/admin/v1/accounts/a/keys/k").expect(204);
    for verb in ["reserve", "charge", "extend", "settle", "release"] {
        call(
            verb,
            json!({"id": "z", "amount": 1}).as_object().map_or(Value::Null, |fields| {
                let named = fields.iter().filter(|(name, _)| verb != "release" || *name == "id");
                Value::Object(named.map(|(name, value)| (name.clone(), value.clone())).collect())
            }),
        )
        .problem(401, "unauthorized");
    }
}

/// What one sidecar changes of a key is in force at the next call through another one.
#[test]
fn a_change_of_a_key_is_in_force_at_once_on_every_sidecar() {
    let redis = Redis::start();
    let first = Setup::default().set("redis_url", redis.url()).start();
    let database = format!("sqlite://{}", first.data().join("quotad.db").display());
    let second = Setup::default().set("redis_url", redis.url()).set("database_url", &database).start();
    first.account("a", json!({"initial_balance": 1000}));
    let secret = first.key("a", "k", json!({"allowance": 100}))["secret"].as_str().unwrap().to_owned();
    let mut number = 0;
    let mut ask = |amount: i64| {
        number += 1;
        second.reserve(json!({"api_key": secret, "id": format!("r{number}"), "model": "gpt-4o", "amount": amount}))
    };
    ask(10).expect(200);
    put(&first, "k", json!({"status": "disabled"}));
    ask(10).problem(403, "key_disabled");
    put(&first, "k", json!({"status": "enabled", "models": ["o1"]}));
    ask(10).problem(403, "model_not_allowed");
    put(&first, "k", json!({"models": [], "allowance": 10}));
    ask(1).problem(402, "key_exhausted");
    put(&first, "k", json!({"allowance": 20}));
    ask(10).expect(200);
    put(&first, "k", json!({"limits": [{"metric": "requests", "period": "day", "cap": 1}], "allowance": null}));
    ask(1).expect(200);
    ask(1).problem(429, "limit_exceeded");
    first.admin.delete("/admin/v1/accounts/a/keys/k").expect(204);
    ask(1).problem(401, "unauthorized");
    eventually("both see the same", Duration::from_secs(5), || second.balance("a") == first.balance("a"));
}

/// Elsewhere a token was charged and the account's update failed: neither was rolled back.
#[test]
fn key_and_account_are_charged_both_or_not_at_all() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 100}));
    quotad.key("a", "rich", json!({"allowance": 1000}));
    quotad.key("a", "poor", json!({"allowance": 10}));
    let before = quotad.balance("a");
    for (key, amount, code) in [("rich", 101, "insufficient_balance"), ("poor", 11, "key_exhausted")] {
        for path in ["/v1/charge", "/v1/reserve"] {
            let body = json!({"account": "a", "key": key, "id": "r", "amount": amount});
            quotad.gateway.post(path, &body).problem(402, code);
            assert_eq!(quotad.balance("a"), before, "{path} {key}");
        }
    }
    let body = json!({"account": "a", "key": "poor", "id": "r", "amount": 10});
    quotad.gateway.post("/v1/charge", &body).expect(200);
    let sheet = quotad.balance("a");
    assert_eq!((&sheet["used"], &sheet["keys"][0]["used"]), (&json!(10), &json!(10)));
    quotad.assert_reconciled();
}
