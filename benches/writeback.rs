//! How fast write-back can post: ledger rows per second of each database, with real servers that flush
//! every commit. A row is a settle with key and window; a transaction takes entries of 64 shards.

#[path = "../src/tests/harness/sql_server.rs"]
mod sql_server;

use std::{sync::Arc, time::Instant};

use quotad::{
    engine::ports::{AccountPatch, Batch, Cause, Digest, Mark, Opening, PolicyStore, Position, Posting},
    quota::{
        clock::Millis,
        entry::{Entry, Kind, WindowDelta},
        fingerprint::Fingerprint,
        id::{AccountId, Actor, KeyId, OpId},
        limit::{CounterCode, GroupField, Metric, Period},
        reservation::{Flags, Record, State},
        window::Zone,
    },
    sql::{self, Store},
};
use sql_server::{MariaDb, Postgres};

const SHARDS: u16 = 64;
/// 640 accounts in all.
const ACCOUNTS_PER_SHARD: usize = 10;
const ROWS: usize = 32_768;
/// Entries in one transaction.
const TURNS: [usize; 3] = [512, 1024, 4096];
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
            (at, digest(at), settle(shard, seq as usize))
        })
        .collect();
    let (at, digest, _) = entries.last().expect("entries");
    Batch { shard, from, to: Mark { at: *at, digest: *digest, fence: from.fence }, entries }
}

async fn open(url: &str) -> (Arc<Store>, Vec<Mark>) {
    let store = sql::open(url, Zone::utc()).await.expect("a database");
    let mut marks = Vec::new();
    for shard in 0..SHARDS {
        for number in 0..ACCOUNTS_PER_SHARD {
            store
                .put_account(&Actor::admin(), &account(shard, number), &AccountPatch::default())
                .await
                .expect("an account");
        }
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

async fn measure(name: &str, url: &str) {
    let (store, mut marks) = open(url).await;
    for turn in TURNS {
        let each = turn / usize::from(SHARDS);
        let mut spent = std::time::Duration::ZERO;
        for _ in 0..ROWS / turn {
            let batches: Vec<Batch> = (0..SHARDS).zip(&marks).map(|(shard, mark)| batch(shard, *mark, each)).collect();
            let begun = Instant::now();
            let applied = store.apply(&batches).await.expect("a transaction");
            spent += begun.elapsed();
            assert!(applied.iter().all(|applied| applied.moved));
            marks = batches.iter().map(|batch| batch.to).collect();
        }
        println!(
            "write-back {name:10} {turn:5} rows per transaction: {:7.0} rows/s",
            ROWS as f64 / spent.as_secs_f64()
        );
    }
    store.close().await;
}

fn main() {
    // Only as a benchmark: test runners start every target, to ask it for its tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(measure("SQLite", &format!("sqlite://{}/q.db", folder.path().display())));
    let server = Postgres::start();
    runtime.block_on(measure("PostgreSQL", &server.database()));
    drop(server);
    let server = MariaDb::start();
    runtime.block_on(measure("MariaDB", &server.database()));
}
