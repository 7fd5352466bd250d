//! What is set at run time: seen by every sidecar within a second, refused when it cannot stand, kept.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, Sidecar, eventually, redis::Redis};

fn get(quotad: &Sidecar, name: &str) -> Value {
    quotad.admin.get(&format!("/admin/v1/settings/{name}")).expect(200)
}

fn put(quotad: &Sidecar, name: &str, body: &Value) -> Answer {
    quotad.admin.put(&format!("/admin/v1/settings/{name}"), body)
}

fn set(quotad: &Sidecar, name: &str, value: Value) -> Value {
    put(quotad, name, &json!({"value": value})).expect(200)
}

/// What a reserve without an amount holds: the setting in force on this sidecar, whatever SQL says.
fn default_hold(quotad: &Sidecar) -> i64 {
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let id = format!("probe-{}", PROBES.fetch_add(1, Ordering::Relaxed));
    let held = quotad.reserve(json!({"account": "a", "id": id, "ttl_ms": 1000})).expect(200)["held"].as_i64();
    held.expect("a number")
}

/// Sidecars on one Redis and one database, with an account `a`.
fn two(redis: &Redis, change: impl Fn(Setup) -> Setup) -> [Sidecar; 2] {
    let first = change(Setup::default().set("redis_url", redis.url())).start();
    let database = format!("sqlite://{}", first.data().join("quotad.db").display());
    let second = change(Setup::default().set("redis_url", redis.url()).set("database_url", &database)).start();
    first.account("a", json!({"initial_balance": 1_000_000_000}));
    [first, second]
}

/// Changes `default_hold` on one sidecar, a few times; how soon the other one has it, at best: a busy machine
/// is no news of ours.
fn quickest(from: &Sidecar, to: &Sidecar, values: std::ops::Range<i64>) -> Duration {
    let took = values.clone().map(|value| {
        set(from, "default_hold", value.into());
        let begun = Instant::now();
        eventually("the other sidecar has the new value", Duration::from_secs(20), || default_hold(to) == value);
        begun.elapsed()
    });
    took.min().expect("a value")
}

#[test]
fn a_change_is_in_force_at_once_here_and_within_a_second_elsewhere() {
    let redis = Redis::start();
    let [first, second] = two(&redis, |setup| setup);
    for [from, to] in [[&first, &second], [&second, &first]] {
        let start = 100 * i64::from(from.gateway.address.port());
        let took = quickest(from, to, start..start + 3);
        assert!(took < Duration::from_secs(1), "{took:?}");
        // Here there is nothing to wait for.
        set(from, "max_amount", json!(5_000_000_000_i64));
        from.reserve(json!({"account": "a", "id": "x", "amount": 5_000_000_001_i64})).problem(400, "invalid_request");
        from.admin.delete("/admin/v1/settings/max_amount").expect(200);
        from.reserve(json!({"account": "a", "id": "x", "amount": 5_000_000_001_i64}))
            .problem(402, "insufficient_balance");
    }
}

#[test]
fn news_through_redis_survive_a_broken_subscription() {
    let redis = Redis::start();
    // They would find it by themselves after a minute.
    let [first, second] = two(&redis, |setup| setup.set("settings_poll_ms", "60000"));
    let listeners = || redis.ask::<(String, i64)>("PUBSUB NUMSUB q-settings").1;
    for round in 0..3 {
        eventually("both listen", Duration::from_secs(10), || listeners() == 2);
        let took = quickest(&first, &second, 1_000 + 10 * round..1_002 + 10 * round);
        assert!(took < Duration::from_secs(1), "{took:?}");
        redis.ask::<i64>("CLIENT KILL TYPE pubsub");
        // What is said meanwhile is read when they listen again.
        set(&first, "default_hold", json!(5_000 + round));
        eventually("missed news are made up for", Duration::from_secs(10), || default_hold(&second) == 5_000 + round);
    }
}

