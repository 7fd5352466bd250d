//! How fast write-back can post, and what it costs: ledger rows per second of each database, with real servers
//! that flush every commit, and the CPU time of a row in this process, in the database server and in Redis.
//! A row is a settle with key and window; a transaction takes entries of 64 shards. First the transaction
//! alone, then all of it: streams of a real Redis read, checked, posted and trimmed, by the worker's turns.
//! SQLite's time is this process'.

#[path = "../src/tests/harness/loopback.rs"]
mod loopback;
#[path = "../src/tests/harness/redis_server.rs"]
mod redis_server;
#[path = "../src/tests/harness/sql_server.rs"]
mod sql_server;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quotad::{
    engine::ports::{
        AccountPatch, Batch, Cause, Constants, Digest, Line, Mark, Opening, PolicyStore, Position, Posting, Stream,
    },
    quota::{
        clock::{Clock, Millis},
        entry::{Entry, Kind, WindowDelta},
        fingerprint::Fingerprint,
        id::{AccountId, Actor, KeyId, OpId},
        limit::{CounterCode, GroupField, Metric, Period},
        reservation::{Flags, Record, State},
        window::Zone,
    },
    redis::{Config, Redis},
    sql::{self, Store},
    writeback::{self, Turn, Writeback, chain},
};
use redis_server::RedisServer;
use rustix::time::{ClockId, clock_gettime};
use sql_server::{MariaDb, Postgres, SqlServer};

const SHARDS: u16 = 64;
/// 640 accounts in all.
const ACCOUNTS_PER_SHARD: usize = 10;
const ROWS: usize = 32_768;
/// Entries in one transaction.
const TURNS: [usize; 3] = [512, 1024, 4096];
/// The same for all of write-back: what comes in 5 ms of a thousand settles a second, and in longer pauses.
const WHOLE_TURNS: [usize; 3] = [64, 512, 4096];
const AT: Millis = Millis(1_795_168_800_000);

fn account(shard: u16, number: usize) -> AccountId {
    AccountId::new(format!("account-{shard}-{}", number % ACCOUNTS_PER_SHARD)).expect("an id")
}

fn settle(shard: u16, number: usize) -> Entry {
    let field = GroupField::new("openai", "*", None);
    let code = CounterCode::new(Metric::Cost, Period::Day);
    let record = Record {
        state: State::Settled,
        flags: Flags::default(),
        fingerprint: Fingerprint::of("settle", &[Some("1")]),
        created: AT,
        expires: Millis(AT.0 + 300_000),
        held: 120_000,
        tokens: 700,
        prompt_cost: 0,
        charged: 98_000,
        refunded: 0,
        overdraft: 0,
        parts: 0,
        key: Some(KeyId::new("key-1").expect("an id")),
        price_tag: Vec::new(),
        windows: Default::default(),
    };
    Entry {
        kind: Kind::Settle,
        at: AT,
        balance: -98_000,
        used: 98_000,
        requests: 1,
        tokens: 700,
        account: account(shard, number),
        op_id: OpId::new(format!("r-{shard}-{number}-0123456789abcdef")).expect("an id"),
        record: Some(record),
        windows: vec![WindowDelta { field, code, start_s: 1_795_132_800, used: 98_000 }],
        log: br#"{"platform":"openai","model":"gpt-4o","prompt_tokens":500,"completion_tokens":200,"outcome":"ok"}"#
            .to_vec(),
    }
}

/// Digests are not looked into here, they only have to differ.
fn digest(at: Position) -> Digest {
    format!("{:020}{:020}", at.generation, at.seq).as_bytes().try_into().expect("40 characters")
}

/// The next entries of a shard.
fn batch(shard: u16, from: Mark, entries: usize) -> Batch {
    let entries: Vec<_> = (from.at.seq + 1..)
        .take(entries)
        .map(|seq| {
            let at = Position { seq, ..from.at };
            Line::of(at, digest(at), settle(shard, seq as usize))
        })
        .collect();
    let Line { at, digest, .. } = *entries.last().expect("entries");
    Batch { shard, from, to: Mark { at, digest, fence: from.fence }, entries }
}

async fn accounts(url: &str) -> Arc<Store> {
    let store = sql::open(url, Zone::utc()).await.expect("a database");
    for shard in 0..SHARDS {
        for number in 0..ACCOUNTS_PER_SHARD {
            store
                .put_account(&Actor::admin(), &account(shard, number), &AccountPatch::default())
                .await
                .expect("an account");
        }
    }
    store
}

async fn open(url: &str) -> (Arc<Store>, Vec<Mark>) {
    let store = accounts(url).await;
    let mut marks = Vec::new();
    for shard in 0..SHARDS {
        let opening = Opening {
            generation: 1,
            run_id: "bench".into(),
            cause: Cause::First,
            redone: 0,
            merged: 0,
            seen: None,
            kept_until: None,
        };
        marks.push(store.open_generation(shard, None, &opening).await.expect("a shard").expect("a mark"));
    }
    (store, marks)
}

/// CPU time that was used so far, by whom.
#[derive(Clone, Copy, Default)]
struct Used {
    here: Duration,
    server: Duration,
    redis: Duration,
}

