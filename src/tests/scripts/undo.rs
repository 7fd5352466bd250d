//! Undo: what was done twice is taken back, once.

use quotad::{
    engine::ports::{Counters, RefundCall, Reply, Status, Unavailable, UndoCall},
    quota::{
        counter::AccountCounters,
        entry::{Entry, Kind},
        limit::{Metric, Period},
        reservation::Flags,
    },
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, id, key, op, op_numbers, print};

const DAY: u32 = 1_795_132_800;

fn limited(name: &str, amount: i64, day: u32) -> Ask {
    let gauges = [
        gauge(Metric::Cost, Period::Day, day, None),
        gauge(Metric::Tokens, Period::Day, day, None),
        gauge(Metric::Requests, Period::Day, day, None),
    ];
    Ask { key: Some(key("k")), groups: vec![group(&gauges)], ..ask(name, amount) }
}

async fn undo(bench: &Bench, name: &str, entry: &Entry) -> Reply {
    let call = UndoCall { op_id: &op(name), entry, fingerprint: print("undo"), log: br#"{"note":"twice"}"# };
    bench.redis.undo(&call).await.unwrap()
}

/// Everything but when it was written.
async fn counters(bench: &Bench) -> AccountCounters {
    let mut counters = bench.counters().await;
    counters.head.now = quotad::quota::clock::Millis(0);
    counters.keys.sort_by(|a, b| a.0.cmp(&b.0));
    counters
}

async fn forget(bench: &Bench, name: &str) {
    redis::cmd("DEL").arg(format!("q{{{}}}{name}", bench.shard)).exec(&mut bench.server.connect()).unwrap();
}

#[tokio::test]
async fn a_duplicate_charge_is_given_back_to_the_last_counter() {
    let bench = Bench::new(1_000).await;
    let ask = limited("c", 70, DAY);
    ask.charge(&bench, false, false).await;
    let before = counters(&bench).await;
    forget(&bench, "r/acc/c").await;
    assert_eq!(ask.charge(&bench, false, false).await.status, Status::Done, "its tombstone is gone");
    let twice = bench.entries().await.remove(1);
    let reply = undo(&bench, "dup:3-5-2", &twice).await;
    assert_eq!((reply.status, op_numbers(&reply)), (Status::Done, Some((70, 930))));
    assert_eq!(reply.key.unwrap().used, 70);
    assert_eq!(counters(&bench).await, before);
    let record = bench.record("c").await.unwrap();
    assert_eq!((record.charged, record.flags.has(Flags::BY_CHARGE)), (70, true), "the first one stands");

    let entry = bench.entries().await.remove(2);
    assert_eq!((entry.kind, entry.balance, entry.used), (Kind::Credit, 70, -70));
    assert_eq!((entry.requests, entry.tokens), (-twice.requests, -twice.tokens));
    assert_eq!((entry.op_id.as_str(), &entry.record), ("dup:3-5-2", &twice.record), "with its key");
    assert_eq!(entry.reservation(), None, "but it is no entry of the reservation's");
    let taken = |entry: &Entry| entry.windows.iter().map(|delta| delta.used).collect::<Vec<_>>();
    assert_eq!((taken(&twice), taken(&entry)), (vec![70, 10, 1], vec![-70, -10, -1]));

    let before = bench.server.dump();
    assert_eq!(undo(&bench, "dup:3-5-2", &twice).await.status, Status::Replayed);
    let other = UndoCall { op_id: &op("dup:3-5-2"), entry: &twice, fingerprint: print("other"), log: b"" };
    assert_eq!(bench.redis.undo(&other).await.unwrap().status, Status::Conflict);
    assert_eq!(bench.server.dump(), before);
}

#[tokio::test]
async fn a_duplicate_refund_is_taken_again() {
    let bench = Bench::new(1_000).await;
    limited("c", 70, DAY).charge(&bench, false, false).await;
    let before = counters(&bench).await;
    let log = br#"{"of":"c"}"#;
    let fingerprint = print("refund");
    let call = RefundCall { account: &bench.account, op_id: &op("f"), of: &id("c"), amount: 30, fingerprint, log };
    assert_eq!(bench.redis.refund(&call).await.unwrap().status, Status::Done);
    let refund = bench.entries().await.remove(1);
    let reply = undo(&bench, "dup:3-5-2", &refund).await;
    assert_eq!((reply.status, op_numbers(&reply)), (Status::Done, Some((30, 930))));
    assert_eq!(counters(&bench).await, before);
    assert_eq!(bench.ledger().await[2], (Kind::Debit, -30));
}

#[tokio::test]
async fn a_window_that_began_anew_is_left_alone_and_no_usage_falls_below_0() {
    let bench = Bench::new(1_000).await;
    limited("c", 70, DAY).charge(&bench, false, false).await;
    let twice = bench.entries().await.remove(0);
    let reset = [code(Metric::Tokens, Period::Day)];
    let call = quotad::engine::ports::ResetCall {
        account: &bench.account,
        op_id: &op("z"),
        field: &field(),
        codes: &reset,
        log: b"",
    };
    bench.redis.reset(&call).await.unwrap();
    let cost = gauge(Metric::Cost, Period::Day, DAY + 86_400, None);
    Ask { groups: vec![group(&[cost])], ..ask("d", 5) }.charge(&bench, false, false).await;
    undo(&bench, "dup:3-5-1", &twice).await;
    let used = async |metric| bench.gauge(&field(), code(metric, Period::Day)).await.unwrap().used;
    assert_eq!([used(Metric::Cost).await, used(Metric::Tokens).await, used(Metric::Requests).await], [5, 0, 0]);
    assert_eq!(bench.money().await, [995, 0, 5, 1]);
    let entry = bench.entries().await.remove(3);
    let deltas: Vec<_> = entry.windows.iter().map(|delta| (delta.code, delta.used)).collect();
    assert_eq!(deltas, [(code(Metric::Requests, Period::Day), -1)], "only what was really taken");
}

#[tokio::test]
async fn an_undo_needs_its_account_and_an_open_shard_but_no_memory() {
    let bench = Bench::new(1_000).await;
    limited("c", 70, DAY).charge(&bench, false, false).await;
    let entry = bench.entries().await.remove(0);
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut bench.server.connect()).unwrap();
    assert_eq!(undo(&bench, "dup:3-5-1", &entry).await.status, Status::Done, "money is given back when memory is full");
    forget(&bench, "a/acc").await;
    let before = bench.server.dump();
    assert_eq!(undo(&bench, "dup:3-5-2", &entry).await.status, Status::Absent);
    assert_eq!(bench.server.dump(), before);
    let meta = bench.fence().await;
    let before = bench.server.dump();
    assert!(!meta.open);
    assert_eq!(undo(&bench, "dup:3-5-2", &entry).await.status, Status::Generation);
    let call = UndoCall { op_id: &op("dup:3-5-2"), entry: &entry, fingerprint: print("undo"), log: b"" };
    assert!(matches!(bench.redis.undo(&call).await, Err(Unavailable::Recovering)));
    assert_eq!(bench.server.dump(), before);
}
