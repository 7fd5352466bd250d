//! Reconcile: what is a difference, what only looks like one, and what a repair does.

use std::sync::Arc;

use serde_json::json;
use smallvec::smallvec;

use super::{
    account, by, done,
    fake::{Fake, record, reply},
    key, policy, refused, reservation,
};
use crate::{
    engine::{
        Engine,
        ports::{Position, Posted, Status},
        reconcile::{Reconcile, Reconciliation},
    },
    quota::{
        clock::Millis,
        counter::{AccountCounters, Head, KeyCounter, WindowCounter},
        entry::{Entry, Kind},
        id::{AccountId, OpId, ReservationId},
        limit::{CounterCode, GroupField, Metric, Period},
        reservation::{Record, State, WindowRefs},
        tally::Tally,
        verdict::Code,
    },
};

fn counters() -> AccountCounters {
    let window = |metric, period, used, held| WindowCounter {
        code: CounterCode::new(metric, period),
        start_s: if period == Period::None { 0 } else { 86_400 },
        used,
        held,
    };
    let windows =
        smallvec![window(Metric::Cost, Period::Day, 40, 120), window(Metric::Concurrency, Period::None, 0, 1)];
    AccountCounters {
        head: Head { version: 1, balance: 500, held: 120, used: 40, requests: 3, now: Millis(9) },
        keys: vec![(key("k"), KeyCounter { used: 7, held: 120, requests: 2 })],
        groups: vec![(GroupField::new("openai", "*", None), windows)],
    }
}

fn hold() -> (ReservationId, Record) {
    let [cost, concurrency] = [(Metric::Cost, Period::Day), (Metric::Concurrency, Period::None)]
        .map(|(metric, period)| CounterCode::new(metric, period));
    let refs = WindowRefs {
        field: GroupField::new("openai", "*", None),
        counters: smallvec![(cost, 86_400), (concurrency, 0)],
    };
    (reservation("r-1"), Record { key: Some(key("k")), windows: smallvec![refs], ..record(State::Held) })
}

/// An account whose three sides agree: one hold of 120 with its deadline.
fn level() -> (Arc<Fake>, Arc<Engine>) {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    fake.set(|world| {
        world.counters = Some(counters());
        world.posted = Some(Posted { counters: counters(), initial: None });
        world.holds = vec![hold()];
        world.deadlines = vec![(reservation("r-1"), hold().1.expires)];
    });
    (fake, engine)
}

async fn run(engine: &Engine, repair: bool) -> Reconciliation {
    done(engine.reconcile(&by(), &Reconcile { repair, ..Reconcile::default() }).await.unwrap()).0
}

type Line = (String, Option<i64>, Option<i64>, Option<i64>, Option<bool>);

fn lines(found: &Reconciliation) -> Vec<Line> {
    let line =
        |one: &crate::engine::reconcile::Difference| (one.what.clone(), one.redis, one.sql, one.expected, one.repaired);
    found.differences.iter().map(line).collect()
}

fn posted_line(what: &str, redis: i64, sql: i64, expected: i64, repaired: Option<bool>) -> Line {
    (what.to_owned(), Some(redis), Some(sql), Some(expected), repaired)
}

fn held_line(what: &str, redis: i64, expected: i64, repaired: Option<bool>) -> Line {
    (what.to_owned(), Some(redis), None, Some(expected), repaired)
}

#[tokio::test]
async fn sides_that_agree_are_read_once() {
    let (fake, engine) = level();
    let found = run(&engine, false).await;
    assert_eq!((found.accounts, found.moving, found.next), (1, 0, None));
    assert_eq!(found.differences, []);
    assert_eq!(fake.seen("audit").len(), 1);
    fake.set(|world| world.counters = None);
    assert_eq!(run(&engine, false).await.differences, [], "not loaded, hence equal");
    let nobody = Reconcile { account: AccountId::new("b").ok(), ..Reconcile::default() };
    assert_eq!(refused(engine.reconcile(&by(), &nobody).await.unwrap()).code, Code::AccountNotFound);
    let both = Reconcile { account: Some(account()), limit: Some(1), ..Reconcile::default() };
    assert_eq!(refused(engine.reconcile(&by(), &both).await.unwrap()).field, Some("account"));
}

