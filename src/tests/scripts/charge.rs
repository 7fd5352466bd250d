//! Charge, and the settle of a call that nobody reserved.

use quotad::{
    engine::ports::Status,
    quota::{
        entry::Kind,
        limit::{Metric, Period},
        reservation::{Flags, State},
    },
};

use crate::bench::{Ask, Bench, ask, gauge, group, key, print};

const DAY: u32 = 1_795_132_800;

fn limited(name: &str, amount: i64) -> Ask {
    let gauges = [
        gauge(Metric::Cost, Period::Day, DAY, Some(500)),
        gauge(Metric::Tokens, Period::Day, DAY, Some(100)),
        gauge(Metric::Concurrency, Period::None, 0, Some(1)),
    ];
    Ask { key: Some(key("k")), allowance: Some(300), groups: vec![group(&gauges)], ..ask(name, amount) }
}

#[tokio::test]
async fn a_charge_is_reserve_and_settle_at_once() {
    let bench = Bench::new(1_000).await;
    let reply = limited("c1", 100).charge(&bench, false, false).await;
    let record = reply.record.clone().unwrap();
    assert_eq!((reply.status, record.state, record.flags), (Status::Done, State::Settled, Flags(Flags::BY_CHARGE)));
    assert_eq!((record.charged, record.rest(), record.tokens), (100, 0, 10));
    assert_eq!(bench.money().await, [900, 0, 100, 1]);
    let counters = bench.counters().await;
    assert_eq!((counters.keys[0].1.used, counters.keys[0].1.held, counters.keys[0].1.requests), (100, 0, 1));
    let gauges: Vec<_> = counters.groups[0].1.iter().map(|counter| (counter.used, counter.held)).collect();
    assert_eq!(gauges, [(100, 0), (10, 0), (0, 0)]);
    assert_eq!(reply.windows[0], counters.groups[0].1);
    let entry = bench.entries().await.remove(0);
    assert_eq!((entry.kind, entry.balance, entry.requests, entry.tokens), (Kind::Charge, -100, 1, 10));
    assert_eq!((entry.record, entry.windows.len(), entry.log), (reply.record, 2, br#"{"model":"m"}"#.to_vec()));

    let before = bench.server.dump();
    assert_eq!(limited("c1", 100).charge(&bench, false, false).await.status, Status::Replayed);
    assert_eq!(limited("c1", 101).charge(&bench, false, false).await.status, Status::Conflict);
    assert_eq!(bench.settle("c1", 100).await.status, Status::AlreadySettled);
    assert_eq!(bench.release("c1").await.status, Status::AlreadySettled);
    assert_eq!(bench.reserve(&limited("c1", 100)).await.status, Status::AlreadySettled);
    assert_eq!(bench.server.dump(), before);
}

#[tokio::test]
async fn a_charge_is_denied_like_a_reserve_and_force_skips_the_money() {
    let bench = Bench::new(200).await;
    let cases = [
        ("version", Ask { version: 0, ..limited("c", 1) }, Status::Stale),
        ("window", Ask { valid: (0, 1), ..limited("c", 1) }, Status::Window),
        ("policy", Ask { denied: true, ..limited("c", 1) }, Status::Denied),
        ("balance", limited("c", 201), Status::InsufficientBalance),
        ("key", Ask { credit_limit: 1_000, ..limited("c", 301) }, Status::KeyExhausted),
        ("limit", Ask { credit_limit: 1_000, allowance: None, ..limited("c", 501) }, Status::LimitExceeded),
        ("tokens", Ask { tokens: 101, ..limited("c", 1) }, Status::LimitExceeded),
    ];
    for (name, ask, status) in cases {
        let before = bench.server.dump();
        assert_eq!(ask.charge(&bench, false, false).await.status, status, "{name}");
        assert_eq!(bench.server.dump(), before, "{name}");
    }
    assert_eq!(Ask { denied: true, ..limited("c", 600) }.charge(&bench, true, false).await.status, Status::Denied);
    assert_eq!(limited("c", 1 << 53).charge(&bench, true, false).await.status, Status::OutOfRange);
    let reply = limited("c", 600).charge(&bench, true, false).await;
    assert_eq!((reply.status, reply.record.unwrap().overdraft), (Status::Done, 400));
    assert_eq!(bench.money().await, [-400, 0, 600, 1]);
}

#[tokio::test]
async fn an_unreserved_settle_is_charged_once_whatever_policy_says() {
    let bench = Bench::new(200).await;
    let ask = Ask { denied: true, ..limited("s1", 600) };
    let reply = ask.charge(&bench, false, true).await;
    let record = reply.record.unwrap();
    assert_eq!((reply.status, record.state, record.flags), (Status::Done, State::Settled, Flags(Flags::UNRESERVED)));
    assert_eq!((record.charged, record.rest()), (600, 0));
    assert_eq!(bench.ledger().await, [(Kind::Settle, -600)]);
    assert_eq!(ask.charge(&bench, false, true).await.status, Status::Replayed);
    let other = Ask { content: "other".into(), ..ask.clone() };
    assert_eq!(other.charge(&bench, false, true).await.status, Status::AlreadySettled);
    assert_eq!(
        bench.settle_as("s1", quotad::engine::ports::Cost::Units(600), true, &ask.content).await.status,
        Status::Replayed
    );
    assert_eq!(bench.settle("s1", 600).await.status, Status::Conflict);
}

#[tokio::test]
async fn a_charge_meets_a_reservation() {
    let bench = Bench::new(1_000).await;
    for name in ["held", "settled", "released", "expired"] {
        bench.reserve(&ask(name, 10)).await;
    }
    bench.settle("settled", 1).await;
    bench.release("released").await;
    bench.advance(60_000).await;
    bench.expire("expired").await;
    let charge = |name: &str| Ask { content: "charge".into(), ..ask(name, 10) };
    for (name, plain, unreserved) in [
        ("held", Status::Conflict, Status::Idle),
        ("settled", Status::AlreadySettled, Status::AlreadySettled),
        ("released", Status::AlreadyReleased, Status::AlreadyReleased),
        ("expired", Status::AlreadyReleased, Status::Idle),
    ] {
        let before = bench.server.dump();
        assert_eq!(charge(name).charge(&bench, false, false).await.status, plain, "{name}");
        assert_eq!(charge(name).charge(&bench, false, true).await.status, unreserved, "{name}");
        assert_eq!(bench.server.dump(), before, "{name}");
    }
    assert_eq!(bench.record("held").await.unwrap().fingerprint, print("reserve 10"));
}
