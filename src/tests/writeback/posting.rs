//! The worker and drain.

use std::{sync::atomic::Ordering, time::Duration};

use quotad::{
    engine::ports::{AccountPatch, Drain, LedgerStore, PolicyStore, Posting, ShardMeta, Unavailable, compensation_id},
    quota::{
        entry::Kind,
        id::{AccountId, Actor, OpId},
    },
    writeback::Turn,
};

use super::scene::{ACCOUNTS, SHARDS, Scene, account, at, post_all, settle};

#[tokio::test]
async fn entries_reach_sql_and_streams_keep_overlap_and_tail() {
    let (scene, sidecar) = Scene::attached().await;
    for number in 0..ACCOUNTS {
        scene.charge(number, 0..200 + usize::from(number));
    }
    post_all(&sidecar).await;
    for number in 0..ACCOUNTS {
        let n = 200 + i64::from(number);
        assert_eq!(scene.sums(number).await, [-n, n, n]);
        scene.assert_level(number).await;
        let kept = scene.stream.shard(number).entries;
        assert_eq!(kept.last().unwrap().at, scene.mark(number).await, "the overlap entry stays");
        assert!((6..200).contains(&kept.len()), "{} entries are kept", kept.len());
    }
    scene.charge(0, 500..501);
    post_all(&scene.sidecar("one")).await;
    assert_eq!(scene.sums(0).await[0], -201);
}

#[tokio::test]
async fn a_crash_between_commit_and_trim_is_made_up_for() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..300);
    scene.stream.state().refuse_trim = true;
    post_all(&sidecar).await;
    assert_eq!(scene.stream.shard(1).entries.len(), 300);
    scene.stream.state().refuse_trim = false;
    let next = scene.sidecar("one");
    scene.charge(1, 300..301);
    post_all(&next).await;
    assert_eq!(scene.sums(1).await, [-301, 301, 301]);
    assert_eq!(scene.stream.shard(1).entries.first().unwrap().at, at(1, 296));
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_done_twice() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..10);
    scene.door.lose_answer.store(true, Ordering::SeqCst);
    assert!(matches!(sidecar.worker.turn().await, Turn::Away(_)));
    scene.charge(1, 10..15);
    post_all(&sidecar).await;
    assert_eq!(scene.sums(1).await, [-15, 15, 15]);
    scene.assert_level(1).await;
}

#[tokio::test]
async fn a_batch_that_was_overtaken_is_looked_at_again() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    scene.door.overtake.store(true, Ordering::SeqCst);
    sidecar.drain.drain(&account(1)).await.unwrap();
    assert_eq!(scene.sums(1).await[0], -5, "drained means posted, by whomever");
}