#[tokio::test]
async fn wrong_counters_in_redis_are_mended_after_the_ledger() {
    let (fake, engine) = level();
    fake.set(|world| {
        let wrong = world.counters.as_mut().unwrap();
        wrong.head.balance = 499;
        wrong.keys[0].1.used = 8;
        wrong.groups[0].1[0].used = 41;
    });
    let expected = |repaired| {
        [
            posted_line("balance", 499, 500, 500, repaired),
            posted_line("key:k:used", 8, 7, 7, repaired),
            posted_line("limit:openai:*:cost:day", 41, 40, 40, repaired),
        ]
    };
    assert_eq!(lines(&run(&engine, false).await), expected(None));
    assert_eq!((fake.seen("mend").len(), fake.state.lock().unwrap().changes.len()), (0, 0));
    assert_eq!(lines(&run(&engine, true).await), expected(Some(true)));
    assert_eq!(fake.state.lock().unwrap().counters, Some(counters()));
    // Numbers were changed, and nothing said by whom and from what.
    let told = fake.state.lock().unwrap().changes.clone();
    let [row] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&row.by, row.what, row.subject.as_str()), (&by(), "repair", "account/a"));
    let of = |redis: i64, sql: i64| json!({"redis": redis, "sql": sql});
    let before = json!({"balance": of(499, 500), "key:k:used": of(8, 7), "limit:openai:*:cost:day": of(41, 40)});
    let after = json!({"balance": 500, "key:k:used": 7, "limit:openai:*:cost:day": 40});
    assert_eq!((&row.before, &row.after), (&Some(before), &Some(after)));
    assert_eq!(run(&engine, false).await.differences, []);
    assert_eq!(fake.seen("mend_sums").len(), 0, "SQL was right");
}

#[tokio::test]
async fn wrong_sums_in_sql_are_mended_after_the_ledger() {
    let (fake, engine) = level();
    fake.set(|world| {
        world.tally = Some(Tally::of(&counters()));
        world.posted.as_mut().unwrap().counters.head.balance = 1;
    });
    assert_eq!(lines(&run(&engine, false).await), [posted_line("balance", 500, 1, 500, None)]);
    assert_eq!(lines(&run(&engine, true).await), [posted_line("balance", 500, 1, 500, Some(true))]);
    assert_eq!(fake.seen("mend").len(), 0, "Redis was right");
    assert_eq!(run(&engine, false).await.differences, []);
}

#[tokio::test]
async fn held_is_mended_after_the_live_holds() {
    let (fake, engine) = level();
    fake.set(|world| {
        world.holds.clear();
        world.deadlines.clear();
    });
    let expected = |repaired| {
        [
            held_line("held", 120, 0, repaired),
            held_line("key:k:held", 120, 0, repaired),
            held_line("limit:openai:*:concurrency:none:held", 1, 0, repaired),
            held_line("limit:openai:*:cost:day:held", 120, 0, repaired),
        ]
    };
    assert_eq!(lines(&run(&engine, false).await), expected(None));
    assert_eq!(lines(&run(&engine, true).await), expected(Some(true)));
    let after = fake.state.lock().unwrap().counters.clone().unwrap();
    assert_eq!((after.head.held, after.keys[0].1.held, after.groups[0].1[0].held), (0, 0, 0));
    assert_eq!(after.head.balance, 500);
}

