//! Settle and release, in every order.

use quotad::{
    engine::ports::{Cost, Counters, SettleCall, Status},
    quota::{
        entry::Kind,
        limit::{Metric, Period},
        reservation::{Flags, State},
    },
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, id, key, print};

const DAY: u32 = 1_795_132_800;

fn limited(name: &str, amount: i64) -> Ask {
    let gauges = [
        gauge(Metric::Cost, Period::Day, DAY, None),
        gauge(Metric::Tokens, Period::Day, DAY, None),
        gauge(Metric::Requests, Period::Minute, DAY, None),
        gauge(Metric::Concurrency, Period::None, 0, None),
    ];
    Ask { key: Some(key("k1")), groups: vec![group(&gauges)], ..ask(name, amount) }
}

/// Used and held of the four gauges of [`limited`].
async fn gauges(bench: &Bench) -> Vec<(i64, i64)> {
    let counters = bench.counters().await;
    counters.groups[0].1.iter().map(|counter| (counter.used, counter.held)).collect()
}

#[tokio::test]
async fn a_settle_charges_the_cost_and_gives_the_rest_back() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100)).await;
    let reply = bench.settle("r1", 70).await;
    assert_eq!(reply.status, Status::Done);
    let record = reply.record.clone().unwrap();
    assert_eq!((record.state, record.charged, record.rest(), record.overdraft), (State::Settled, 70, 30, 0));
    assert_eq!((record.flags, record.fingerprint), (Flags(0), print("settle 70")));
    assert_eq!(bench.money().await, [930, 0, 70, 1]);
    let counter = bench.counters().await.keys[0].1;
    assert_eq!((counter.used, counter.held, counter.requests), (70, 0, 1));
    assert_eq!(reply.key, Some(counter));
    assert_eq!(gauges(&bench).await, [(70, 0), (10, 0), (1, 0), (0, 0)]);

    let entry = bench.entries().await.remove(0);
    assert_eq!((entry.kind, entry.balance, entry.used, entry.requests, entry.tokens), (Kind::Settle, -70, 70, 1, 10));
    assert_eq!((entry.at, entry.account.as_str(), entry.op_id.as_str()), (reply.now, "acc", "r1"));
    assert_eq!((entry.record, entry.log), (reply.record, b"{}".to_vec()));
    let deltas: Vec<_> = entry.windows.iter().map(|delta| (delta.code, delta.start_s, delta.used)).collect();
    let expected =
        [(Metric::Cost, Period::Day, 70), (Metric::Tokens, Period::Day, 10), (Metric::Requests, Period::Minute, 1)];
    assert_eq!(deltas, expected.map(|(metric, period, used)| (code(metric, period), DAY, used)));
    assert!(entry.windows.iter().all(|delta| delta.field == field()));

    // The tombstone has a time to live; the hold has no deadline any more, and its queue ends with nothing in it.
    assert!(bench.server.dump()[format!("q{{{}}}r/acc/r1", bench.shard).as_bytes()].1);
    assert_eq!(bench.redis.listed(&bench.account).await.unwrap().deadlines, []);
    bench.advance(60_000).await;
    assert_eq!(bench.due(10).await, []);
    let deadlines = format!("q{{{}}}x", bench.shard);
    assert!(!bench.server.dump().keys().any(|key| key.starts_with(deadlines.as_bytes())));
}

#[tokio::test]
async fn a_settle_twice_replays_or_conflicts() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100)).await;
    let first = bench.settle("r1", 70).await;
    let before = bench.server.dump();
    let again = bench.settle("r1", 70).await;
    assert_eq!((again.status, again.record), (Status::Replayed, first.record));
    assert_eq!(bench.settle("r1", 71).await.status, Status::Conflict);
    assert_eq!(bench.release("r1").await.status, Status::AlreadySettled);
    assert_eq!(bench.reserve(&limited("r1", 100)).await.status, Status::AlreadySettled);
    assert_eq!(bench.server.dump(), before);
}

#[tokio::test]
async fn a_cost_above_the_hold_is_charged_in_full() {
    let bench = Bench::new(100).await;
    bench.reserve(&ask("r1", 100)).await;
    let reply = bench.settle("r1", 150).await;
    assert_eq!((reply.status, reply.record.unwrap().overdraft), (Status::Done, 50));
    assert_eq!(bench.money().await, [-50, 0, 150, 1]);
    assert_eq!(bench.reserve(&ask("r2", 0)).await.status, Status::InsufficientBalance, "below zero is denied");
}

