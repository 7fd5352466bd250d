//! Redo: a shard that lost its last entries gets them back from the ledger, one by one.

use quotad::{
    engine::ports::{
        AdjustCall, Cost, Counters, Position, RawEntry, RefundCall, Reply, Reprice, ResetCall, ShardMeta, Status,
        Stream, Unavailable,
    },
    quota::{
        entry::Kind,
        limit::{Metric, Period},
        reservation::{Flags, Record, State},
    },
};

use crate::{
    bench::{Ask, Bench, ask, code, field, gauge, group, id, key, op, print},
    shard::Shard,
};

const DAY: u32 = 1_795_132_800;

/// A call with a key and every metric.
fn limited(name: &str, amount: i64) -> Ask {
    let gauges = [
        gauge(Metric::Cost, Period::Day, DAY, None),
        gauge(Metric::Tokens, Period::Day, DAY, None),
        gauge(Metric::Requests, Period::Rolling(60), 0, None),
        gauge(Metric::Concurrency, Period::None, 0, None),
    ];
    Ask { key: Some(key("k")), groups: vec![group(&gauges)], ..ask(name, amount) }
}

/// A fenced copy of a shard, to be brought up to the original.
struct Behind {
    bench: Bench,
    before: Shard,
    fence: ShardMeta,
}

async fn behind(original: &Bench) -> Behind {
    let bench = original.copy().await;
    let before = Shard::read(&mut bench.server.connect(), bench.shard);
    let fence = bench.fence().await;
    Behind { bench, before, fence }
}

impl Behind {
    async fn rows(&self, original: &Bench) -> Vec<RawEntry> {
        let top = self.fence.top;
        let from = top.following();
        original.redis.read(original.shard, from, 1_000).await.unwrap()
    }

    async fn redo(&mut self, row: &RawEntry) {
        let meta = self.bench.redis.redo(self.bench.shard, &self.fence, row).await.unwrap();
        self.fence = meta.expect("the meta is the fence");
    }

    /// Brings the copy up, checks it, and opens it.
    async fn catch_up(mut self, original: &Bench) -> Bench {
        for row in self.rows(original).await {
            self.redo(&row).await;
        }
        let read = |bench: &Bench| Shard::read(&mut bench.server.connect(), bench.shard);
        read(&self.bench).check_redone(&self.before, &read(original));
        let open = ShardMeta { open: true, ..self.fence };
        assert!(self.bench.redis.set_meta(self.bench.shard, Some(&self.fence), &open).await.unwrap());
        self.bench.redis.serve(self.bench.shard, open.top.generation, self.bench.redis.era());
        self.bench
    }
}

async fn adjust(bench: &Bench, kind: Kind, amount: i64) -> Reply {
    let fingerprint = print("adjust");
    let call =
        AdjustCall { account: &bench.account, kind, op_id: &op("o"), amount, force: true, fingerprint, log: b"" };
    bench.redis.adjust(&call).await.unwrap()
}

async fn refund(bench: &Bench, amount: i64) -> Reply {
    let (account, fingerprint) = (&bench.account, print("refund"));
    let log = br#"{"of":"settled"}"#;
    let call = RefundCall { account, op_id: &op("f"), of: &id("settled"), amount, fingerprint, log };
    bench.redis.refund(&call).await.unwrap()
}

async fn reset(bench: &Bench) -> Reply {
    let codes = [code(Metric::Cost, Period::Day), code(Metric::Requests, Period::Rolling(60))];
    let call = ResetCall { account: &bench.account, op_id: &op("z"), field: &field(), codes: &codes, log: b"" };
    bench.redis.reset(&call).await.unwrap()
}

