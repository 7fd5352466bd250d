//! Platform quotas over HTTP: the table of limits in dollars that sub2api has, and the bugs that its users met.

use serde_json::{Value, json};

use crate::harness::{Sidecar, eventually};

const USD: i64 = 100_000_000;
const QUOTAS: &str = "/admin/v1/accounts/a/platform-quotas";

/// An account `a` with money, no quota, and these limits.
fn sidecar(limits: Value) -> Sidecar {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000 * USD, "timezone": "Europe/Berlin", "limits": limits}));
    quotad
}

#[track_caller]
fn put(quotad: &Sidecar, quotas: Value) -> Value {
    quotad.admin.put(QUOTAS, &json!({"quotas": quotas})).expect(200)["quotas"].clone()
}

#[track_caller]
fn quota(quotad: &Sidecar, platform: &str) -> Value {
    quotad.admin.get(&format!("{QUOTAS}/{platform}")).expect(200)
}

/// What is used of a platform: daily, weekly, monthly.
#[track_caller]
fn usage(quotad: &Sidecar, platform: &str) -> [f64; 3] {
    let quota = quota(quotad, platform);
    ["daily", "weekly", "monthly"].map(|window| quota[format!("{window}_usage_usd")].as_f64().expect("a number"))
}

#[track_caller]
fn charge(quotad: &Sidecar, id: &str, platform: &str, units: i64) {
    let body = json!({"account": "a", "id": id, "platform": platform, "amount": units});
    quotad.gateway.post("/v1/charge", &body).expect(200);
}

fn openai(daily: Value, weekly: Value, monthly: Value) -> Value {
    json!({"platform": "openai", "daily_limit_usd": daily, "weekly_limit_usd": weekly, "monthly_limit_usd": monthly})
}

#[test]
fn quotas_are_a_table_in_dollars_over_the_limits() {
    let others = json!([
        {"platform": "openai", "metric": "tokens", "period": "day", "cap": 1_000_000},
        {"platform": "openai", "metric": "cost", "period": "hour", "cap": 900 * USD},
        {"platform": "openai", "model": "gpt-4o", "metric": "cost", "period": "day", "cap": 900 * USD},
        {"metric": "requests", "period": "minute", "cap": 1000},
    ]);
    let quotad = sidecar(others);
    let before = quotad.admin.get("/admin/v1/accounts/a").expect(200)["limits"].clone();
    assert_eq!(quotad.admin.get(QUOTAS).expect(200), json!({"account": "a", "quotas": []}));
    let gemini = json!({"platform": "gemini", "daily_limit_usd": 0});
    let shown = put(&quotad, json!([openai(json!(1.5), Value::Null, json!("20.00000001")), gemini]));
    assert_eq!(shown[0]["daily_limit_usd"], 1.5);
    assert_eq!(shown[0]["weekly_limit_usd"], Value::Null);
    let text = String::from_utf8(quotad.admin.get(QUOTAS).body).unwrap();
    assert!(text.contains("\"monthly_limit_usd\":20.00000001,"), "digit for digit: {text}");
    assert_eq!(shown[1]["platform"], "gemini");
    charge(&quotad, "c1", "openai", USD / 4);
    assert_eq!(usage(&quotad, "openai"), [0.25; 3], "an unlimited window is counted too");
    let one = quota(&quotad, "openai");
    let resets_at = ["daily", "weekly", "monthly"].map(|window| {
        let at = one[format!("{window}_window_resets_at")].as_str().expect("an instant").parse::<jiff::Timestamp>();
        at.expect("RFC 3339").in_tz("Europe/Berlin").unwrap()
    });
    assert!(resets_at.iter().all(|at| at.hour() == 0 && at.minute() == 0), "midnight there: {one}");
    assert_eq!(resets_at[1].weekday(), jiff::civil::Weekday::Monday);
    assert_eq!(resets_at[2].day(), 1);

    // 0 is disabled, a cap is a cap, and what has no quota is unlimited.
    let ask =
        |platform: &str, amount: i64| quotad.reserve(json!({"account": "a", "platform": platform, "amount": amount}));
    ask("gemini", 1).problem(403, "platform_disabled");
    let problem = ask("openai", USD + USD / 4 + 1).problem(429, "limit_exceeded");
    assert_eq!(problem["violated"][0]["resets_at"], one["daily_window_resets_at"]);
    ask("openai", USD + USD / 4).expect(200);
    ask("antigravity", 500 * USD).expect(200);

    let after = quotad.admin.get("/admin/v1/accounts/a").expect(200)["limits"].clone();
    assert_eq!(after.as_array().unwrap()[..4], before.as_array().unwrap()[..], "all other limits stay");
    assert_eq!(put(&quotad, json!([])), json!([]));
    assert_eq!(quotad.admin.get("/admin/v1/accounts/a").expect(200)["limits"], before);
    quotad.admin.get(&format!("{QUOTAS}/openai")).problem(404, "not_found");
    quotad.assert_reconciled();
}

