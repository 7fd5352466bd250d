//! Reserve.

use quotad::{
    engine::ports::{Counters, Status},
    quota::{
        limit::{Metric, Period},
        reservation::State,
    },
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, key, print};

const DAY: u32 = 1_795_132_800;

fn limited(name: &str, amount: i64) -> Ask {
    let gauges = [
        gauge(Metric::Cost, Period::Day, DAY, Some(1_000)),
        gauge(Metric::Tokens, Period::Day, DAY, Some(100)),
        gauge(Metric::Requests, Period::Minute, DAY, Some(5)),
        gauge(Metric::Concurrency, Period::None, 0, Some(2)),
    ];
    Ask { key: Some(key("k1")), allowance: Some(500), groups: vec![group(&gauges)], ..ask(name, amount) }
}

#[tokio::test]
async fn a_grant_moves_held_and_every_counter() {
    let bench = Bench::new(1_000).await;
    let reply = bench.reserve(&limited("r1", 100)).await;
    assert_eq!(reply.status, Status::Done);
    let (head, counter, record) = (reply.head.unwrap(), reply.key.unwrap(), reply.record.unwrap());
    assert_eq!((head.balance, head.held, head.used, head.requests, head.now), (1_000, 100, 0, 0, reply.now));
    assert_eq!((counter.used, counter.held, counter.requests), (0, 100, 0));
    assert_eq!((record.state, record.held, record.tokens, record.prompt_cost), (State::Held, 100, 10, 20));
    assert_eq!(record.expires.0, reply.now.0 + 60_000);
    assert_eq!((record.key.clone(), record.price_tag.as_slice()), (Some(key("k1")), &b"\x01\0\0\0vip"[..]));
    let held: Vec<_> = reply.windows[0].iter().map(|counter| (counter.start_s, counter.used, counter.held)).collect();
    assert_eq!(held, [(DAY, 0, 100), (DAY, 0, 10), (DAY, 0, 1), (0, 0, 1)]);
    let starts: Vec<_> = record.windows[0].counters.iter().map(|(_, start)| *start).collect();
    assert_eq!(starts, [DAY, DAY, DAY, 0]);
    // What was answered is what is stored, and no entry was written: a hold is no money spent.
    let stored = bench.counters().await;
    assert_eq!((stored.head, stored.keys[0].1, stored.groups[0].1.clone()), (head, counter, reply.windows[0].clone()));
    assert_eq!(bench.record("r1").await, Some(record));
    assert_eq!(bench.entries().await, []);
}

#[tokio::test]
async fn a_repeated_reserve_replays_and_another_content_conflicts() {
    let bench = Bench::new(1_000).await;
    let first = bench.reserve(&limited("r1", 100)).await;
    let before = bench.server.dump();
    let again = bench.reserve(&limited("r1", 100)).await;
    assert_eq!((again.status, &again.record, &again.windows), (Status::Replayed, &first.record, &first.windows));
    let other = bench.reserve(&Ask { content: "other".into(), ..limited("r1", 100) }).await;
    assert_eq!(other.status, Status::Conflict);
    assert_eq!(other.record.unwrap().fingerprint, print("reserve 100"));
    assert_eq!(bench.server.dump(), before);
}