impl Used {
    fn now(server: Option<&SqlServer>, redis: Option<&RedisServer>) -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            here: Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)),
            server: server.map(SqlServer::cpu_time).unwrap_or_default(),
            redis: redis.map(RedisServer::cpu_time).unwrap_or_default(),
        }
    }
}

/// What some rows took, added up.
#[derive(Default)]
struct Meter {
    spent: Duration,
    used: Used,
}

impl Meter {
    fn add(&mut self, begun: Instant, before: Used, after: Used) {
        self.spent += begun.elapsed();
        self.used.here += after.here - before.here;
        self.used.server += after.server.saturating_sub(before.server);
        self.used.redis += after.redis.saturating_sub(before.redis);
    }

    fn print(&self, what: &str, turn: usize) {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / ROWS as f64;
        println!(
            "write-back {what:22} {turn:5} rows at a time: {:7.0} rows/s, CPU µs per row: {:5.1} here, {:5.1} database server, {:4.1} Redis",
            ROWS as f64 / self.spent.as_secs_f64(),
            each(self.used.here),
            each(self.used.server),
            each(self.used.redis),
        );
    }
}

/// The transaction alone.
async fn measure(name: &str, url: &str, server: Option<&SqlServer>) {
    let (store, mut marks) = open(url).await;
    for turn in TURNS {
        let each = turn / usize::from(SHARDS);
        let mut meter = Meter::default();
        for _ in 0..ROWS / turn {
            let batches: Vec<Batch> = (0..SHARDS).zip(&marks).map(|(shard, mark)| batch(shard, *mark, each)).collect();
            let (begun, before) = (Instant::now(), Used::now(server, None));
            let applied = store.apply(&batches).await.expect("a transaction");
            meter.add(begun, before, Used::now(server, None));
            assert!(applied.iter().all(|applied| applied.moved));
            marks = batches.iter().map(|batch| batch.to).collect();
        }
        meter.print(name, turn);
    }
    store.close().await;
}

/// Everything, from streams that fill up.
async fn measure_whole(name: &str, url: &str, server: Option<&SqlServer>) {
    let store = accounts(url).await;
    let redis_server = RedisServer::start(&["--appendonly", "no"]);
    let config = Config { url: redis_server.url(), shards: SHARDS, ..Config::default() };
    let redis = quotad::redis::build(&config).await.expect("the room");
    let writeback = build(&redis, &store);
    let attached = writeback.attach.run_once();
    attached.await.expect("an attach");
    for turn in WHOLE_TURNS {
        let mut meter = Meter::default();
        for _ in 0..ROWS / turn {
            for shard in 0..SHARDS {
                fill(&redis, &redis_server, shard, turn / usize::from(SHARDS)).await;
            }
            let (begun, before) = (Instant::now(), Used::now(server, Some(&redis_server)));
            while !matches!(writeback.worker.turn().await, Turn::Idle) {}
            meter.add(begun, before, Used::now(server, Some(&redis_server)));
        }
        meter.print(&format!("{name}, whole"), turn);
    }
    store.close().await;
}

fn build(redis: &Arc<Redis>, store: &Arc<Store>) -> Writeback {
    let ports = writeback::Ports {
        stream: redis.clone(),
        counters: redis.clone(),
        posting: store.clone(),
        clock: Arc::new(Clock::default()),
    };
    let settings = writeback::Settings {
        batch_entries_max: 512,
        poll: Duration::from_millis(20),
        retention_entries: 1000,
        tombstone_ttl: Duration::from_secs(900),
        redo_rows_max: writeback::REDO_ROWS_MAX,
        lag_max: None,
        constants: Constants { shards: SHARDS, units_per_usd: 100_000_000 },
        holder: "bench".into(),
    };
    writeback::build(&ports, &settings)
}

/// Appends settles to a shard's stream, as scripts do.
async fn fill(redis: &Redis, server: &RedisServer, shard: u16, entries: usize) {
    let seen = redis.meta(shard).await.expect("Redis").expect("an open shard");
    let mut meta = seen;
    let mut add = ::redis::pipe();
    for _ in 0..entries {
        meta.top = meta.top.following();
        let payload = settle(shard, meta.top.seq as usize).pack();
        meta.digest = chain(&meta.digest, &payload);
        let id = format!("{}-{}", meta.top.generation, meta.top.seq);
        add.cmd("XADD").arg(format!("q{{{shard}}}l")).arg(id).arg("p").arg(payload).arg("d").arg(&meta.digest[..]);
    }
    add.exec(&mut server.connect()).expect("entries");
    assert!(redis.set_meta(shard, Some(&seen), &meta).await.expect("Redis"));
}

fn main() {
    // Only as a benchmark: test runners start every target, to ask it for its tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| format!("sqlite://{}/{name}.db", folder.path().display());
    runtime.block_on(measure("SQLite", &file("alone"), None));
    runtime.block_on(measure_whole("SQLite", &file("whole"), None));
    let server = Postgres::start();
    runtime.block_on(measure("PostgreSQL", &server.database(), Some(&server)));
    runtime.block_on(measure_whole("PostgreSQL", &server.database(), Some(&server)));
    drop(server);
    let server = MariaDb::start();
    runtime.block_on(measure("MariaDB", &server.database(), Some(&server)));
    runtime.block_on(measure_whole("MariaDB", &server.database(), Some(&server)));
}
