//! Who may spend on what: statuses, keys, networks, models, and the order of the checks.

use serde_json::{Value, json};

use crate::harness::{Http, Sidecar};

#[test]
fn the_checks_run_in_the_protocols_order() {
    let quotad = Sidecar::start();
    let limits = json!([
        {"platform": "closed", "metric": "cost", "period": "day", "cap": 0},
        {"platform": "tight", "metric": "cost", "period": "day", "cap": 1},
    ]);
    quotad.account("o", json!({"initial_balance": 100, "limits": limits, "status": "disabled"}));
    let set = |fields: Value| quotad.admin.put("/admin/v1/accounts/o", &fields).expect(200);
    let key = |fields: Value| quotad.admin.put("/admin/v1/accounts/o/keys/k", &fields);
    let mut ask = json!({"account": "o", "id": "r", "key": "k", "platform": "closed", "model": "no-such-model",
        "client_ip": "192.0.2.1", "estimate": {"prompt_tokens": 1_000_000_000}});
    let denied = |ask: &Value, status: u16, code: &str| {
        quotad.reserve(ask.clone()).problem(status, code);
    };
    // Everything is wrong at once; what is put right uncovers the next reason.
    denied(&ask, 403, "account_disabled");
    set(json!({"status": "restricted"}));
    denied(&ask, 403, "account_restricted");
    set(json!({"status": "enabled"}));
    denied(&ask, 403, "key_not_found");
    let rules = json!({"status": "disabled", "expires_at": "2021-01-01T00:00:00Z", "networks": ["10.0.0.0/8"],
        "models": ["gpt-4o"], "allowance": 50});
    key(rules).expect(201);
    denied(&ask, 403, "key_disabled");
    key(json!({"status": "enabled"})).expect(200);
    denied(&ask, 403, "key_expired");
    key(json!({"expires_at": null})).expect(200);
    denied(&ask, 403, "ip_not_allowed");
    key(json!({"networks": ["10.0.0.0/8", "192.0.2.0/24"]})).expect(200);
    denied(&ask, 403, "model_not_allowed");
    key(json!({"models": ["gpt-4o", "no-such-model"]})).expect(200);
    denied(&ask, 403, "platform_disabled");
    ask["platform"] = "tight".into();
    denied(&ask, 400, "model_not_priced");
    ask.as_object_mut().unwrap().remove("estimate");
    ask["amount"] = 101.into();
    denied(&ask, 402, "insufficient_balance");
    ask["amount"] = 100.into();
    denied(&ask, 402, "key_exhausted");
    key(json!({"allowance": 1000})).expect(200);
    denied(&ask, 429, "limit_exceeded");
    ask["amount"] = 1.into();
    quotad.reserve(ask).expect(200);
    // Clashes come before every one of these.
    set(json!({"status": "disabled"}));
    quotad.reserve(json!({"account": "o", "id": "r", "amount": 2})).problem(409, "conflict");
    // What was granted can be settled, whatever the account has become.
    quotad.settle(json!({"account": "o", "id": "r", "amount": 1})).expect(200);
    quotad.reserve(json!({"account": "nobody", "id": "r", "amount": 1})).problem(404, "account_not_found");
}

#[test]
fn keys_are_bound_to_networks_models_and_time() {
    let quotad = Sidecar::start();
    quotad.account("k", json!({"initial_balance": 1000}));
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2)).to_string();
    quotad.key("k", "net", json!({"networks": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]}));
    quotad.key("k", "soon", json!({"expires_at": soon}));
    let ask = |key: &str, id: &str, client_ip: Option<&str>| {
        quotad.reserve(json!({"account": "k", "key": key, "id": id, "amount": 1,
            "client_ip": client_ip.unwrap_or("203.0.113.1")}))
    };
    ask("soon", "s1", None).expect(200);
    for (number, ip) in ["10.255.0.1", "2001:db8::1", "192.0.2.7", "::ffff:10.0.0.1"].into_iter().enumerate() {
        ask("net", &format!("ok-{number}"), Some(ip)).expect(200);
    }
    for (number, ip) in ["11.0.0.1", "2001:db9::1", "192.0.2.8"].into_iter().enumerate() {
        ask("net", &format!("no-{number}"), Some(ip)).problem(403, "ip_not_allowed");
    }
    // Whose address is not known is not inside the network.
    let unknown = quotad.reserve(json!({"account": "k", "key": "net", "id": "no", "amount": 1}));
    unknown.problem(403, "ip_not_allowed");
    let bad = quotad.reserve(json!({"account": "k", "key": "net", "id": "bad", "amount": 1, "client_ip": "10.0.0"}));
    assert_eq!(bad.problem(400, "invalid_request")["field"], "client_ip");
    let mut tries = 0;
    crate::harness::eventually("the key expires by itself", std::time::Duration::from_secs(6), || {
        tries += 1;
        let answer = ask("soon", &format!("s-{tries}"), None);
        answer.status != 200 && answer.problem(403, "key_expired")["status"] == 403
    });
    for (field, value) in [
        ("networks", json!(["10.0.0.0/33"])),
        ("models", json!(["é"])),
        ("expires_at", json!("tomorrow")),
        ("status", json!("exhausted")),
        ("allowance", json!(-1)),
        ("secret_sha256", json!("abc")),
    ] {
        let answer = quotad.admin.put("/admin/v1/accounts/k/keys/bad", &json!({field: value}));
        let problem = answer.problem(400, "invalid_request");
        assert!(problem["field"].as_str().unwrap().starts_with(field), "{problem}");
    }
}

