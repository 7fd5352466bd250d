//! Redemption codes: made once, redeemed once, and money at the next reserve.

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, Sidecar, at_once};

/// Makes codes and answers them.
fn make(quotad: &Sidecar, op_id: &str, more: Value) -> Vec<Value> {
    let mut body = json!({"op_id": op_id, "name": "spring", "amount": 500});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    quotad.admin.post("/admin/v1/codes", &body).expect(201)["codes"].as_array().unwrap().clone()
}

/// The characters of a code that was just made.
fn text(code: &Value) -> &str {
    code["code"].as_str().expect("its characters")
}

fn path(code: &Value) -> String {
    format!("/admin/v1/codes/{}", code["id"].as_str().expect("an id"))
}

fn redeem(quotad: &Sidecar, account: &str, code: &str) -> Answer {
    quotad.gateway.post("/v1/redeem", &json!({"account": account, "code": code}))
}

fn listed(quotad: &Sidecar, query: &str) -> Vec<Value> {
    quotad.admin.get(&format!("/admin/v1/codes{query}")).expect(200)["codes"].as_array().unwrap().clone()
}

#[test]
fn a_code_becomes_balance_that_the_next_reserve_can_hold() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({}));
    let code = make(&quotad, "b-1", json!({})).remove(0);
    quotad.reserve(json!({"account": "a", "id": "r", "amount": 500})).problem(402, "insufficient_balance");
    let answer = redeem(&quotad, "a", text(&code)).expect(200);
    let expected = json!({"account": "a", "id": code["id"], "outcome": "redeemed", "amount": 500, "balance": 500,
        "available": 500});
    assert_eq!(answer, expected);
    quotad.reserve(json!({"account": "a", "id": "r", "amount": 500})).expect(200);
    // A lost reply: the same call again.
    let again = redeem(&quotad, "a", text(&code));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let again = again.expect(200);
    assert_eq!((&again["replayed"], &again["amount"], &again["available"]), (&json!(true), &json!(500), &json!(0)));
    let shown = quotad.admin.get(&path(&code)).expect(200);
    assert_eq!((&shown["status"], &shown["used_by"]), (&json!("used"), &json!("a")));
    assert!(shown["used_at"].is_string() && shown.get("code").is_none(), "{shown}");
    quotad.assert_reconciled();
}

#[test]
fn who_pays_may_be_said_by_a_key_and_an_operator_may_redeem_too() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({}));
    let secret = quotad.key("a", "k", json!({"allowance": 0}))["secret"].clone();
    let codes = make(&quotad, "b-1", json!({"count": 3}));
    let answer = quotad.gateway.post("/v1/redeem", &json!({"api_key": secret, "code": text(&codes[0])})).expect(200);
    assert_eq!((&answer["account"], &answer["balance"]), (&json!("a"), &json!(500)));
    let by_admin = quotad.admin.post("/admin/v1/accounts/a/redeem", &json!({"code": text(&codes[1])})).expect(200);
    assert_eq!(by_admin["balance"], 1000);
    let unknown = json!({"api_key": "sk-nobody", "code": text(&codes[2])});
    quotad.gateway.post("/v1/redeem", &unknown).problem(401, "unauthorized");
    redeem(&quotad, "nobody", text(&codes[2])).problem(404, "account_not_found");
    let both = json!({"account": "a", "api_key": secret, "code": text(&codes[2])});
    assert_eq!(quotad.gateway.post("/v1/redeem", &both).problem(400, "invalid_request")["field"], "api_key");
    // Each redemption is in the audit, by whom it was.
    let rows = |code: &Value| {
        let subject = format!("/admin/v1/audit?subject=code/{}", code["id"].as_str().unwrap());
        quotad.admin.get(&subject).expect(200)["changes"].clone()
    };
    let [mine, theirs] = [rows(&codes[0]), rows(&codes[1])];
    assert_eq!((&mine[0]["by"], &mine[0]["what"]), (&json!("account:a"), &json!("redeem")));
    assert_eq!((&theirs[0]["by"], &theirs[0]["after"]["used_by"]), (&json!("admin"), &json!("a")));
    let told = rows(&codes[0]).to_string() + &quotad.admin.get("/admin/v1/audit").json().to_string();
    assert!(codes.iter().all(|code| !told.contains(text(code))), "the audit holds no code");
}

#[test]
fn of_100_clients_that_redeem_a_code_one_wins() {
    let quotad = Sidecar::start();
    for n in 0..100 {
        quotad.account(&format!("a{n}"), json!({}));
    }
    let code = make(&quotad, "b-1", json!({})).remove(0);
    let answers = at_once(100, |n| redeem(&quotad, &format!("a{n}"), text(&code)));
    let won: Vec<usize> = (0..100).filter(|n| answers[*n].status == 200).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    for (n, answer) in answers.into_iter().enumerate().filter(|(n, _)| *n != won[0]) {
        answer.problem(409, "code_used");
        assert_eq!(quotad.money(&format!("a{n}"))[0], 0);
    }
    assert_eq!(quotad.money(&format!("a{}", won[0]))[0], 500);
    quotad.assert_reconciled();
}

