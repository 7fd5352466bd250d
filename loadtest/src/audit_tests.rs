use serde_json::json;

use super::*;
use crate::{
    journal::Tally,
    profile::{Metric, Profile},
};

fn expected() -> Expected {
    let all = Tally { used: 300, requests: 3 };
    let keys = vec![Tally { used: 100, requests: 1 }, Tally { used: 200, requests: 2 }];
    Expected { account: "load-t-0".into(), balance: 700, all, keys, windows: vec![300, 3] }
}

fn limits() -> Vec<Limit> {
    let limit = |metric, period: &str| Limit { platform: "*".into(), metric, period: period.into() };
    vec![limit(Metric::Cost, "day"), limit(Metric::Requests, "hour")]
}

fn states() -> Value {
    json!([
        {"platform": "*", "model": "*", "metric": "cost", "period": "day", "cap": 9, "used": 300, "held": 0, "resets_at": "d"},
        {"platform": "*", "model": "*", "metric": "requests", "period": "hour", "cap": 9, "used": 3, "held": 0, "resets_at": "h"},
        {"platform": "*", "model": "*", "key": "k0", "metric": "cost", "period": "day", "cap": 9, "used": 1, "held": 1},
    ])
}

fn right() -> Value {
    json!({"balance": 700, "held": 0, "available": 700, "used": 300, "requests": 3, "limits": states(),
           "keys": [{"key": "k1", "used": 200, "held": 0, "requests": 2, "left": null},
                    {"key": "k0", "used": 100, "held": 0, "requests": 1, "left": 5}]})
}

fn compared(sheet: Value) -> Vec<Mismatch> {
    let opening: Vec<LimitState> = serde_json::from_value(states()).unwrap();
    compare(&expected(), &serde_json::from_value(sheet).unwrap(), &limits(), &opening)
}

#[test]
fn what_is_right_passes() {
    assert_eq!(compared(right()), []);
}

#[test]
fn every_wrong_number_is_found_and_printed_with_both() {
    let wrong = [
        ("/balance", json!(701), "balance"),
        ("/used", json!(299), "used"),
        ("/held", json!(5), "held"),
        ("/requests", json!(4), "requests"),
        ("/available", json!(1), "available"),
        ("/keys/0/used", json!(201), "key k1 used"),
        ("/keys/1/held", json!(1), "key k0 held"),
        ("/keys/0/requests", json!(3), "key k1 requests"),
        ("/keys", json!([]), "keys"),
        ("/limits/0/used", json!(298), "limit *:cost:day used"),
        ("/limits/0/held", json!(2), "limit *:cost:day held"),
        ("/limits/1/used", json!(2), "limit *:requests:hour used"),
        ("/limits", json!([]), "limits on *:cost:day"),
    ];
    for (place, value, what) in wrong {
        let mut sheet = right();
        *sheet.pointer_mut(place).unwrap() = value;
        let mismatches = compared(sheet);
        assert!(mismatches.iter().any(|mismatch| mismatch.what == what), "{place}: {mismatches:?}");
    }
    let mut sheet = right();
    sheet["balance"] = json!(701);
    sheet["available"] = json!(701);
    let line = compared(sheet)[0].to_string();
    assert_eq!(line, "load-t-0: balance: the journal has 700, the server 701 (+1)");
}

#[test]
fn a_window_that_turned_during_the_run_is_left_out() {
    let mut sheet = right();
    sheet["limits"][0]["used"] = json!(12);
    sheet["limits"][0]["resets_at"] = json!("the next day");
    assert_eq!(compared(sheet), []);
}

#[test]
fn ledger_sums_are_compared_one_by_one() {
    let wanted = Sums { balance: 700, used: 300, requests: 3 };
    assert_eq!(compare_sums("a", "ledger", &wanted, &wanted), []);
    let found = Sums { balance: 699, used: 301, requests: 3 };
    let mismatches = compare_sums("a", "ledger", &wanted, &found);
    assert_eq!(mismatches.len(), 2);
    assert_eq!((mismatches[0].journal, mismatches[0].server), (700, 699));
    assert_eq!(mismatches[1].what, "ledger used");
}

#[test]
fn shipped_profiles_have_comparable_limits() {
    for name in ["conv", "code"] {
        assert!(!Profile::load(name).unwrap().limits.is_empty());
    }
}