#[test]
fn without_any_news_a_change_is_seen_within_a_second() {
    let redis = Redis::start();
    // Nobody may listen, nobody may tell.
    redis.ask::<String>("ACL SETUSER default resetchannels");
    let [first, second] = two(&redis, |setup| setup);
    assert!(redis.ask::<(String, i64)>("PUBSUB NUMSUB q-settings").1 == 0);
    let took = quickest(&first, &second, 2_000..2_004);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_new_price_list_is_seen_within_a_second() {
    let redis = Redis::start();
    let [first, second] = two(&redis, |setup| setup);
    let price = |quotad: &Sidecar, id: String| {
        let estimate = json!({"prompt_tokens": 1000, "max_tokens": 1});
        let body = json!({"account": "a", "id": id, "model": "house-model", "estimate": estimate, "ttl_ms": 1000});
        let answer = quotad.reserve(body);
        if answer.status == 200 { answer.json()["held"].as_i64() } else { None }
    };
    assert_eq!(price(&second, "before".into()), None);
    let mut quickest = Duration::MAX;
    for (round, units, usd) in [(1, 7_i64, 7e-8), (2, 9, 9e-8), (3, 5, 5e-8)] {
        let list = first.setup().folder().join("list.json");
        let prices = json!({"house-model": {"input_cost_per_token": usd, "output_cost_per_token": 0}});
        std::fs::write(&list, prices.to_string()).unwrap();
        // The command writes to the database alone, beside the running sidecars.
        let (code, said) = first.setup().run("tariff", &["import", list.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{said}");
        let begun = Instant::now();
        let mut probes = 0..;
        eventually("the other sidecar has the new prices", Duration::from_secs(20), || {
            price(&second, format!("t-{round}-{}", probes.next().unwrap())) == Some(units * 1_000)
        });
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

#[test]
fn a_bad_value_is_refused_with_a_sentence_and_the_old_one_stays() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1_000_000_000}));
    set(&quotad, "default_hold", json!(777));
    for (name, value, says) in [
        ("default_hold", json!(-1), "default_hold must be a whole number of units"),
        ("default_hold", json!(1.5), "default_hold must be a whole number of units"),
        ("default_hold", Value::Null, "default_hold must be a whole number of units"),
        ("default_hold", json!("1 USD"), "default_hold must be a whole number of units"),
        ("default_hold", json!(1_000_000_000_001_i64), "is above `max_amount`"),
        ("max_amount", json!(776), "is above `max_amount`"),
        ("default_ttl_ms", json!(999), "from 1000 to 86400000"),
        ("abort_ok", json!("everything"), "expected one of `nothing`, `prompt`, `estimate`"),
        ("hold_free_models", json!("no"), "expected a boolean"),
        ("trust_threshold", json!(-5), "or null"),
        ("on_unavailable", json!("hope"), "expected `deny` or `allow`"),
        ("platforms", json!(["openai", "openai"]), "platforms must name `openai` once"),
    ] {
        let before = get(&quotad, name);
        let problem = put(&quotad, name, &json!({"value": value})).problem(400, "invalid_request");
        assert_eq!(problem["field"], "value", "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{name} {value}: {problem}");
        assert_eq!(get(&quotad, name), before, "{name} {value}");
    }
    assert_eq!(default_hold(&quotad), 777);
    for body in ["", "{}", "{\"value\":1,\"vesrion\":1}", "[1]", "{\"value\":1,\"value\":2}"] {
        quotad
            .admin
            .call("PUT", "/admin/v1/settings/default_hold", &[], body.as_bytes())
            .problem(400, "invalid_request");
    }
    put(&quotad, "no_such_setting", &json!({"value": 1})).problem(404, "not_found");
    quotad.admin.delete("/admin/v1/settings/no_such_setting").problem(404, "not_found");
    assert_eq!(get(&quotad, "default_hold")["version"], 1);
    let audit = quotad.admin.get("/admin/v1/audit?subject=setting").expect(200);
    assert_eq!(audit["changes"].as_array().unwrap().len(), 1, "what was refused was no change");
}

#[test]
fn a_setting_says_where_it_comes_from_and_returns_to_its_default() {
    let setup = Setup::default().set("default_hold", "0.5 USD");
    let quotad = setup.start();
    quotad.account("a", json!({"initial_balance": 1_000_000_000}));
    let fresh = get(&quotad, "default_hold");
    assert_eq!(
        fresh,
        json!({"name": "default_hold", "value": 50_000_000, "default": 50_000_000, "type": "integer", "unit": "units",
            "source": "environment QUOTAD_DEFAULT_HOLD", "doc": fresh["doc"], "version": 0, "changed_at": null,
            "changed_by": null})
    );
    assert_eq!(get(&quotad, "max_amount")["source"], "default");
    let headers = [("X-Quota-Actor", "ada")];
    let path = "/admin/v1/settings/default_hold";
    let changed = quotad.admin.call("PUT", path, &headers, br#"{"value":"123"}"#).expect(200);
    assert_eq!(
        (&changed["value"], &changed["default"], &changed["source"], &changed["version"], &changed["changed_by"]),
        (&json!(123), &json!(50_000_000), &json!("database"), &json!(1), &json!("ada"))
    );
    assert!(changed["changed_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{changed}");
    assert_eq!((get(&quotad, "default_hold"), default_hold(&quotad)), (changed, 123));
    quotad.admin.delete(&format!("{path}?version=7")).problem(409, "conflict");
    let back = quotad.admin.delete(&format!("{path}?version=1")).expect(200);
    assert_eq!((&back["value"], &back["version"]), (&json!(50_000_000), &json!(2)));
    assert_eq!(back["source"], "environment QUOTAD_DEFAULT_HOLD");
    let audit = quotad.admin.get("/admin/v1/audit?subject=setting/default_hold").expect(200);
    let [deleted, put] = audit["changes"].as_array().unwrap().as_slice() else { panic!("{audit}") };
    assert_eq!(
        (&put["by"], &put["before"]["value"], &put["after"]["value"]),
        (&json!("ada"), &Value::Null, &json!(123))
    );
    assert_eq!((&deleted["what"], &deleted["after"]), (&json!("delete"), &json!({"value": null, "default": true})));
}

#[test]
fn settings_outlive_a_restart() {
    let mut quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1_000_000_000}));
    set(&quotad, "default_hold", json!(321));
    set(&quotad, "abort_ok", json!("nothing"));
    set(&quotad, "platforms", json!(["openai", "house"]));
    quotad.terminate();
    quotad.start_again();
    assert_eq!(default_hold(&quotad), 321);
    assert_eq!(get(&quotad, "platforms")["value"], json!(["openai", "house"]));
    quotad.reserve(json!({"account": "a", "id": "ok", "amount": 50})).expect(200);
    assert_eq!(quotad.settle(json!({"account": "a", "id": "ok", "outcome": "ok"})).expect(200)["charged"], 0);
    quotad.kill();
    quotad.start_again();
    assert_eq!(default_hold(&quotad), 321);
}

