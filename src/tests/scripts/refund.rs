//! Refund.

use quotad::{
    engine::ports::{Counters, ResetCall, Status},
    quota::{
        entry::Kind,
        limit::{Metric, Period},
    },
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, key, op, op_numbers};

const DAY: u32 = 1_795_132_800;

fn limited(name: &str, day: u32) -> Ask {
    let gauges = [gauge(Metric::Cost, Period::Day, day, None), gauge(Metric::Requests, Period::Day, day, None)];
    Ask { key: Some(key("k")), groups: vec![group(&gauges)], ..ask(name, 100) }
}

async fn cost_used(bench: &Bench) -> i64 {
    bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap().used
}

#[tokio::test]
async fn refunds_never_exceed_the_charge() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", DAY)).await;
    bench.settle("r1", 80).await;
    let reply = bench.refund("f1", "r1", 50).await;
    assert_eq!((reply.status, op_numbers(&reply)), (Status::Done, Some((50, 970))));
    assert_eq!(reply.record.as_ref().unwrap().refunded, 50);
    assert_eq!(bench.money().await, [970, 0, 30, 1]);
    assert_eq!((cost_used(&bench).await, bench.counters().await.keys[0].1.used), (30, 30));
    let entry = bench.entries().await.remove(1);
    assert_eq!((entry.kind, entry.balance, entry.used, entry.requests), (Kind::Refund, 50, -50, 0));
    assert_eq!((entry.op_id.as_str(), entry.record, entry.windows[0].used), ("f1", reply.record, -50));

    let before = bench.server.dump();
    let again = bench.refund("f1", "r1", 50).await;
    assert_eq!((again.status, op_numbers(&again)), (Status::Replayed, Some((50, 970))));
    assert_eq!(bench.refund("f1", "r1", 49).await.status, Status::Conflict);
    assert_eq!(bench.refund("f2", "r1", 31).await.status, Status::RefundExceedsCharge);
    assert_eq!(bench.server.dump(), before);
    assert_eq!(bench.refund("f2", "r1", 30).await.status, Status::Done);
    assert_eq!(bench.refund("f3", "r1", 1).await.status, Status::RefundExceedsCharge);
    assert_eq!(bench.money().await, [1_000, 0, 0, 1]);
}

#[tokio::test]
async fn only_what_was_settled_can_be_refunded() {
    let bench = Bench::new(1_000).await;
    assert_eq!(bench.refund("f1", "nobody", 1).await.status, Status::Unknown);
    for name in ["held", "released", "expired", "charged"] {
        bench.reserve(&Ask { charge_on_expiry: name == "charged", ..ask(name, 10) }).await;
    }
    bench.partial("held", 5).await;
    bench.release("released").await;
    bench.advance(60_000).await;
    bench.expire("expired").await;
    bench.expire("charged").await;
    for name in ["held", "released", "expired"] {
        assert_eq!(bench.refund("f1", name, 1).await.status, Status::RefundExceedsCharge, "{name}");
    }
    assert_eq!(bench.refund("f1", "charged", 10).await.status, Status::Done);
}

#[tokio::test]
async fn a_refund_after_midnight_gives_today_nothing() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", DAY)).await;
    bench.settle("r1", 80).await;
    bench.reserve(&limited("r2", DAY + 86_400)).await;
    bench.settle("r2", 60).await;
    bench.refund("f1", "r1", 80).await;
    assert_eq!(cost_used(&bench).await, 60);
    assert_eq!(bench.entries().await[2].windows, [], "and SQL hears of no change either");
    assert_eq!(bench.money().await, [940, 0, 60, 2]);
}

#[tokio::test]
async fn a_refund_after_a_reset_takes_usage_to_0_at_most() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", DAY)).await;
    bench.settle("r1", 80).await;
    let call = ResetCall {
        account: &bench.account,
        op_id: &op("o1"),
        field: &field(),
        codes: &[code(Metric::Cost, Period::Day)],
        log: b"",
    };
    bench.redis.reset(&call).await.unwrap();
    bench.reserve(&limited("r2", DAY)).await;
    bench.settle("r2", 20).await;
    bench.refund("f1", "r1", 50).await;
    assert_eq!(cost_used(&bench).await, 0);
    assert_eq!(bench.entries().await.last().unwrap().windows[0].used, -20);
    assert_eq!(bench.money().await, [950, 0, 50, 2]);
}
