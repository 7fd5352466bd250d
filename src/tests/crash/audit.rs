//! What the audit keeps when a sidecar dies between the change and its row.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, eventually};

fn rows(quotad: &Sidecar) -> Vec<Value> {
    let page = quotad.admin.get("/admin/v1/audit?subject=account/m").expect(200);
    page["changes"].as_array().expect("a list").clone()
}

#[test]
fn the_ledger_says_who_moved_money_when_the_audit_could_not() {
    // The sidecar dies between Redis and the audit: the ledger's entry names the operator, and the call
    // asked again adds the row.
    let setup = Setup::default();
    let mut dead = setup.clone().variable("FAILPOINTS", "operation-done=panic").start();
    dead.account("m", json!({"initial_balance": 10}));
    let credit = json!({"op_id": "inv", "amount": 5});
    let headers = [("X-Quota-Actor", "ada")];
    let credit = credit.to_string();
    assert!(dead.admin.try_call("POST", "/admin/v1/accounts/m/credit", &headers, credit.as_bytes()).is_err());
    dead.wait_end(Duration::from_secs(5));
    let quotad = setup.start();
    assert_eq!(quotad.money("m")[0], 15);
    assert_eq!(rows(&quotad).len(), 1);
    let again = quotad.admin.call("POST", "/admin/v1/accounts/m/credit", &headers, credit.as_bytes());
    assert_eq!(again.expect(200)["replayed"], true);
    let row = &rows(&quotad)[0];
    assert_eq!((&row["by"], &row["what"], &row["op_id"]), (&json!("ada"), &json!("credit"), &json!("inv")));
    assert_eq!((&row["before"], &row["after"]["amount"]), (&Value::Null, &json!(5)));
    eventually("the entry is in SQL", Duration::from_secs(5), || {
        let database = std::fs::read(quotad.data().join("quotad.db")).unwrap_or_default();
        let wal = std::fs::read(quotad.data().join("quotad.db-wal")).unwrap_or_default();
        let entry = br#""kind":"topup","by":"ada""#;
        [database, wal].iter().any(|bytes| bytes.windows(entry.len()).any(|window| window == entry))
    });
}

/// The row was lost for good: every call of a reset was a new one.
#[test]
fn a_reset_that_the_audit_missed_is_told_by_the_same_call() {
    let setup = Setup::default();
    let mut dead = setup.clone().variable("FAILPOINTS", "reset-done=panic").start();
    dead.account("m", json!({"initial_balance": 100, "limits": [{"platform": "openai", "metric": "cost", "period": "day", "cap": 90}]}));
    let charge = |id: &str, amount: i64| json!({"account": "m", "id": id, "platform": "openai", "amount": amount});
    dead.gateway.post("/v1/charge", &charge("c1", 30)).expect(200);
    let ask = json!({"op_id": "again", "platform": "openai", "period": "day"}).to_string();
    let path = "/admin/v1/accounts/m/reset";
    assert!(dead.admin.try_call("POST", path, &[], ask.as_bytes()).is_err());
    dead.wait_end(Duration::from_secs(5));
    let quotad = setup.start();
    quotad.gateway.post("/v1/charge", &charge("c2", 7)).expect(200);
    for _ in 0..2 {
        let again = quotad.admin.call("POST", path, &[("X-Quota-Actor", "ada")], ask.as_bytes());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let again = again.expect(200);
        assert_eq!((&again["replayed"], &again["cleared"]), (&json!(true), &json!(30)));
    }
    let resets: Vec<Value> = rows(&quotad).into_iter().filter(|row| row["what"] == "reset").collect();
    assert_eq!(resets.len(), 1, "{resets:?}");
    assert_eq!((&resets[0]["by"], &resets[0]["before"]["used"]), (&json!("ada"), &json!(30)));
    assert_eq!(quotad.balance("m")["limits"][0]["used"], 7, "nothing more was cleared");
    quotad.assert_reconciled();
}