#[test]
fn many_calls_of_one_account_credit_a_code_once() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({}));
    let code = make(&quotad, "b-1", json!({})).remove(0);
    let answers = at_once(40, |_| redeem(&quotad, "a", text(&code)).expect(200));
    assert_eq!(answers.iter().filter(|answer| answer["replayed"] != true).count(), 1);
    assert_eq!(quotad.money("a")[0], 500);
    quotad.assert_reconciled();
}

#[test]
fn what_cannot_be_redeemed_says_why() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({}));
    let codes = make(&quotad, "b-1", json!({"count": 2}));
    quotad.admin.put(&path(&codes[0]), &json!({"status": "disabled"})).expect(200);
    redeem(&quotad, "a", text(&codes[0])).problem(403, "code_disabled");
    quotad.admin.put(&path(&codes[0]), &json!({"status": "enabled"})).expect(200);
    redeem(&quotad, "a", text(&codes[0])).expect(200);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1_500);
    quotad.admin.put(&path(&codes[1]), &json!({"expires_at": soon.to_string()})).expect(200);
    crate::harness::eventually("the code has expired", std::time::Duration::from_secs(10), || {
        quotad.admin.get(&path(&codes[1])).expect(200)["status"] == "expired"
    });
    redeem(&quotad, "a", text(&codes[1])).problem(403, "code_expired");
    redeem(&quotad, "a", &"x".repeat(32)).problem(404, "code_not_found");
    for bad in [json!("x"), json!("x".repeat(33)), json!("-".repeat(32)), json!(7), Value::Null] {
        let answer = quotad.gateway.post("/v1/redeem", &json!({"account": "a", "code": bad}));
        assert_eq!(answer.problem(400, "invalid_request")["field"], "code");
    }
}

#[test]
fn guessing_ends_after_ten_attempts_that_failed() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({}));
    quotad.account("b", json!({}));
    let code = make(&quotad, "b-1", json!({})).remove(0);
    let answers = at_once(30, |n| redeem(&quotad, "a", &format!("{n:032}")));
    let looked = answers.iter().filter(|answer| answer.code() == "code_not_found").count();
    assert_eq!(looked, 10, "{answers:?}");
    // Also the right one, until the time is over; others are not bothered.
    let refused = redeem(&quotad, "a", text(&code));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((590..=600).contains(&seconds), "{refused}");
    refused.problem(429, "too_many_attempts");
    assert_eq!(quotad.admin.get(&path(&code)).expect(200)["status"], "enabled");
    redeem(&quotad, "b", text(&code)).expect(200);
}

#[test]
fn a_repeated_call_makes_no_more_codes_and_shows_none() {
    let quotad = Sidecar::start();
    let ask = json!({"op_id": "b-1", "name": "spring", "amount": "500", "count": 100, "expires_at": null});
    let first = quotad.admin.post("/admin/v1/codes", &ask).expect(201);
    let codes = first["codes"].as_array().unwrap();
    let texts: std::collections::HashSet<_> = codes.iter().map(text).collect();
    assert_eq!((codes.len(), texts.len(), first.get("replayed")), (100, 100, None));
    assert!(texts.iter().all(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())));
    let again = quotad.admin.post("/admin/v1/codes", &ask).expect(200);
    assert_eq!((&again["replayed"], again["codes"].as_array().unwrap().len()), (&json!(true), 100));
    assert!(!again.to_string().contains(text(&codes[0])) && again["codes"][0].get("code").is_none());
    assert_eq!(again["codes"][0]["id"], codes[0]["id"]);
    for (field, value) in [("name", json!("x")), ("amount", json!(1)), ("count", json!(99))] {
        let mut other = ask.clone();
        other[field] = value;
        assert_eq!(quotad.admin.post("/admin/v1/codes", &other).problem(409, "conflict")["field"], field);
    }
    // By the header, as everywhere.
    let body = json!({"name": "n", "amount": 1}).to_string();
    let headers = [("Idempotency-Key", "b-2")];
    let made = quotad.admin.call("POST", "/admin/v1/codes", &headers, body.as_bytes()).expect(201);
    assert_eq!((&made["op_id"], &made["codes"][0]["batch"]), (&json!("b-2"), &json!("b-2")));
    assert_eq!(listed(&quotad, "?limit=1000").len(), 101);
}

