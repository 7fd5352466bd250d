//! Windows: when they roll, and which one a reservation belongs to.

use quotad::{
    engine::ports::Status,
    quota::{
        counter::{AccountCounters, Head, WindowCounter},
        limit::{GroupField, Metric, Period},
        policy::Group,
    },
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, key};

const DAY: u32 = 1_795_132_800;
const NEXT: u32 = DAY + 86_400;

fn daily(name: &str, start_s: u32, amount: i64) -> Ask {
    Ask { groups: vec![group(&[gauge(Metric::Cost, Period::Day, start_s, Some(100))])], ..ask(name, amount) }
}

async fn day(bench: &Bench) -> (u32, i64, i64) {
    let counter = bench.gauge(&field(), code(Metric::Cost, Period::Day)).await.unwrap();
    (counter.start_s, counter.used, counter.held)
}

#[tokio::test]
async fn a_calendar_window_begins_anew_and_the_newer_wins() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&daily("r1", DAY, 60)).await;
    bench.reserve(&daily("r2", DAY, 40)).await;
    bench.settle("r1", 60).await;
    assert_eq!(bench.reserve(&daily("r3", DAY, 1)).await.status, Status::LimitExceeded);
    assert_eq!(bench.reserve(&daily("r3", NEXT, 90)).await.status, Status::Done);
    assert_eq!(day(&bench).await, (NEXT, 0, 90));
    // A call with the older window counts in the newer one, and its record says so.
    assert_eq!(bench.reserve(&daily("r4", DAY, 11)).await.status, Status::LimitExceeded);
    let reply = bench.reserve(&daily("r4", DAY, 10)).await;
    assert_eq!(reply.record.unwrap().windows[0].counters[0].1, NEXT);
    assert_eq!(day(&bench).await, (NEXT, 0, 100));
    // What was reserved yesterday is settled there, that is nowhere any longer.
    bench.settle("r2", 40).await;
    assert_eq!(day(&bench).await, (NEXT, 0, 100));
    bench.release("r3").await;
    assert_eq!(day(&bench).await, (NEXT, 0, 10));
    assert_eq!(bench.entries().await[1].windows, []);
}

#[tokio::test]
async fn a_denied_call_rolls_only_in_its_answer() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&daily("r1", DAY, 60)).await;
    let reply = bench.reserve(&daily("r2", NEXT, 101)).await;
    let shown = reply.windows[0][0];
    assert_eq!((reply.status, shown.start_s, shown.held), (Status::LimitExceeded, NEXT, 0));
    assert_eq!(day(&bench).await, (DAY, 0, 60));
}

#[tokio::test]
async fn a_rolling_window_is_anchored_at_the_first_use_and_steps_whole_periods() {
    let bench = Bench::new(1_000).await;
    let period = Period::Rolling(3_600);
    let rolling = |name: &str| Ask {
        groups: vec![group(&[gauge(Metric::Requests, period, 0, Some(2))])],
        ttl_ms: 86_400_000,
        ..ask(name, 1)
    };
    let stored = || async { bench.gauge(&field(), code(Metric::Requests, period)).await.unwrap() };
    let anchor = u32::try_from(bench.reserve(&rolling("r1")).await.now.seconds()).unwrap();
    assert_eq!(stored().await.start_s, anchor);
    bench.settle("r1", 1).await;
    bench.advance(1_800_000).await;
    bench.reserve(&rolling("r2")).await;
    assert_eq!((stored().await.start_s, stored().await.used, stored().await.held), (anchor, 1, 1));
    assert_eq!(bench.reserve(&rolling("r3")).await.status, Status::LimitExceeded);
    // Two periods and a half later it began two periods after the anchor.
    bench.advance(7_200_000).await;
    assert_eq!(bench.reserve(&rolling("r3")).await.status, Status::Done);
    assert_eq!((stored().await.start_s, stored().await.used, stored().await.held), (anchor + 7_200, 0, 1));
    bench.settle("r2", 1).await;
    assert_eq!((stored().await.used, stored().await.held), (0, 1), "r2 was of an earlier window");
}

#[tokio::test]
async fn concurrency_counts_what_is_held_and_never_rolls() {
    let bench = Bench::new(1_000).await;
    let one = |name: &str| Ask {
        groups: vec![group(&[gauge(Metric::Concurrency, Period::None, 0, Some(1))])],
        ..ask(name, 1)
    };
    assert_eq!(bench.reserve(&one("r1")).await.status, Status::Done);
    bench.advance(30_000).await;
    assert_eq!(bench.reserve(&one("r2")).await.status, Status::LimitExceeded);
    bench.settle("r1", 1).await;
    assert_eq!(bench.reserve(&one("r2")).await.status, Status::Done);
    bench.release("r2").await;
    assert_eq!(bench.reserve(&one("r3")).await.status, Status::Done);
    bench.advance(60_000).await;
    bench.expire("r3").await;
    let stored = bench.gauge(&field(), code(Metric::Concurrency, Period::None)).await.unwrap();
    assert_eq!((stored.start_s, stored.used, stored.held), (0, 0, 0));
}

