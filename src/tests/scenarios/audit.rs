//! Who changed what: a row for every change that an operator makes, newest first.

use serde_json::{Value, json};

use crate::harness::Sidecar;

fn rows(quotad: &Sidecar, query: &str) -> Vec<Value> {
    let page = quotad.admin.get(&format!("/admin/v1/audit{query}")).expect(200);
    page["changes"].as_array().expect("a list").clone()
}

fn told(rows: &[Value]) -> Vec<(&str, &str, &str)> {
    rows.iter()
        .map(|row| ["by", "what", "subject"].map(|field| row[field].as_str().expect("a text")))
        .map(|[by, what, subject]| (by, what, subject))
        .collect()
}

#[test]
fn every_change_names_who_what_before_and_after() {
    let quotad = Sidecar::start();
    let as_ada = |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        quotad.admin.call(
            method,
            &format!("/admin/v1/accounts/acme{path}"),
            &[("X-Quota-Actor", "ada")],
            body.as_bytes(),
        )
    };
    as_ada("PUT", "", json!({"initial_balance": 1000, "limits": [{"metric": "cost", "period": "day", "cap": 5}]}))
        .expect(201);
    quotad.admin.put("/admin/v1/accounts/acme", &json!({"limits": []})).expect(200);
    let secret = as_ada("PUT", "/keys/ci", json!({})).expect(201)["secret"].as_str().expect("a secret").to_owned();
    as_ada("PUT", "/keys/ci", json!({"secret_sha256": "ab".repeat(32)})).expect(200);
    for _ in 0..2 {
        // The second one is a repetition, and no second change.
        as_ada("POST", "/credit", json!({"op_id": "inv-1", "amount": 500, "kind": "grant", "note": "hello"}))
            .expect(200);
    }
    as_ada("POST", "/debit", json!({"op_id": "fix-1", "amount": 9999})).problem(402, "insufficient_balance");
    quotad.admin.post("/admin/v1/accounts/acme/debit", &json!({"op_id": "fix-2", "amount": 100})).expect(200);
    as_ada("DELETE", "/keys/ci", Value::Null).expect(204);
    as_ada("DELETE", "", Value::Null).expect(204);
    let all = rows(&quotad, "?subject=account/acme");
    let expected = [
        ("ada", "delete", "account/acme"),
        ("ada", "delete", "account/acme/key/ci"),
        ("admin", "debit", "account/acme"),
        ("ada", "credit", "account/acme"),
        ("ada", "put", "account/acme/key/ci"),
        ("ada", "put", "account/acme/key/ci"),
        ("admin", "put", "account/acme"),
        ("ada", "put", "account/acme"),
    ];
    assert_eq!(told(&all), expected, "{all:#?}");
    let [_, _, debit, credit, _, _, limits, created] = &all[..] else { panic!() };
    assert_eq!((&created["before"], &created["after"]["initial_balance"]), (&Value::Null, &json!(1000)));
    assert_eq!((&limits["before"]["limits"][0]["cap"], &limits["after"]["limits"]), (&json!(5), &json!([])));
    assert_eq!(
        (&credit["before"]["balance"], &credit["after"]["balance"], &credit["op_id"], &credit["after"]["kind"]),
        (&json!(1000), &json!(1500), &json!("inv-1"), &json!("grant"))
    );
    assert_eq!((&debit["before"]["balance"], &debit["after"]["balance"]), (&json!(1500), &json!(1400)));
    assert!(
        rows(&quotad, "").iter().all(|row| !row.to_string().contains(&secret) && !row.to_string().contains("abab"))
    );
    assert_eq!(rows(&quotad, "?subject=account/acme/key/ci").len(), 3);
}

#[test]
fn a_reset_is_told_with_what_it_cleared() {
    let quotad = Sidecar::start();
    quotad.account("w", json!({"initial_balance": 1000, "limits": [{"metric": "cost", "period": "day", "cap": 500}]}));
    quotad.gateway.post("/v1/charge", &json!({"account": "w", "id": "c", "amount": 40})).expect(200);
    quotad.admin.post("/admin/v1/accounts/w/reset", &json!({"platform": "*", "period": "day"})).expect(200);
    // Nothing is used now: nothing is changed.
    quotad.admin.post("/admin/v1/accounts/w/reset", &json!({"platform": "*", "period": "day"})).expect(200);
    let all = rows(&quotad, "?subject=account/w");
    assert_eq!(told(&all), [("admin", "reset", "account/w"), ("admin", "put", "account/w")]);
    let window = |used: i64| json!({"platform": "*", "model": "*", "metric": "cost", "period": "day", "used": used});
    assert_eq!((&all[0]["before"], &all[0]["after"]), (&window(40), &window(0)));
}

#[test]
fn pages_go_back_to_the_first_change() {
    let quotad = Sidecar::start();
    for number in 0..7 {
        quotad.account(&format!("p{number}"), json!({}));
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = quotad.admin.get(&format!("/admin/v1/audit?limit=3&cursor={cursor}")).expect(200);
        seen.extend(page["changes"].as_array().unwrap().iter().map(|row| row["subject"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..7).rev().map(|number| format!("account/p{number}")).collect();
    assert_eq!(seen, expected);
    let bad = quotad.admin.get("/admin/v1/audit?cursor=x").problem(400, "invalid_request");
    assert_eq!(bad["field"], "cursor");
    let headers = [("X-Quota-Actor", "not an id")];
    let bad = quotad.admin.call("PUT", "/admin/v1/accounts/new", &headers, b"{}").problem(400, "invalid_request");
    assert_eq!(bad["field"], "X-Quota-Actor");
    quotad.admin.get("/admin/v1/accounts/new").problem(404, "account_not_found");
    assert_eq!(quotad.gateway.get("/admin/v1/audit").status, 404);
}
