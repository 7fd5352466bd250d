//! Reconcile: what was tampered with is found, mended and stays mended while traffic goes on, and traffic
//! alone is never taken for a fault. And idle accounts leave Redis and come back whole.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, USD, eventually, redis::Redis, sidecar::ADMIN_TOKEN};

/// A sidecar on a Redis that the test can reach.
fn beside_redis(setup: Setup) -> (Redis, Sidecar) {
    let redis = Redis::start();
    let quotad = setup.set("redis_url", redis.url()).start();
    (redis, quotad)
}

fn connect(redis: &Redis) -> ::redis::Connection {
    ::redis::Client::open(redis.url()).unwrap().get_connection().unwrap()
}

/// The name of the one key that matches.
fn key(redis: &Redis, pattern: &str) -> Option<String> {
    let names: Vec<String> = ::redis::cmd("KEYS").arg(pattern).query(&mut connect(redis)).unwrap();
    names.into_iter().next()
}

/// Adds to balance and held of a loaded account, behind quotad's back.
fn tamper(redis: &Redis, account: &str, balance: i64, held: i64) {
    let name = key(redis, &format!("q{{*}}a/{account}")).expect("a loaded account");
    let script = "local v, b, held, u, r, n = struct.unpack('<I4i7i7i7i7I6', redis.call('HGET', KEYS[1], 'h')) \
                  redis.call('HSET', KEYS[1], 'h', struct.pack('<I4i7i7i7i7I6', v, b + ARGV[1], held + ARGV[2], u, r, n))";
    ::redis::cmd("EVAL").arg(script).arg(1).arg(name).arg(balance).arg(held).exec(&mut connect(redis)).unwrap();
}

/// Runs a statement on the database of a sidecar.
fn sql(quotad: &Sidecar, statement: &'static str) -> u64 {
    let url = format!("sqlite://{}", quotad.data().join("quotad.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        let done = sqlx::query(statement).execute(&pool).await.unwrap().rows_affected();
        pool.close().await;
        done
    })
}

fn reconcile(quotad: &Sidecar, ask: &Value) -> Value {
    quotad.admin.post("/admin/v1/reconcile", ask).expect(200)
}

fn differences(quotad: &Sidecar, ask: &Value) -> Vec<Value> {
    reconcile(quotad, ask)["differences"].as_array().unwrap().clone()
}

/// Charges 1 unit now and then, until told to stop; adds up what was charged.
fn charge_slowly(quotad: &Sidecar, account: &str, stop: &AtomicBool, charged: &AtomicI64) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = format!("{account}-{number}");
        quotad.gateway.post("/v1/charge", &json!({"account": account, "id": id, "amount": 1})).expect(200);
        charged.fetch_add(1, Ordering::Relaxed);
        number += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn wrong_counters_are_found_and_mended_while_traffic_goes_on() {
    let (redis, quotad) = beside_redis(Setup::default());
    for account in ["a", "b"] {
        quotad.account(account, json!({"initial_balance": 10 * USD}));
    }
    let (stop, charged) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| charge_slowly(&quotad, "a", &stop, &charged));
        eventually("traffic flows", Duration::from_secs(10), || charged.load(Ordering::Relaxed) > 3);
        tamper(&redis, "a", 777, 0);
        let found = differences(&quotad, &json!({}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0]["account"], &found[0]["what"]), (&json!("a"), &json!("balance")));
        let [is, should] = ["redis", "expected"].map(|field| found[0][field].as_i64().unwrap());
        assert_eq!(is - should, 777);
        assert_eq!(found[0].get("repaired"), None);
        eventually("the balance is mended", Duration::from_secs(30), || {
            let left = differences(&quotad, &json!({"account": "a", "repair": true}));
            left.iter().all(|one| one["repaired"] == true)
        });
        assert_eq!(differences(&quotad, &json!({})), Vec::<Value>::new());
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(quotad.money("a")[0], 10 * USD - charged.load(Ordering::Relaxed));
    assert!(quotad.said().contains("counters in Redis were mended"));
    let metrics = quotad.admin.get("/metrics").body;
    assert!(String::from_utf8(metrics).unwrap().contains("quotad_repairs_total{what=\"counters\"} 1"));
}

