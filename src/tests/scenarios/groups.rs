//! Price groups from end to end: what a call costs in its group, retries in another one, and what the ledger says.

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, eventually, sql_client::SqlClient};

/// 1 unit a token; `gold` costs twice as much, for accounts of `silver` three times.
const PRICES: &str = r#"{"format":1,"units_per_usd":100000000,
    "models":{"m":{"input":1000000,"output":1000000},"dear":{"input":5000000,"output":0}},
    "group_ratio":{"gold":"2","cheap":"0.5"},"user_group_ratio":{"silver":{"gold":"3"}}}"#;

fn with_prices() -> Sidecar {
    let setup = Setup::default();
    let file = setup.folder().join("prices.json");
    std::fs::write(&file, PRICES).unwrap();
    let (code, said) = setup.run("tariff", &["import", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    setup.start()
}

fn extend(quotad: &Sidecar, fields: Value) -> crate::harness::Answer {
    quotad.gateway.post("/v1/extend", &fields)
}

/// The group of an operation's row in the ledger, once it is posted.
fn posted_group(quotad: &Sidecar, id: &str) -> String {
    let mut sql = SqlClient::connect(&format!("sqlite://{}", quotad.data().join("quotad.db").display())).unwrap();
    let mut group = String::new();
    eventually("the row is posted", std::time::Duration::from_secs(10), || {
        let rows =
            sql.ask(&format!("SELECT price_group FROM ledger WHERE op_id = '{id}' AND kind IN ('settle', 'charge')"));
        group = rows.first().map(|row| row[0].clone()).unwrap_or_default();
        !rows.is_empty()
    });
    group
}

#[test]
fn a_call_costs_what_its_group_costs_and_the_ledger_says_so() {
    let quotad = with_prices();
    quotad.account("a", json!({"initial_balance": 1_000_000, "group": "silver"}));
    quotad.key("a", "gold", json!({"group": "gold"}));
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100});
    let reserve = |id: &str, key: Option<&str>| {
        let mut body =
            json!({"account": "a", "id": id, "model": "m", "estimate": {"prompt_tokens": 500, "max_tokens": 0}});
        if let Some(key) = key {
            body["key"] = key.into();
        }
        quotad.reserve(body).expect(200)
    };
    let settle = |id: &str| {
        let body = json!({"account": "a", "id": id, "model": "m", "usage": usage});
        quotad.settle(body).expect(200)["charged"].as_i64().unwrap()
    };
    let own = reserve("own", None);
    assert_eq!((&own["held"], own.get("group")), (&json!(500), None));
    let gold = reserve("gold", Some("gold"));
    assert_eq!((&gold["held"], &gold["group"]), (&json!(1_500), &json!("gold")), "what is agreed for the two groups");
    // Another group afterwards: the reservation's is frozen.
    quotad.admin.put("/admin/v1/accounts/a", &json!({"group": "cheap"})).expect(200);
    assert_eq!((settle("own"), settle("gold")), (100, 300));
    let charge = json!({"account": "a", "id": "now", "model": "m", "usage": usage});
    assert_eq!(quotad.gateway.post("/v1/charge", &charge).expect(200)["charged"], 50);
    let nobody = json!({"account": "a", "id": "nobody", "model": "m", "usage": usage, "group": "gold"});
    assert_eq!(quotad.settle(nobody).expect(200)["charged"], 200, "gold costs cheap accounts what it costs all others");
    for (id, group) in [("own", "silver"), ("gold", "gold"), ("now", "cheap"), ("nobody", "gold")] {
        assert_eq!(posted_group(&quotad, id), group, "{id}");
    }
    quotad.assert_reconciled();
}