#[tokio::test]
async fn a_denial_changes_nothing_whatever_denies() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("held", 100)).await;
    bench.reserve(&limited("gone", 1)).await;
    bench.release("gone").await;
    bench.reserve(&Ask { key: None, ..limited("done", 1) }).await;
    bench.settle("done", 1).await;
    let rich = |name: &str| Ask { credit_limit: 10_000, ..limited(name, 100) };
    let unkeyed = |name: &str| Ask { key: None, allowance: None, ..rich(name) };
    let gauges = |gauges: &[_]| vec![group(gauges)];
    let cases: Vec<(&str, Ask, Status)> = vec![
        ("older version", Ask { version: 0, ..rich("n") }, Status::Stale),
        ("time before", Ask { valid: (1 << 47, 1 << 48), ..rich("n") }, Status::Window),
        ("time after", Ask { valid: (0, 1), ..rich("n") }, Status::Window),
        ("other content", Ask { content: "x".into(), ..rich("held") }, Status::Conflict),
        ("settled", rich("done"), Status::AlreadySettled),
        ("released", rich("gone"), Status::AlreadyReleased),
        ("policy", Ask { denied: true, amount: 100_000, ..rich("n") }, Status::Denied),
        ("balance", limited("n", 900), Status::InsufficientBalance),
        ("key", Ask { amount: 401, ..rich("n") }, Status::KeyExhausted),
        ("cost", Ask { amount: 901, ..unkeyed("n") }, Status::LimitExceeded),
        ("tokens", Ask { tokens: 91, ..rich("n") }, Status::LimitExceeded),
        (
            "requests",
            Ask { groups: gauges(&[gauge(Metric::Requests, Period::Minute, DAY, Some(2))]), ..rich("n") },
            Status::LimitExceeded,
        ),
        (
            "concurrency",
            Ask { groups: gauges(&[gauge(Metric::Concurrency, Period::None, 0, Some(1))]), ..rich("n") },
            Status::LimitExceeded,
        ),
        (
            "a cap of 0",
            Ask { amount: 1, groups: gauges(&[gauge(Metric::Cost, Period::Week, DAY, Some(0))]), ..rich("n") },
            Status::LimitExceeded,
        ),
        ("range", Ask { amount: 1 << 52, credit_limit: 1 << 53, groups: vec![], ..unkeyed("n") }, Status::OutOfRange),
        (
            "range of tokens",
            Ask { tokens: 1 << 53, groups: gauges(&[gauge(Metric::Tokens, Period::Month, DAY, None)]), ..unkeyed("n") },
            Status::OutOfRange,
        ),
    ];
    for (name, ask, status) in cases {
        let before = bench.server.dump();
        let reply = bench.reserve(&ask).await;
        assert_eq!(reply.status, status, "{name}");
        assert!(reply.head.is_some(), "{name}");
        assert_eq!(bench.server.dump(), before, "{name}");
    }
}

#[tokio::test]
async fn the_first_check_that_fails_answers() {
    let bench = Bench::new(10).await;
    let hopeless = Ask { denied: true, version: 0, valid: (0, 1), allowance: Some(1), ..limited("r1", 5_000) };
    assert_eq!(bench.reserve(&hopeless).await.status, Status::Stale);
    let hopeless = Ask { version: 1, ..hopeless };
    assert_eq!(bench.reserve(&hopeless).await.status, Status::Window);
    let hopeless = Ask { valid: (0, i64::MAX), ..hopeless };
    assert_eq!(bench.reserve(&hopeless).await.status, Status::Denied);
    let hopeless = Ask { denied: false, ..hopeless };
    assert_eq!(bench.reserve(&hopeless).await.status, Status::InsufficientBalance);
    let hopeless = Ask { credit_limit: 10_000, ..hopeless };
    assert_eq!(bench.reserve(&hopeless).await.status, Status::KeyExhausted);
    let hopeless = Ask { allowance: None, ..hopeless };
    assert_eq!(bench.reserve(&hopeless).await.status, Status::LimitExceeded);
}

#[tokio::test]
async fn a_newer_version_is_adopted_with_the_first_write() {
    let bench = Bench::new(1_000).await;
    assert_eq!(bench.reserve(&Ask { version: 5, denied: true, ..ask("r1", 1) }).await.status, Status::Denied);
    assert_eq!(bench.head().await.version, 1, "a denial writes nothing");
    assert_eq!(bench.reserve(&Ask { version: 5, ..ask("r1", 1) }).await.status, Status::Done);
    assert_eq!(bench.head().await.version, 5);
    assert_eq!(bench.reserve(&Ask { version: 4, ..ask("r2", 1) }).await.status, Status::Stale);
    assert_eq!(bench.redis.raise_version(&bench.account, 9).await.unwrap().status, Status::Done);
    assert_eq!(bench.redis.raise_version(&bench.account, 7).await.unwrap().status, Status::Done);
    assert_eq!(bench.head().await.version, 9, "a version is never lowered");
    assert_eq!(bench.reserve(&Ask { version: 8, ..ask("r2", 1) }).await.status, Status::Stale);
}