#[test]
fn held_is_mended_after_the_live_holds() {
    let (redis, quotad) = beside_redis(Setup::default());
    quotad.account("a", json!({"initial_balance": USD, "limits": [{"metric": "concurrency", "cap": 5}]}));
    for id in ["r-1", "r-2"] {
        quotad.reserve(json!({"account": "a", "id": id, "amount": 100, "ttl_ms": 600_000})).expect(200);
    }
    tamper(&redis, "a", 0, 50);
    // And a hold that the sweep would never find.
    let name = key(&redis, "q{*}r/a/r-2").unwrap();
    let in_queues = |command: &str| -> i64 {
        let mut connection = connect(&redis);
        let queues: Vec<String> = ::redis::cmd("KEYS").arg("q{*}x/?*").query(&mut connection).unwrap();
        let mut each =
            |queue| ::redis::cmd(command).arg(queue).arg(0).arg(&name).query::<i64>(&mut connection).unwrap();
        queues.iter().map(&mut each).sum()
    };
    assert_eq!(in_queues("LREM"), 1);
    let found = differences(&quotad, &json!({"account": "a"}));
    let what: Vec<_> =
        found.iter().map(|one| (one["what"].as_str().unwrap(), &one["redis"], &one["expected"])).collect();
    assert_eq!(what.len(), 2, "{found:?}");
    assert_eq!((what[0].0, what[0].1, what[0].2.is_i64()), ("deadline:r-2", &Value::Null, true));
    assert_eq!(what[1], ("held", &json!(250), &json!(200)));
    let repaired = differences(&quotad, &json!({"account": "a", "repair": true}));
    assert!(repaired.len() == 2 && repaired.iter().all(|one| one["repaired"] == true), "{repaired:?}");
    assert_eq!(quotad.money("a"), [USD, 200, USD - 200]);
    quotad.assert_reconciled();
    // It is there again, once; and so it is the next time.
    assert_eq!(in_queues("LREM"), 1);
    assert_eq!(differences(&quotad, &json!({"account": "a", "repair": true})).len(), 1);
    quotad.assert_reconciled();
    for id in ["r-1", "r-2"] {
        quotad.settle(json!({"account": "a", "id": id, "amount": 70})).expect(200);
    }
    assert_eq!(quotad.money("a"), [USD - 140, 0, USD - 140]);
    quotad.assert_reconciled();
}

#[test]
fn wrong_sums_in_sql_are_mended_after_the_ledger() {
    let (_redis, quotad) = beside_redis(Setup::default());
    let limits = json!([{"platform": "openai", "metric": "cost", "period": "day", "cap": USD}]);
    quotad.account("a", json!({"initial_balance": USD, "limits": limits}));
    quotad.key("a", "k", json!({}));
    let body = json!({"account": "a", "key": "k", "id": "c", "amount": 30, "platform": "openai"});
    quotad.gateway.post("/v1/charge", &body).expect(200);
    quotad.assert_reconciled();
    let statements = [
        "UPDATE accounts SET balance = balance + 5",
        "UPDATE key_usage SET used = 31",
        "UPDATE windows SET used = used - 1",
    ];
    for statement in statements {
        assert_eq!(sql(&quotad, statement), 1);
    }
    let found = differences(&quotad, &json!({}));
    let what: Vec<_> =
        found.iter().map(|one| json!([one["what"], one["redis"], one["sql"], one["expected"]])).collect();
    let expected = [
        json!(["balance", USD - 30, USD - 25, USD - 30]),
        json!(["key:k:used", 30, 31, 30]),
        json!(["limit:openai:*:cost:day", 30, 29, 30]),
    ];
    assert_eq!(what, expected);
    let repaired = differences(&quotad, &json!({"repair": true}));
    assert!(repaired.len() == 3 && repaired.iter().all(|one| one["repaired"] == true), "{repaired:?}");
    quotad.assert_reconciled();
    assert!(quotad.said().contains("sums in the database were mended"));
    quotad.admin.post("/admin/v1/reconcile", &json!({"acount": "a"})).problem(400, "invalid_request");
    quotad.admin.post("/admin/v1/reconcile", &json!({"account": "a", "limit": 1})).problem(400, "invalid_request");
    quotad.admin.post("/admin/v1/reconcile", &json!({"limit": 0})).problem(400, "invalid_request");
}

/// One turn of a busy gateway on one of four accounts: every verb that moves a number.
fn turn(quotad: &Sidecar, thread: usize, number: usize) {
    let account = format!("u{}", (thread + number) % 4);
    let id = format!("{thread}-{number}");
    let ask = |amount: i64| json!({"account": account, "key": "k", "id": id, "platform": "openai", "amount": amount, "tokens": 3});
    match number % 5 {
        0 => drop(quotad.gateway.post("/v1/charge", &ask(3)).expect(200)),
        1 => {
            quotad.reserve(ask(9)).expect(200);
            quotad.gateway.post("/v1/release", &json!({"account": account, "id": id})).expect(200);
        }
        2 => {
            quotad.reserve(ask(9)).expect(200);
            let part = json!({"account": account, "id": id, "amount": 2, "final": false});
            quotad.settle(part).expect(200);
            quotad.settle(json!({"account": account, "id": id, "amount": 12})).expect(200);
        }
        _ => {
            quotad.reserve(ask(5)).expect(200);
            quotad.settle(json!({"account": account, "id": id, "amount": 4})).expect(200);
            let refund = json!({"account": account, "op_id": id, "of": id, "amount": 1});
            quotad.gateway.post("/v1/refund", &refund).expect(200);
        }
    }
}

