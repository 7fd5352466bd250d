//! Restoring tombstones and wiping: under a fence, and under that fence alone.

use quotad::{
    engine::ports::{Counters, Position, ShardMeta, Stream, Tombstone},
    quota::clock::Millis,
};

use crate::bench::{Bench, GENERATION, NO_DIGEST, ask, id};

#[tokio::test]
async fn a_wipe_takes_one_shard_and_only_under_its_fence() {
    let bench = Bench::new(10_000_000).await;
    for n in 0..1_500 {
        ask(&format!("c{n}"), 1).charge(&bench, false, false).await;
    }
    bench.reserve(&ask("r1", 1)).await;
    let top = Position { generation: GENERATION, seq: 0 };
    let other = ShardMeta { top, digest: NO_DIGEST, open: true, now: Millis(0) };
    bench.redis.set_meta(bench.shard * 10 + 1, None, &other).await.unwrap();
    let open = bench.redis.meta(bench.shard).await.unwrap().unwrap();
    let before = bench.server.dump();
    assert!(!bench.redis.wipe(bench.shard, &ShardMeta { open: false, ..open }).await.unwrap(), "it is open");
    assert_eq!(bench.server.dump(), before);
    let fence = bench.fence().await;
    let before = bench.server.dump();
    assert!(!bench.redis.wipe(bench.shard, &ShardMeta { now: Millis(1), ..fence }).await.unwrap(), "another fence");
    assert_eq!(bench.server.dump(), before);
    assert!(bench.redis.wipe(bench.shard, &fence).await.unwrap(), "account, records, deadlines, stream");
    assert_eq!(bench.server.dump().len(), 2, "both metas");
    assert!(bench.redis.wipe(bench.shard, &fence).await.unwrap(), "there is nothing left to wipe");
    let open = ShardMeta { open: true, ..fence };
    bench.redis.set_meta(bench.shard, Some(&fence), &open).await.unwrap();
    assert!(!bench.redis.wipe(bench.shard, &fence).await.unwrap(), "nothing to wipe, but opened meanwhile");
}

#[tokio::test]
async fn tombstones_are_restored_where_none_are_and_only_under_their_fence() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&ask("r1", 100)).await;
    let settled = bench.settle("r1", 40).await.record.unwrap();
    bench.reserve(&ask("r2", 100)).await;
    let held = bench.record("r2").await.unwrap();
    let account = bench.account.clone();
    let tombstone = |name: &str| Tombstone { account: account.clone(), id: id(name), record: settled.clone() };
    let mut lost: Vec<Tombstone> = (0..1_100).map(|n| tombstone(&format!("t{n}"))).collect();
    lost.push(tombstone("r2"));
    let open = bench.redis.meta(bench.shard).await.unwrap().unwrap();
    let closed = ShardMeta { open: false, ..open };
    let before = bench.server.dump();
    assert!(!bench.redis.restore(bench.shard, &closed, &lost).await.unwrap(), "it is open");
    assert!(!bench.redis.restore(bench.shard, &closed, &[]).await.unwrap(), "that is told without any, too");
    assert_eq!(bench.server.dump(), before);
    let fence = bench.fence().await;
    assert!(bench.redis.restore(bench.shard, &fence, &lost).await.unwrap());
    assert!(bench.redis.restore(bench.shard, &fence, &[]).await.unwrap());
    let after = bench.server.dump();
    assert_eq!(after.len(), before.len() + 1_100);
    let name = |id: &str| format!("q{{{}}}r/acc/{id}", bench.shard).into_bytes();
    assert!(after[&name("t1099")].1, "a tombstone has a time to live");
    assert_eq!(after[&name("r2")], before[&name("r2")], "what is there stays");
    bench.redis.set_meta(bench.shard, Some(&fence), &open).await.unwrap();
    bench.redis.serve(bench.shard, GENERATION, bench.redis.era());
    assert_eq!(bench.record("t7").await, Some(settled));
    assert_eq!(bench.record("r2").await, Some(held));
}
