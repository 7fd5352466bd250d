//! Killed, stopped, started again: what was acknowledged is there.

use std::{
    io::{Read, Write},
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, eventually, http::read_answer, process};

/// Spends on an account in every way there is.
fn mixed_run(quotad: &Sidecar, account: &str) {
    let limits = json!([
        {"platform": "openai", "metric": "cost", "period": "month", "cap": 100_000},
        {"platform": "openai", "metric": "tokens", "period": "month", "cap": 100_000},
        {"metric": "concurrency", "cap": 50},
    ]);
    quotad.account(account, json!({"initial_balance": 10_000, "limits": limits}));
    quotad.key(account, "k", json!({"allowance": 5_000}));
    quotad.play(&format!(
        r#"
        account {account} => 200
        reserve settled key=k platform=openai amount=500 tokens=50 => 200
        settle settled amount=450 => 200
        reserve released key=k platform=openai amount=500 tokens=50 => 200
        release released => 200
        reserve part platform=openai amount=500 tokens=50 => 200
        settle part amount=100 final=false => 200
        settle part amount=300 => 200
        charge charged key=k platform=openai amount=200 tokens=20 => 200
        settle unreserved platform=openai amount=100 => 200
        refund f of=charged amount=50 => 200
        credit c amount=1000 => 200
        debit d amount=500 => 200
        reserve held key=k platform=openai amount=700 tokens=70 ttl_ms=86400000 => 200
        "#
    ));
}

/// Every one of those calls again: nothing may happen twice.
fn replay(quotad: &Sidecar, account: &str) {
    quotad.play(&format!(
        r#"
        account {account} => 200
        settle settled amount=450 => 200 replayed charged=450
        settle part amount=300 => 200 replayed charged=300
        charge charged key=k platform=openai amount=200 tokens=20 => 200 replayed charged=200
        settle unreserved platform=openai amount=100 => 200 replayed charged=100
        refund f of=charged amount=50 => 200 replayed refunded=50
        credit c amount=1000 => 200 replayed amount=1000
        debit d amount=500 => 200 replayed amount=500
        credit c amount=1001 => 409 conflict field=amount
        "#
    ));
}

fn without_holds(sheet: &Value) -> Value {
    json!([sheet["balance"], sheet["used"], sheet["requests"]])
}

#[test]
fn kill_9_of_quotad_loses_nothing_that_was_acknowledged() {
    let mut quotad = Sidecar::start();
    mixed_run(&quotad, "a");
    let before = quotad.balance("a");
    for round in 0..3 {
        quotad.kill();
        quotad.start_again();
        // Redis lived on or was started again from its file: holds are there as well.
        assert_eq!(quotad.balance("a"), before, "round {round}");
        replay(&quotad, "a");
        assert_eq!(quotad.balance("a"), before, "round {round}");
    }
    quotad.play("account a => 200\nsettle held amount=600 => 200 charged=600 late=false unreserved=false");
    quotad.assert_reconciled();
}

/// Whoever runs when the deadline comes ends the hold: the sidecar that was started again, or another one that shares
/// Redis and the database.
#[test]
fn a_hold_of_a_sidecar_that_was_killed_ends_at_its_deadline() {
    let redis = crate::harness::redis::Redis::start();
    let setup = Setup::default().set("redis_url", redis.url());
    let mut first = setup.start();
    let hold = |quotad: &Sidecar, account: &str| {
        quotad.account(account, json!({"initial_balance": 1_000}));
        for (id, on_expiry) in [("back", "release"), ("kept", "charge")] {
            let body = json!({"account": account, "id": id, "amount": 100, "ttl_ms": 1000, "on_expiry": on_expiry});
            quotad.reserve(body).expect(200);
        }
        let body = json!({"account": account, "id": "lives", "amount": 10, "ttl_ms": 3_600_000});
        quotad.reserve(body).expect(200);
        assert_eq!(quotad.money(account), [1_000, 210, 790]);
    };
    let ended = |quotad: &Sidecar, account: &str| {
        for id in ["back", "kept"] {
            quotad.wait_state(account, id, "expired");
        }
        assert_eq!(quotad.money(account), [900, 10, 890], "one is given back, one is charged, one lives");
        quotad.assert_reconciled();
    };
    hold(&first, "again");
    first.kill();
    first.start_again();
    ended(&first, "again");
    hold(&first, "other");
    first.kill();
    let database = format!("sqlite://{}", first.data().join("quotad.db").display());
    let second = Setup::default().set("redis_url", redis.url()).set("database_url", &database).start();
    ended(&second, "other");
}