/// Elsewhere removing a platform and adding it again set its usage to 0, and a cap was evaded.
#[test]
fn a_platform_removed_and_added_again_keeps_its_usage() {
    let quotad = sidecar(json!([{"platform": "openai", "metric": "requests", "period": "day", "cap": 1000}]));
    let full = json!([openai(json!(1), json!(2), json!(3))]);
    put(&quotad, full.clone());
    charge(&quotad, "c1", "openai", USD * 9 / 10);
    put(&quotad, json!([]));
    // Calls go on meanwhile, and touch the same field in Redis.
    charge(&quotad, "c2", "openai", USD / 100);
    put(&quotad, full.clone());
    let used = usage(&quotad, "openai");
    assert!(used.iter().all(|used| *used >= 0.9), "{used:?}");
    let body = json!({"account": "a", "platform": "openai", "amount": USD / 5});
    quotad.reserve(body).problem(429, "limit_exceeded");
    // A full replacement with other numbers keeps usage and windows too.
    let before = quota(&quotad, "openai");
    put(&quotad, json!([openai(json!(5), Value::Null, json!(0))]));
    let after = quota(&quotad, "openai");
    for window in ["daily", "weekly", "monthly"] {
        for field in [format!("{window}_usage_usd"), format!("{window}_window_resets_at")] {
            assert_eq!(after[&field], before[&field], "{field}");
        }
    }
    // So does an account that left Redis in between: its usage is in SQL.
    quotad.assert_reconciled();
}

#[test]
fn a_reset_of_one_window_leaves_the_others() {
    let quotad = sidecar(json!([]));
    put(&quotad, json!([openai(json!(1), json!(2), json!(3)), {"platform": "gemini", "weekly_limit_usd": 5}]));
    charge(&quotad, "c1", "openai", USD / 2);
    charge(&quotad, "c2", "gemini", USD / 4);
    let reset = |platform: &str, window: &str| {
        quotad.admin.post(&format!("{QUOTAS}/reset"), &json!({"platform": platform, "window": window}))
    };
    let before = quota(&quotad, "openai");
    let shown = reset("openai", "daily").expect(200);
    assert_eq!((&shown["platform"], &shown["daily_usage_usd"]), (&json!("openai"), &json!(0)));
    assert_eq!(shown["daily_window_resets_at"], before["daily_window_resets_at"]);
    assert_eq!(usage(&quotad, "openai"), [0.0, 0.5, 0.5]);
    assert_eq!(usage(&quotad, "gemini"), [0.25; 3]);
    reset("openai", "monthly").expect(200);
    assert_eq!(usage(&quotad, "openai"), [0.0, 0.5, 0.0]);
    // With a name it may be repeated, and clears nothing more.
    let named = json!({"op_id": "m", "platform": "openai", "window": "monthly"});
    let repeat = || quotad.admin.post(&format!("{QUOTAS}/reset"), &named);
    assert_eq!(repeat().header("idempotency-replayed"), None);
    charge(&quotad, "c3", "openai", USD / 4);
    assert_eq!(repeat().header("idempotency-replayed"), Some("true"));
    assert_eq!(usage(&quotad, "openai"), [0.25, 0.75, 0.25]);
    let told = quotad.admin.get("/admin/v1/audit?subject=account/a").expect(200);
    let resets: Vec<&Value> = told["changes"].as_array().unwrap().iter().filter(|row| row["what"] == "reset").collect();
    let window = |period: &str, used: i64| json!({"platform": "openai", "model": "*", "metric": "cost", "period": period, "used": used});
    for (row, period) in resets.iter().rev().zip(["day", "month"]) {
        let of = |used: i64| window(period, used);
        assert_eq!((&row["before"], &row["after"]), (&of(USD / 2), &of(0)), "{row}");
    }
    assert_eq!(resets.len(), 2, "what clears nothing is no change: {resets:?}");
    reset("anthropic", "daily").problem(404, "not_found");
    assert_eq!(reset("openai", "hourly").problem(400, "invalid_request")["field"], "window");
    let nobody = "/admin/v1/accounts/nobody/platform-quotas/reset";
    let body = json!({"platform": "openai", "window": "daily"});
    quotad.admin.post(nobody, &body).problem(404, "account_not_found");
    quotad.assert_reconciled();
}

