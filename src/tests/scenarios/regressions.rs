//! Bugs that were found by using quotad, each named after its story.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Setup, Sidecar, eventually, redis::Redis};

#[test]
fn a_release_after_an_expiry_that_charged_is_no_success() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    quotad.reserve(json!({"account": "a", "id": "r", "amount": 50, "ttl_ms": 1000, "on_expiry": "charge"})).expect(200);
    eventually("charged at the deadline", Duration::from_secs(10), || quotad.money("a") == [950, 0, 950]);
    let release = json!({"account": "a", "id": "r"});
    quotad.gateway.post("/v1/release", &release).problem(409, "already_settled");
    assert_eq!(quotad.money("a"), [950, 0, 950]);
}

#[test]
fn an_abort_after_partial_settles_ends_the_hold_and_keeps_what_was_charged() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    for (id, outcome, charged) in [("n", "upstream_error", 30), ("p", "client_abort", 30), ("e", "unknown", 100)] {
        quotad.reserve(json!({"account": "a", "id": id, "amount": 100})).expect(200);
        quotad.settle(json!({"account": "a", "id": id, "amount": 30, "final": false})).expect(200);
        let settled = quotad.settle(json!({"account": "a", "id": id, "outcome": outcome})).expect(200);
        assert_eq!((&settled["charged"], &settled["returned"]), (&json!(charged), &json!(100 - charged)), "{outcome}");
    }
    assert_eq!(quotad.money("a"), [840, 0, 840]);
    quotad.assert_reconciled();
}

#[test]
fn a_client_with_a_key_cannot_choose_who_pays() {
    let quotad = Sidecar::start();
    for account in ["mine", "other"] {
        quotad.account(account, json!({"initial_balance": 1000}));
    }
    let key = quotad.key("mine", "k", json!({"allowance": 5}));
    let bearer = format!("Bearer {}", key["secret"].as_str().expect("a secret"));
    let ask = |account: &str, amount: &str| {
        let headers = [("X-Quota-Account", account), ("X-Quota-Amount", amount), ("Authorization", bearer.as_str())];
        quotad.gateway.call("GET", "/v1/authz", &headers, b"")
    };
    assert_eq!(ask("other", "3").problem(400, "invalid_request")["field"], "X-Quota-Account");
    ask("mine", "6").problem(402, "key_exhausted");
    ask("mine", "3").expect(200);
    assert_eq!((quotad.money("mine"), quotad.money("other")), ([1000, 3, 997], [1000, 0, 1000]));
    // A token that is none of ours, meant for the upstream, says nothing.
    let headers =
        [("X-Quota-Account", "other"), ("X-Quota-Amount", "2"), ("Authorization", "Bearer somebody-elses-token")];
    quotad.gateway.call("GET", "/v1/authz", &headers, b"").expect(200);
    assert_eq!(quotad.money("other"), [1000, 2, 998]);
}

#[test]
fn an_expired_charge_is_replaced_even_when_redis_forgot_it() {
    let quotad = Setup::default().set("tombstone_ttl_ms", "1500").start();
    quotad.account("a", json!({"initial_balance": 1000}));
    quotad.reserve(json!({"account": "a", "id": "r", "amount": 50, "ttl_ms": 1000, "on_expiry": "charge"})).expect(200);
    eventually("charged at the deadline", Duration::from_secs(10), || quotad.money("a") == [950, 0, 950]);
    std::thread::sleep(Duration::from_millis(2500));
    let settled = quotad.settle(json!({"account": "a", "id": "r", "amount": 40})).expect(200);
    assert_eq!((&settled["charged"], &settled["late"]), (&json!(40), &json!(true)), "{settled}");
    assert_eq!(quotad.money("a"), [960, 0, 960]);
    quotad.assert_reconciled();
}

/// One sidecar has a key in memory, another one disables it, and Redis, which told the first one of it by
/// the account's version, loses that with its last writes.
#[test]
fn a_disabled_key_stays_disabled_when_redis_loses_the_version() {
    let mut redis = Redis::start();
    let first = Setup::default().set("redis_url", redis.url());
    let database = format!("sqlite:{}", first.folder().join("shared.db").display());
    let first = first.set("database_url", &database).start();
    let second = Setup::default().set("redis_url", redis.url()).set("database_url", &database).start();
    first.account("a", json!({"initial_balance": 1000}));
    first.key("a", "k", json!({}));
    let ask = |id: &str| first.reserve(json!({"account": "a", "key": "k", "id": id, "amount": 1}));
    ask("r0").expect(200);
    first.assert_reconciled();
    let before = redis.account_field("a", "h");
    second.admin.put("/admin/v1/accounts/a/keys/k", &json!({"status": "disabled"})).expect(200);
    let after = redis.account_field("a", "h");
    assert_ne!(before[..4], after[..4], "the version comes first in the head");
    redis.set_account_field("a", "h", &[&before[..4], &after[4..]].concat());
    redis.kill();
    redis.start_again();
    let mut answer = ask("r1");
    eventually("served again", Duration::from_secs(20), || {
        answer = ask("r1");
        answer.status != 503
    });
    answer.problem(403, "key_disabled");
    assert_eq!(redis.account_field("a", "h")[..4], before[..4], "Redis had really forgotten");
    first.reserve(json!({"account": "a", "id": "r2", "amount": 1})).expect(200);
}
