//! A private Redis as a sidecar finds it when it is attached: every shard open, accounts loaded.
#![allow(dead_code, reason = "each benchmark uses another part of it")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quotad::{
    engine::ports::{Counters, NO_DIGEST, Position, ShardMeta, Status, Stream},
    quota::{
        clock::Millis,
        counter::{AccountCounters, Head},
        id::AccountId,
    },
    redis::{Config, Redis},
};

use crate::redis_server::RedisServer;

const GENERATION: u32 = 1;
/// Nothing that is measured here runs out of it.
const BALANCE: i64 = 1 << 50;
/// Valgrind makes everything fifty times slower, and a benchmark is not about giving up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Connects to a new server and opens all its shards.
pub async fn open(server: &RedisServer) -> Arc<Redis> {
    let config = Config { url: server.url(), call_timeout: PATIENCE, ..Config::default() };
    let redis = quotad::redis::build(&config).await.expect("the room");
    // A slow machine may miss the first attempt to connect; the room goes on trying.
    let begun = Instant::now();
    while let Err(reason) = redis.meta(0).await {
        assert!(begun.elapsed() < PATIENCE, "Redis cannot be asked: {reason}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for shard in 0..redis.shards() {
        let top = Position { generation: GENERATION, seq: 0 };
        let meta = ShardMeta { top, digest: NO_DIGEST, open: true, now: Millis(0) };
        assert!(redis.set_meta(shard, None, &meta).await.expect("a shard"), "the shard is new");
        redis.serve(shard, GENERATION, redis.era());
    }
    redis
}

/// Installs an account's counters, for the policy of that version.
pub async fn load(redis: &Redis, account: &AccountId, version: u32) {
    let head = Head { version, balance: BALANCE, ..Head::default() };
    let nonce = redis.begin_load(account).await.expect("a nonce");
    let counters = AccountCounters { head, ..AccountCounters::default() };
    assert_eq!(redis.hydrate(account, nonce, &counters).await.expect("an answer").status, Status::Done);
}
