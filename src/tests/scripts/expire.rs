//! Expiry, and settles that come after it.

use quotad::{
    engine::ports::{Counters, Status},
    quota::{
        entry::Kind,
        limit::{Metric, Period},
        reservation::{Flags, State},
    },
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, id};

const DAY: u32 = 1_795_132_800;

fn limited(name: &str, amount: i64, charge_on_expiry: bool) -> Ask {
    let gauges = [
        gauge(Metric::Cost, Period::Day, DAY, None),
        gauge(Metric::Requests, Period::Day, DAY, None),
        gauge(Metric::Concurrency, Period::None, 0, None),
    ];
    Ask { charge_on_expiry, groups: vec![group(&gauges)], ..ask(name, amount) }
}

async fn cost(bench: &Bench) -> (i64, i64) {
    let counter = bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap();
    (counter.used, counter.held)
}

async fn requests(bench: &Bench) -> (i64, i64) {
    let counter = bench.gauge(&field(), code(Metric::Requests, Period::Day)).await.unwrap();
    (counter.used, counter.held)
}

#[tokio::test]
async fn a_hold_ends_at_its_deadline_and_not_before() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100, false)).await;
    bench.reserve(&Ask { ttl_ms: 5_000, ..limited("r2", 50, false) }).await;
    assert_eq!(bench.redis.due(bench.shard, 10).await.unwrap(), []);
    let before = bench.server.dump();
    assert_eq!(bench.expire("r1").await.status, Status::Idle);
    assert_eq!(bench.server.dump(), before);
    bench.advance(60_000).await;
    let due = bench.redis.due(bench.shard, 10).await.unwrap();
    assert_eq!(due, [(bench.account.clone(), id("r2")), (bench.account.clone(), id("r1"))], "the oldest first");
    assert_eq!(bench.redis.due(bench.shard, 1).await.unwrap().len(), 1);
    for name in ["r1", "r2"] {
        let reply = bench.expire(name).await;
        assert_eq!((reply.status, reply.record.unwrap().state), (Status::Done, State::Expired));
    }
    assert_eq!(bench.money().await, [1_000, 0, 0, 0]);
    assert_eq!((cost(&bench).await, requests(&bench).await), ((0, 0), (0, 0)));
    assert_eq!(bench.redis.due(bench.shard, 10).await.unwrap(), []);
    assert_eq!(bench.entries().await, []);
    assert_eq!(bench.expire("r1").await.status, Status::Idle);
    assert_eq!(bench.release("r1").await.status, Status::Replayed);
    assert_eq!(bench.reserve(&limited("r1", 100, false)).await.status, Status::AlreadyReleased);
}

#[tokio::test]
async fn a_late_settle_charges_after_a_released_expiry() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100, false)).await;
    bench.advance(60_000).await;
    bench.expire("r1").await;
    let reply = bench.settle("r1", 70).await;
    let record = reply.record.unwrap();
    assert_eq!((reply.status, record.state, record.flags), (Status::Done, State::Settled, Flags(Flags::LATE)));
    assert_eq!(bench.money().await, [930, 0, 70, 1]);
    assert_eq!((cost(&bench).await, requests(&bench).await), ((70, 0), (1, 0)));
    assert_eq!(bench.settle("r1", 70).await.status, Status::Replayed);
    assert_eq!(bench.ledger().await, [(Kind::Settle, -70)]);
}

#[tokio::test]
async fn a_late_settle_replaces_what_an_expiry_charged() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100, true)).await;
    bench.advance(60_000).await;
    let record = bench.expire("r1").await.record.unwrap();
    assert_eq!((record.state, record.charged), (State::Expired, 100));
    assert_eq!(bench.money().await, [900, 0, 100, 1]);
    assert_eq!((cost(&bench).await, requests(&bench).await), ((100, 0), (1, 0)));
    assert_eq!(bench.reserve(&limited("r1", 100, true)).await.status, Status::AlreadySettled);
    let record = bench.settle("r1", 40).await.record.unwrap();
    assert_eq!((record.state, record.charged), (State::Settled, 40));
    assert_eq!(record.flags, Flags(Flags::LATE | Flags::CHARGE_ON_EXPIRY));
    assert_eq!(bench.money().await, [960, 0, 40, 1], "the request was counted once");
    assert_eq!((cost(&bench).await, requests(&bench).await), ((40, 0), (1, 0)));
    let entries = bench.entries().await;
    let deltas: Vec<_> =
        entries.iter().map(|entry| (entry.kind, entry.balance, entry.requests, entry.tokens)).collect();
    assert_eq!(deltas, [(Kind::Expire, -100, 1, 10), (Kind::Settle, 60, 0, 0)]);
}

#[tokio::test]
async fn an_expiry_after_partial_settles() {
    let bench = Bench::new(1_000).await;
    for (name, charge) in [("r1", false), ("r2", true)] {
        bench.reserve(&limited(name, 100, charge)).await;
        bench.partial(name, 30).await;
    }
    bench.advance(60_000).await;
    for name in ["r1", "r2"] {
        assert_eq!(bench.expire(name).await.status, Status::Done);
    }
    assert_eq!(bench.money().await, [870, 0, 130, 1]);
    assert_eq!(bench.record("r1").await.unwrap().charged, 30);
    assert_eq!(bench.record("r2").await.unwrap().charged, 100);
    assert_eq!(bench.partial("r1", 20).await.status, Status::Decreasing);
    assert_eq!(bench.partial("r1", 50).await.status, Status::Done);
    assert_eq!(bench.settle("r1", 60).await.status, Status::Done);
    assert_eq!(bench.money().await, [840, 0, 160, 2]);
}

#[tokio::test]
async fn a_late_settle_stays_above_what_was_refunded() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100, true)).await;
    bench.advance(60_000).await;
    bench.expire("r1").await;
    assert_eq!(bench.refund("f1", "r1", 60).await.status, Status::Done);
    assert_eq!(bench.settle("r1", 59).await.status, Status::Decreasing);
    assert_eq!(bench.settle("r1", 60).await.status, Status::Done);
    assert_eq!(bench.money().await, [1_000, 0, 0, 1]);
}

#[tokio::test]
async fn a_deadline_without_a_reservation_goes_away() {
    let bench = Bench::new(1_000).await;
    let member = format!("q{{{}}}r/acc/ghost", bench.shard);
    let deadlines = format!("q{{{}}}x/{}", bench.shard, xxhash_rust::xxh3::xxh3_64(member.as_bytes()) % 16);
    redis::cmd("ZADD").arg(&deadlines).arg(1).arg(member).exec(&mut bench.server.connect()).unwrap();
    assert_eq!(bench.redis.due(bench.shard, 10).await.unwrap(), [(bench.account.clone(), id("ghost"))]);
    assert_eq!(bench.expire("ghost").await.status, Status::Idle);
    assert_eq!(bench.redis.due(bench.shard, 10).await.unwrap(), []);
}
