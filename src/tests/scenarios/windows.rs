//! Windows over HTTP: when they begin, end and roll, and whose usage they hold.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Sidecar, eventually};

fn instant(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap_or_else(|| panic!("no instant: {value}")).parse().expect("RFC 3339")
}

fn used_and_held(limit: &Value) -> (i64, i64) {
    (limit["used"].as_i64().unwrap(), limit["held"].as_i64().unwrap())
}

#[test]
fn a_rolling_window_begins_with_its_first_use_and_steps_whole_periods() {
    let quotad = Sidecar::start();
    let limits = json!([{"platform": "openai", "metric": "cost", "period": "rolling:2", "cap": 100}]);
    quotad.account("w", json!({"initial_balance": 10_000, "limits": limits}));
    assert_eq!(quotad.balance("w")["limits"][0]["resets_at"], Value::Null, "not begun");
    let ask = |id: &str, amount: i64| {
        quotad.reserve(json!({"account": "w", "id": id, "platform": "openai", "amount": amount, "verbose": true}))
    };
    let first = ask("r1", 100).expect(200);
    let resets_at = instant(&first["limits"][0]["resets_at"]);
    assert_eq!(used_and_held(&first["limits"][0]), (0, 100));
    let mut denied = 0;
    // Denied until the window ends, granted right after: at its end, not before.
    eventually("the window rolls", Duration::from_secs(5), || {
        let answer = ask("r2", 60);
        match answer.status {
            200 => {
                let limit = answer.json()["limits"][0].clone();
                assert_eq!(used_and_held(&limit), (0, 60), "a new window counts from 0");
                let next = instant(&limit["resets_at"]);
                let steps = next.as_second() - resets_at.as_second();
                assert!(steps > 0 && steps % 2 == 0, "whole periods: {resets_at} then {next}");
                true
            }
            _ => {
                let problem = answer.problem(429, "limit_exceeded");
                assert_eq!(instant(&problem["violated"][0]["resets_at"]), resets_at);
                let wait = problem["retry_after_ms"].as_u64().unwrap();
                assert!(wait <= 2000, "the window is 2 s long: {problem}");
                denied += 1;
                false
            }
        }
    });
    assert!(denied > 0);
    // The first hold belongs to the window that has closed: its settle, and a refund of it, leave
    // the open one alone.
    quotad.play(
        r#"
        account w => 200
        settle r1 amount=100 => 200 charged=100
        refund f1 of=r1 amount=100 => 200 refunded=100
    "#,
    );
    let limit = quotad.balance("w")["limits"][0].clone();
    if instant(&limit["resets_at"]) > resets_at && limit["held"] != 0 {
        assert_eq!(used_and_held(&limit), (0, 60));
    }
    // An expired window reads 0 and offers its whole cap.
    eventually("the window is over", Duration::from_secs(5), || {
        used_and_held(&quotad.balance("w")["limits"][0]) == (0, 0)
    });
    ask("r3", 100).expect(200);
    quotad.assert_reconciled();
}

/// The rolling window must be long enough to settle and refund within it, and short enough to wait.
#[test]
fn a_refund_lowers_its_own_window_while_it_is_open_and_never_the_next() {
    let quotad = Sidecar::start();
    let limits = json!([{"metric": "cost", "period": "rolling:3", "cap": 1000}]);
    quotad.account("w", json!({"initial_balance": 10_000, "limits": limits}));
    quotad.play("account w => 200\ncharge c1 amount=400 => 200\ncharge c2 amount=500 => 200");
    let open = quotad.balance("w")["limits"][0].clone();
    assert_eq!(used_and_held(&open), (900, 0));
    quotad.play("account w => 200\nrefund f1 of=c1 amount=300 => 200");
    let after = quotad.balance("w")["limits"][0].clone();
    assert_eq!(used_and_held(&after), (600, 0));
    assert_eq!(after["resets_at"], open["resets_at"]);
    eventually("the window is over", Duration::from_secs(6), || {
        used_and_held(&quotad.balance("w")["limits"][0]) == (0, 0)
    });
    quotad.play("account w => 200\ncharge c3 amount=700 => 200\nrefund f2 of=c2 amount=500 => 200");
    let next = quotad.balance("w")["limits"][0].clone();
    assert_eq!(used_and_held(&next), (700, 0), "yesterday's refund gives today nothing");
    quotad.play("account w => 200\ncharge c4 amount=301 => 429 limit_exceeded\ncharge c4 amount=300 => 200");
    quotad.assert_reconciled();
}

