//! A server that hangs, dies, is full, forgets its scripts, or is another one than before.

use std::time::{Duration, Instant};

use quotad::{
    engine::ports::{Counters, ReserveCall, ShardMeta, Status, Stream, Unavailable},
    redis::Config,
};

use crate::{
    bench::{Ask, Bench, GENERATION, ask, id},
    redis_server::RedisServer,
    reserve::futures_join,
};

/// How long a repair may take before a test fails.
const REPAIR_MAX: Duration = Duration::from_secs(20);

/// Repeats a release until it is answered as wanted. Its answer is the same however often it is asked.
async fn until(bench: &Bench, wanted: impl Fn(&Result<Status, Unavailable>) -> bool) {
    let until = Instant::now() + REPAIR_MAX;
    loop {
        let answer = bench.redis.release(&bench.account, &id("probe")).await.map(|reply| reply.status);
        if wanted(&answer) {
            return;
        }
        assert!(Instant::now() < until, "still {answer:?}");
        tokio::task::yield_now().await;
    }
}

async fn served(bench: &Bench) {
    until(bench, |answer| matches!(answer, Ok(Status::Done | Status::Replayed))).await;
}

#[tokio::test]
async fn a_hung_server_costs_the_time_budget_and_no_more() {
    let bench = Bench::new(1_000).await;
    bench.server.signal("STOP");
    let start = Instant::now();
    let answer = bench.redis.release(&bench.account, &id("r1")).await;
    let took = start.elapsed();
    bench.server.signal("CONT");
    assert!(matches!(answer, Err(Unavailable::Timeout)), "{answer:?}");
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(1), "{took:?}");
    served(&bench).await;
    assert_eq!(bench.reserve(&ask("r2", 1)).await.status, Status::Done, "the shard is still served");
}

#[tokio::test]
async fn more_calls_than_allowed_are_refused_at_once() {
    let config = Config { in_flight_max: 1, ..Config::default() };
    let bench = Bench::with(RedisServer::start(&[]), config, 1_000).await;
    bench.server.signal("STOP");
    let (one, two) = (id("r1"), id("r2"));
    let mut first = Box::pin(bench.redis.release(&bench.account, &one));
    let mut second = Box::pin(bench.redis.release(&bench.account, &two));
    let answers = std::future::poll_fn(|context| {
        let first = first.as_mut().poll(context).is_pending();
        std::task::Poll::Ready((first, second.as_mut().poll(context)))
    })
    .await;
    bench.server.signal("CONT");
    assert!(matches!(answers, (true, std::task::Poll::Ready(Err(Unavailable::Overloaded)))), "{answers:?}");
}

#[tokio::test]
async fn a_server_killed_and_started_again_is_found_and_must_be_attached() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut bench = Bench::with(server, Config::default(), 1_000).await;
    assert_eq!(bench.reserve(&ask("r1", 100)).await.status, Status::Done);
    let before = bench.redis.server().await.unwrap().run_id;
    bench.redis.needs_attach().await;
    bench.server.kill();
    until(&bench, |answer| matches!(answer, Err(Unavailable::Connection(_)))).await;
    bench.server.restart();
    // It reconnects by itself, and serves nothing: this is another server now.
    until(&bench, |answer| matches!(answer, Err(Unavailable::Recovering))).await;
    tokio::time::timeout(REPAIR_MAX, bench.redis.needs_attach()).await.expect("an attach is asked for");
    bench.redis.serve(bench.shard, GENERATION, bench.redis.era());
    until(&bench, |answer| matches!(answer, Err(Unavailable::Recovering))).await;
    let after = loop {
        if let Ok(facts) = bench.redis.server().await {
            break facts.run_id;
        }
        tokio::task::yield_now().await;
    };
    assert_ne!(before, after);
    bench.redis.serve(bench.shard, GENERATION, bench.redis.era());
    served(&bench).await;
    assert_eq!(bench.reserve(&ask("r1", 100)).await.status, Status::Replayed, "what was answered is still there");
    assert_eq!(bench.settle("r1", 70).await.status, Status::Done);
}

/// The stream side has four connections, and more than four commands at once. Whoever waits for one that answers
/// late has not lost the server.
#[tokio::test]
async fn a_stream_side_that_is_busy_waits_for_its_turn_and_asks_for_no_attach() {
    let bench = Bench::new(1_000).await;
    let ask_all = || async { futures_util::future::join_all((0..8).map(|_| bench.redis.meta(bench.shard))).await };
    ask_all().await.into_iter().for_each(|meta| assert!(meta.is_ok_and(|meta| meta.is_some())));
    bench.redis.needs_attach().await;
    bench.server.signal("STOP");
    let goes_on = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        bench.server.signal("CONT");
    };
    let (answers, ()) = tokio::join!(ask_all(), goes_on);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    bench.server.signal("STOP");
    let answers = ask_all().await;
    bench.server.signal("CONT");
    assert!(answers.iter().all(|answer| matches!(answer, Err(Unavailable::Timeout))), "{answers:?}");
    let asked = tokio::time::timeout(Duration::from_millis(50), bench.redis.needs_attach()).await;
    assert!(asked.is_err(), "an attach was asked for");
}

#[tokio::test]
async fn a_cut_connection_to_the_same_server_needs_no_attach_to_be_served() {
    let bench = Bench::new(1_000).await;
    let killed: i64 =
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query(&mut bench.server.connect()).unwrap();
    assert!(killed >= 2, "the lane and the stream side");
    served(&bench).await;
    assert_eq!(bench.reserve(&ask("r1", 1)).await.status, Status::Done);
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again_and_an_attach_is_asked_for() {
    let bench = Bench::new(1_000).await;
    bench.redis.needs_attach().await;
    assert_eq!(bench.reserve(&ask("r1", 1)).await.status, Status::Done);
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut bench.server.connect()).unwrap();
    assert_eq!(bench.reserve(&ask("r1", 1)).await.status, Status::Replayed);
    tokio::time::timeout(REPAIR_MAX, bench.redis.needs_attach()).await.expect("an attach is asked for");
    assert_eq!(bench.settle("r1", 1).await.status, Status::Done);
}

