//! Bugs that were found by using quotad, each named after its story.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Setup, Sidecar, eventually};

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