#[tokio::test]
async fn best_effort_holds_what_everything_leaves() {
    let bench = Bench::new(1_000).await;
    let effort = |name: &str, min_amount| Ask { min_amount: Some(min_amount), ..ask(name, 5_000) };
    let key_left = Ask { key: Some(key("k")), allowance: Some(300), ..effort("r1", 10) };
    assert_eq!(bench.reserve(&key_left).await.record.unwrap().held, 300);
    assert_eq!(bench.reserve(&Ask { id: crate::bench::id("r2"), ..key_left }).await.status, Status::KeyExhausted);
    let caps = [gauge(Metric::Cost, Period::Day, DAY, Some(250)), gauge(Metric::Cost, Period::Month, DAY, Some(200))];
    let capped = Ask { groups: vec![group(&caps)], ..effort("r3", 200) };
    let reply = bench.reserve(&capped).await;
    assert_eq!((reply.status, reply.record.unwrap().held), (Status::Done, 200));
    assert_eq!(bench.reserve(&Ask { id: crate::bench::id("r4"), ..capped }).await.status, Status::LimitExceeded);
    assert_eq!(bench.reserve(&effort("r5", 501)).await.status, Status::InsufficientBalance);
    let rest = bench.reserve(&effort("r6", 500)).await;
    assert_eq!((rest.record.unwrap().held, rest.head.unwrap().held), (500, 1_000));
}

#[tokio::test]
async fn check_only_answers_like_a_reserve_and_holds_nothing() {
    let bench = Bench::new(1_000).await;
    let before = bench.server.dump();
    let reply = bench.reserve(&Ask { check_only: true, ..limited("r1", 100) }).await;
    assert_eq!((reply.status, reply.record, reply.head.unwrap().held), (Status::Done, None, 0));
    assert_eq!(reply.windows[0][0].code, code(Metric::Cost, Period::Day));
    let reply = bench.reserve(&Ask { check_only: true, ..limited("r1", 1_001) }).await;
    assert_eq!(reply.status, Status::InsufficientBalance);
    assert_eq!(bench.server.dump(), before);
}

#[tokio::test]
async fn no_money_but_credit() {
    let bench = Bench::new(0).await;
    assert_eq!(bench.reserve(&ask("r0", 0)).await.status, Status::Done, "nothing asked, nothing missing");
    assert_eq!(bench.reserve(&ask("r1", 1)).await.status, Status::InsufficientBalance);
    assert_eq!(bench.reserve(&Ask { credit_limit: 50, ..ask("r1", 50) }).await.status, Status::Done);
    assert_eq!(bench.reserve(&Ask { credit_limit: 50, ..ask("r2", 1) }).await.status, Status::InsufficientBalance);
}

#[tokio::test]
async fn of_200_at_once_exactly_100_are_granted() {
    let bench = Bench::new(1_000_000).await;
    let field_cap = [gauge(Metric::Cost, Period::Day, DAY, Some(10_000))];
    let calls = (0..200).map(|n| {
        let ask = Ask { groups: vec![group(&field_cap)], ..ask(&format!("r{n}"), 100) };
        let bench = &bench;
        async move { bench.reserve(&ask).await.status }
    });
    let statuses = futures_join(calls).await;
    assert_eq!(statuses.iter().filter(|status| **status == Status::Done).count(), 100);
    assert_eq!(statuses.iter().filter(|status| **status == Status::LimitExceeded).count(), 100);
    assert_eq!(bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap().held, 10_000);
    assert_eq!(bench.head().await.held, 10_000);
}

/// Polls all futures together.
pub async fn futures_join<F: Future>(calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut calls: Vec<_> = calls.map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(move |context| {
        let mut waiting = false;
        for (call, answer) in &mut calls {
            if answer.is_none() {
                match call.as_mut().poll(context) {
                    std::task::Poll::Ready(status) => *answer = Some(status),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(calls.iter_mut().filter_map(|(_, answer)| answer.take()).collect())
    })
    .await
}