/// Does the operation of that name.
async fn act(bench: &Bench, name: &str) -> Reply {
    match name {
        "settle" => bench.settle("s", 70).await,
        "settle above the hold" => bench.settle("a", 300).await,
        "partial" => bench.partial("p", 30).await,
        "partial beyond the hold" => bench.partial("p", 130).await,
        "settle of partials" => bench.settle("p", 150).await,
        "charge" => limited("c", 20).charge(bench, false, false).await,
        "unreserved" => limited("u", 20).charge(bench, false, true).await,
        "refund" => refund(bench, 15).await,
        "expire" => bench.expire("e").await,
        "late settle" => bench.settle("e", 5).await,
        "credit" => adjust(bench, Kind::Credit, 500).await,
        "debit" => adjust(bench, Kind::Debit, 400).await,
        "initial" => adjust(bench, Kind::Initial, 50).await,
        "reset" => reset(bench).await,
        "close" => adjust(bench, Kind::Close, 0).await,
        other => panic!("{other}"),
    }
}

const ACTS: [&str; 15] = [
    "settle",
    "settle above the hold",
    "partial",
    "partial beyond the hold",
    "settle of partials",
    "charge",
    "unreserved",
    "refund",
    "expire",
    "late settle",
    "credit",
    "debit",
    "initial",
    "reset",
    "close",
];

async fn original() -> Bench {
    let bench = Bench::new(10_000).await;
    for name in ["settled", "s", "a", "p"] {
        bench.reserve(&limited(name, 100)).await;
    }
    bench.reserve(&Ask { charge_on_expiry: true, ttl_ms: 1_000, ..limited("e", 40) }).await;
    bench.settle("settled", 60).await;
    bench
}

/// Each kind alone, and from every place on to the end; and nothing is done twice after it.
#[tokio::test]
async fn every_kind_is_redone_as_it_was_done() {
    let bench = original().await;
    let mut copies = Vec::new();
    for name in ACTS {
        if name == "expire" {
            bench.advance(2_000).await;
        }
        let copy = behind(&bench).await;
        copies.push(behind(&bench).await);
        assert_eq!(act(&bench, name).await.status, Status::Done, "{name}");
        let copy = copy.catch_up(&bench).await;
        let again = act(&copy, name).await.status;
        assert!(matches!(again, Status::Replayed) || name == "expire" && again == Status::Idle, "{name}: {again:?}");
    }
    let state = Shard::read(&mut bench.server.connect(), bench.shard);
    assert_eq!((state.stream.len(), state.deadlines.len()), (ACTS.len() + 1, 0), "an entry each, and no hold is left");
    for copy in copies {
        copy.catch_up(&bench).await;
    }
}

/// The hold was made after what Redis kept: nothing is held for it, and its final settle charges the rest,
/// with tokens and request, though it was to be charged at its deadline.
#[tokio::test]
async fn a_lost_hold_comes_back_expired() {
    let bench = Bench::new(1_000).await;
    let copy = behind(&bench).await;
    bench.reserve(&Ask { charge_on_expiry: true, ..limited("r", 100) }).await;
    bench.partial("r", 30).await;
    let copy = copy.catch_up(&bench).await;
    assert_eq!(copy.money().await, [970, 0, 30, 0]);
    let record = copy.record("r").await.unwrap();
    assert_eq!((record.state, record.charged, record.flags.has(Flags::CHARGE_ON_EXPIRY)), (State::Expired, 30, false));
    assert_eq!(copy.settle("r", 50).await.status, Status::Done);
    assert_eq!(copy.money().await, [950, 0, 50, 1]);
    assert_eq!(copy.gauge(&field(), code(Metric::Tokens, Period::Day)).await.unwrap().used, 10);
}

/// An extend leaves no entry; the partial settle that follows says what is held since.
#[tokio::test]
async fn a_lost_extend_is_seen_in_the_next_entry() {
    let bench = Bench::new(1_000).await;
    let ask = limited("r", 100);
    bench.reserve(&ask).await;
    let copy = behind(&bench).await;
    assert_eq!(bench.extend(&ask, Some(400), Some(90_000)).await.status, Status::Done);
    bench.partial("r", 150).await;
    let copy = copy.catch_up(&bench).await;
    assert_eq!(copy.money().await, [850, 250, 150, 0]);
    assert_eq!(copy.record("r").await, bench.record("r").await);
    assert_eq!(copy.settle("r", 150).await.status, Status::Done);
    assert_eq!(copy.money().await, [850, 0, 150, 1]);
}

