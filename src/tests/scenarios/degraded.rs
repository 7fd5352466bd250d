//! What is answered while Redis is away, and that each of it is charged once when it is back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Setup, Sidecar, eventually,
    proxy::{Mode, Proxy},
    redis::Redis,
};

/// A sidecar that reaches its Redis through a proxy, with an allowance of 1000 units for an account and
/// 1500 for all. The time budget is one that a busy disk keeps, too. The account `a` allows, `d` is denied.
fn behind_proxy() -> (Redis, Proxy, Sidecar) {
    let redis = Redis::start();
    let proxy = Proxy::in_folder(redis.folder(), redis.socket());
    let setup = Setup::default().set("redis_url", proxy.url()).set("time_budget_ms", "1000");
    let setup = setup.set("unavailable_allowance", "1000").set("unavailable_total", "1500");
    let quotad = setup.start();
    let shown = quotad.account("a", json!({"initial_balance": 10_000, "on_unavailable": "allow"}));
    assert_eq!(shown["on_unavailable"], "allow");
    assert_eq!(quotad.account("d", json!({"initial_balance": 10_000}))["on_unavailable"], Value::Null);
    (redis, proxy, quotad)
}

fn charge(quotad: &Sidecar, account: &str, id: &str, amount: i64) -> Answer {
    quotad.gateway.post("/v1/charge", &json!({"account": account, "id": id, "amount": amount}))
}

#[track_caller]
fn degraded(answer: Answer) -> Value {
    let header = answer.header("x-quota-degraded").map(str::to_owned);
    let body = answer.expect(200);
    assert_eq!((header.as_deref(), &body["degraded"]), (Some("true"), &json!(true)), "{body}");
    assert_eq!((&body["balance"], &body["available"]), (&Value::Null, &Value::Null));
    body
}

fn metric(quotad: &Sidecar, name: &str) -> f64 {
    let page = quotad.admin.get("/metrics");
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let value = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or(0.0)
}

#[track_caller]
fn wait_replayed(quotad: &Sidecar) {
    let none = || metric(quotad, "quotad_spool_entries") == 0.0;
    eventually("the spool is replayed", Duration::from_secs(20), none);
}

#[test]
fn an_outage_is_bridged_within_the_allowance_and_charged_once() {
    let (_redis, proxy, quotad) = behind_proxy();
    let reserve = |id: &str, amount: i64| quotad.reserve(json!({"account": "a", "id": id, "amount": amount}));
    let settle = |id: &str, amount: i64| quotad.settle(json!({"account": "a", "id": id, "amount": amount}));
    assert_eq!(reserve("before", 100).expect(200).get("degraded"), None);
    quotad.reserve(json!({"account": "d", "id": "before", "amount": 100})).expect(200);
    proxy.set(Mode::Stop);
    // Reserves: within the allowance, each id once.
    let granted = degraded(reserve("r-1", 600));
    assert_eq!((&granted["held"], &granted["trusted"]), (&json!(600), &json!(false)));
    assert_eq!(degraded(reserve("r-1", 600))["replayed"], true);
    reserve("r-1", 601).problem(409, "conflict");
    reserve("r-2", 500).problem(503, "unavailable");
    // Settles of both kinds of holds, a charge, a release.
    let settled = degraded(settle("before", 80));
    assert_eq!((&settled["charged"], &settled["returned"]), (&json!(80), &Value::Null));
    let settled = degraded(settle("r-1", 450));
    assert_eq!((&settled["charged"], &settled["returned"]), (&json!(450), &json!(150)));
    assert_eq!(degraded(settle("r-1", 450))["replayed"], true);
    assert_eq!(degraded(charge(&quotad, "a", "c-1", 100))["charged"], 100);
    charge(&quotad, "a", "c-2", 500).problem(503, "unavailable");
    degraded(reserve("r-3", 40));
    let release = json!({"account": "a", "id": "r-3"});
    assert_eq!(degraded(quotad.gateway.post("/v1/release", &release))["returned"], 40);
    // What needs Redis, and who did not ask for this.
    let refund = json!({"account": "a", "op_id": "f", "of": "r-1", "amount": 1});
    quotad.gateway.post("/v1/refund", &refund).problem(503, "unavailable");
    quotad.reserve(json!({"account": "d", "id": "during", "amount": 1})).problem(503, "unavailable");
    quotad.settle(json!({"account": "d", "id": "before", "amount": 1})).problem(503, "unavailable");
    eventually("readyz tells", Duration::from_secs(5), || quotad.gateway.get("/readyz").status == 503);
    assert_eq!((metric(&quotad, "quotad_degraded "), metric(&quotad, "quotad_spool_entries ")), (1.0, 4.0));
    proxy.set(Mode::Pass);
    wait_replayed(&quotad);
    assert_eq!(quotad.money("a"), [10_000 - 80 - 450 - 100, 0, 10_000 - 80 - 450 - 100]);
    assert_eq!(quotad.money("d"), [10_000, 100, 9_900]);
    // The client's own repetitions find it done.
    for repeated in [settle("before", 80), settle("r-1", 450), charge(&quotad, "a", "c-1", 100)] {
        let body = repeated.expect(200);
        assert_eq!((&body["replayed"], body.get("degraded")), (&json!(true), None));
    }
    settle("r-1", 451).problem(409, "conflict");
    assert_eq!(quotad.balance("a")["used"], 630);
    assert_eq!(metric(&quotad, "quotad_spool_replayed_total{result=\"refused\"}"), 0.0);
    quotad.assert_reconciled();
}

