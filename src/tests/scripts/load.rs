//! Cold accounts, generations, and what a script answers when there is nothing to decide about.

use quotad::{
    engine::ports::{Counters, ShardMeta, Status, Stream, Unavailable},
    quota::{
        counter::{AccountCounters, Head, KeyCounter, WindowCounter},
        id::AccountId,
        limit::{Metric, Period},
        reservation::Record,
    },
};

use crate::bench::{Bench, ask, code, field, id, key};

/// Another account of the bench's shard, not loaded.
fn cold(bench: &Bench) -> AccountId {
    let mut names = (0..).map(|n| AccountId::new(format!("cold{n}")).unwrap());
    names.find(|account| bench.redis.shard_of(account) == bench.shard).unwrap()
}

#[tokio::test]
async fn every_verb_answers_absent_for_a_cold_account() {
    let mut bench = Bench::new(1_000).await;
    let cold = cold(&bench);
    let loaded = std::mem::replace(&mut bench.account, cold);
    let before = bench.server.dump();
    assert_eq!(bench.reserve(&ask("r1", 1)).await.status, Status::Absent);
    assert_eq!(bench.settle("r1", 1).await.status, Status::Absent);
    assert_eq!(bench.release("r1").await.status, Status::Absent);
    assert_eq!(bench.extend(&ask("r1", 1), None, None).await.status, Status::Absent);
    assert_eq!(ask("r1", 1).charge(&bench, false, false).await.status, Status::Absent);
    assert_eq!(bench.refund("f1", "r1", 1).await.status, Status::Absent);
    assert_eq!(bench.expire("r1").await.status, Status::Absent);
    let reply = bench.redis.raise_version(&bench.account, 2).await.unwrap();
    assert_eq!((reply.status, reply.head), (Status::Absent, None));
    assert_eq!(bench.redis.read_account(&bench.account).await.unwrap(), None);
    assert_eq!(bench.redis.read_record(&bench.account, &id("r1")).await.unwrap(), None);
    assert_eq!(bench.server.dump(), before);
    bench.account = loaded;
    assert_eq!(bench.reserve(&ask("r1", 1)).await.status, Status::Done);
}

#[tokio::test]
async fn a_load_is_installed_whole_and_once() {
    let bench = Bench::new(0).await;
    let account = cold(&bench);
    let counter = WindowCounter { code: code(Metric::Cost, Period::Day), start_s: 7, used: 9, held: 0 };
    let mut counters = AccountCounters {
        head: Head { version: 4, balance: -7, used: 5, requests: 2, ..Head::default() },
        // More than one HSET of the script takes.
        keys: (0..1_000).map(|n| (key(&format!("k{n}")), KeyCounter { used: n, held: 0, requests: 1 })).collect(),
        groups: vec![(field(), [counter].into_iter().collect())],
    };
    let stale = bench.redis.begin_load(&account).await.unwrap();
    let nonce = bench.redis.begin_load(&account).await.unwrap();
    assert_eq!(bench.redis.hydrate(&account, stale, &counters).await.unwrap().status, Status::Idle, "overtaken");
    let reply = bench.redis.hydrate(&account, nonce, &counters).await.unwrap();
    assert_eq!((reply.status, reply.head), (Status::Done, Some(counters.head)));
    let (_, mut read) = bench.redis.read_account(&account).await.unwrap().unwrap();
    read.keys.sort_by(|a, b| a.0.cmp(&b.0));
    counters.keys.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(read, counters);
    // Never over an account that is there: money spent meanwhile would come back.
    assert_eq!(bench.redis.hydrate(&account, nonce, &counters).await.unwrap().status, Status::Idle, "nonce used");
    let nonce = bench.redis.begin_load(&account).await.unwrap();
    assert_eq!(bench.redis.hydrate(&account, nonce, &counters).await.unwrap().status, Status::Idle);
}

#[tokio::test]
async fn a_restored_tombstone_replaces_nothing() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&ask("r1", 100)).await;
    let settled = bench.settle("r1", 40).await.record.unwrap();
    let name = format!("q{{{}}}r/acc/r1", bench.shard);
    redis::cmd("DEL").arg(&name).exec(&mut bench.server.connect()).unwrap();
    bench.redis.restore_record(&bench.account, &id("r1"), &settled).await.unwrap();
    assert_eq!(bench.record("r1").await.as_ref(), Some(&settled));
    assert!(bench.server.dump()[name.as_bytes()].1, "a tombstone has a time to live");
    let other = Record { charged: 0, ..settled.clone() };
    bench.redis.restore_record(&bench.account, &id("r1"), &other).await.unwrap();
    assert_eq!(bench.record("r1").await, Some(settled));
    assert_eq!(bench.refund("f1", "r1", 40).await.status, Status::Done);
}

#[tokio::test]
async fn another_generation_answers_generation_and_stops_the_shard() {
    let bench = Bench::new(1_000).await;
    bench.redis.needs_attach().await;
    let meta = bench.redis.meta(bench.shard).await.unwrap().unwrap();
    let fenced = ShardMeta { open: false, ..meta };
    assert!(bench.redis.set_meta(bench.shard, Some(&meta), &fenced).await.unwrap());
    let before = bench.server.dump();
    let reply = bench.reserve(&ask("r1", 1)).await;
    assert_eq!((reply.status, reply.head), (Status::Generation, None));
    assert_eq!(bench.server.dump(), before);
    let reply = bench.redis.release(&bench.account, &id("r1")).await;
    assert!(matches!(reply, Err(Unavailable::Recovering)), "not served until it is attached again");
    bench.redis.needs_attach().await;
    let mut next = ShardMeta { open: true, ..meta };
    next.top.generation += 1;
    assert!(bench.redis.set_meta(bench.shard, Some(&fenced), &next).await.unwrap());
    bench.redis.serve(bench.shard, meta.top.generation, bench.redis.era());
    assert_eq!(bench.reserve(&ask("r1", 1)).await.status, Status::Generation, "an old generation");
    bench.redis.serve(bench.shard, next.top.generation, bench.redis.era());
    assert_eq!(bench.reserve(&ask("r1", 1)).await.status, Status::Done);
    bench.redis.stop(bench.shard);
    assert!(matches!(bench.redis.due(bench.shard, 1).await, Err(Unavailable::Recovering)));
}