#[tokio::test]
async fn limits_that_come_go_and_change_places_keep_their_usage() {
    let bench = Bench::new(10_000).await;
    let cost = gauge(Metric::Cost, Period::Day, DAY, None);
    let tokens = gauge(Metric::Tokens, Period::Day, DAY, None);
    // 48 s: its code is the place number that unpacking three counters ends with.
    let odd = gauge(Metric::Cost, Period::Rolling(48), 0, None);
    let month = gauge(Metric::Cost, Period::Month, DAY, None);
    let of = |name: &str, gauges: &[_]| Ask { groups: vec![group(gauges)], ..ask(name, 100) };
    let shown = |gauges: &[(i64, i64)], reply: &quotad::engine::ports::Reply| {
        let found: Vec<_> = reply.windows[0].iter().map(|counter| (counter.used, counter.held)).collect();
        assert_eq!(found, gauges);
    };
    bench.reserve(&of("r1", &[cost.clone(), tokens.clone(), month.clone()])).await;
    bench.settle("r1", 100).await;
    let reply = bench.reserve(&of("r2", &[tokens.clone(), odd.clone()])).await;
    shown(&[(10, 10), (0, 100), (100, 0), (100, 0)], &reply);
    let reply = bench.reserve(&of("r3", &[odd.clone(), month.clone(), cost.clone(), tokens.clone()])).await;
    shown(&[(0, 200), (100, 100), (100, 100), (10, 20)], &reply);
    bench.release("r2").await;
    bench.settle("r3", 50).await;
    let reply = bench.reserve(&of("r4", &[])).await;
    shown(&[(50, 0), (150, 0), (150, 0), (20, 0)], &reply);
    assert_eq!(reply.record.unwrap().windows[0].counters.len(), 0);
    assert_eq!(bench.release("r4").await.status, Status::Done);
}

#[tokio::test]
async fn every_group_of_a_call_counts_and_all_must_agree() {
    let bench = Bench::new(10_000).await;
    let own = key("k1");
    let fields = [
        GroupField::new("*", "*", None),
        GroupField::new("openai", "gpt 4|o", None),
        GroupField::new("openai", "*", Some(&own)),
    ];
    let caps = [300, 200, 100];
    let all = |name: &str, amount| {
        let groups = fields.iter().zip(caps).map(|(field, cap)| Group {
            field: field.clone(),
            key: None,
            gauges: [gauge(Metric::Cost, Period::Day, DAY, Some(cap)), gauge(Metric::Tokens, Period::Day, DAY, None)]
                .into_iter()
                .collect(),
        });
        Ask { key: Some(own.clone()), groups: groups.collect(), ..ask(name, amount) }
    };
    let reply = bench.reserve(&all("r1", 60)).await;
    assert_eq!((reply.status, reply.windows.len()), (Status::Done, 3));
    assert_eq!(bench.reserve(&all("r2", 60)).await.status, Status::LimitExceeded, "the third group");
    bench.settle("r1", 30).await;
    assert_eq!(bench.entries().await[0].windows.len(), 6);
    for field in &fields {
        let counter = bench.gauge(field, code(Metric::Cost, Period::Day)).await.unwrap();
        assert_eq!((counter.used, counter.held), (30, 0));
    }
    assert_eq!(bench.extend(&all("r1", 0), Some(90), None).await.status, Status::AlreadySettled);
    bench.reserve(&all("r3", 10)).await;
    assert_eq!(bench.extend(&all("r3", 0), Some(71), None).await.status, Status::LimitExceeded);
    let reply = bench.extend(&all("r3", 0), Some(70), None).await;
    assert_eq!((reply.status, reply.windows[2][0].held), (Status::Done, 70));
}

#[tokio::test]
async fn counters_from_sql_are_rolled_by_the_first_call() {
    let bench = Bench::new(0).await;
    redis::cmd("DEL").arg(format!("q{{{}}}a/acc", bench.shard)).exec(&mut bench.server.connect()).unwrap();
    let counter = |start_s, used| WindowCounter { code: code(Metric::Cost, Period::Day), start_s, used, held: 0 };
    let counters = AccountCounters {
        head: Head { version: 1, balance: 500, ..Head::default() },
        groups: vec![(field(), [counter(DAY, 90)].into_iter().collect())],
        ..Default::default()
    };
    bench.load(&counters).await;
    assert_eq!(bench.reserve(&daily("r1", DAY, 11)).await.status, Status::LimitExceeded);
    assert_eq!(bench.reserve(&daily("r1", NEXT, 11)).await.status, Status::Done);
    assert_eq!(day(&bench).await, (NEXT, 0, 11));
}