#[tokio::test]
async fn a_hold_and_its_deadline_belong_together() {
    let (fake, engine) = level();
    fake.set(|world| world.deadlines = vec![(reservation("gone"), Millis(7))]);
    let found = run(&engine, false).await;
    let expected = [
        ("deadline:gone".to_owned(), Some(7), None, None, None),
        ("deadline:r-1".to_owned(), None, None, Some(2), None),
    ];
    assert_eq!(lines(&found), expected);
    run(&engine, true).await;
    let ended: Vec<_> = fake.seen("expire").into_iter().map(|seen| seen.id).collect();
    assert!(ended.contains(&"gone".to_owned()) && ended.contains(&"r-1".to_owned()), "both are past: {ended:?}");
    let later = Millis(crate::quota::clock::local_now().0 + 60_000);
    fake.set(|world| {
        world.seen.clear();
        world.holds[0].1.expires = later;
        world.deadlines.clear();
    });
    let found = run(&engine, true).await;
    assert_eq!(found.differences[0].repaired, Some(false), "the fake has no list to put it on");
    assert!(fake.seen("extend").iter().all(|seen| seen.id == "r-1" && seen.amount == -1));
    assert!(!fake.seen("extend").is_empty() && fake.seen("expire").is_empty());
}

fn charge(amount: i64) -> Entry {
    Entry {
        kind: Kind::Charge,
        at: Millis(1),
        balance: -amount,
        used: amount,
        requests: 1,
        tokens: 0,
        account: account(),
        op_id: OpId::new("c").unwrap(),
        record: None,
        windows: Vec::new(),
        log: Vec::new(),
    }
}

#[tokio::test]
async fn what_traffic_moves_is_no_difference() {
    let (fake, engine) = level();
    let at = |seq| Position { generation: 1, seq };
    // Three charges come while Redis and SQL are read; Redis was read after the first.
    let set = |balance: i64| {
        fake.set(|world| {
            world.tops = [at(4), at(7)].repeat(5);
            world.tally = Some(Tally::of(&counters()));
            world.tail = (5..=7).map(|seq| (at(seq), charge(10))).collect();
            let mut stored = counters();
            (stored.head.balance, stored.head.used, stored.head.requests) = (470, 70, 6);
            world.posted = Some(Posted { counters: stored.clone(), initial: None });
            (stored.head.balance, stored.head.used, stored.head.requests) = (balance, 50, 4);
            world.counters = Some(stored);
        });
    };
    set(490);
    assert_eq!(run(&engine, false).await.differences, []);
    set(489);
    assert_eq!(lines(&run(&engine, false).await), [posted_line("balance", 489, 470, 490, None)]);
    // An account that is charged between any two looks cannot be mended: which state is it?
    set(489);
    fake.set(|world| world.tops = [at(4), at(7)].repeat(50));
    assert_eq!(lines(&run(&engine, true).await), [posted_line("balance", 489, 470, 490, Some(false))]);
    // Another generation began meanwhile: nothing of this reading counts.
    set(489);
    fake.set(|world| world.tops = [at(4), Position { generation: 2, seq: 0 }].repeat(5));
    let found = run(&engine, false).await;
    assert_eq!((found.differences, found.moving), (Vec::new(), 1));
}

#[tokio::test]
async fn pages_hold_every_account_once() {
    let (fake, engine) = level();
    fake.set(|world| {
        world.counters = None;
        for name in ["b", "c", "d", "e"] {
            let account = AccountId::new(name).unwrap();
            world.policies.insert(account.clone(), crate::quota::policy::Policy { account, ..policy(1) });
        }
    });
    let mut ask = Reconcile { limit: Some(2), ..Reconcile::default() };
    let mut pages = Vec::new();
    loop {
        let page = done(engine.reconcile(&by(), &ask).await.unwrap()).0;
        pages.push(page.accounts);
        ask.cursor = page.next;
        if ask.cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
    let audited: Vec<_> = fake.seen("audit").into_iter().map(|seen| seen.id).collect();
    assert_eq!(audited, ["a", "b", "c", "d", "e"]);
    assert_eq!(run(&engine, false).await.accounts, 5);
    ask = Reconcile { limit: Some(5), ..Reconcile::default() };
    assert_eq!(done(engine.reconcile(&by(), &ask).await.unwrap()).0.next, None, "nothing follows a full last page");
}
