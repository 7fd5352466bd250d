//! Tokens of the two listeners, and gateways that can only ask with headers.

use serde_json::json;

use crate::harness::{Http, Setup, Sidecar, sidecar::ADMIN_TOKEN};

#[test]
fn a_gateway_token_guards_every_verb_but_not_health() {
    let quotad = Setup::default().gateway_token("gateway-secret").start();
    quotad.account("a", json!({"initial_balance": 100}));
    let body = json!({"account": "a", "id": "r", "amount": 1});
    quotad.reserve(body.clone()).expect(200);
    for token in [None, Some("wrong"), Some("gateway-secret2"), Some(ADMIN_TOKEN)] {
        let stranger = Http::new(quotad.gateway.address, token);
        for verb in ["reserve", "settle", "release", "extend", "charge", "refund", "batch"] {
            let answer = stranger.post(&format!("/v1/{verb}"), &body);
            assert!(answer.header("www-authenticate").is_some(), "{answer}");
            answer.problem(401, "unauthorized");
        }
        stranger.get("/v1/accounts/a/balance").problem(401, "unauthorized");
        stranger.get("/healthz").expect(200);
        stranger.get("/readyz").expect(200);
    }
    assert_eq!(quotad.money("a"), [100, 1, 99]);
}

#[test]
fn the_admin_api_always_wants_its_token() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 100}));
    for token in [None, Some("wrong"), Some("")] {
        let stranger = Http::new(quotad.admin.address, token);
        for (method, path) in [
            ("GET", "/admin/v1/accounts"),
            ("GET", "/admin/v1/accounts/a"),
            ("PUT", "/admin/v1/accounts/b"),
            ("DELETE", "/admin/v1/accounts/a"),
            ("POST", "/admin/v1/accounts/a/credit"),
            ("POST", "/admin/v1/accounts/a/debit"),
            ("POST", "/admin/v1/accounts/a/reset"),
            ("PUT", "/admin/v1/accounts/a/keys/k"),
            ("GET", "/admin/v1/reservations/a/r"),
            ("POST", "/admin/v1/reconcile"),
        ] {
            stranger.call(method, path, &[], b"{}").problem(401, "unauthorized");
        }
        for open in ["/metrics", "/healthz", "/readyz", "/openapi.json"] {
            assert_eq!(stranger.get(open).status, 200, "{open}");
        }
    }
    // The admin API is not on the gateway's listener, nor the verbs on the admin's.
    let admin_there = Http::new(quotad.gateway.address, Some(ADMIN_TOKEN));
    admin_there.get("/admin/v1/accounts").problem(404, "not_found");
    quotad.admin.post("/v1/reserve", &json!({"account": "a", "amount": 1})).problem(404, "not_found");
    assert_eq!(quotad.money("a"), [100, 0, 100]);
    assert!(!quotad.said().contains(ADMIN_TOKEN), "tokens are never logged");
}

#[test]
fn without_a_configured_admin_token_one_is_made_in_the_data_directory() {
    let setup = Setup::default().set("admin_token", "");
    // The harness sets a token of its own for `serve`; a command shows what is in force without it.
    let (code, said) = setup.run("check-config", &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = setup.clone().set("admin_token", "s3cret-token").run("check-config", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("s3cret-token"), "secrets are redacted: {said}");
}

#[test]
fn authz_reads_headers_and_answers_headers() {
    let quotad = Sidecar::start();
    let limits = json!([{"platform": "tight", "metric": "requests", "period": "day", "cap": 1}]);
    quotad.account("a", json!({"initial_balance": 1000, "limits": limits}));
    let made = quotad.key("a", "k", json!({"networks": ["10.0.0.0/8"]}));
    let secret = made["secret"].as_str().unwrap().to_owned();
    let ask = |method: &str, query: &str, headers: &[(&str, &str)]| {
        quotad.gateway.call(method, &format!("/v1/authz{query}"), headers, b"")
    };
    let granted = ask("GET", "", &[("X-Quota-Account", "a"), ("X-Quota-Id", "h1"), ("X-Quota-Amount", "300")]);
    assert_eq!((granted.header("x-quota-id"), granted.header("x-quota-held")), (Some("h1"), Some("300")), "{granted}");
    assert_eq!(granted.status, 200);
    assert_eq!(quotad.money("a"), [1000, 300, 700]);
    // POST, the caller's secret, every header.
    let bearer = format!("Bearer {secret}");
    let all = [
        ("Authorization", bearer.as_str()),
        ("X-Quota-Id", "h2"),
        ("X-Quota-Platform", "tight"),
        ("X-Quota-Model", "gpt-4o"),
        ("X-Quota-Amount", "100"),
        ("X-Quota-Tokens", "9"),
        ("X-Quota-Ttl-Ms", "60000"),
        ("X-Forwarded-For", "192.0.2.1, 10.1.2.3"),
    ];
    let granted = ask("POST", "", &all);
    assert_eq!((granted.status, granted.header("x-quota-held")), (200, Some("100")), "{granted}");
    assert_eq!(quotad.reservation("a", "h2")["key"], "k");
    assert_eq!(quotad.reservation("a", "h2")["tokens"], 9);
    quotad.settle(json!({"account": "a", "id": "h2", "amount": 40})).expect(200);
    // Denials, plain and for nginx.
    let poor = [("X-Quota-Account", "a"), ("X-Quota-Amount", "100000")];
    ask("GET", "", &poor).problem(402, "insufficient_balance");
    let denied = ask("GET", "?deny=403", &poor);
    assert_eq!((denied.status, denied.header("x-quota-status")), (403, Some("402")), "{denied}");
    let tight = [("X-Quota-Account", "a"), ("X-Quota-Platform", "tight"), ("X-Quota-Amount", "1")];
    ask("GET", "", &tight).problem(429, "limit_exceeded");
    let denied = ask("GET", "?deny=403", &tight);
    assert_eq!((denied.status, denied.header("x-quota-status")), (403, Some("429")), "{denied}");
    // Mistakes are no denials.
    ask("GET", "", &[("X-Quota-Account", "a"), ("X-Quota-Amount", "1.5")]).problem(400, "invalid_request");
    ask("GET", "?deny=403", &[("X-Quota-Account", "a b")]).problem(400, "invalid_request");
    ask("GET", "", &[("Authorization", "Bearer sk-wrong")]).problem(401, "unauthorized");
    ask("GET", "", &[("X-Quota-Amount", "1")]).problem(401, "unauthorized");
    let wrong_network = [("Authorization", bearer.as_str()), ("X-Quota-Amount", "1"), ("X-Forwarded-For", "192.0.2.1")];
    ask("GET", "", &wrong_network).problem(403, "ip_not_allowed");
    // What the client itself wrote stands before what the proxy appended, and counts for nothing.
    let spoofed = [("X-Forwarded-For", "10.1.2.3, 192.0.2.1"), wrong_network[0], wrong_network[1]];
    ask("GET", "", &spoofed).problem(403, "ip_not_allowed");
    ask("GET", "", &wrong_network[..2]).problem(403, "ip_not_allowed");
    // The server makes an id when none is given, and says which.
    let made_up = ask("GET", "", &[("X-Quota-Account", "a"), ("X-Quota-Amount", "5")]);
    let id = made_up.header("x-quota-id").expect("an id").to_owned();
    quotad.settle(json!({"account": "a", "id": id, "amount": 5})).expect(200);
    assert_eq!(quotad.money("a"), [955, 300, 655]);
}
