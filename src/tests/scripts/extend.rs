//! Extend.

use quotad::{
    engine::ports::{Reprice, Status},
    quota::limit::{Metric, Period},
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, key};

const DAY: u32 = 1_795_132_800;

fn limited(name: &str, cap: i64) -> Ask {
    let gauges = [gauge(Metric::Tokens, Period::Day, DAY, None), gauge(Metric::Cost, Period::Day, DAY, Some(cap))];
    Ask { key: Some(key("k")), allowance: Some(500), groups: vec![group(&gauges)], ..ask(name, 100) }
}

#[tokio::test]
async fn an_extend_holds_more_and_longer() {
    let bench = Bench::new(1_000).await;
    let ask = limited("r1", 400);
    let first = bench.reserve(&ask).await.record.unwrap();
    let reply = bench.extend(&ask, Some(250), Some(120_000)).await;
    let record = reply.record.clone().unwrap();
    assert_eq!((reply.status, record.held, record.expires.0), (Status::Done, 250, reply.now.0 + 120_000));
    assert!(record.expires > first.expires);
    assert_eq!(bench.money().await, [1_000, 250, 0, 0]);
    assert_eq!(bench.counters().await.keys[0].1.held, 250);
    let cost = bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap();
    assert_eq!((cost.held, reply.windows[0][0]), (250, cost), "the answer shows the call's gauges first");
    assert_eq!(bench.gauge(&field(), code(Metric::Tokens, Period::Day)).await.unwrap().held, 10);
    let before = bench.server.dump();
    assert_eq!(bench.extend(&ask, Some(249), None).await.status, Status::Decreasing);
    assert_eq!(bench.server.dump(), before);
    // Repeated, it holds nothing more; the deadline alone can be moved.
    assert_eq!(bench.extend(&ask, Some(250), None).await.record.unwrap().expires, record.expires);
    assert!(bench.extend(&ask, None, Some(240_000)).await.record.unwrap().expires > record.expires);
    assert_eq!(bench.money().await, [1_000, 250, 0, 0]);
    bench.advance(239_000).await;
    assert_eq!(bench.expire("r1").await.status, Status::Idle);
    bench.advance(1_000).await;
    assert_eq!(bench.expire("r1").await.status, Status::Done);
    assert_eq!(bench.money().await, [1_000, 0, 0, 0]);
    assert_eq!(bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap().held, 0);
}

#[tokio::test]
async fn a_denied_extend_leaves_the_old_hold() {
    let bench = Bench::new(1_000).await;
    let ask = limited("r1", 400);
    bench.reserve(&ask).await;
    bench.reserve(&Ask { key: None, groups: vec![], ..crate::bench::ask("other", 300) }).await;
    let roomy = Ask { credit_limit: 5_000, allowance: None, ..ask.clone() };
    let cases = [
        ("version", Ask { version: 0, ..roomy.clone() }, 200, Status::Stale),
        ("policy", Ask { denied: true, ..roomy.clone() }, 200, Status::Denied),
        ("balance", Ask { allowance: None, ..ask.clone() }, 701, Status::InsufficientBalance),
        ("key", ask.clone(), 501, Status::KeyExhausted),
        ("limit", roomy.clone(), 401, Status::LimitExceeded),
        ("range", Ask { credit_limit: 1 << 53, groups: vec![], ..roomy }, 1 << 52, Status::OutOfRange),
    ];
    for (name, ask, amount, status) in cases {
        let before = bench.server.dump();
        assert_eq!(bench.extend(&ask, Some(amount), Some(90_000)).await.status, status, "{name}");
        assert_eq!(bench.server.dump(), before, "{name}");
    }
    assert_eq!(bench.extend(&ask, Some(400), None).await.status, Status::Done);
}

#[tokio::test]
async fn only_a_live_hold_can_be_extended() {
    let bench = Bench::new(1_000).await;
    assert_eq!(bench.extend(&ask("nobody", 1), Some(2), None).await.status, Status::Unknown);
    for name in ["settled", "released", "late", "charged"] {
        bench.reserve(&Ask { charge_on_expiry: name == "charged", ..ask(name, 10) }).await;
    }
    bench.settle("settled", 1).await;
    bench.release("released").await;
    bench.advance(60_000).await;
    assert_eq!(bench.extend(&ask("settled", 1), Some(20), None).await.status, Status::AlreadySettled);
    assert_eq!(bench.extend(&ask("released", 1), Some(20), None).await.status, Status::AlreadyReleased);
    assert_eq!(bench.extend(&ask("late", 1), Some(20), None).await.status, Status::AlreadyReleased);
    bench.expire("charged").await;
    assert_eq!(bench.extend(&ask("charged", 1), Some(20), None).await.status, Status::AlreadySettled);
}