#[test]
fn traffic_is_never_taken_for_a_difference() {
    let quotad = Sidecar::start();
    let limits = json!([
        {"metric": "concurrency", "cap": 100},
        {"platform": "openai", "metric": "cost", "period": "rolling:1", "cap": USD},
        {"platform": "openai", "metric": "tokens", "period": "day", "cap": 1_000_000},
    ]);
    for account in ["u0", "u1", "u2", "u3", "idle"] {
        quotad.account(account, json!({"initial_balance": USD, "limits": limits}));
        quotad.key(account, "k", json!({"allowance": USD}));
    }
    let stop = AtomicBool::new(false);
    let mut runs = 0;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (quotad, stop) = (&quotad, &stop);
            scope.spawn(move || {
                for number in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    turn(quotad, thread, number);
                }
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            let found = reconcile(&quotad, &json!({}));
            if found["differences"] != json!([]) {
                stop.store(true, Ordering::Relaxed);
                panic!("run {runs}: {found}");
            }
            assert_eq!(found["accounts"], 5);
            runs += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(runs > 0);
    let last = reconcile(&quotad, &json!({}));
    assert_eq!((&last["differences"], &last["moving"]), (&json!([]), &json!(0)), "{last}");
}

#[test]
fn the_command_line_walks_all_pages() {
    let (redis, quotad) = beside_redis(Setup::default());
    // More than two of its pages.
    for number in 0..120 {
        quotad.account(&format!("a{number:03}"), json!({"initial_balance": USD}));
    }
    let url = format!("http://{}", quotad.admin.address);
    let run = |more: &[&str]| {
        let arguments = [&["--url", &url, "--admin-token", ADMIN_TOKEN], more].concat();
        quotad.setup().run("reconcile", &arguments)
    };
    assert_eq!(run(&[]), (Some(0), "120 accounts compared, 0 differences\n".to_owned()));
    tamper(&redis, "a077", -7, 0);
    let (code, said) = run(&[]);
    let is = format!("a077  balance  redis {}  sql {USD}  expected {USD}\n", USD - 7);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&is) && said.contains("120 accounts compared, 1 differences\n"), "{said}");
    let (code, said) = run(&["--json", "--account", "a077"]);
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!((&lines[0]["what"], &lines[1]["accounts"]), (&json!("balance"), &json!(1)), "{said}");
    let (code, said) = run(&["--repair"]);
    assert!(code == Some(0) && said.contains("  repaired\n") && said.contains(", 1 repaired\n"), "{said}");
    assert_eq!(run(&["--account", "a077"]).0, Some(0));
    let (code, said) = run(&["--account", "nobody"]);
    assert!(code == Some(2) && said.contains("there is no account"), "{said}");
    let wrong = ["--url", &url, "--admin-token", "wrong"];
    assert_eq!(quotad.setup().run("reconcile", &wrong).0, Some(2));
}

#[test]
fn an_idle_account_leaves_redis_and_comes_back_whole() {
    let (redis, quotad) = beside_redis(Setup::default().set("unload_idle_ms", "1000"));
    let limits = json!([{"platform": "openai", "metric": "cost", "period": "day", "cap": USD}]);
    for account in ["idle", "held"] {
        quotad.account(account, json!({"initial_balance": USD, "limits": limits}));
        quotad.key(account, "k", json!({"allowance": USD}));
        let body = json!({"account": account, "key": "k", "id": "c", "amount": 30, "platform": "openai"});
        quotad.gateway.post("/v1/charge", &body).expect(200);
    }
    let hold = json!({"account": "held", "id": "r", "amount": 5, "ttl_ms": 600_000});
    quotad.reserve(hold).expect(200);
    let mut before = quotad.balance("idle");
    let loaded = |account: &str| key(&redis, &format!("q{{*}}a/{account}")).is_some();
    eventually("the idle account is unloaded", Duration::from_secs(20), || !loaded("idle"));
    assert!(loaded("held"), "it holds something");
    let mut after = quotad.balance("idle");
    for sheet in [&mut before, &mut after] {
        sheet.as_object_mut().unwrap().remove("at");
    }
    assert_eq!(after, before);
    assert!(loaded("idle"), "loaded again by the question");
    let again = json!({"account": "idle", "key": "k", "id": "c", "amount": 30, "platform": "openai"});
    assert_eq!(quotad.gateway.post("/v1/charge", &again).expect(200)["replayed"], true, "its tombstones stay");
    quotad.gateway.post("/v1/release", &json!({"account": "held", "id": "r"})).expect(200);
    eventually("free to go as well", Duration::from_secs(20), || !loaded("held"));
    assert_eq!(quotad.money("held"), [USD - 30, 0, USD - 30]);
    quotad.assert_reconciled();
}
