//! A Redis, or a database, that comes back as an older copy of itself.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;

use crate::harness::{Setup, Sidecar, eventually, redis::Redis};

fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// The append-only files of a server, and a place beside them for a copy.
fn files(redis: &Redis) -> (PathBuf, PathBuf) {
    let folder = redis.socket().parent().unwrap().to_owned();
    (folder.join("appendonlydir"), folder.join("copy"))
}

/// The database's files, from one folder to another.
fn copy_database(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for end in ["", "-wal", "-shm"] {
        let name = format!("quotad.db{end}");
        let _ = std::fs::remove_file(to.join(&name));
        if from.join(&name).exists() {
            std::fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

fn charge(quotad: &Sidecar, ids: impl IntoIterator<Item = &'static str>) {
    for id in ids {
        quotad.gateway.post("/v1/charge", &json!({"account": "a", "id": id, "amount": 10})).expect(200);
    }
}

fn assert_replayed(quotad: &Sidecar, ids: impl IntoIterator<Item = &'static str>) {
    for id in ids {
        let answer = quotad.gateway.post("/v1/charge", &json!({"account": "a", "id": id, "amount": 10})).expect(200);
        assert_eq!(answer["replayed"], true, "{id}: {answer}");
    }
}

fn wait_served(quotad: &Sidecar) {
    eventually("served", Duration::from_secs(20), || quotad.gateway.get("/v1/accounts/a/balance").status == 200);
}

fn metric(quotad: &Sidecar, line: &str) -> f64 {
    let page = quotad.admin.get("/metrics");
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let line = text.lines().find(|found| found.starts_with(line)).map(str::to_owned);
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

#[test]
fn a_redis_that_lost_its_tail_gets_it_from_the_ledger_and_keeps_holds() {
    let mut redis = Redis::start();
    let quotad = Setup::default().set("redis_url", redis.url()).start();
    quotad.account("a", json!({"initial_balance": 1000}));
    quotad.reserve(json!({"account": "a", "id": "held", "amount": 100, "ttl_ms": 3_600_000})).expect(200);
    quotad.reserve(json!({"account": "a", "id": "settled", "amount": 100})).expect(200);
    charge(&quotad, ["c1", "c2"]);
    quotad.assert_reconciled();
    let (live, copy) = files(&redis);
    copy_folder(&live, &copy);
    charge(&quotad, ["c3", "c4"]);
    quotad.settle(json!({"account": "a", "id": "settled", "amount": 70})).expect(200);
    quotad.play("account a => 200\nrefund f of=c4 amount=4 => 200\ncredit t amount=5 => 200");
    quotad.assert_reconciled();
    let before = quotad.balance("a");
    redis.kill();
    copy_folder(&copy, &live);
    redis.start_again();
    wait_served(&quotad);
    assert_eq!(quotad.balance("a"), before, "holds included");
    assert_replayed(&quotad, ["c1", "c2", "c3", "c4"]);
    let answer = quotad.settle(json!({"account": "a", "id": "settled", "amount": 70})).expect(200);
    assert_eq!(answer["replayed"], true);
    let play = "account a => 200\nrefund f of=c4 amount=4 => 200 replayed\ncredit t amount=5 => 200 replayed";
    quotad.play(play);
    assert_eq!(quotad.balance("a"), before);
    assert!(metric(&quotad, "quotad_recoveries_total{cause=\"behind\"}") >= 1.0);
    quotad.play("account a => 200\nsettle held amount=60 => 200 charged=60 unreserved=false late=false");
    quotad.assert_reconciled();
}

#[test]
fn two_histories_of_one_shard_are_merged() {
    let mut redis = Redis::start();
    let setup = Setup::default().set("redis_url", redis.url());
    let mut quotad = setup.start();
    let (data, older, newer) = (quotad.data(), quotad.data().join("older"), quotad.data().join("newer"));
    quotad.account("a", json!({"initial_balance": 1000}));
    charge(&quotad, ["c1", "c2"]);
    quotad.assert_reconciled();
    quotad.terminate();
    let (live, copy) = files(&redis);
    copy_folder(&live, &copy);
    copy_database(&data, &older);
    quotad.start_again();
    charge(&quotad, ["d1", "d2", "d3"]);
    quotad.terminate();
    copy_database(&data, &newer);
    // Redis and the database go another way from the copies on; then the database is the first one again.
    redis.kill();
    copy_folder(&copy, &live);
    redis.start_again();
    copy_database(&older, &data);
    quotad.start_again();
    charge(&quotad, ["e1", "d2", "e2"]);
    quotad.terminate();
    copy_database(&newer, &data);
    quotad.start_again();
    wait_served(&quotad);
    assert_eq!(quotad.money("a"), [1000 - 70, 0, 1000 - 70], "c1 c2 d1 d2 d3 e1 e2, each once");
    assert_eq!(quotad.balance("a")["requests"], 7);
    assert_replayed(&quotad, ["c1", "c2", "d1", "d2", "d3", "e1", "e2"]);
    assert!(metric(&quotad, "quotad_recoveries_total{cause=\"diverged\"}") >= 1.0);
    quotad.assert_reconciled();
}

#[test]
fn a_database_restored_from_an_older_copy_gets_the_retained_tail() {
    let redis = Redis::start();
    let mut quotad = Setup::default().set("redis_url", redis.url()).start();
    let (data, older) = (quotad.data(), quotad.data().join("older"));
    quotad.account("a", json!({"initial_balance": 1000}));
    charge(&quotad, ["c1", "c2"]);
    quotad.reserve(json!({"account": "a", "id": "held", "amount": 100, "ttl_ms": 3_600_000})).expect(200);
    quotad.assert_reconciled();
    quotad.terminate();
    copy_database(&data, &older);
    quotad.start_again();
    charge(&quotad, ["d1", "d2"]);
    quotad.terminate();
    copy_database(&older, &data);
    quotad.start_again();
    wait_served(&quotad);
    assert_eq!(quotad.money("a"), [960, 100, 860]);
    assert_replayed(&quotad, ["c1", "c2", "d1", "d2"]);
    quotad.assert_reconciled();
}