#[test]
fn a_release_after_its_window_rolled_leaves_the_newer_window_alone() {
    let quotad = Sidecar::start();
    let limits = json!([{"metric": "cost", "period": "rolling:2", "cap": 1000},
        {"metric": "tokens", "period": "rolling:2", "cap": 1000}]);
    quotad.account("w", json!({"initial_balance": 10_000, "limits": limits}));
    let numbers = || {
        let sheet = quotad.balance("w");
        [0, 1].map(|at| used_and_held(&sheet["limits"][at]))
    };
    quotad.play("account w => 200\nreserve old amount=400 tokens=40 => 200");
    assert_eq!(numbers(), [(0, 400), (0, 40)]);
    eventually("the windows are over", Duration::from_secs(6), || numbers() == [(0, 0), (0, 0)]);
    quotad.play("account w => 200\nreserve new amount=300 tokens=30 ttl_ms=60000 => 200\nrelease old => 200");
    let next = numbers();
    // On a machine that slept meanwhile the newer windows are over as well.
    assert!(next == [(0, 300), (0, 30)] || next == [(0, 0), (0, 0)], "{next:?}");
    assert_eq!(quotad.money("w"), [10_000, 300, 9_700]);
    quotad.play("account w => 200\nsettle new amount=250 => 200 charged=250");
    assert_eq!(quotad.money("w"), [9_750, 0, 9_750]);
    quotad.assert_reconciled();
}

#[test]
fn calendar_windows_end_where_the_accounts_time_zone_says() {
    let quotad = Sidecar::start();
    let periods = ["minute", "hour", "day", "week", "month"];
    let limits: Vec<Value> =
        periods.iter().map(|period| json!({"metric": "cost", "period": period, "cap": 1_000_000})).collect();
    for (number, zone) in ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"].into_iter().enumerate() {
        let account = format!("zone-{number}");
        quotad.account(&account, json!({"initial_balance": 1000, "timezone": zone, "limits": limits}));
        let before = jiff::Timestamp::now();
        let body = json!({"account": account, "id": "r", "amount": 10, "verbose": true});
        let shown = quotad.reserve(body).expect(200)["limits"].clone();
        let after = jiff::Timestamp::now();
        for (period, limit) in periods.iter().zip(shown.as_array().unwrap()) {
            assert_eq!(limit["period"], *period);
            assert_eq!(used_and_held(limit), (0, 10));
            let ends = [before, after].map(|now| end_of(period, &now.in_tz(zone).unwrap()));
            let resets_at = instant(&limit["resets_at"]);
            // Two answers are right when the clock stepped over the end in between.
            assert!(ends.contains(&resets_at), "{zone} {period}: {resets_at}, not {ends:?}");
        }
    }
    let bad = quotad.admin.put("/admin/v1/accounts/x", &json!({"timezone": "Mars/Olympus"}));
    assert_eq!(bad.problem(400, "invalid_request")["field"], "timezone");
}

/// The end of the period around `now`, computed from civil dates.
fn end_of(period: &str, now: &jiff::Zoned) -> jiff::Timestamp {
    use jiff::ToSpan;
    let zone = now.time_zone();
    let date = now.date();
    let minute = date.at(now.hour(), now.minute(), 0, 0);
    let end = match period {
        // Minutes and hours as the zone's clock shows them; none of the tested zones changes its
        // offset on the days around a test run by less than an hour.
        "minute" => minute + 1.minute(),
        "hour" => date.at(now.hour(), 0, 0, 0) + 1.hour(),
        "day" => (date + 1.day()).at(0, 0, 0, 0),
        "week" => (date + (7 - i64::from(date.weekday().to_monday_zero_offset())).days()).at(0, 0, 0, 0),
        _ => (date.first_of_month() + 1.month()).at(0, 0, 0, 0),
    };
    end.to_zoned(zone.clone()).expect("a civil time").timestamp()
}