#[test]
fn a_group_that_is_not_the_accounts_is_refused() {
    let quotad = with_prices();
    quotad.account("a", json!({"initial_balance": 1_000_000, "group": "silver"}));
    quotad.key("a", "k", json!({"group": "gold"}));
    let ask = |fields: Value| {
        let mut body = json!({"account": "a", "id": "r", "model": "m", "amount": 1});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        quotad.reserve(body)
    };
    ask(json!({"group": "gold"})).problem(403, "group_not_allowed");
    ask(json!({"group": "silver", "key": "k"})).problem(403, "group_not_allowed");
    ask(json!({"group": "auto"})).problem(403, "group_not_allowed");
    let headers = [("X-Quota-Account", "a"), ("X-Quota-Amount", "1"), ("X-Quota-Group", "gold")];
    quotad.gateway.call("GET", "/v1/authz", &headers, b"").problem(403, "group_not_allowed");
    assert_eq!(quotad.money("a"), [1_000_000, 0, 1_000_000], "a denial changes nothing");
    assert_eq!(ask(json!({"group": "silver"})).expect(200)["group"], "silver");
    let headers = [("X-Quota-Account", "a"), ("X-Quota-Amount", "1"), ("X-Quota-Key", "k"), ("X-Quota-Group", "gold")];
    let granted = quotad.gateway.call("GET", "/v1/authz", &headers, b"");
    assert_eq!((granted.status, granted.header("x-quota-group")), (200, Some("gold")), "{granted}");
    for (path, group) in
        [("accounts/a", json!("auto")), ("accounts/a", json!("*")), ("accounts/a/keys/k", json!("x".repeat(65)))]
    {
        let answer = quotad.admin.put(&format!("/admin/v1/{path}"), &json!({"group": group}));
        assert_eq!(answer.problem(400, "invalid_request")["field"], "group", "{group}");
    }
}

