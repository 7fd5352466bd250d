//! The pieces against the real programs, as far as every machine that runs the tests has them.

use std::time::Duration;

use clap::Parser;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions};

use super::{
    args::Name,
    lean::{Job, Pace, drive},
    plain::{Caller, Plain},
    seed,
    talk::PlainReserve,
};
use crate::cli::{Cli, Command};

fn args(line: &str) -> super::args::PeersArgs {
    let words = ["quotad-loadtest", "peers"].into_iter().chain(line.split_whitespace());
    let Command::Peers(args) = Cli::try_parse_from(words).unwrap().command else { unreachable!("the line says peers") };
    *args
}

#[test]
fn all_lines_are_measured_unless_some_are_named() {
    assert_eq!(args("").lines().count(), 9);
    let some: Vec<Name> = args("--only cold-start --only reserve").lines().collect();
    assert_eq!(some, [Name::Reserve, Name::ColdStart]);
    for bad in ["--only nothing", "--rounds 0", "--seconds 0", "--connections 0", "--many 3"] {
        let words = ["quotad-loadtest", "peers"].into_iter().chain(bad.split_whitespace());
        assert!(Cli::try_parse_from(words).is_err(), "{bad}");
    }
}

fn job(plain: &Plain, pace: Pace) -> Job {
    Job {
        address: plain.redis.address(),
        connections: 8,
        pace,
        warm_up: Duration::from_millis(50),
        counted: Duration::from_millis(200),
    }
}

/// The plain script, its accounts, and the lean client in both paces, against a real Redis.
#[tokio::test]
async fn the_lean_client_counts_what_redis_did() {
    let plain = Plain::start(Caller::Nobody).await.unwrap();
    let talk = PlainReserve { sha: plain.reserve.clone() };
    let closed = drive(job(&plain, Pace::Closed), talk.clone()).await.unwrap();
    let mut redis = plain.redis.connect().await.unwrap();
    let holds: u64 = redis.ask(&["ZCARD", "{0}h"]).await.unwrap().parse().unwrap();
    assert!(!closed.latency.is_empty() && closed.latency.len() <= holds, "{} of {holds}", closed.latency.len());
    // Ids begin anew: the records are there, and a repeated reserve is not `{0, …}`.
    let repeated = drive(job(&plain, Pace::Closed), talk.clone()).await.unwrap_err();
    assert!(repeated.contains("Redis answered"), "{repeated}");
    redis.ask(&["DEL", "{0}h"]).await.unwrap();
    plain.stop().await;
}

/// As many as are due, no more and no fewer, however long each takes.
#[tokio::test]
async fn an_open_loop_keeps_its_rate() {
    let plain = Plain::start(Caller::Nobody).await.unwrap();
    let talk = PlainReserve { sha: plain.reserve.clone() };
    let seen = drive(job(&plain, Pace::Open { per_second: 1000.0 }), talk).await.unwrap();
    assert!(seen.latency.len().abs_diff(200) <= 1, "{}", seen.latency.len());
    assert!(seen.latency.value_at_quantile(0.99) >= seen.latency.value_at_quantile(0.5));
    plain.stop().await;
}

/// A server that goes away in the middle is told, not waited for.
#[tokio::test]
async fn a_server_that_vanishes_ends_the_measurement() {
    let plain = Plain::start(Caller::Nobody).await.unwrap();
    let talk = PlainReserve { sha: plain.reserve.clone() };
    let endless = Job { counted: Duration::from_secs(600), ..job(&plain, Pace::Open { per_second: 100.0 }) };
    let driven = tokio::spawn(drive(endless, talk));
    plain.stop().await;
    assert!(driven.await.unwrap().is_err());
}

/// The tables are those of the server's own migration, so that a change there is noticed here.
#[tokio::test]
async fn accounts_are_seeded_as_the_schema_wants_them() {
    let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(true);
    let mut database = options.connect().await.unwrap();
    for name in ["accounts", "api_keys", "limits"] {
        let migration = include_str!("../../../src/sql/migrations/sqlite/0001_first.sql");
        let table = migration.split("CREATE TABLE ").find(|table| table.starts_with(&format!("{name} ("))).unwrap();
        let table = table.split_once(";\n\n").map_or(table, |(table, _)| table);
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE TABLE {table}"))).execute(&mut database).await.unwrap();
    }
    seed::insert(&mut database, seed::ORDINARY, 3, None).await.unwrap();
    seed::insert(&mut database, seed::TRUSTED, 1, Some(7)).await.unwrap();
    seed::insert(&mut database, 'n', 0, None).await.unwrap();
    let counts = "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM api_keys), (SELECT count(*) FROM limits), \
                  (SELECT count(*) FROM accounts WHERE trust = 7 AND account = 't1000000')";
    let row = sqlx::raw_sql(counts).fetch_one(&mut database).await.unwrap();
    let counts: [i64; 4] = std::array::from_fn(|column| row.get(column));
    assert_eq!(counts, [4, 4, 12, 1]);
    assert_eq!(seed::account(seed::ORDINARY, 2), "a1000002");
    database.close().await.unwrap();
}
