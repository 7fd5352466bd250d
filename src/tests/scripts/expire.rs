//! Expiry, and settles that come after it.

use quotad::{
    engine::ports::{Counters, Status, Stream},
    quota::{
        clock::Millis,
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
    assert_eq!(bench.due(10).await, []);
    let before = bench.server.dump();
    assert_eq!(bench.expire("r1").await.status, Status::Idle);
    assert_eq!(bench.server.dump(), before);
    bench.advance(60_000).await;
    let due = bench.due(10).await;
    assert_eq!(due, [(bench.account.clone(), id("r2")), (bench.account.clone(), id("r1"))], "the oldest first");
    assert_eq!(bench.due(1).await.len(), 1);
    for name in ["r1", "r2"] {
        let reply = bench.expire(name).await;
        assert_eq!((reply.status, reply.record.unwrap().state), (Status::Done, State::Expired));
    }
    assert_eq!(bench.money().await, [1_000, 0, 0, 0]);
    assert_eq!((cost(&bench).await, requests(&bench).await), ((0, 0), (0, 0)));
    assert_eq!(bench.due(10).await, []);
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
    let deadlines = format!("q{{{}}}x", bench.shard);
    redis::cmd("ZADD").arg(&deadlines).arg(1).arg(member).exec(&mut bench.server.connect()).unwrap();
    assert_eq!(bench.due(10).await, [(bench.account.clone(), id("ghost"))]);
    assert_eq!(bench.expire("ghost").await.status, Status::Idle);
    assert_eq!(bench.due(10).await, []);
}

fn queue(bench: &Bench, deadline: Millis) -> String {
    format!("q{{{}}}x/{}", bench.shard, deadline.0 / 15_000)
}

async fn due(bench: &Bench) -> Vec<String> {
    let due = bench.due(1_000).await;
    due.into_iter().map(|(_, id)| id.as_str().to_owned()).collect()
}

#[tokio::test]
async fn holds_of_many_queues_are_due_at_their_deadlines_and_not_before() {
    let bench = Bench::new(1_000_000).await;
    let mut names = Vec::new();
    // More than one script moves at once, and of a few queues.
    for number in 0..350 {
        let name = format!("r{number:03}");
        let ask = Ask { ttl_ms: 40_000 + number * 60, ..limited(&name, 1, false) };
        names.push((bench.reserve(&ask).await.record.unwrap().expires, name));
    }
    let settled: Vec<_> = names.iter().step_by(3).cloned().collect();
    for (_, name) in &settled {
        assert_eq!(bench.settle(name, 1).await.status, Status::Done);
    }
    names.retain(|one| !settled.contains(one));
    bench.check_holds();
    assert_eq!(due(&bench).await, [""; 0]);
    // Half a second at a time: whatever is due is listed, and nothing else.
    let mut ended = 0;
    while ended < names.len() {
        let now = bench.advance(500).await;
        let wanted: Vec<_> = names[ended..].iter().filter(|(at, _)| *at <= now).map(|(_, name)| name.clone()).collect();
        let mut found = due(&bench).await;
        found.sort();
        assert_eq!(found, wanted);
        for name in &found {
            assert_eq!(bench.expire(name).await.status, Status::Done);
        }
        ended += found.len();
        bench.check_holds();
    }
    assert_eq!(bench.money().await, [1_000_000 - settled.len() as i64, 0, settled.len() as i64, settled.len() as i64]);
    let deadlines = format!("q{{{}}}x", bench.shard);
    assert!(!bench.server.dump().keys().any(|key| key.starts_with(deadlines.as_bytes())), "nothing is left of it");
}

#[tokio::test]
async fn an_extended_hold_ends_at_its_new_deadline_wherever_its_old_one_was() {
    let bench = Bench::new(1_000).await;
    let names = ["later", "sooner", "begun"];
    for name in names {
        bench.reserve(&limited(name, 100, false)).await;
    }
    let extend = async |name: &str, ttl_ms| {
        let reply = bench.extend(&limited(name, 100, false), None, Some(ttl_ms)).await;
        assert_eq!(reply.status, Status::Done);
        reply.record.unwrap().expires
    };
    let later = extend("later", 200_000).await;
    let sooner = extend("sooner", 1_000).await;
    bench.check_holds();
    bench.advance(1_000).await;
    assert_eq!(due(&bench).await, ["sooner"]);
    assert_eq!(bench.expire("sooner").await.status, Status::Done);
    // Its queue has begun, so the hold is among the deadlines, from where it goes into a queue again.
    bench.advance(50_000).await;
    assert_eq!(due(&bench).await, [""; 0]);
    let begun = extend("begun", 100_000).await;
    assert_ne!(queue(&bench, begun), queue(&bench, sooner));
    bench.check_holds();
    bench.advance(40_000).await;
    assert_eq!(due(&bench).await, [""; 0]);
    let now = bench.advance(60_000).await;
    assert!(begun <= now && now < later);
    assert_eq!(due(&bench).await, ["begun"]);
    assert_eq!(bench.expire("begun").await.status, Status::Done);
    bench.advance(100_000).await;
    assert_eq!(due(&bench).await, ["later"]);
    assert_eq!(bench.expire("later").await.status, Status::Done);
    assert_eq!(bench.money().await, [1_000, 0, 0, 0]);
}

#[tokio::test]
async fn an_id_that_is_used_again_is_listed_under_its_new_deadline_alone() {
    let bench = Bench::new(1_000).await;
    let record = format!("q{{{}}}r/acc/r1", bench.shard);
    let first = bench.reserve(&Ask { ttl_ms: 100_000, ..limited("r1", 100, false) }).await.record.unwrap().expires;
    assert_eq!(bench.release("r1").await.status, Status::Done);
    // Its tombstone ends before its deadline would have been.
    redis::cmd("DEL").arg(&record).exec(&mut bench.server.connect()).unwrap();
    let second = bench.reserve(&Ask { ttl_ms: 150_000, ..limited("r1", 100, false) }).await.record.unwrap().expires;
    assert_eq!(bench.redis.listed(&bench.account).await.unwrap().deadlines, [(id("r1"), second)]);
    bench.check_holds();
    let now = bench.advance(110_000).await;
    assert!(first <= now && now < second);
    assert_eq!(due(&bench).await, [""; 0]);
    // Not among the deadlines yet: a settle would leave it there.
    assert_eq!(places(&bench), (0, 1));
    bench.check_holds();
    bench.advance(50_000).await;
    assert_eq!(due(&bench).await, ["r1"]);
}

/// A clock that was set back: the queue was emptied by a later time than the reserve's.
#[tokio::test]
async fn a_queue_that_was_emptied_fills_again() {
    let bench = Bench::new(1_000).await;
    let meta = bench.redis.meta(bench.shard).await.unwrap().unwrap();
    bench.reserve(&Ask { ttl_ms: 40_000, ..limited("r1", 100, false) }).await;
    bench.advance(30_000).await;
    assert_eq!(due(&bench).await, [""; 0]);
    let ahead = bench.redis.meta(bench.shard).await.unwrap().unwrap();
    assert!(bench.redis.set_meta(bench.shard, Some(&ahead), &meta).await.unwrap());
    bench.reserve(&Ask { ttl_ms: 40_000, ..limited("r2", 100, false) }).await;
    bench.check_holds();
    bench.advance(60_000).await;
    assert_eq!(due(&bench).await.len(), 2);
}

fn places(bench: &Bench) -> (u64, u64) {
    let mut connection = bench.server.connect();
    let deadlines = format!("q{{{}}}x", bench.shard);
    let queues: Vec<String> = redis::cmd("KEYS").arg(format!("{deadlines}/?*")).query(&mut connection).unwrap();
    let lengths = queues.iter().map(|queue| redis::cmd("LLEN").arg(queue).query::<u64>(&mut connection).unwrap());
    let queued = lengths.sum();
    (redis::cmd("ZCARD").arg(&deadlines).query(&mut connection).unwrap(), queued)
}

/// A step moves 200 holds, and the list is read 500 at a time.
#[tokio::test]
async fn a_long_queue_is_emptied_in_steps_and_every_hold_is_listed_at_each() {
    let bench = Bench::new(1_000_000).await;
    let mut deadlines = Vec::new();
    let begins = (bench.advance(0).await.0 / 15_000 + 4) * 15_000;
    for number in 0..1_400 {
        let now = bench.redis.read_account(&bench.account).await.unwrap().unwrap().0;
        let ttl_ms = u32::try_from(begins + 5 - now.0).unwrap();
        let reply = bench.reserve(&Ask { ttl_ms, ..limited(&format!("r{number:04}"), 1, false) }).await;
        deadlines.push((id(&format!("r{number:04}")), reply.record.unwrap().expires));
    }
    assert_eq!(places(&bench), (0, 1_400));
    let now = bench.redis.read_account(&bench.account).await.unwrap().unwrap().0;
    bench.advance(begins - 10_000 - now.0).await;
    let [queue] = &bench.redis.queues(bench.shard).await.unwrap()[..] else { panic!("one queue") };
    for step in 0..=7 {
        let listed = bench.redis.listed(&bench.account).await.unwrap();
        assert_eq!(listed.deadlines, deadlines);
        assert_eq!(listed.holds.len(), deadlines.len());
        bench.check_holds();
        assert_eq!(places(&bench), (200 * step, 1_400 - 200 * step));
        // Another sidecar may look for it, too, when it is empty.
        assert_eq!(bench.redis.cascade(bench.shard, queue).await.unwrap(), step < 6);
    }
    assert_eq!(bench.redis.queues(bench.shard).await.unwrap(), [""; 0]);
    assert_eq!(bench.redis.due(bench.shard, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_queue_is_not_emptied_before_its_time_is_near() {
    let bench = Bench::new(1_000).await;
    let deadline = bench.reserve(&limited("r1", 100, false)).await.record.unwrap().expires;
    assert_eq!(bench.redis.queues(bench.shard).await.unwrap(), [""; 0]);
    assert!(!bench.redis.cascade(bench.shard, &queue(&bench, deadline)).await.unwrap());
    assert_eq!(places(&bench), (0, 1));
}

/// With two hours to go, what ends at once must not stay for two hours.
#[tokio::test]
async fn a_deadline_that_is_far_away_leaves_nothing_when_the_hold_ends() {
    let bench = Bench::new(1_000).await;
    for name in ["settled", "released", "late", "near"] {
        bench.reserve(&Ask { ttl_ms: 7_200_000, ..limited(name, 100, false) }).await;
    }
    assert_eq!(places(&bench), (4, 0));
    assert_eq!(bench.settle("settled", 70).await.status, Status::Done);
    assert_eq!(bench.release("released").await.status, Status::Done);
    assert_eq!(places(&bench), (2, 0));
    bench.extend(&limited("near", 100, false), None, Some(60_000)).await;
    bench.check_holds();
    assert_eq!(places(&bench), (1, 1));
    bench.advance(7_190_000).await;
    assert_eq!(bench.settle("late", 70).await.status, Status::Done);
    assert_eq!(places(&bench), (0, 1));
    assert_eq!(due(&bench).await, ["near"]);
}

#[tokio::test]
async fn an_extension_by_amount_alone_leaves_the_deadline_where_it_is() {
    let bench = Bench::new(1_000).await;
    let ask = limited("r1", 100, false);
    bench.reserve(&ask).await;
    assert_eq!(bench.extend(&ask, Some(200), None).await.status, Status::Done);
    assert_eq!(places(&bench), (0, 1));
    bench.check_holds();
}

/// As a clock leaves it that went back after a queue was emptied.
#[tokio::test]
async fn a_place_that_is_too_early_is_put_right() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r1", 100, false)).await;
    let (deadlines, record) = (format!("q{{{}}}x", bench.shard), format!("q{{{}}}r/acc/r1", bench.shard));
    redis::cmd("ZADD").arg(&deadlines).arg(1).arg(&record).exec(&mut bench.server.connect()).unwrap();
    assert_eq!(due(&bench).await, ["r1"]);
    assert_eq!(bench.expire("r1").await.status, Status::Idle);
    assert_eq!(due(&bench).await, [""; 0]);
    bench.check_holds();
}