#[test]
fn batches_and_headers_alone_are_answered_too() {
    let (_redis, proxy, quotad) = behind_proxy();
    proxy.set(Mode::Stop);
    let ops = json!({"ops": [
        {"op": "reserve", "account": "a", "id": "b-1", "amount": 10},
        {"op": "settle", "account": "a", "id": "b-1", "amount": 7},
        {"op": "reserve", "account": "d", "id": "b-2", "amount": 10},
    ]});
    let answers = quotad.gateway.post("/v1/batch", &ops).expect(200);
    let statuses: Vec<_> = answers["ops"].as_array().unwrap().iter().map(|answer| answer["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 503]);
    assert_eq!(answers["ops"][1]["body"]["degraded"], true);
    let asked = [("X-Quota-Account", "a"), ("X-Quota-Id", "h-1"), ("X-Quota-Amount", "5")];
    let granted = quotad.gateway.call("GET", "/v1/authz", &asked, b"");
    assert_eq!((granted.status, granted.header("x-quota-degraded")), (200, Some("true")));
    assert_eq!(granted.header("x-quota-held"), Some("5"));
    proxy.set(Mode::Pass);
    wait_replayed(&quotad);
    assert_eq!(quotad.money("a"), [9_993, 0, 9_993]);
}

#[test]
fn a_sidecar_killed_in_an_outage_replays_what_it_had_answered() {
    let (_redis, proxy, mut quotad) = behind_proxy();
    quotad.reserve(json!({"account": "a", "id": "before", "amount": 100})).expect(200);
    proxy.set(Mode::Stop);
    degraded(quotad.settle(json!({"account": "a", "id": "before", "amount": 80})));
    for number in 0..20 {
        degraded(charge(&quotad, "a", &format!("c-{number}"), 10));
    }
    quotad.kill();
    // Killed again and again while it replays: nothing twice.
    proxy.set(Mode::Pass);
    for _ in 0..3 {
        quotad.start_again();
        quotad.kill();
    }
    quotad.start_again();
    wait_replayed(&quotad);
    assert_eq!(quotad.money("a"), [10_000 - 80 - 200, 0, 10_000 - 80 - 200]);
    for number in 0..20 {
        assert_eq!(charge(&quotad, "a", &format!("c-{number}"), 10).expect(200)["replayed"], true);
    }
    quotad.assert_reconciled();
}

#[test]
fn a_lost_answer_and_an_outage_together_charge_once() {
    let (_redis, proxy, quotad) = behind_proxy();
    charge(&quotad, "a", "warm", 1).expect(200);
    // Done in Redis, though nobody heard of it; then answered without Redis.
    proxy.set(Mode::SwallowAnswers);
    degraded(charge(&quotad, "a", "c-1", 100));
    proxy.set(Mode::Pass);
    proxy.cut();
    wait_replayed(&quotad);
    assert_eq!(quotad.money("a"), [9_899, 0, 9_899]);
    eventually("answered", Duration::from_secs(10), || {
        let answer = charge(&quotad, "a", "c-1", 100);
        answer.status == 200 && answer.expect(200)["replayed"] == true
    });
    quotad.assert_reconciled();
}

/// All files below a folder, with their content.
fn files_in(folder: &std::path::Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files_in(&entry.path(), found);
        } else if let Ok(content) = std::fs::read(entry.path()) {
            found.push((entry.path(), content));
        }
    }
}