/// A retry with a dearer group re-prices the same reservation; what is denied leaves hold and group.
#[test]
fn a_retry_in_another_group_is_checked_like_a_reserve() {
    let quotad = with_prices();
    let limits = json!([{"metric": "cost", "period": "day", "cap": 4_000}]);
    quotad.account("a", json!({"initial_balance": 10_000, "group": "gold", "limits": limits}));
    quotad.key("a", "cheap", json!({"group": "cheap", "cross_group_retry": true, "allowance": 3_500}));
    quotad.key("a", "tied", json!({"group": "cheap"}));
    let estimate = json!({"prompt_tokens": 1_000, "max_tokens": 1_000});
    let reserve = |id: &str, key: &str| {
        quotad.reserve(json!({"account": "a", "key": key, "id": id, "model": "m", "estimate": estimate})).expect(200)
    };
    assert_eq!(reserve("r", "cheap")["held"], 1_000);
    assert_eq!(reserve("t", "tied")["held"], 1_000);
    let retry = |id: &str| extend(&quotad, json!({"account": "a", "id": id, "group": "gold"}));
    retry("t").problem(403, "group_not_allowed");
    // Four times as dear: 4 000 with 1 000 of the other one is above the day's cap, and above the key's allowance.
    retry("r").problem(402, "key_exhausted");
    quotad.admin.put("/admin/v1/accounts/a/keys/cheap", &json!({"allowance": null})).expect(200);
    retry("r").problem(429, "limit_exceeded");
    assert_eq!(quotad.reservation("a", "r")["held"], 1_000);
    assert_eq!(quotad.money("a"), [10_000, 2_000, 8_000]);
    quotad.gateway.post("/v1/release", &json!({"account": "a", "id": "t"})).expect(200);
    let again = retry("r").expect(200);
    assert_eq!((&again["held"], &again["group"]), (&json!(4_000), &json!("gold")));
    assert_eq!(retry("r").expect(200)["held"], 4_000, "the same call again does no more");
    assert_eq!(quotad.balance("a")["limits"][0]["held"], 4_000);
    // Settled in the group it ended in; the abort policy's prompt part likewise.
    let usage = json!({"prompt_tokens": 700, "completion_tokens": 100, "total_tokens": 800});
    let settled = quotad.settle(json!({"account": "a", "id": "r", "model": "m", "usage": usage})).expect(200);
    assert_eq!((&settled["charged"], &settled["returned"]), (&json!(1_600), &json!(2_400)));
    assert_eq!(posted_group(&quotad, "r"), "gold");
    reserve("p", "cheap");
    extend(
        &quotad,
        json!({"account": "a", "id": "p", "group": "gold", "model": "m", "ttl_ms": 60_000,
        "estimate": {"prompt_tokens": 600, "max_tokens": 0}}),
    )
    .expect(200);
    let aborted = quotad.settle(json!({"account": "a", "id": "p", "outcome": "client_abort"})).expect(200);
    assert_eq!((&aborted["charged"], &aborted["returned"]), (&json!(1_200), &json!(0)));
    assert_eq!(quotad.money("a"), [7_200, 0, 7_200]);
    let sheet = quotad.balance("a");
    assert_eq!((&sheet["keys"][0]["used"], &sheet["keys"][0]["held"]), (&json!(2_800), &json!(0)));
    // What cannot be meant.
    for (fields, field) in [
        (json!({"group": "auto"}), "group"),
        (json!({"group": "gold", "estimate": {"prompt_tokens": 1}}), "model"),
        (json!({"group": "gold", "model": "m", "amount": 1, "estimate": {"prompt_tokens": 1}}), "estimate"),
        (json!({"model": "m", "estimate": {"prompt_tokens": 1}, "ttl_ms": 1000}), "estimate"),
    ] {
        let mut body = json!({"account": "a", "id": "r"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(extend(&quotad, body).problem(400, "invalid_request")["field"], field, "{fields}");
    }
    quotad.assert_reconciled();
}

/// A denied retry, and one that is granted, while the hold is extended and settled by others: no unit is lost.
#[test]
fn retries_and_extends_at_once_leave_no_unit_behind() {
    let quotad = with_prices();
    quotad.account("a", json!({"initial_balance": 1_000_000, "group": "gold"}));
    quotad.key("a", "k", json!({"group": "cheap", "cross_group_retry": true}));
    for round in 0..20 {
        let id = format!("r{round}");
        let body = json!({"account": "a", "key": "k", "id": id, "model": "m", "estimate": {"prompt_tokens": 1_000, "max_tokens": 0}});
        quotad.reserve(body).expect(200);
        std::thread::scope(|scope| {
            for amount in [600, 700] {
                let body = json!({"account": "a", "id": id, "amount": amount});
                let quotad = &quotad;
                scope.spawn(move || {
                    let status = extend(quotad, body).status;
                    assert!(matches!(status, 200 | 409), "{status}");
                });
            }
            for _ in 0..2 {
                let body = json!({"account": "a", "id": id, "group": "gold"});
                let quotad = &quotad;
                scope.spawn(move || extend(quotad, body).expect(200));
            }
        });
        let held = quotad.reservation("a", &id)["held"].as_i64().unwrap();
        // The retry multiplies what was held when it came.
        assert!([2_000, 2_400, 2_800].contains(&held), "{held}");
        assert_eq!(quotad.money("a")[1], held);
        quotad.settle(json!({"account": "a", "id": id, "amount": 1})).expect(200);
    }
    assert_eq!(quotad.money("a"), [999_980, 0, 999_980]);
    quotad.assert_reconciled();
}

#[test]
fn the_operators_tables_are_settings() {
    let quotad = with_prices();
    let put =
        |name: &str, value: Value| quotad.admin.put(&format!("/admin/v1/settings/{name}"), &json!({"value": value}));
    put("usable_groups", json!({"silver": {"gold": "At once"}, "*": {"cheap": "Slow and cheap"}})).expect(200);
    put("auto_groups", json!(["cheap", "gold", "silver"])).expect(200);
    put("group_models", json!({"gold": ["m", "n*"]})).expect(200);
    quotad.account("a", json!({"initial_balance": 1_000_000, "group": "silver"}));
    let secret = quotad.key("a", "k", json!({"group": "auto"}))["secret"].as_str().unwrap().to_owned();
    // `cheap` is for accounts without a row, `gold` serves m, and what it does not serve goes to the next.
    for (id, model, group, held) in [("r1", "m", json!("gold"), 1_500), ("r2", "dear", Value::Null, 2_500)] {
        let estimate = json!({"prompt_tokens": 500, "max_tokens": 0});
        let body = json!({"api_key": secret, "id": id, "model": model, "estimate": estimate});
        let granted = quotad.reserve(body).expect(200);
        assert_eq!(
            (granted.get("group").cloned().unwrap_or_default(), &granted["held"]),
            (group, &json!(held)),
            "{id}"
        );
    }
    let own = crate::harness::Http::new(quotad.gateway.address, Some(&secret)).get("/v1/key").expect(200);
    assert_eq!(own["group"], "auto");
    let groups = json!([{"group": "gold", "description": "At once", "ratio": "3"},
        {"group": "silver", "description": "", "ratio": "1"}]);
    assert_eq!(own["groups"], groups);
    // A group that is taken away is refused at the next call; what was granted in it is settled in it.
    put("usable_groups", json!({"silver": {}})).expect(200);
    let gold = json!({"account": "a", "id": "r3", "model": "m", "group": "gold", "amount": 1});
    quotad.reserve(gold).problem(403, "group_not_allowed");
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10});
    let settled = quotad.settle(json!({"account": "a", "id": "r1", "model": "m", "usage": usage})).expect(200);
    assert_eq!(settled["charged"], 30);
    for (name, value) in [
        ("usable_groups", json!({"silver": {"auto": ""}})),
        ("usable_groups", json!({"silver": ["gold"]})),
        ("auto_groups", json!(["gold", "gold"])),
        ("auto_groups", json!(["*"])),
        ("group_models", json!({"gold": ["a*b"]})),
    ] {
        put(name, value.clone()).problem(400, "invalid_request");
        assert_ne!(quotad.admin.get(&format!("/admin/v1/settings/{name}")).expect(200)["value"], value);
    }
}