#[test]
fn kill_9_while_working_charges_nobody_twice() {
    let mut quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1_000_000}));
    for round in 0..3 {
        let acknowledged: Vec<usize> = std::thread::scope(|scope| {
            let gateway = quotad.gateway.clone();
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    let gateway = gateway.clone();
                    scope.spawn(move || {
                        let mut done = 0;
                        loop {
                            let id = format!("{round}-{worker}-{done}");
                            let body = json!({"account": "a", "id": id, "amount": 10}).to_string();
                            match gateway.try_call("POST", "/v1/charge", &[], body.as_bytes()) {
                                Ok(answer) if answer.status == 200 => done += 1,
                                _ => return done,
                            }
                        }
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(400));
            quotad.kill();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert!(acknowledged.iter().sum::<usize>() > 0);
        quotad.start_again();
        // All of them again, and the one that was under way when the process died.
        for (worker, done) in acknowledged.iter().enumerate() {
            for number in 0..=*done {
                let body = json!({"account": "a", "id": format!("{round}-{worker}-{number}"), "amount": 10});
                let answer = quotad.gateway.post("/v1/charge", &body).expect(200);
                assert!(answer["replayed"] == true || number == *done, "lost: {body} of {acknowledged:?}");
            }
        }
        let sheet = quotad.balance("a");
        let requests = sheet["requests"].as_i64().unwrap();
        assert_eq!(sheet["balance"], 1_000_000 - 10 * requests);
        quotad.assert_reconciled();
    }
}

#[test]
fn kill_9_of_the_embedded_redis_is_healed_within_seconds() {
    let quotad = Sidecar::start();
    mixed_run(&quotad, "a");
    let before = quotad.balance("a");
    // Its file is flushed every second: what is older than that survives the kill.
    eventually("the file is flushed", Duration::from_secs(5), || {
        quotad.assert_reconciled();
        true
    });
    let mut redis = quotad.embedded_redis().expect("a private redis-server");
    for round in 0..2 {
        process::send("KILL", redis);
        eventually("served again", Duration::from_secs(20), || {
            quotad.gateway.get("/v1/accounts/a/balance").status == 200
        });
        let now = quotad.embedded_redis().expect("another redis-server");
        assert_ne!(now, redis, "round {round}");
        redis = now;
        assert_eq!(without_holds(&quotad.balance("a")), without_holds(&before), "round {round}");
        replay(&quotad, "a");
        assert_eq!(without_holds(&quotad.balance("a")), without_holds(&before), "round {round}");
    }
    quotad.play("account a => 200\nsettle held amount=600 => 200 charged=600");
    quotad.assert_reconciled();
}

#[test]
fn sigterm_finishes_what_is_under_way_and_takes_redis_along() {
    let mut quotad = Sidecar::start();
    mixed_run(&quotad, "a");
    let before = quotad.balance("a");
    let redis = quotad.embedded_redis().expect("a private redis-server");
    // A request whose body is still coming when the signal arrives.
    let body = json!({"account": "a", "id": "last", "amount": 10}).to_string();
    let mut stream = quotad.gateway.connect().unwrap();
    let (first, rest) = body.split_at(10);
    let length = body.len();
    write!(stream, "POST /v1/charge HTTP/1.1\r\nHost: q\r\nContent-Length: {length}\r\n\r\n{first}").unwrap();
    // Another connection is idle: it must not keep the process.
    let mut idle = quotad.gateway.connect().unwrap();
    write!(idle, "GET /healthz HTTP/1.1\r\nHost: q\r\n\r\n").unwrap();
    read_answer(&mut idle).unwrap();
    process::send("TERM", quotad.pid());
    eventually("the idle connection is closed or the server refuses", Duration::from_secs(5), || {
        idle.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        matches!(idle.read(&mut [0; 8]), Ok(0)) || quotad.gateway.connect().is_err()
    });
    stream.write_all(rest.as_bytes()).unwrap();
    let answer = read_answer(&mut stream).expect("the request under way is answered").expect(200);
    assert_eq!(answer["charged"], 10);
    let status = quotad.wait_end(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0));
    assert!(!process::runs(redis), "its Redis ended with it");
    quotad.start_again();
    let after = quotad.balance("a");
    assert_eq!(after["balance"], before["balance"].as_i64().unwrap() - 10);
    assert_eq!(after["held"], before["held"], "an orderly stop keeps holds");
    replay(&quotad, "a");
    quotad.assert_reconciled();
    assert_eq!(quotad.terminate().code(), Some(0));
}

#[test]
fn a_signal_while_starting_leaves_nothing_behind() {
    for delay_ms in [5, 15, 30, 60, 120, 250] {
        let setup = Setup::default();
        let mut child = setup.spawn();
        // Wherever the start is by then.
        std::thread::sleep(Duration::from_millis(delay_ms));
        process::send("TERM", child.id());
        let mut status = None;
        eventually("it ends", Duration::from_secs(15), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        // Before its handlers are set the signal ends it as it ends any process.
        assert!(status.is_some_and(|status| status.code().is_none_or(|code| code == 0)), "{delay_ms} ms: {status:?}");
        let left = process::redis_servers_in(&setup.data());
        left.iter().for_each(|pid| process::send("KILL", *pid));
        assert_eq!(left, [0; 0], "redis-server after {delay_ms} ms");
    }
}

#[test]
fn what_redis_has_forgotten_the_ledger_remembers() {
    // Tombstones of a second: soon the ledger is the only one that knows.
    let mut quotad = Setup::default().set("tombstone_ttl_ms", "1000").start();
    mixed_run(&quotad, "a");
    quotad.assert_reconciled();
    std::thread::sleep(Duration::from_millis(1500));
    let before = quotad.balance("a");
    // What is rare asks the ledger, and so does a settle that Redis does not know.
    quotad.play(
        r#"
        account a => 200
        credit c amount=1000 => 200 replayed amount=1000
        debit d amount=500 => 200 replayed amount=500
        reservation settled => 200 state=settled charged=450
        refund f2 of=charged amount=151 => 409 refund_exceeds_charge
        refund f of=charged amount=50 => 200 replayed refunded=50
        settle settled amount=450 => 200 replayed charged=450 unreserved=false
        settle part amount=300 => 200 replayed charged=300
        settle unreserved platform=openai amount=100 => 200 replayed charged=100
        settle unreserved platform=openai amount=101 => 409 conflict field=amount
        settle charged amount=200 => 409 already_settled
        "#,
    );
    assert_eq!(quotad.balance("a"), before, "nothing was charged twice");
    // A charge does not, for that would be a read of the database with every charge. It is done again,
    // and its money is given back once the ledger sees it.
    quotad.play("account a => 200\ncharge again amount=200 => 200 charged=200");
    std::thread::sleep(Duration::from_millis(1500));
    let balance = quotad.balance("a")["balance"].clone();
    quotad.play("account a => 200\ncharge again amount=200 => 200 charged=200");
    eventually("what was done twice is taken back", Duration::from_secs(10), || {
        quotad.balance("a")["balance"] == balance
    });
    quotad.assert_reconciled();
    let before = quotad.balance("a");
    assert_eq!(before["balance"], balance);
    // A Redis that lost everything is filled from SQL; holds are gone, money is not.
    assert_eq!(quotad.terminate().code(), Some(0));
    let data = quotad.data();
    std::fs::remove_dir_all(data.join("redis")).expect("the private Redis has a folder");
    quotad.start_again();
    let sheet = quotad.balance("a");
    assert_eq!(without_holds(&sheet), without_holds(&before));
    assert_eq!(sheet["held"], 0, "holds are soft state");
    assert_eq!(sheet["keys"][0]["used"], before["keys"][0]["used"]);
    for (now, then) in sheet["limits"].as_array().unwrap().iter().zip(before["limits"].as_array().unwrap()) {
        assert_eq!(now["used"], then["used"], "{now}");
    }
    // The hold that was lost is settled as what it became, once.
    quotad.play(
        r#"
        account a => 200
        settle held key=k platform=openai amount=600 => 200 charged=600 unreserved=true
        settle held key=k platform=openai amount=600 => 200 replayed charged=600
        credit c amount=1000 => 200 replayed amount=1000
    "#,
    );
    quotad.assert_reconciled();
}