/// Only its hash is: in the database, in Redis' file, in the spool and in what is logged there is no secret to be stolen.
#[test]
fn the_secret_of_a_key_is_nowhere_at_rest() {
    let redis = Redis::with(&["--appendonly", "yes"]);
    let proxy = Proxy::in_folder(redis.folder(), redis.socket());
    let setup = Setup::default().set("redis_url", proxy.url()).set("time_budget_ms", "1000");
    let quotad = setup.set("log_level", "debug").start();
    quotad.account("a", json!({"initial_balance": 10_000, "on_unavailable": "allow"}));
    let secret = quotad.key("a", "k", json!({"allowance": 5_000}))["secret"].as_str().unwrap().to_owned();
    let call = |verb: &str, id: &str, fields: Value| {
        let mut body = json!({"api_key": secret, "id": id});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        quotad.gateway.post(verb, &body)
    };
    call("/v1/reserve", "r", json!({"amount": 100})).expect(200);
    call("/v1/settle", "r", json!({"amount": 70})).expect(200);
    let bearer = format!("Bearer {secret}");
    quotad.gateway.call("GET", "/v1/authz", &[("Authorization", &bearer), ("X-Quota-Amount", "1")], b"").expect(200);
    call("/v1/charge", "poor", json!({"amount": 5_001})).problem(402, "key_exhausted");
    proxy.set(Mode::Stop);
    degraded(call("/v1/charge", "c", json!({"amount": 50})));
    degraded(call("/v1/reserve", "d", json!({"amount": 50})));
    degraded(call("/v1/settle", "d", json!({"amount": 40})));
    let look = |what: &str, there: &[&str]| {
        let mut files = Vec::new();
        for folder in [quotad.data(), redis.folder().to_owned()] {
            files_in(&folder, &mut files);
        }
        for part in there {
            let found =
                files.iter().any(|(path, content)| path.to_string_lossy().contains(part) && !content.is_empty());
            assert!(found, "{what}: no {part} in {:?}", files.iter().map(|(path, _)| path).collect::<Vec<_>>());
        }
        let bare = secret.strip_prefix("sk-").unwrap_or(&secret).as_bytes();
        for (path, content) in files {
            let found = content.windows(bare.len()).any(|part| part == bare);
            assert!(!found, "{what}: the secret is in {}", path.display());
        }
        assert!(!quotad.said().contains(&secret), "{what}: the secret is in the log");
    };
    look("while Redis is away", &["quotad.db", "spool", "appendonly"]);
    proxy.set(Mode::Pass);
    wait_replayed(&quotad);
    eventually("all is charged", Duration::from_secs(10), || quotad.money("a")[0] == 10_000 - 70 - 50 - 40);
    look("afterwards", &["quotad.db", "appendonly"]);
}