/// Once the prompt part stayed that of the first estimate, and an abort cost next to nothing.
#[test]
fn a_new_estimate_in_the_same_group_is_what_an_abort_costs() {
    let quotad = with_prices();
    let limits = json!([{"metric": "tokens", "period": "day", "cap": 100_700}]);
    quotad.account("a", json!({"initial_balance": 1_000_000, "group": "gold", "limits": limits}));
    let body = json!({"account": "a", "id": "r", "model": "m", "estimate": {"prompt_tokens": 500, "max_tokens": 100}});
    assert_eq!(quotad.reserve(body).expect(200)["held"], 1_200);
    let longer = |prompt: i64| {
        let estimate = json!({"prompt_tokens": prompt, "max_tokens": 100});
        extend(&quotad, json!({"account": "a", "id": "r", "group": "gold", "model": "m", "estimate": estimate}))
    };
    // Its tokens are held too, and checked.
    assert_eq!(longer(100_601).problem(429, "limit_exceeded")["violated"][0]["metric"], "tokens");
    assert_eq!(quotad.reservation("a", "r")["tokens"], 600);
    assert_eq!(longer(100_000).expect(200)["held"], 200_200);
    assert_eq!(longer(100_000).expect(200)["held"], 200_200, "the same call again does no more");
    assert_eq!(quotad.reservation("a", "r")["tokens"], 100_100);
    assert_eq!(quotad.balance("a")["limits"][0]["held"], 100_100);
    let aborted = quotad.settle(json!({"account": "a", "id": "r", "outcome": "client_abort"})).expect(200);
    assert_eq!((&aborted["charged"], &aborted["returned"]), (&json!(200_000), &json!(200)));
    let limit = quotad.balance("a")["limits"][0].clone();
    assert_eq!((&limit["used"], &limit["held"]), (&json!(100_100), &json!(0)));
    assert_eq!(quotad.money("a"), [800_000, 0, 800_000]);
    quotad.assert_reconciled();
}

#[test]
fn a_retry_with_a_model_that_the_key_may_not_call_is_refused() {
    let quotad = with_prices();
    quotad.account("a", json!({"initial_balance": 1_000_000, "group": "gold"}));
    quotad.key("a", "k", json!({"models": ["m"], "cross_group_retry": true}));
    quotad.reserve(json!({"account": "a", "key": "k", "id": "r", "model": "m", "amount": 100})).expect(200);
    let retry = |model: &str| {
        extend(&quotad, json!({"account": "a", "id": "r", "model": model, "group": "gold", "amount": 200}))
    };
    retry("dear").problem(403, "model_not_allowed");
    assert_eq!(quotad.reservation("a", "r")["held"], 100);
    assert_eq!(retry("m").expect(200)["held"], 200);
}