#[tokio::test]
async fn a_database_that_was_away_gets_everything_later() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    scene.door.shut.store(true, Ordering::SeqCst);
    assert!(matches!(sidecar.worker.turn().await, Turn::Away(_)));
    scene.door.shut.store(false, Ordering::SeqCst);
    post_all(&sidecar).await;
    assert_eq!(scene.sums(1).await[0], -5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_that_post_the_same_shard_post_each_entry_once() {
    let (scene, first) = Scene::attached().await;
    let second = scene.sidecar("two");
    for round in 0..20 {
        scene.charge(1, 30 * round..30 * (round + 1));
        let id = account(1);
        let (one, two) = tokio::join!(first.drain.drain(&id), second.drain.drain(&id));
        one.unwrap();
        two.unwrap();
        let n = 30 * (round as i64 + 1);
        assert_eq!(scene.sums(1).await, [-n, n, n]);
    }
    scene.assert_level(1).await;
    assert_eq!(scene.door.applied.load(Ordering::SeqCst), 60, "ten entries at a time");
}

#[tokio::test]
async fn one_worker_posts_and_another_takes_over() {
    let (scene, first) = Scene::attached().await;
    let second = scene.sidecar("two");
    assert!(matches!(first.worker.turn().await, Turn::Idle));
    scene.charge(1, 0..5);
    assert!(matches!(second.worker.turn().await, Turn::Elsewhere));
    assert_eq!(scene.sums(1).await[0], 0);
    // Told to stop, the first posts what is left and gives the lease back.
    first.worker.run(&*scene.counters, std::future::ready(())).await;
    assert_eq!(scene.sums(1).await[0], -5);
    scene.charge(1, 5..6);
    // Sooner than a lease runs out by itself.
    tokio::time::timeout(Duration::from_secs(2), async {
        while !matches!(second.worker.turn().await, Turn::Busy { .. }) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the lease is free");
    assert_eq!(scene.sums(1).await[0], -6);
}

#[tokio::test]
async fn the_worker_runs_until_told_and_posts_the_rest() {
    let (scene, sidecar) = Scene::attached().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (worker, loader) = (sidecar.worker.clone(), scene.counters.clone());
    let running = tokio::spawn(async move {
        let stop = async {
            let _ = stopped.await;
        };
        worker.run(&*loader, stop).await;
    });
    scene.charge(2, 0..50);
    tokio::time::timeout(Duration::from_secs(10), async {
        while scene.sums(2).await[0] != -50 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the worker posts by itself");
    scene.charge(2, 50..99);
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(scene.sums(2).await[0], -99);
}

#[tokio::test]
async fn another_history_stops_its_shard_and_no_other() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..10);
    post_all(&sidecar).await;
    let mut other = scene.stream.shard(1);
    let changed = other.entries.last_mut().unwrap();
    changed.digest[0] ^= 1;
    let meta = ShardMeta { digest: changed.digest, ..other.meta.unwrap() };
    other.meta = Some(meta);
    scene.stream.put_back(1, other);
    scene.charge(1, 10..20);
    scene.charge(2, 0..20);
    for sidecar in [&sidecar, &scene.sidecar("one")] {
        while !matches!(sidecar.worker.turn().await, Turn::Idle) {}
        assert_eq!(scene.sums(1).await[0], -10, "nothing of another history is posted");
        assert_eq!(scene.sums(2).await[0], -20);
    }
    let error = sidecar.drain.drain(&account(1)).await.expect_err("a stopped shard");
    assert!(error.to_string().contains("1-10 is another one"), "{error}");
}

#[tokio::test]
async fn a_gap_stops_its_shard() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..10);
    let mut gap = scene.stream.shard(1);
    gap.entries.remove(4);
    scene.stream.put_back(1, gap);
    let error = sidecar.drain.drain(&account(1)).await.expect_err("a gap");
    assert!(error.to_string().contains("goes on with 1-6 where 1-5 should be"), "{error}");
    assert_eq!(scene.mark(1).await, at(1, 0));
}

#[tokio::test]
async fn a_refused_row_stops_its_shard_until_it_is_put_right() {
    let (scene, sidecar) = Scene::attached().await;
    let ghost = AccountId::new("ghost1").unwrap();
    scene.charge(1, 0..3);
    let mut entry = settle(1, "g", 1);
    entry.account = ghost.clone();
    scene.stream.append(1, &entry).unwrap();
    scene.charge(2, 0..3);
    while !matches!(sidecar.worker.turn().await, Turn::Idle) {}
    assert_eq!((scene.sums(1).await[0], scene.sums(2).await[0]), (0, -3), "nothing is skipped");
    let error = sidecar.drain.drain(&ghost).await.expect_err("a refused row");
    assert!(error.to_string().contains("ghost1"), "{error}");
    scene.door.store().put_account(&Actor::admin(), &ghost, &AccountPatch::default()).await.unwrap();
    sidecar.drain.drain(&ghost).await.unwrap();
    assert_eq!(scene.sums(1).await[0], -3);
}

#[tokio::test]
async fn an_operation_done_twice_is_charged_once() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..1);
    post_all(&sidecar).await;
    // Its tombstone is gone, and the gateway asks again; the grant is a duplicate the other way round.
    scene.stream.append(1, &settle(1, "r0", 7)).unwrap();
    let mut grant = settle(1, "g", -100);
    grant.kind = Kind::Credit;
    scene.stream.append(1, &grant).unwrap();
    scene.stream.append(1, &grant).unwrap();
    post_all(&sidecar).await;
    let sum_in_redis: i64 = scene
        .stream
        .shard(1)
        .entries
        .iter()
        .map(|raw| quotad::quota::entry::Entry::unpack(&raw.payload).unwrap().balance)
        .sum();
    assert_eq!(sum_in_redis, -1 + 100);
    assert_eq!(scene.sums(1).await[0], sum_in_redis, "both sides agree");
    let undo = OpId::new(compensation_id(1, at(1, 2))).unwrap();
    let credit = scene.door.store().operation(&account(1), Kind::Credit, &undo).await.unwrap().unwrap();
    assert_eq!((undo.as_str(), credit.balance, credit.used, credit.requests), ("dup:1-1-2", 7, -7, -1));
    assert_eq!(sidecar.worker.compensate(&*scene.counters).await.unwrap(), 0, "nothing is left");
    scene.assert_level(1).await;
}

