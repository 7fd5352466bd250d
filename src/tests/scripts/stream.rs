//! The stream side: meta, reading, trimming, wiping, leases, what a server says of itself.

use quotad::{
    engine::ports::{Counters, Position, ShardMeta, Stream},
    quota::{clock::Millis, entry::Kind},
    redis::Config,
};

use crate::{
    bench::{Bench, GENERATION, NO_DIGEST, ask},
    redis_server::RedisServer,
};

fn at(seq: u64) -> Position {
    Position { generation: GENERATION, seq }
}

#[tokio::test]
async fn the_stream_is_read_from_a_place_on_and_trimmed_before_one() {
    let bench = Bench::new(1_000).await;
    for n in 1..=5 {
        ask(&format!("c{n}"), n).charge(&bench, false, false).await;
    }
    assert_eq!(bench.ledger().await, [1, 2, 3, 4, 5].map(|n| (Kind::Charge, -n)));
    let seqs =
        |entries: Vec<quotad::engine::ports::RawEntry>| entries.iter().map(|entry| entry.at.seq).collect::<Vec<_>>();
    assert_eq!(seqs(bench.redis.read(bench.shard, at(2), 2).await.unwrap()), [2, 3]);
    bench.redis.trim(&[(bench.shard, at(4))]).await.unwrap();
    assert_eq!(seqs(bench.redis.read(bench.shard, at(0), 10).await.unwrap()), [4, 5]);
    assert!(bench.redis.read(bench.shard + 1, at(0), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn many_shards_are_asked_in_one_exchange_and_one_that_is_broken_fails_alone() {
    let bench = Bench::new(1_000).await;
    for n in 1..=5 {
        ask(&format!("c{n}"), n).charge(&bench, false, false).await;
    }
    let [empty, broken] = [bench.shard + 1, bench.shard + 2].map(|shard| shard % bench.redis.shards());
    let mut connection = bench.server.connect();
    redis::cmd("SET").arg(format!("q{{{broken}}}l")).arg("no stream").exec(&mut connection).unwrap();
    let streams = bench.redis.read_many(&[(empty, at(0)), (bench.shard, at(4)), (broken, at(0))], 9).await.unwrap();
    let [nothing, entries, error] = <[_; 3]>::try_from(streams).unwrap();
    assert_eq!(nothing.unwrap(), []);
    assert_eq!(entries.unwrap(), bench.redis.read(bench.shard, at(4), 9).await.unwrap());
    assert!(error.is_err_and(|error| error.to_string().contains("WRONGTYPE")));
    assert!(bench.redis.trim(&[(broken, at(3)), (bench.shard, at(3))]).await.is_err());
    assert_eq!(bench.redis.read(bench.shard, at(0), 9).await.unwrap().len(), 3, "the others are trimmed");
    let metas = bench.redis.metas(bench.redis.shards()).await.unwrap();
    assert_eq!(metas.len(), usize::from(bench.redis.shards()));
    for (shard, meta) in (0..).zip(metas) {
        assert_eq!(meta.is_some(), shard == bench.shard);
        assert_eq!(meta, bench.redis.meta(shard).await.unwrap());
    }
}

#[tokio::test]
async fn meta_changes_only_from_what_was_seen() {
    let bench = Bench::new(1_000).await;
    let shard = bench.shard + 1;
    assert_eq!(bench.redis.meta(shard).await.unwrap(), None);
    let meta = ShardMeta { top: at(0), digest: NO_DIGEST, open: true, now: Millis(5) };
    assert!(bench.redis.set_meta(shard, None, &meta).await.unwrap());
    assert!(!bench.redis.set_meta(shard, None, &meta).await.unwrap());
    let next = ShardMeta { open: false, now: Millis(1 << 40), top: at(1 << 50), ..meta };
    assert!(bench.redis.set_meta(shard, Some(&meta), &next).await.unwrap());
    assert!(!bench.redis.set_meta(shard, Some(&meta), &next).await.unwrap());
    assert_eq!(bench.redis.meta(shard).await.unwrap(), Some(next));
}

#[tokio::test]
async fn an_examined_server_has_every_script() {
    let bench = Bench::new(1_000).await;
    let mut connection = bench.server.connect();
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
    bench.redis.server().await.unwrap();
    redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut connection).unwrap();
    bench.reserve(&ask("r1", 10)).await;
    bench.settle("r1", 5).await;
    assert!(bench.redis.lease("l", "a", 1_000).await.unwrap());
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
    assert!(stats.contains("cmdstat_evalsha:calls=3,"), "{stats}");
    assert!(!stats.contains("cmdstat_eval:"), "no call had to bring its script: {stats}");
}

#[tokio::test]
async fn a_lease_has_one_holder() {
    let bench = Bench::new(0).await;
    assert!(bench.redis.lease("writeback/1", "a", 60_000).await.unwrap());
    assert!(bench.redis.lease("writeback/1", "a", 60_000).await.unwrap(), "renewed");
    assert!(!bench.redis.lease("writeback/1", "b", 60_000).await.unwrap());
    assert!(bench.redis.lease("writeback/2", "b", 60_000).await.unwrap());
}

#[tokio::test]
async fn a_server_tells_about_itself_and_rewrites_its_file() {
    let server = RedisServer::start(&["--appendonly", "yes", "--maxmemory-policy", "noeviction"]);
    let bench = Bench::with(server, Config::default(), 1_000).await;
    let facts = bench.redis.server().await.unwrap();
    assert_eq!((facts.run_id.len(), facts.master, facts.loading, facts.valkey), (40, true, false, false));
    assert_eq!((facts.append_only, facts.aof_last_write_ok), (true, true));
    assert_eq!(facts.maxmemory_policy, "noeviction");
    assert!(facts.version.starts_with(|digit: char| digit.is_ascii_digit()));
    let base = |bench: &Bench| {
        let files = std::fs::read_dir(bench.server.folder().join("appendonlydir")).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("base"))
            .collect()
    };
    let before: Vec<String> = base(&bench);
    bench.redis.rewrite_aof().await.unwrap();
    let after: Vec<String> = base(&bench);
    assert_ne!(before, after);
    let without = Bench::new(0).await;
    without.redis.rewrite_aof().await.unwrap();
}