/// As deployments of new-api have them: in accounts, keys, headers, prices and the ledger.
#[test]
fn a_group_may_have_a_name_in_any_language() {
    let quotad = with_prices();
    let ratios = json!({"GroupRatio": {"默认": 3, "gold": 2}});
    let imported = quotad.admin.post("/admin/v1/tariffs", &ratios).expect(201);
    assert!(imported["diff"]["ratios"].to_string().contains("默认"), "{imported}");
    quotad.account("a", json!({"initial_balance": 1_000_000, "group": "默认"}));
    quotad.key("a", "k", json!({"group": "默认"}));
    let charge = json!({"account": "a", "key": "k", "id": "c", "model": "m", "usage": {"prompt_tokens": 10}});
    assert_eq!(quotad.gateway.post("/v1/charge", &charge).expect(200)["charged"], 30);
    assert_eq!(posted_group(&quotad, "c"), "默认");
    let headers = [("X-Quota-Account", "a"), ("X-Quota-Group", "默认"), ("X-Quota-Amount", "5")];
    let granted = quotad.gateway.call("GET", "/v1/authz", &headers, b"");
    assert_eq!((granted.status, granted.header("x-quota-group")), (200, Some("默认")), "{granted}");
    for bad in ["a/b", "*", "auto"] {
        let answer = quotad.admin.put("/admin/v1/accounts/b", &json!({"group": bad}));
        assert_eq!(answer.problem(400, "invalid_request")["field"], "group", "{bad}");
    }
    quotad.assert_reconciled();
}

#[test]
fn an_estimate_takes_a_group_as_a_reserve_does() {
    let quotad = with_prices();
    let put =
        |name: &str, value: Value| quotad.admin.put(&format!("/admin/v1/settings/{name}"), &json!({"value": value}));
    put("usable_groups", json!({"*": {"gold": "", "cheap": ""}})).expect(200);
    put("auto_groups", json!(["cheap", "gold"])).expect(200);
    put("group_models", json!({"cheap": ["dear"]})).expect(200);
    quotad.account("a", json!({"initial_balance": 1_000_000, "group": "silver"}));
    quotad.key("a", "k", json!({"group": "gold"}));
    let estimate = |fields: Value| {
        let mut body = json!({"model": "m", "prompt_tokens": 500, "max_tokens": 0});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        quotad.gateway.post("/v1/estimate", &body)
    };
    for (fields, held, ratio, group) in [
        (json!({}), 500, "1", Value::Null),
        (json!({"group": "gold"}), 1_000, "2", json!("gold")),
        (json!({"account": "a"}), 500, "1", json!("silver")),
        (json!({"account": "a", "group": "gold"}), 1_500, "3", json!("gold")),
        (json!({"account": "a", "group": "auto"}), 1_500, "3", json!("gold")),
        (json!({"account": "a", "group": "auto", "model": "dear"}), 1_250, "0.5", json!("cheap")),
        (json!({"account": "a", "key": "k"}), 1_500, "3", json!("gold")),
    ] {
        let told = estimate(fields.clone()).expect(200);
        assert_eq!((&told["held"], &told["ratio"], &told["group"]), (&json!(held), &json!(ratio), &group), "{fields}");
    }
    for fields in [
        json!({"account": "a", "group": "vip"}),
        json!({"account": "a", "group": "cheap"}),
        json!({"account": "a", "key": "k", "group": "cheap"}),
    ] {
        estimate(fields).problem(403, "group_not_allowed");
    }
    assert_eq!(estimate(json!({"group": "auto"})).problem(400, "invalid_request")["field"], "group");
}

/// Checks of a reserve in the order of the codes: what is wrong with the key's model goes before its group, and a group
/// before a disabled platform, a price that is not there, and money.
#[test]
fn group_not_allowed_has_its_place_in_the_order_of_the_checks() {
    let quotad = with_prices();
    quotad.admin.put("/admin/v1/settings/usable_groups", &json!({"value": {"*": {}}})).expect(200);
    let limits = json!([{"platform": "off", "metric": "requests", "period": "day", "cap": 0}]);
    quotad.account("a", json!({"initial_balance": 0, "limits": limits}));
    quotad.key("a", "k", json!({"models": ["m", "unpriced"]}));
    let reserve = |model: &str, group: &str, platform: &str| {
        let estimate = json!({"prompt_tokens": 500, "max_tokens": 0});
        quotad.reserve(json!({"account": "a", "key": "k", "model": model, "group": group, "platform": platform,
            "estimate": estimate}))
    };
    reserve("dear", "vip", "off").problem(403, "model_not_allowed");
    reserve("m", "vip", "off").problem(403, "group_not_allowed");
    reserve("unpriced", "vip", "on").problem(403, "group_not_allowed");
    reserve("m", "default", "off").problem(403, "platform_disabled");
    reserve("unpriced", "default", "on").problem(400, "model_not_priced");
    reserve("m", "default", "on").problem(402, "insufficient_balance");
}