#[tokio::test]
async fn a_full_server_takes_no_holds_but_gives_money_back() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&ask("r1", 100)).await;
    bench.reserve(&ask("r2", 100)).await;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut bench.server.connect()).unwrap();
    let full = ask("r3", 1);
    let admission = full.admission();
    let call = ReserveCall {
        account: &bench.account,
        id: &full.id,
        version: 1,
        admission: &admission,
        key: None,
        amount: 1,
        min_amount: 1,
        tokens: 0,
        prompt_cost: 0,
        ttl_ms: 1_000,
        check_only: false,
        charge_on_expiry: false,
        fingerprint: Default::default(),
        price_tag: b"",
    };
    let before = bench.server.dump();
    match bench.redis.reserve(&call).await {
        Err(Unavailable::Connection(text)) => assert!(text.contains("memory is full"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.server.dump(), before);
    assert_eq!(bench.settle("r1", 70).await.status, Status::Done);
    assert_eq!(bench.release("r2").await.status, Status::Done);
    assert_eq!(bench.refund("f1", "r1", 10).await.status, Status::Done);
    assert_eq!(bench.money().await, [940, 0, 60, 1]);
}

#[tokio::test]
async fn a_replica_serves_nothing() {
    let bench = Bench::new(1_000).await;
    bench.redis.needs_attach().await;
    let command = ["REPLICAOF", "127.0.0.1", "1"];
    redis::cmd(command[0]).arg(&command[1..]).exec(&mut bench.server.connect()).unwrap();
    let answer = bench.redis.release(&bench.account, &id("r1")).await;
    assert!(matches!(answer, Err(Unavailable::Connection(_))), "{answer:?}");
    tokio::time::timeout(REPAIR_MAX, bench.redis.needs_attach()).await.expect("an attach is asked for");
    let answer = bench.redis.release(&bench.account, &id("r1")).await;
    assert!(matches!(answer, Err(Unavailable::Recovering)), "{answer:?}");
    assert!(!bench.redis.server().await.unwrap().master);
}

#[tokio::test]
async fn corrupt_state_is_reported_and_changes_nothing() {
    let bench = Bench::new(1_000).await;
    bench.reserve(&ask("r1", 100)).await;
    // A stream whose top is ahead of the meta refuses the entry; it is the first write, so nothing else is written.
    let meta = bench.redis.meta(bench.shard).await.unwrap().unwrap();
    let stream = format!("q{{{}}}l", bench.shard);
    let ahead = format!("{}-99", meta.top.generation);
    redis::cmd("XADD").arg(stream).arg(ahead).arg("p").arg("").exec(&mut bench.server.connect()).unwrap();
    let before = bench.server.dump();
    assert!(matches!(bench.redis.expire(&bench.account, &id("r1")).await.unwrap().status, Status::Idle));
    let call = quotad::engine::ports::SettleCall {
        account: &bench.account,
        id: &id("r1"),
        cost: quotad::engine::ports::Cost::Held,
        tokens: None,
        last: true,
        clamped: false,
        fingerprint: Default::default(),
        price_tag: None,
        log: b"",
    };
    let answer = bench.redis.settle(&call).await;
    assert!(matches!(answer, Err(Unavailable::Corrupt(_))), "{answer:?}");
    assert_eq!(bench.server.dump(), before);
    let _: ShardMeta = meta;
}

#[tokio::test]
async fn a_call_that_fails_takes_no_other_of_its_script_along() {
    let bench = Bench::new(1_000).await;
    let broken = format!("q{{{}}}r/{}/r3", bench.shard, bench.account);
    redis::cmd("LPUSH").arg(&broken).arg("no record").exec(&mut bench.server.connect()).unwrap();
    let asks: Vec<Ask> = (0..8).map(|number| ask(&format!("r{number}"), 10)).collect();
    // The first time the server does not know the script, so every call is sent by itself.
    for status in [Status::Done, Status::Replayed] {
        let answers = futures_join(asks.iter().map(|ask| bench.try_reserve(ask))).await;
        for (number, answer) in answers.iter().enumerate() {
            match answer {
                Err(Unavailable::Corrupt(why)) => assert!(number == 3 && why.contains("WRONGTYPE"), "{number}: {why}"),
                answer => assert_eq!(answer.as_ref().unwrap().status, status, "{number}"),
            }
        }
    }
    assert_eq!(bench.head().await.held, 70);
    let settles = futures_join(["r1", "r2", "r1", "r1"].into_iter().map(|name| bench.settle(name, 4))).await;
    let statuses: Vec<_> = settles.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [Status::Done, Status::Done, Status::Replayed, Status::Replayed], "each sees those before it");
    assert_eq!(bench.entries().await.len(), 2);
    assert_eq!(bench.money().await[0], 992);
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let redis = quotad::redis::build(&Config { url: server.url(), ..Config::default() }).await.unwrap();
    assert!(matches!(redis.server().await, Err(Unavailable::Connection(_))));
    server.restart();
    tokio::time::timeout(REPAIR_MAX, redis.needs_attach()).await.expect("an attach is asked for");
    let bad = Config { url: "http://nowhere".to_owned(), ..Config::default() };
    assert!(quotad::redis::build(&bad).await.is_err());
    let zero = Config { url: server.url(), shards: 0, ..Config::default() };
    assert!(quotad::redis::build(&zero).await.unwrap_err().to_string().contains("shards"));
}