#[tokio::test]
async fn a_window_that_is_no_longer_the_reservations_neither_denies_nor_counts() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 400)).await;
    let tomorrow = |name: &str| {
        let gauges = [
            gauge(Metric::Tokens, Period::Day, DAY + 86_400, None),
            gauge(Metric::Cost, Period::Day, DAY + 86_400, Some(400)),
        ];
        Ask { groups: vec![group(&gauges)], ..ask(name, 390) }
    };
    bench.reserve(&tomorrow("r2")).await;
    assert_eq!(bench.extend(&tomorrow("r1"), Some(200), None).await.status, Status::Done);
    let cost = bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap();
    assert_eq!((cost.start_s, cost.held), (DAY + 86_400, 390));
    assert_eq!(bench.head().await.held, 590);
}

#[tokio::test]
async fn after_partial_settles_beyond_the_hold_only_the_new_rest_is_held() {
    let bench = Bench::new(1_000).await;
    let ask = limited("r1", 400);
    bench.reserve(&ask).await;
    bench.partial("r1", 130).await;
    assert_eq!(bench.extend(&ask, Some(150), None).await.status, Status::Done);
    assert_eq!(bench.money().await, [870, 20, 130, 0]);
    assert_eq!(bench.settle("r1", 140).await.status, Status::Done);
    assert_eq!(bench.money().await, [860, 0, 140, 1]);
    assert_eq!(bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap().held, 0);
}

#[tokio::test]
async fn other_prices_come_with_their_hold_or_not_at_all() {
    let bench = Bench::new(1_000).await;
    let ask = limited("r1", 400);
    let first = bench.reserve(&ask).await.record.unwrap();
    let to = b"\x01\0\0\0vip\0default";
    let dearer = Reprice { from: &first.price_tag, to, prompt_cost: 77, tokens: None };
    let outdated = Reprice { from: b"\x02\0\0\0default", ..dearer };
    let denied = Ask { denied: true, ..ask.clone() };
    for (name, ask, amount, reprice, status) in [
        ("limit", &ask, 401, dearer, Status::LimitExceeded),
        ("policy", &denied, 200, dearer, Status::Denied),
        ("another's prices, before any denial", &denied, 200, outdated, Status::Reprice),
        ("another's prices, before a hold that goes down", &ask, 1, outdated, Status::Reprice),
        ("less", &ask, 99, dearer, Status::Decreasing),
    ] {
        let before = bench.server.dump();
        let reply = bench.reprice(ask, Some(amount), Some(90_000), Some(reprice)).await;
        assert_eq!((reply.status, reply.record), (status, Some(first.clone())), "{name}");
        assert_eq!(bench.server.dump(), before, "{name}");
    }
    let reply = bench.reprice(&ask, Some(300), None, Some(dearer)).await;
    let record = reply.record.unwrap();
    assert_eq!((reply.status, record.held, record.prompt_cost), (Status::Done, 300, 77));
    assert_eq!((record.price_tag.as_slice(), &record.key, &record.windows), (&to[..], &first.key, &first.windows));
    assert_eq!((record.expires, record.fingerprint), (first.expires, first.fingerprint));
    assert_eq!(bench.money().await, [1_000, 300, 0, 0]);
    // Its windows are found behind the longer tag: a settle takes from them what they hold.
    assert_eq!(bench.settle("r1", 250).await.status, Status::Done);
    let cost = bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap();
    assert_eq!((cost.held, cost.used), (0, 250));
    assert_eq!(bench.money().await, [750, 0, 250, 1]);
}

/// A new estimate holds its tokens too: checked like a reserve, and given back by the settle.
#[tokio::test]
async fn another_estimate_holds_its_tokens_as_well() {
    let bench = Bench::new(1_000).await;
    let gauges = [gauge(Metric::Cost, Period::Day, DAY, Some(400)), gauge(Metric::Tokens, Period::Day, DAY, Some(900))];
    let ask = Ask { groups: vec![group(&gauges)], tokens: 500, ..ask("r1", 100) };
    let first = bench.reserve(&ask).await.record.unwrap();
    let tokens = async || bench.gauge(&field(), code(Metric::Tokens, Period::Day)).await.unwrap();
    let longer = |tokens| Some(Reprice { from: &first.price_tag, to: &first.price_tag, prompt_cost: 55, tokens });
    let before = bench.server.dump();
    let reply = bench.reprice(&ask, None, None, longer(Some(901))).await;
    assert_eq!((reply.status, reply.record), (Status::LimitExceeded, Some(first.clone())));
    assert_eq!(bench.server.dump(), before);
    let reply = bench.reprice(&ask, Some(100), None, longer(Some(900))).await;
    let record = reply.record.unwrap();
    assert_eq!((reply.status, record.tokens, record.prompt_cost, record.held), (Status::Done, 900, 55, 100));
    assert_eq!((tokens().await.held, bench.money().await), (900, [1_000, 100, 0, 0]));
    // Fewer than are held: they stay, as the hold does.
    let reply = bench.reprice(&ask, Some(120), None, longer(Some(3))).await;
    assert_eq!((reply.status, reply.record.unwrap().tokens, tokens().await.held), (Status::Done, 900, 900));
    assert_eq!(bench.settle("r1", 50).await.status, Status::Done);
    assert_eq!((tokens().await.held, bench.money().await), (0, [950, 0, 50, 1]));
}