#[test]
fn bad_input_makes_nothing() {
    let quotad = Sidecar::start();
    let good = json!({"op_id": "b", "name": "spring", "amount": 500, "count": 1});
    for (field, bad) in [
        ("op_id", json!("a b")),
        ("name", json!("")),
        ("name", json!("123456789012345678901")),
        ("name", json!("a\u{0}b")),
        ("amount", json!(0)),
        ("amount", json!(-1)),
        ("amount", json!(1.5)),
        ("amount", json!(4_503_599_627_370_497_i64)),
        ("count", json!(0)),
        ("count", json!(101)),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("expires_at", json!("tomorrow")),
        ("code", json!("x")),
    ] {
        let mut body = good.clone();
        body[field] = bad;
        let answer = quotad.admin.post("/admin/v1/codes", &body);
        assert_eq!(answer.clone().problem(400, "invalid_request")["field"], field, "{answer}");
    }
    assert_eq!(listed(&quotad, ""), [Value::Null; 0]);
    let nameless = json!({"name": "spring", "amount": 500});
    assert_eq!(quotad.admin.post("/admin/v1/codes", &nameless).problem(400, "invalid_request")["field"], "op_id");
    // A name that was refused is as free as before.
    quotad.admin.post("/admin/v1/codes", &good).expect(201);
    assert_eq!(quotad.admin.get("/admin/v1/codes?status=gone").problem(400, "invalid_request")["field"], "status");
    quotad.admin.get("/admin/v1/codes/none").problem(404, "code_not_found");
    let enabled = json!({"status": ["enabled"]});
    let refused = quotad.admin.post("/admin/v1/codes/purge", &enabled).problem(400, "invalid_request");
    assert_eq!(refused["field"], "status[0]");
}

#[test]
fn codes_are_listed_by_page_edited_deleted_and_purged() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({}));
    let codes = make(&quotad, "b-1", json!({"count": 5}));
    let other = make(&quotad, "b-2", json!({"name": "Summer Sale"})).remove(0);
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = quotad.admin.get(&format!("/admin/v1/codes?limit=4&cursor={cursor}")).expect(200);
        pages.extend(page["codes"].as_array().unwrap().iter().map(|code| code["id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    let newest: Vec<Value> =
        [&codes[..], std::slice::from_ref(&other)].concat().iter().map(|c| c["id"].clone()).rev().collect();
    assert_eq!(pages, newest, "newest first");
    for (query, found) in [("search=sale", 1), ("name=Summer%20Sale", 1), ("batch=b-1", 5), ("status=used", 0)] {
        assert_eq!(listed(&quotad, &format!("?{query}")).len(), found, "{query}");
    }
    assert_eq!(listed(&quotad, &format!("?search={}", text(&codes[2])))[0]["id"], codes[2]["id"]);
    assert_eq!(listed(&quotad, &format!("?search={}", &text(&codes[3])[..6]))[0]["id"], codes[3]["id"]);

    let edited = quotad.admin.put(&path(&other), &json!({"name": "sale", "amount": 900})).expect(200);
    assert_eq!(
        (&edited["name"], &edited["amount"], &edited["expires_at"]),
        (&json!("sale"), &json!(900), &Value::Null)
    );
    assert_eq!(redeem(&quotad, "a", text(&other)).expect(200)["amount"], 900);
    quotad.admin.put(&path(&other), &json!({"amount": 1})).problem(409, "code_used");
    quotad.admin.delete(&path(&codes[0])).expect(204);
    quotad.admin.delete(&path(&codes[0])).problem(404, "code_not_found");
    redeem(&quotad, "a", text(&codes[0])).problem(404, "code_not_found");
    quotad.admin.put(&path(&codes[1]), &json!({"status": "disabled"})).expect(200);
    assert_eq!(quotad.admin.post("/admin/v1/codes/purge", &json!({})).expect(200), json!({"purged": 2}));
    assert_eq!(listed(&quotad, "").len(), 3);
    assert_eq!(quotad.admin.call("POST", "/admin/v1/codes/purge", &[], b"").expect(200), json!({"purged": 0}));
    // The money stays.
    assert_eq!(quotad.money("a")[0], 900);
}

#[test]
fn a_copy_of_the_database_holds_no_code() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({}));
    let codes = make(&quotad, "b-1", json!({"count": 3}));
    redeem(&quotad, "a", text(&codes[0])).expect(200);
    quotad.assert_reconciled();
    let all: Vec<u8> = ["quotad.db", "quotad.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(quotad.data().join(name)).unwrap_or_default())
        .collect();
    let holds = |text: &str| all.windows(text.len()).any(|window| window == text.as_bytes());
    for code in &codes {
        assert!(!holds(text(code)), "{code}");
        assert!(holds(code["id"].as_str().unwrap()), "this looks at the wrong files");
    }
    assert!(!quotad.said().contains(text(&codes[0])), "nor does the log");
}

#[test]
fn a_gateway_that_needs_a_token_needs_it_to_redeem() {
    let quotad = Setup::default().gateway_token("t0ken").start();
    quotad.account("a", json!({}));
    let code = make(&quotad, "b-1", json!({})).remove(0);
    let mut open = quotad.gateway.clone();
    open.token = None;
    let ask = json!({"account": "a", "code": text(&code)});
    open.post("/v1/redeem", &ask).problem(401, "unauthorized");
    quotad.gateway.post("/v1/redeem", &ask).expect(200);
    open.post("/admin/v1/codes", &ask).problem(404, "not_found");
}
