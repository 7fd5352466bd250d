//! A key for its owner: `GET /v1/key`, and the reads of new-api's clients.

use serde_json::{Value, json};

use crate::harness::{Answer, Http, Setup, Sidecar, USD};

fn owner(quotad: &Sidecar, secret: &str) -> Http {
    Http::new(quotad.gateway.address, Some(secret))
}

/// Account `a` with key `k`, and the key's secret.
fn with_key(fields: Value) -> (Sidecar, String) {
    let quotad = Setup::default().gateway_token("gateway-secret").start();
    quotad.account("a", json!({"initial_balance": 100 * USD, "group": "vip"}));
    let secret = quotad.key("a", "k", fields)["secret"].as_str().unwrap().to_owned();
    (quotad, secret)
}

fn spend(quotad: &Sidecar, id: &str, amount: i64) -> Answer {
    quotad.gateway.post("/v1/charge", &json!({"account": "a", "key": "k", "id": id, "amount": amount}))
}

#[test]
fn an_owner_sees_its_key_and_nothing_of_its_account() {
    let limits = json!([{"metric": "cost", "period": "day", "cap": 5 * USD}, {"metric": "concurrency", "cap": null}]);
    let (quotad, secret) = with_key(json!({"allowance": 3 * USD, "models": ["gpt-4o"], "networks": ["10.0.0.0/8"],
        "name": "laptop", "expires_at": "2099-01-01T00:00:00Z", "limits": limits}));
    quotad.admin.put("/admin/v1/accounts/a/keys/k", &json!({"models": [], "networks": []})).expect(200);
    spend(&quotad, "c", USD).expect(200);
    quotad.reserve(json!({"account": "a", "key": "k", "id": "r", "amount": USD / 2})).expect(200);
    quotad
        .admin
        .put("/admin/v1/accounts/a/keys/k", &json!({"models": ["gpt-4o"], "networks": ["10.0.0.0/8"]}))
        .expect(200);
    // The gateway's token is the gateway's: an owner has none.
    let own = owner(&quotad, &secret).get("/v1/key").expect(200);
    let resets_at = own["limits"][0]["resets_at"].clone();
    assert!(resets_at.is_string());
    assert_eq!(
        own,
        json!({"key": "k", "name": "laptop", "status": "enabled", "allowance": 3 * USD, "left": 3 * USD / 2, "used": USD,
        "held": USD / 2, "requests": 1, "expires_at": "2099-01-01T00:00:00.000Z", "models": ["gpt-4o"],
        "networks": ["10.0.0.0/8"], "group": "vip", "cross_group_retry": false,
        "groups": [{"group": "vip", "description": "", "ratio": "1"}],
        "limits": [
            {"platform": "*", "model": "*", "metric": "cost", "period": "day", "cap": 5 * USD, "used": USD,
                "held": USD / 2, "left": 7 * USD / 2, "resets_at": resets_at},
            {"platform": "*", "model": "*", "metric": "concurrency", "period": null, "cap": null, "used": 0,
                "held": 1, "left": null, "resets_at": null},
        ]})
    );
    for token in [None, Some("sk-wrong"), Some("gateway-secret")] {
        Http::new(quotad.gateway.address, token).get("/v1/key").problem(401, "unauthorized");
    }
    owner(&quotad, &secret).post("/v1/key", &json!({})).problem(405, "method_not_allowed");
    assert!(!quotad.said().contains(&secret), "secrets are never logged");
}

#[test]
fn a_key_that_may_not_spend_is_shown_all_the_same() {
    let (quotad, secret) = with_key(json!({"allowance": 100}));
    let own = || owner(&quotad, &secret).get("/v1/key").expect(200);
    let put = |fields: Value| quotad.admin.put("/admin/v1/accounts/a/keys/k", &fields).expect(200);
    spend(&quotad, "c", 100).expect(200);
    spend(&quotad, "d", 1).problem(402, "key_exhausted");
    assert_eq!((&own()["status"], &own()["left"], &own()["used"]), (&json!("exhausted"), &json!(0), &json!(100)));
    put(json!({"expires_at": "2021-01-01T00:00:00Z"}));
    assert_eq!(own()["status"], "expired");
    put(json!({"status": "disabled"}));
    assert_eq!(own()["status"], "disabled");
    quotad.admin.put("/admin/v1/accounts/a", &json!({"status": "disabled"})).expect(200);
    assert_eq!(own()["status"], "disabled");
    for path in ["/dashboard/billing/subscription", "/dashboard/billing/usage", "/api/usage/token"] {
        owner(&quotad, &secret).get(path).expect(200);
    }
    quotad.admin.delete("/admin/v1/accounts/a/keys/k").expect(204);
    owner(&quotad, &secret).get("/v1/key").problem(401, "unauthorized");
}