#[tokio::test]
async fn a_duplicate_of_an_account_that_is_not_loaded_is_compensated_later() {
    let (scene, sidecar) = Scene::attached().await;
    scene.counters.absent.lock().unwrap().insert("u1".into());
    scene.charge(1, 0..1);
    scene.charge(1, 0..1);
    post_all(&sidecar).await;
    assert_eq!(scene.sums(1).await, [-2, 2, 2]);
    // The process that posted it is gone: its successor finds what is left.
    let next = scene.sidecar("one");
    assert_eq!(next.worker.compensate(&*scene.counters).await.unwrap(), 1);
    post_all(&next).await;
    assert_eq!(scene.sums(1).await, [-1, 1, 1]);
    for _ in 0..2 {
        assert_eq!(next.worker.compensate(&*scene.counters).await.unwrap(), 0, "once");
    }
    assert_eq!(scene.ledger(1).await.len(), 3);
}

#[tokio::test]
async fn the_worker_compensates_what_a_process_that_is_gone_left() {
    let (scene, sidecar) = Scene::attached().await;
    scene.counters.absent.lock().unwrap().insert("u1".into());
    scene.charge(1, 0..1);
    scene.charge(1, 0..1);
    post_all(&sidecar).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (worker, loader) = (scene.sidecar("one").worker.clone(), scene.counters.clone());
    let running = tokio::spawn(async move {
        let stop = async {
            let _ = stopped.await;
        };
        worker.run(&*loader, stop).await;
    });
    tokio::time::timeout(Duration::from_secs(10), async {
        while scene.sums(1).await[0] != -1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("compensated when the lease is taken");
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn shards_that_are_behind_share_one_transaction() {
    let (scene, sidecar) = Scene::attached().await;
    for number in 0..ACCOUNTS {
        scene.charge(number, 0..5);
    }
    assert!(matches!(sidecar.worker.turn().await, Turn::Busy { .. }));
    assert_eq!((scene.door.applies.load(Ordering::SeqCst), scene.door.applied.load(Ordering::SeqCst)), (1, 4));
    for number in 0..ACCOUNTS {
        assert_eq!(scene.sums(number).await[0], -5);
    }
}

#[tokio::test]
async fn the_lag_is_known_to_every_sidecar_and_stops_what_would_add_to_it() {
    let (mut scene, sidecar) = Scene::attached().await;
    scene.settings.lag_max = Some(Duration::from_secs(60));
    let other = scene.sidecar("two");
    other.lag.look().await.unwrap();
    assert!(other.backlog.check().is_ok());
    scene.charge(1, 0..5);
    // The database is away, and Redis' clock goes on.
    scene.door.shut.store(true, Ordering::SeqCst);
    scene.clock.observe(quotad::quota::clock::Millis(super::fake_stream::NOW.0 + 61_000));
    other.lag.look().await.unwrap();
    assert!(matches!(other.backlog.check(), Err(Unavailable::Behind)));
    scene.door.shut.store(false, Ordering::SeqCst);
    post_all(&sidecar).await;
    other.lag.look().await.unwrap();
    assert!(other.backlog.check().is_ok());
}

#[tokio::test]
async fn a_worker_that_cannot_reach_the_database_lets_another_one_post() {
    let (scene, first) = Scene::attached().await;
    let second = scene.sidecar("two");
    assert!(matches!(first.worker.turn().await, Turn::Idle));
    scene.charge(1, 0..5);
    scene.door.shut.store(true, Ordering::SeqCst);
    assert!(matches!(first.worker.turn().await, Turn::Away(_)));
    scene.door.shut.store(false, Ordering::SeqCst);
    tokio::time::timeout(Duration::from_secs(1), async {
        while !matches!(second.worker.turn().await, Turn::Busy { .. }) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("sooner than a lease runs out");
    assert_eq!(scene.sums(1).await[0], -5);
}

#[tokio::test]
async fn a_holder_that_is_gone_is_followed_within_two_seconds() {
    let (scene, first) = Scene::attached().await;
    let second = scene.sidecar("two");
    assert!(matches!(first.worker.turn().await, Turn::Idle));
    scene.charge(1, 0..5);
    // The first is never heard of again.
    let begun = std::time::Instant::now();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (worker, loader) = (second.worker.clone(), scene.counters.clone());
    let running = tokio::spawn(async move {
        let stop = async {
            let _ = stopped.await;
        };
        worker.run(&*loader, stop).await;
    });
    tokio::time::timeout(Duration::from_secs(2), async {
        while scene.sums(1).await[0] != -5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("within two seconds");
    assert!(begun.elapsed() > Duration::from_millis(500), "not while the lease lived");
    stop.send(()).unwrap();
    running.await.unwrap();
    // It was only stopped: what it does now changes nothing.
    first.worker.turn().await;
    assert_eq!(scene.sums(1).await, [-5, 5, 5]);
}

#[tokio::test]
async fn drain_waits_for_what_was_there_and_for_no_more() {
    let (scene, sidecar) = Scene::attached().await;
    sidecar.drain.drain(&account(1)).await.unwrap();
    scene.charge(1, 0..25);
    sidecar.drain.drain(&account(1)).await.unwrap();
    assert_eq!(scene.mark(1).await, at(1, 25));
    scene.charge(2, 0..1);
    sidecar.drain.drain(&account(1)).await.unwrap();
    assert_eq!(scene.mark(2).await, at(1, 0), "other shards are not its business");
    let meta = scene.stream.meta_now(1).unwrap();
    scene.stream.state().shards.get_mut(&1).unwrap().meta = Some(ShardMeta { open: false, ..meta });
    assert!(matches!(sidecar.drain.drain(&account(1)).await, Err(Unavailable::Recovering)));
    scene.stream.lose_everything("run-2");
    assert!(matches!(sidecar.drain.drain(&account(1)).await, Err(Unavailable::Recovering)));
}

/// Prints how fast 10 000 entries get from the streams into SQL; asserts only that they do.
#[tokio::test]
async fn ten_thousand_entries_are_posted_fast() {
    let mut scene = Scene::new().await;
    scene.settings.batch_entries_max = 2000;
    let sidecar = scene.sidecar("one");
    sidecar.attach.run_once().await.unwrap();
    for number in 0..ACCOUNTS {
        scene.charge(number, 0..2500);
    }
    let begun = std::time::Instant::now();
    post_all(&sidecar).await;
    let took = begun.elapsed();
    println!("10000 entries of {SHARDS} shards: {took:.0?}, {:.0} entries/s", 10_000.0 / took.as_secs_f64());
    for shard in 0..SHARDS {
        assert_eq!(scene.door.store().opened(shard).await.unwrap().unwrap().mark.at, at(1, 2500));
    }
}