#[test]
fn removing_and_adding_a_limit_again_keeps_its_usage() {
    let quotad = Sidecar::start();
    let day = json!({"platform": "openai", "metric": "cost", "period": "day", "cap": 1000});
    let month = json!({"platform": "openai", "metric": "cost", "period": "month", "cap": 5000});
    let set = |limits: Value| quotad.admin.put("/admin/v1/accounts/a", &json!({"limits": limits})).expect(200);
    quotad.account("a", json!({"initial_balance": 100_000, "limits": [day, month]}));
    quotad.play(
        r#"
        account a => 200
        charge c1 platform=openai amount=600 => 200
        reserve held platform=openai amount=100 => 200
    "#,
    );
    // Without the day's limit: only the month counts on.
    set(json!([month]));
    quotad.play("account a => 200\ncharge c2 platform=openai amount=900 => 200");
    let sheet = quotad.balance("a");
    assert_eq!(sheet["limits"].as_array().unwrap().len(), 1);
    assert_eq!(used_and_held(&sheet["limits"][0]), (1500, 100));
    // None at all, and the whole set back: what was used is used.
    set(json!([]));
    set(json!([month, day]));
    quotad.play(
        r#"
        account a => 200
        charge c3 platform=openai amount=301 => 429 limit_exceeded
        charge c3 platform=openai amount=300 => 200
        settle held amount=100 => 200
        charge c4 platform=openai amount=1 => 429 limit_exceeded
    "#,
    );
    let sheet = quotad.balance("a");
    assert_eq!(used_and_held(&sheet["limits"][0]), (1900, 0), "month {sheet}");
    assert_eq!(used_and_held(&sheet["limits"][1]), (1000, 0), "day {sheet}");
    // A raised cap counts at once, and so does a lowered one.
    let mut raised = day.clone();
    raised["cap"] = 1001.into();
    set(json!([raised]));
    quotad.play("account a => 200\ncharge c4 platform=openai amount=1 => 200");
    set(json!([day]));
    quotad.play("account a => 200\ncharge c5 platform=openai amount=0 => 429 limit_exceeded");
    quotad.assert_reconciled();
}

#[test]
fn null_is_unlimited_zero_is_disabled_and_more_is_a_cap() {
    let quotad = Sidecar::start();
    let limits = json!([
        {"platform": "free", "metric": "cost", "period": "day", "cap": null},
        {"platform": "closed", "metric": "cost", "period": "day", "cap": 0},
        {"platform": "capped", "metric": "cost", "period": "day", "cap": 1},
        {"platform": "busy", "metric": "concurrency", "cap": 0},
    ]);
    quotad.account("n", json!({"initial_balance": 1000, "limits": limits}));
    quotad.play(
        r#"
        account n => 200
        reserve a platform=free amount=500 => 200 held=500
        reserve b platform=closed amount=0 => 403 platform_disabled
        reserve b platform=busy amount=0 => 403 platform_disabled
        charge b platform=closed amount=1 force=true => 403 platform_disabled
        reserve b platform=capped amount=2 => 429 limit_exceeded
        reserve b platform=capped amount=1 => 200 held=1
        # A platform without limits, and none at all, are unlimited.
        reserve c platform=other amount=1 => 200
        reserve d amount=1 => 200
    "#,
    );
    let sheet = quotad.balance("n");
    assert_eq!(used_and_held(&sheet["limits"][0]), (0, 500), "unlimited is still counted");
    assert_eq!(sheet["limits"][0]["cap"], Value::Null);
    for bad in [
        json!({"metric": "cost", "period": "day"}),
        json!({"metric": "cost", "cap": 1}),
        json!({"metric": "concurrency", "period": "day", "cap": 1}),
        json!({"metric": "cost", "period": "year", "cap": 1}),
        json!({"metric": "cost", "period": "rolling:0", "cap": 1}),
        json!({"metric": "money", "period": "day", "cap": 1}),
        json!({"metric": "cost", "period": "day", "cap": -1}),
        json!({"metric": "cost", "period": "day", "cap": 1.5}),
        json!({"metric": "cost", "period": "day", "cap": 1, "capp": 1}),
    ] {
        let answer = quotad.admin.put("/admin/v1/accounts/n", &json!({"limits": [bad]}));
        let problem = answer.problem(400, "invalid_request");
        assert!(problem["field"].as_str().unwrap().starts_with("limits"), "{problem}");
    }
    assert_eq!(quotad.balance("n"), sheet, "refused limits change nothing");
}