#[tokio::test]
async fn costs_that_reserve_knew_and_tokens_that_settle_knows() {
    let bench = Bench::new(1_000).await;
    for (name, cost, charged) in [("r1", Cost::Prompt, 20), ("r2", Cost::Held, 100), ("r3", Cost::Units(0), 0)] {
        bench.reserve(&limited(name, 100)).await;
        let reply = bench.settle_as(name, cost, true, "x").await;
        assert_eq!((reply.status, reply.record.unwrap().charged), (Status::Done, charged));
    }
    bench.reserve(&limited("r4", 100)).await;
    let call = SettleCall {
        account: &bench.account,
        id: &id("r4"),
        cost: Cost::Units(5),
        tokens: Some(700),
        last: true,
        clamped: true,
        fingerprint: print("x"),
        price_tag: Some(b"\x01\0\0\0vip"),
        log: b"",
    };
    let other_prices = SettleCall { price_tag: Some(b"\x02\0\0\0vip"), ..call.clone() };
    let before = bench.server.dump();
    let reply = bench.redis.settle(&other_prices).await.unwrap();
    assert_eq!((reply.status, reply.record.unwrap().state), (Status::Reprice, State::Held));
    assert_eq!(bench.server.dump(), before);
    let record = bench.redis.settle(&call).await.unwrap().record.unwrap();
    assert_eq!((record.tokens, record.flags), (700, Flags(Flags::CLAMPED)));
    assert_eq!(gauges(&bench).await[1], (730, 0));
    assert_eq!(bench.settle("nobody", 1).await.status, Status::Unknown);
}

#[tokio::test]
async fn a_release_gives_everything_back() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100)).await;
    let reply = bench.release("r1").await;
    assert_eq!((reply.status, reply.record.unwrap().state), (Status::Done, State::Released));
    assert_eq!(bench.money().await, [1_000, 0, 0, 0]);
    assert_eq!(gauges(&bench).await, [(0, 0); 4]);
    assert_eq!(bench.counters().await.keys[0].1, Default::default());
    let before = bench.server.dump();
    assert_eq!(bench.release("r1").await.status, Status::Replayed);
    assert_eq!(bench.settle("r1", 10).await.status, Status::AlreadyReleased);
    assert_eq!(bench.reserve(&limited("r1", 100)).await.status, Status::AlreadyReleased);
    assert_eq!(bench.server.dump(), before);
    assert_eq!(bench.entries().await, []);
}

#[tokio::test]
async fn a_release_that_overtakes_its_reserve_refuses_it() {
    let bench = Bench::new(1_000).await;
    let reply = bench.release("r1").await;
    assert_eq!((reply.status, reply.record.unwrap().rest()), (Status::Done, 0));
    let before = bench.server.dump();
    assert_eq!(bench.reserve(&ask("r1", 100)).await.status, Status::AlreadyReleased);
    assert_eq!(bench.settle("r1", 100).await.status, Status::AlreadyReleased);
    assert_eq!(bench.release("r1").await.status, Status::Replayed);
    assert_eq!(bench.server.dump(), before);
}

#[tokio::test]
async fn partial_settles_are_cumulative() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100)).await;
    let reply = bench.partial("r1", 30).await;
    let record = reply.record.unwrap();
    assert_eq!((record.state, record.charged, record.rest(), record.parts), (State::Held, 30, 70, 1));
    assert_eq!(record.fingerprint, print("reserve 100"), "a reserve may still be repeated");
    assert_eq!(bench.money().await, [970, 70, 30, 0]);
    assert_eq!(gauges(&bench).await, [(30, 70), (0, 10), (0, 1), (0, 1)]);
    let before = bench.server.dump();
    assert_eq!(bench.partial("r1", 30).await.status, Status::Replayed);
    assert_eq!(bench.partial("r1", 29).await.status, Status::Decreasing);
    assert_eq!(bench.settle("r1", 29).await.status, Status::Decreasing);
    assert_eq!(bench.reserve(&limited("r1", 100)).await.status, Status::Replayed);
    assert_eq!(bench.server.dump(), before);
    // Beyond the hold: charged in full, nothing held any longer.
    assert_eq!(bench.partial("r1", 130).await.status, Status::Done);
    assert_eq!(bench.money().await, [870, 0, 130, 0]);
    let record = bench.settle("r1", 140).await.record.unwrap();
    assert_eq!((record.charged, record.parts, record.rest()), (140, 2, 0));
    assert_eq!(bench.money().await, [860, 0, 140, 1]);
    assert_eq!(gauges(&bench).await, [(140, 0), (10, 0), (1, 0), (0, 0)]);
    assert_eq!(bench.ledger().await, [(Kind::Partial, -30), (Kind::Partial, -100), (Kind::Settle, -10)]);
    assert_eq!(bench.partial("r1", 150).await.status, Status::Conflict, "after the final one");
}

#[tokio::test]
async fn a_release_after_a_partial_settle_gives_the_rest_back() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100)).await;
    bench.partial("r1", 30).await;
    let record = bench.release("r1").await.record.unwrap();
    assert_eq!((record.state, record.charged, record.rest()), (State::Released, 30, 70));
    assert_eq!(bench.money().await, [970, 0, 30, 0]);
    assert_eq!(gauges(&bench).await, [(30, 0), (0, 0), (0, 0), (0, 0)]);
}

#[tokio::test]
async fn a_settle_after_the_deadline_is_late_and_charges_once() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100)).await;
    bench.advance(60_000).await;
    let record = bench.settle("r1", 70).await.record.unwrap();
    assert_eq!((record.flags, record.charged), (Flags(Flags::LATE), 70));
    assert_eq!(bench.settle("r1", 70).await.status, Status::Replayed);
    assert_eq!(bench.money().await, [930, 0, 70, 1]);
}