#[test]
fn a_secret_stands_for_account_and_key() {
    let quotad = Sidecar::start();
    quotad.account("s", json!({"initial_balance": 1000}));
    let made = quotad.key("s", "k", json!({"allowance": 500}));
    let secret = made["secret"].as_str().expect("the secret, once").to_owned();
    let shown = quotad.admin.get("/admin/v1/accounts/s/keys/k").expect(200);
    assert!(shown.get("secret").is_none(), "shown once: {shown}");
    let again = quotad.admin.put("/admin/v1/accounts/s/keys/k", &json!({"allowance": 400})).expect(200);
    assert!(again.get("secret").is_none(), "not made anew: {again}");
    quotad.reserve(json!({"api_key": secret, "id": "r", "amount": 300})).expect(200);
    assert_eq!(quotad.balance("s")["keys"][0]["held"], 300);
    quotad.reserve(json!({"api_key": secret, "id": "x", "amount": 101})).problem(402, "key_exhausted");
    quotad.settle(json!({"api_key": secret, "id": "r", "amount": 250})).expect(200);
    assert_eq!(quotad.balance("s")["keys"][0]["left"], 150);
    quotad.reserve(json!({"api_key": format!("{secret}x"), "id": "y", "amount": 1})).problem(401, "unauthorized");
    quotad.reserve(json!({"id": "y", "amount": 1})).problem(400, "invalid_request");
    let both = quotad.reserve(json!({"account": "s", "api_key": secret, "id": "y", "amount": 1}));
    both.problem(400, "invalid_request");
    // A secret of one's own is given as its SHA-256.
    let own = "8b72f1f1a6c0f0a0c9a6c0bb1e8c3ca8a9a61c0c9b43d3e6d0b0b8ea1ad8b6f4";
    let made = quotad.key("s", "own", json!({"secret_sha256": own}));
    assert!(made.get("secret").is_none(), "{made}");
    let taken = quotad.admin.put("/admin/v1/accounts/s/keys/other", &json!({"secret_sha256": own}));
    assert_eq!(taken.problem(400, "invalid_request")["field"], "secret_sha256");
    quotad.admin.delete("/admin/v1/accounts/s/keys/k").expect(204);
    quotad.reserve(json!({"api_key": secret, "id": "z", "amount": 1})).problem(401, "unauthorized");
    quotad.admin.get("/admin/v1/accounts/s/keys/k").problem(404, "key_not_found");
    assert!(!quotad.said().contains(&secret), "secrets are never logged");
}

#[test]
fn accounts_are_created_merged_listed_and_deleted() {
    let quotad = Sidecar::start();
    let path = "/admin/v1/accounts/a:b@c.d_e-f";
    let fields = json!({"initial_balance": 1000, "name": "Ä name", "contact": "a@b", "group": "vip",
        "timezone": "Europe/Berlin", "credit_limit": 5});
    let made = quotad.admin.put(path, &fields).expect(201);
    assert_eq!((&made["balance"], &made["status"], &made["name"]), (&json!(1000), &json!("enabled"), &json!("Ä name")));
    // The initial balance is for the creation only; what is not named stays.
    let merged = quotad.admin.put(path, &json!({"initial_balance": 1000, "name": null}));
    if merged.status == 200 {
        let merged = merged.json();
        assert_eq!((&merged["balance"], &merged["name"]), (&json!(1000), &Value::Null));
    }
    let shown = quotad.admin.get(path).expect(200);
    assert_eq!(
        (&shown["group"], &shown["timezone"], &shown["balance"]),
        (&json!("vip"), &json!("Europe/Berlin"), &json!(1000))
    );
    for name in ["b1", "b2", "b3"] {
        quotad.account(name, json!({}));
    }
    let mut names = Vec::new();
    let mut next = "/admin/v1/accounts?limit=2".to_owned();
    loop {
        let page = quotad.admin.get(&next).expect(200);
        let listed = page["accounts"].as_array().unwrap();
        assert!(listed.len() <= 2);
        names.extend(listed.iter().map(|account| account["account"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("/admin/v1/accounts?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(names, ["a:b@c.d_e-f", "b1", "b2", "b3"]);
    quotad.play(
        r#"
        account a:b@c.d_e-f => 200
        reserve r amount=100 => 200
    "#,
    );
    quotad.admin.delete(path).problem(409, "conflict");
    quotad.play("account a:b@c.d_e-f => 200\nsettle r amount=40 => 200");
    quotad.admin.delete(path).expect(204);
    for answer in [
        quotad.admin.get(path),
        quotad.admin.delete(path),
        quotad.gateway.get("/v1/accounts/a:b@c.d_e-f/balance"),
        quotad.reserve(json!({"account": "a:b@c.d_e-f", "id": "s", "amount": 1})),
        quotad.admin.post(&format!("{path}/credit"), &json!({"op_id": "c", "amount": 1})),
    ] {
        answer.problem(404, "account_not_found");
    }
    // The name is free again, and what was left of the old balance is gone.
    let again = quotad.admin.put(path, &json!({"initial_balance": 7})).expect(201);
    assert_eq!((&again["balance"], &again["group"]), (&json!(7), &json!("default")), "{again}");
    quotad.assert_reconciled();
    let anybody = Http::new(quotad.admin.address, None);
    anybody.get(path).problem(401, "unauthorized");
}