/// The window was left with fewer tokens than the record: its settle took them below zero.
#[tokio::test]
async fn tokens_of_a_lost_extend_are_held_again() {
    let bench = Bench::new(1_000).await;
    let ask = limited("r", 100);
    bench.reserve(&ask).await;
    let tag = bench.record("r").await.unwrap().price_tag;
    let copy = behind(&bench).await;
    let more = Reprice { from: &tag, to: &tag, prompt_cost: 5, tokens: Some(50) };
    assert_eq!(bench.reprice(&ask, Some(400), None, Some(more)).await.status, Status::Done);
    bench.partial("r", 150).await;
    let copy = copy.catch_up(&bench).await;
    let tokens = async || copy.gauge(&field(), code(Metric::Tokens, Period::Day)).await.unwrap();
    assert_eq!((tokens().await.held, copy.record("r").await.unwrap().tokens), (50, 50));
    assert_eq!(copy.settle("r", 150).await.status, Status::Done);
    assert_eq!((tokens().await.held, copy.money().await), (0, [850, 0, 150, 1]));
}

/// An id used again after its tombstone was gone: what was held under it the first time ends.
#[tokio::test]
async fn a_hold_of_an_earlier_use_of_its_id_ends() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&limited("r", 100)).await;
    let copy = behind(&bench).await;
    bench.release("r").await;
    let name = format!("q{{{}}}r/acc/r", bench.shard);
    redis::cmd("DEL").arg(&name).exec(&mut bench.server.connect()).unwrap();
    bench.advance(5).await;
    bench.reserve(&limited("r", 200)).await;
    bench.partial("r", 50).await;
    let copy = copy.catch_up(&bench).await;
    assert_eq!(copy.money().await, [950, 0, 50, 0]);
    assert_eq!(copy.record("r").await.map(|record: Record| record.state), Some(State::Expired));
}

#[tokio::test]
async fn an_account_that_is_not_loaded_is_left_to_be_loaded() {
    let bench = original().await;
    let mut copy = behind(&bench).await;
    redis::cmd("DEL").arg(format!("q{{{}}}a/acc", bench.shard)).exec(&mut copy.bench.server.connect()).unwrap();
    for name in ["settle", "credit", "reset"] {
        act(&bench, name).await;
    }
    for row in copy.rows(&bench).await {
        copy.redo(&row).await;
    }
    let [here, there] = [&copy.bench, &bench].map(|bench| Shard::read(&mut bench.server.connect(), bench.shard));
    assert_eq!(here.accounts.len(), 0);
    assert_eq!((&here.stream, &here.records), (&there.stream, &there.records));
    assert_eq!(here.operations.len(), 2);
    // Generation, number and digest; the time between them is another.
    assert_eq!((&here.meta[1..5], &here.meta[11..]), (&there.meta[1..5], &there.meta[11..]));
}

#[tokio::test]
async fn a_row_goes_on_from_an_older_generation() {
    let bench = original().await;
    let mut copy = behind(&bench).await;
    let meta = bench.redis.meta(bench.shard).await.unwrap().unwrap();
    let next = ShardMeta { top: Position { generation: meta.top.generation + 2, seq: 0 }, ..meta };
    assert!(bench.redis.set_meta(bench.shard, Some(&meta), &next).await.unwrap());
    bench.redis.serve(bench.shard, next.top.generation, bench.redis.era());
    act(&bench, "settle").await;
    let row = bench.redis.read(bench.shard, next.top, 1).await.unwrap().remove(0);
    assert_eq!(row.at, Position { seq: 1, ..next.top });
    copy.redo(&row).await;
    assert_eq!(copy.fence.top, row.at);
    assert_eq!(Shard::read(&mut copy.bench.server.connect(), bench.shard).stream.len(), 2);
}