#[test]
fn what_is_no_quota_is_refused_by_name_and_changes_nothing() {
    let quotad = sidecar(json!([]));
    put(&quotad, json!([openai(json!(1), json!(2), json!(3))]));
    let before = quotad.admin.get(QUOTAS).expect(200);
    let rule = |field: &str, value: Value| json!([{"platform": "gemini"}, {"platform": "openai", field: value}]);
    for (quotas, field) in [
        (rule("daily_limit_usd", json!(-1)), "quotas[1].daily_limit_usd"),
        (rule("weekly_limit_usd", json!("NaN")), "quotas[1].weekly_limit_usd"),
        (rule("weekly_limit_usd", json!("Infinity")), "quotas[1].weekly_limit_usd"),
        (rule("monthly_limit_usd", json!(0.000_000_001)), "quotas[1].monthly_limit_usd"),
        (rule("monthly_limit_usd", json!(1e20)), "quotas[1].monthly_limit_usd"),
        (rule("platform", json!("")), "quotas[1].platform"),
        (rule("hourly_limit_usd", json!(1)), "quotas[1].hourly_limit_usd"),
        (json!([{"platform": "openai"}, {"platform": "openai"}]), "quotas[1].platform"),
        (json!([{"platform": "facebook", "daily_limit_usd": 1}]), "quotas"),
        (json!([{"daily_limit_usd": 1}]), "quotas[0].platform"),
    ] {
        let problem = quotad.admin.put(QUOTAS, &json!({"quotas": quotas})).problem(400, "invalid_request");
        assert_eq!(problem["field"], field, "{quotas}");
    }
    let bare = r#"{"quotas":[{"platform":"openai","daily_limit_usd":NaN}]}"#;
    quotad.admin.call("PUT", QUOTAS, &[], bare.as_bytes()).problem(400, "invalid_request");
    assert_eq!(quotad.admin.get(QUOTAS).expect(200), before);
    let nobody = "/admin/v1/accounts/nobody/platform-quotas";
    quotad.admin.get(nobody).problem(404, "account_not_found");
    quotad.admin.put(nobody, &json!({"quotas": []})).problem(404, "account_not_found");
    quotad.admin.get(&format!("{nobody}/openai")).problem(404, "account_not_found");
    quotad.admin.get(&format!("{QUOTAS}/reset")).problem(404, "not_found");
    quotad.admin.post(&format!("{QUOTAS}/openai"), &json!({})).problem(405, "method_not_allowed");
}

/// Elsewhere one snapshot of the row was written back over increments that other calls had made.
#[test]
fn calls_at_once_lose_no_increment_of_any_window() {
    let quotad = sidecar(json!([{"platform": "openai", "metric": "cost", "period": "rolling:2", "cap": null}]));
    put(&quotad, json!([openai(json!(500), Value::Null, json!(900))]));
    std::thread::scope(|scope| {
        for worker in 0..10 {
            let quotad = &quotad;
            scope.spawn(move || {
                for n in 0..10 {
                    charge(quotad, &format!("c{worker}-{n}"), "openai", USD / 100);
                    if n == 5 && worker == 0 {
                        put(quotad, json!([openai(json!(400), json!(700), Value::Null)]));
                    }
                }
            });
        }
    });
    assert_eq!(usage(&quotad, "openai"), [1.0; 3]);
    // Elsewhere an increment landed on a window that was over, and was zeroed with it: each window rolls by itself.
    let rolling = |quotad: &Sidecar| quotad.balance("a")["limits"][0]["used"].as_i64().expect("a number");
    eventually("the short window is over", std::time::Duration::from_secs(6), || rolling(&quotad) == 0);
    charge(&quotad, "late", "openai", USD);
    assert_eq!(rolling(&quotad), USD);
    assert_eq!(usage(&quotad, "openai"), [2.0; 3]);
    quotad.assert_reconciled();
}