#[test]
fn clients_of_new_api_read_their_key_in_its_shapes() {
    let (quotad, secret) = with_key(json!({"allowance": 3 * USD, "models": ["gpt-4o"], "name": "laptop",
        "expires_at": "2099-01-01T00:00:00Z"}));
    let ask = |path: &str| owner(&quotad, &secret).get(path).expect(200);
    let charge = json!({"account": "a", "key": "k", "id": "c", "model": "gpt-4o", "amount": 123_456_789});
    quotad.gateway.post("/v1/charge", &charge).expect(200);
    let reserve = json!({"account": "a", "key": "k", "id": "r", "model": "gpt-4o", "amount": USD});
    quotad.reserve(reserve).expect(200);
    for path in ["/dashboard/billing/subscription", "/v1/dashboard/billing/subscription"] {
        let expected = json!({"object": "billing_subscription", "has_payment_method": true, "soft_limit_usd": 3,
            "hard_limit_usd": 3, "system_hard_limit_usd": 3, "access_until": 4_070_908_800_i64});
        assert_eq!(ask(path), expected, "{path}");
    }
    for path in ["/dashboard/billing/usage", "/v1/dashboard/billing/usage?start_date=2026-11-01&end_date=2026-11-30"] {
        assert_eq!(ask(path), json!({"object": "list", "total_usage": 123.456_789}), "{path}");
    }
    // 617 283.945 quotas used of 1 500 000; the 500 000 that are held are not spent.
    for path in ["/api/usage/token", "/api/usage/token/"] {
        let data = json!({"object": "token_usage", "name": "laptop", "total_granted": 1_500_000, "total_used": 617_284,
            "total_available": 882_716, "unlimited_quota": false, "model_limits": {"gpt-4o": true},
            "model_limits_enabled": true, "expires_at": 4_070_908_800_i64});
        assert_eq!(ask(path), json!({"code": true, "message": "ok", "data": data}), "{path}");
    }
    let unlimited = json!({"allowance": null, "models": [], "name": null, "expires_at": null});
    quotad.admin.put("/admin/v1/accounts/a/keys/k", &unlimited).expect(200);
    let subscription = ask("/dashboard/billing/subscription");
    assert_eq!((&subscription["hard_limit_usd"], &subscription["access_until"]), (&json!(100_000_000), &json!(0)));
    let data = json!({"object": "token_usage", "name": "k", "total_granted": 617_284, "total_used": 617_284,
        "total_available": 0, "unlimited_quota": true, "model_limits": {}, "model_limits_enabled": false, "expires_at": 0});
    assert_eq!(ask("/api/usage/token")["data"], data);
}

/// Granted is what was used and what is not, also where more was used than granted.
#[test]
fn what_an_overspent_key_has_left_is_below_zero() {
    let (quotad, secret) = with_key(json!({"allowance": 100_000}));
    let reserve = json!({"account": "a", "key": "k", "id": "r", "model": "gpt-4o", "amount": 100_000});
    quotad.reserve(reserve).expect(200);
    quotad.settle(json!({"account": "a", "id": "r", "amount": 250_000})).expect(200);
    let data = owner(&quotad, &secret).get("/api/usage/token").expect(200)["data"].clone();
    let numbers = ["total_granted", "total_used", "total_available"].map(|name| data[name].as_i64().unwrap());
    assert_eq!(numbers, [500, 1_250, -750]);
}

/// As new-api does, and only where its clients read.
#[test]
fn a_secret_without_its_prefix_is_read_by_clients_of_new_api() {
    let (quotad, secret) = with_key(json!({"allowance": 100_000}));
    let bare = owner(&quotad, secret.strip_prefix("sk-").unwrap());
    for path in ["/dashboard/billing/subscription", "/dashboard/billing/usage", "/api/usage/token"] {
        assert_eq!(bare.get(path).expect(200), owner(&quotad, &secret).get(path).expect(200), "{path}");
    }
    bare.get("/v1/key").problem(401, "unauthorized");
    owner(&quotad, "wrong").get("/api/usage/token").expect(401);
}

#[test]
fn a_bad_token_is_answered_in_the_shape_that_its_client_reads() {
    let (quotad, _) = with_key(json!({}));
    for token in [None, Some("sk-wrong")] {
        let stranger = Http::new(quotad.gateway.address, token);
        for path in ["/dashboard/billing/subscription", "/v1/dashboard/billing/usage"] {
            let answer = stranger.get(path);
            assert_eq!(answer.header("content-type"), Some("application/json"), "{answer}");
            let error = answer.expect(401)["error"].clone();
            assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("invalid_api_key")));
            assert!(!error["message"].as_str().unwrap().is_empty() && error["param"].is_null(), "{error}");
        }
        let refused = stranger.get("/api/usage/token").expect(401);
        assert_eq!(refused["success"], false);
        assert!(!refused["message"].as_str().unwrap().is_empty(), "{refused}");
    }
    quotad.admin.get("/api/usage/token").problem(404, "not_found");
}