/// Another fence, an open shard, a gap, a digest that does not follow: nothing is written.
#[tokio::test]
async fn what_does_not_follow_writes_nothing() {
    let bench = original().await;
    let copy = behind(&bench).await;
    act(&bench, "settle").await;
    act(&bench, "credit").await;
    let rows = copy.rows(&bench).await;
    let (redis, shard, fence) = (&copy.bench.redis, copy.bench.shard, copy.fence);
    let before = copy.bench.server.dump();
    let elsewhere = ShardMeta { now: quotad::quota::clock::Millis(fence.now.0 + 1), ..fence };
    assert_eq!(redis.redo(shard, &elsewhere, &rows[0]).await.unwrap(), None);
    for (fence, row) in [
        (ShardMeta { open: true, ..fence }, rows[0].clone()),
        (fence, rows[1].clone()),
        (fence, RawEntry { digest: rows[1].digest, ..rows[0].clone() }),
        (fence, RawEntry { payload: rows[0].payload[..40].to_vec(), ..rows[0].clone() }),
    ] {
        let answer = redis.redo(shard, &fence, &row).await;
        assert!(matches!(answer, Err(Unavailable::Corrupt(_))), "{answer:?}");
    }
    assert_eq!(copy.bench.server.dump(), before);
    copy.catch_up(&bench).await;
}

/// A stream that is ahead of its meta refuses the row, and that is the first write.
#[tokio::test]
async fn a_stream_that_is_ahead_refuses_the_row() {
    let bench = original().await;
    let copy = behind(&bench).await;
    act(&bench, "settle").await;
    let rows = copy.rows(&bench).await;
    let ahead = format!("{}-99", rows[0].at.generation);
    let stream = format!("q{{{}}}l", bench.shard);
    redis::cmd("XADD").arg(stream).arg(ahead).arg("p").arg("").exec(&mut copy.bench.server.connect()).unwrap();
    let before = copy.bench.server.dump();
    let answer = copy.bench.redis.redo(bench.shard, &copy.fence, &rows[0]).await;
    assert!(matches!(answer, Err(Unavailable::Corrupt(_))), "{answer:?}");
    assert_eq!(copy.bench.server.dump(), before);
}

/// The caller's log names what is refunded; without it the money is right and the record as it was.
#[tokio::test]
async fn a_refund_of_an_unnamed_reservation_moves_the_money_alone() {
    let bench = original().await;
    let mut copy = behind(&bench).await;
    bench.refund("f", "settled", 15).await;
    let row = copy.rows(&bench).await.remove(0);
    copy.redo(&row).await;
    let [here, there] = [&copy.bench, &bench].map(|bench| Shard::read(&mut bench.server.connect(), bench.shard));
    let head = |shard: &Shard| shard.accounts.values().next().unwrap().head;
    assert_eq!((head(&here).balance, head(&here).used), (head(&there).balance, head(&there).used));
    assert_eq!(here.records, copy.before.records);
    assert_eq!(here.operations.len(), 1);
}

/// A restored tombstone has no fingerprint, for entries carry none: the amount tells a repetition.
#[tokio::test]
async fn a_redone_operation_is_known_by_its_amount() {
    let bench = original().await;
    let copy = behind(&bench).await;
    act(&bench, "credit").await;
    act(&bench, "refund").await;
    let copy = copy.catch_up(&bench).await;
    let before = copy.server.dump();
    assert_eq!(adjust(&copy, Kind::Credit, 501).await.status, Status::Conflict);
    assert_eq!(adjust(&copy, Kind::Credit, 500).await.status, Status::Replayed);
    assert_eq!(refund(&copy, 14).await.status, Status::Conflict);
    assert_eq!(refund(&copy, 15).await.status, Status::Replayed);
    assert_eq!(copy.server.dump(), before);
    assert_eq!(copy.settle_as("s", Cost::Units(1), true, "x").await.status, Status::Done, "the shard is served");
}