#[test]
fn a_key_has_windows_of_five_hours_one_day_and_seven_days() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000 * USD}));
    let spans = [("rolling:18000", 18_000), ("rolling:86400", 86_400), ("rolling:604800", 604_800)];
    let limits: Vec<Value> =
        spans.iter().zip([2, 3, 5]).map(|((period, _), cap)| json!({"period": period, "cap": cap * USD})).collect();
    quotad.key("a", "k", json!({"limits": limits}));
    let begun = jiff::Timestamp::now();
    let ask = |id: &str, amount: i64| {
        quotad.gateway.post("/v1/charge", &json!({"account": "a", "key": "k", "id": id, "amount": amount}))
    };
    ask("c1", USD).expect(200);
    let ended = jiff::Timestamp::now();
    for (limit, (period, seconds)) in quotad.balance("a")["limits"].as_array().unwrap().iter().zip(spans) {
        assert_eq!((&limit["period"], &limit["key"], &limit["used"]), (&json!(period), &json!("k"), &json!(USD)));
        let resets_at: jiff::Timestamp = limit["resets_at"].as_str().unwrap().parse().unwrap();
        let begins = resets_at.as_second() - seconds;
        assert!((begun.as_second()..=ended.as_second()).contains(&begins), "from the first use on: {limit}");
    }
    let problem = ask("c2", 2 * USD).problem(429, "limit_exceeded");
    assert_eq!(problem["violated"].as_array().unwrap().len(), 1, "{problem}");
    assert_eq!(problem["violated"][0]["period"], "rolling:18000");
    let problem = ask("c3", 5 * USD).problem(429, "limit_exceeded");
    assert_eq!(problem["violated"].as_array().unwrap().len(), 3, "all that say no: {problem}");
    quotad.assert_reconciled();
}

#[test]
fn the_list_of_platforms_and_the_kind_of_month_are_settings() {
    let quotad = sidecar(json!([]));
    let set = |name: &str, value: Value| {
        quotad.admin.put(&format!("/admin/v1/settings/{name}"), &json!({"value": value})).expect(200);
    };
    put(&quotad, json!([openai(json!(1), json!(2), json!(3))]));
    set("platforms", json!(["mistral"]));
    set("platform_quota_month", json!("rolling:2592000"));
    let mistral = json!({"platform": "mistral", "monthly_limit_usd": 5});
    // What was read can be written back, although its platform is no longer on the list.
    put(&quotad, json!([openai(json!(1), json!(2), json!(4)), mistral]));
    let limits = quotad.admin.get("/admin/v1/accounts/a").expect(200)["limits"].clone();
    let months: Vec<&Value> = [2, 5].map(|at| &limits[at]["period"]).to_vec();
    assert_eq!(months, [&json!("month"), &json!("rolling:2592000")], "a quota keeps its kind of month: {limits}");
    assert_eq!(quota(&quotad, "mistral")["monthly_window_resets_at"], Value::Null, "not begun");
    let begun = jiff::Timestamp::now();
    charge(&quotad, "c1", "mistral", USD);
    let shown = quota(&quotad, "mistral");
    let resets_at: jiff::Timestamp = shown["monthly_window_resets_at"].as_str().unwrap().parse().unwrap();
    assert!((0..30).contains(&(resets_at.as_second() - 2_592_000 - begun.as_second())), "30 days from now: {shown}");
    put(&quotad, json!([mistral]));
    let problem = quotad.admin.put(QUOTAS, &json!({"quotas": [openai(json!(1), json!(2), json!(3))]}));
    assert_eq!(problem.problem(400, "invalid_request")["field"], "quotas");
}