#[test]
fn one_of_many_changes_of_a_version_wins() {
    let redis = Redis::start();
    let sidecars = two(&redis, |setup| setup);
    let won = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let body = json!({"value": 1_000 + number, "version": 0});
            put(&sidecars[number % 2], "default_hold", &body)
        };
        let asking: Vec<_> = (0..8).map(|number| scope.spawn(move || (number, ask(number)))).collect();
        let answers = asking.into_iter().map(|asked| asked.join().expect("an answer"));
        let (won, lost): (Vec<_>, Vec<_>) = answers.partition(|(_, answer)| answer.status == 200);
        for (_, answer) in lost {
            assert_eq!(answer.problem(409, "conflict")["field"], "version");
        }
        won.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
    });
    assert_eq!(won.len(), 1);
    let now = get(&sidecars[0], "default_hold");
    assert_eq!((&now["value"], &now["version"]), (&json!(1_000 + won[0]), &json!(1)));
    // The winner, asked again because its answer was lost, is told the same.
    let again = put(&sidecars[1], "default_hold", &json!({"value": 1_000 + won[0], "version": 0})).expect(200);
    assert_eq!(again["version"], 1);
}

#[test]
fn what_each_setting_rules_changes_while_quotad_runs() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1_000_000_000}));
    let settle = |id: &str, outcome: &str| {
        quotad.reserve(json!({"account": "a", "id": id, "amount": 90})).expect(200);
        quotad.settle(json!({"account": "a", "id": id, "outcome": outcome})).expect(200)["charged"].as_i64()
    };
    for (name, outcome, word, charged) in [
        ("abort_upstream_error", "upstream_error", "estimate", 90),
        ("abort_unknown", "unknown", "nothing", 0),
        ("abort_client_abort", "client_abort", "estimate", 90),
        ("abort_ok", "ok", "nothing", 0),
    ] {
        assert_ne!(settle(&format!("{outcome}-1"), outcome), Some(charged), "{name} by default");
        set(&quotad, name, json!(word));
        assert_eq!(settle(&format!("{outcome}-2"), outcome), Some(charged), "{name}");
    }
    set(&quotad, "default_ttl_ms", json!(1_000));
    quotad.reserve(json!({"account": "a", "id": "short", "amount": 1})).expect(200);
    quotad.wait_state("a", "short", "expired");
    // Trust comes and goes with its threshold.
    set(&quotad, "trust_threshold", json!(1_000_000));
    eventually("the account is trusted", Duration::from_secs(5), || {
        let id = format!("t-{:?}", Instant::now()).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        quotad.reserve(json!({"account": "a", "id": id, "amount": 1})).expect(200)["trusted"] == true
    });
    set(&quotad, "trust_threshold", Value::Null);
    assert_eq!(quotad.reserve(json!({"account": "a", "id": "held", "amount": 1})).expect(200)["trusted"], false);
    let listed = quotad.admin.get("/admin/v1/settings").expect(200);
    let listed = listed["settings"].as_array().unwrap();
    assert!(listed.is_sorted_by_key(|setting| setting["name"].as_str().unwrap().to_owned()));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = quotad.admin.get(&format!("/admin/v1/settings?limit=5&cursor={cursor}")).expect(200);
        seen.extend(page["settings"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(&seen, listed);
    let named: Vec<_> = listed.iter().filter(|setting| setting["source"] == "database").collect();
    assert_eq!(named.len(), 6, "{named:?}");
}

#[test]
fn a_stored_value_that_cannot_stand_leaves_the_default() {
    let mut quotad = Sidecar::start();
    set(&quotad, "default_hold", json!(321));
    set(&quotad, "platforms", json!(["openai"]));
    quotad.terminate();
    tamper(&quotad.data().join("quotad.db"));
    quotad.start_again();
    quotad.account("a", json!({"initial_balance": 1_000_000_000}));
    assert_eq!(default_hold(&quotad), 1_000_000, "the deployment's default");
    assert!(quotad.said().contains("a setting in the database cannot stand"), "{}", quotad.said());
    assert_eq!(get(&quotad, "platforms")["value"], json!(["openai"]));
    // It can be put right.
    set(&quotad, "default_hold", json!(5));
    assert_eq!(default_hold(&quotad), 5);
}

/// As a hand in the database, or another version of the program, would.
fn tamper(database: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        use sqlx::{ConnectOptions as _, Connection as _};
        let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(database).connect().await.unwrap();
        for sql in [
            "UPDATE settings SET content = '-7' WHERE name = 'default_hold'",
            "INSERT INTO settings (name, version, content, changed_at, changed_by) VALUES ('later', 1, '1', 0, 'x')",
        ] {
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    });
}