#[test]
fn a_reset_starts_one_window_anew_and_leaves_the_others() {
    let quotad = Sidecar::start();
    let limits = json!([
        {"platform": "openai", "metric": "cost", "period": "day", "cap": 1000},
        {"platform": "openai", "metric": "cost", "period": "month", "cap": 2000},
        {"platform": "openai", "metric": "requests", "period": "day", "cap": 10},
        {"platform": "gemini", "metric": "cost", "period": "day", "cap": 1000},
    ]);
    quotad.account("z", json!({"initial_balance": 100_000, "limits": limits}));
    quotad.play(
        r#"
        account z => 200
        charge c1 platform=openai amount=700 => 200
        charge c2 platform=gemini amount=500 => 200
        reserve r platform=openai amount=200 => 200
        reset platform=openai period=day => 200 cleared=700
    "#,
    );
    let limits = quotad.balance("z")["limits"].clone();
    let counted: Vec<_> = limits.as_array().unwrap().iter().map(used_and_held).collect();
    assert_eq!(counted, [(0, 200), (700, 200), (1, 1), (500, 0)]);
    quotad.play(
        r#"
        account z => 200
        reserve s platform=openai amount=801 => 429 limit_exceeded
        reserve s platform=openai amount=800 => 200
        settle r amount=200 => 200
        reset platform=openai metric=requests period=day => 200 cleared=2
        reset platform=openai period=week => 200 cleared=0
        reset platform=openai period=fortnight => 400 invalid_request field=period
        balance => 200 balance=98600 used=1400
    "#,
    );
    quotad.assert_reconciled();
}

#[test]
fn ratelimit_headers_describe_the_tightest_limit() {
    let quotad = Sidecar::start();
    let limits = json!([
        {"platform": "openai", "metric": "requests", "period": "rolling:60", "cap": 3},
        {"platform": "openai", "metric": "requests", "period": "day", "cap": 1000},
    ]);
    quotad.account("h", json!({"initial_balance": 1000, "limits": limits}));
    let ask =
        |id: &str, platform: &str| quotad.reserve(json!({"account": "h", "id": id, "platform": platform, "amount": 1}));
    let begun = Instant::now();
    for left in [2, 1, 0] {
        let answer = ask(&format!("r-{left}"), "openai");
        let policy = answer.header("ratelimit-policy").expect("RateLimit-Policy").to_owned();
        let state = answer.header("ratelimit").expect("RateLimit").to_owned();
        assert!(policy.contains(";q=3") && policy.contains(";w=60"), "{policy}");
        assert!(state.contains(&format!(";r={left}")), "{state}, {left} left");
        let seconds = state.split(";t=").nth(1).and_then(|t| t.parse::<u64>().ok()).expect("seconds to the reset");
        assert!((60 - begun.elapsed().as_secs().min(5)..=60).contains(&(seconds + 1)) || seconds <= 60, "{state}");
        answer.expect(200);
    }
    let denied = ask("r-more", "openai");
    assert!(denied.header("ratelimit").is_some_and(|state| state.contains(";r=0")), "{denied}");
    let wait: u64 = denied.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{denied}");
    denied.problem(429, "limit_exceeded");
    let free = ask("other", "gemini");
    assert!(free.header("ratelimit").is_none(), "no limit applies: {free}");
}
