//! Attach: who may be served.

use std::time::Duration;

use quotad::{
    engine::ports::{Constants, RawEntry},
    writeback::{AttachError, Turn, chain},
};

use super::scene::{SHARDS, Scene, account, at, post_all};
use quotad::engine::ports::Drain;

#[tokio::test]
async fn the_first_attach_opens_and_the_second_agrees() {
    let scene = Scene::new().await;
    let sidecar = scene.sidecar("one");
    assert!(matches!(sidecar.worker.turn().await, Turn::Idle), "nothing to post before");
    let report = sidecar.attach.run_once().await.unwrap();
    assert_eq!((report.opened, report.agreed, report.rewritten), (usize::from(SHARDS), 0, true));
    assert!(report.recovered.is_empty() && report.refused.is_empty());
    for shard in 0..SHARDS {
        assert_eq!(scene.stream.served(shard), Some(1));
        assert_eq!(scene.mark(shard).await, at(1, 0));
        scene.assert_level(shard).await;
    }
    for sidecar in [&sidecar, &scene.sidecar("two")] {
        let report = sidecar.attach.run_once().await.unwrap();
        assert_eq!((report.opened, report.agreed, report.rewritten), (0, usize::from(SHARDS), false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_that_start_at_once_agree() {
    for _ in 0..10 {
        let scene = Scene::new().await;
        let [one, two, three] = ["one", "two", "three"].map(|holder| scene.sidecar(holder));
        let (one, two, three) = tokio::join!(one.attach.run_once(), two.attach.run_once(), three.attach.run_once());
        let reports = [one.unwrap(), two.unwrap(), three.unwrap()];
        assert_eq!(reports.iter().map(|report| report.opened).sum::<usize>(), usize::from(SHARDS));
        assert!(reports.iter().all(|report| report.refused.is_empty() && report.recovered.is_empty()));
        for shard in 0..SHARDS {
            scene.assert_level(shard).await;
            assert_eq!(scene.mark(shard).await, at(1, 0), "each shard is opened once");
            assert_eq!(scene.stream.served(shard), Some(1));
        }
    }
}

#[tokio::test]
async fn another_server_is_rewritten_before_it_is_served() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    {
        let mut state = scene.stream.state();
        state.facts.run_id = "run-2".into();
        state.log.clear();
    }
    let report = sidecar.attach.run_once().await.unwrap();
    assert!(report.rewritten);
    assert_eq!((report.run_id.as_str(), report.recovered.len()), ("run-2", usize::from(SHARDS)));
    let log = scene.stream.state().log.clone();
    let place = |what: &str| log.iter().position(|line| line == what).expect(what);
    assert!(place("stop 3") < place("rewrite"), "{log:?}");
    assert!(place("rewrite") < place("serve 0 2"), "{log:?}");
    assert!(!log.iter().any(|line| line.starts_with("wipe")), "the same data goes on");
    scene.stream.state().log.clear();
    sidecar.attach.run_once().await.unwrap();
    assert!(!scene.stream.state().log.iter().any(|line| line == "rewrite" || line.ends_with("None")));
}

#[tokio::test]
async fn a_redis_that_must_not_count_money_is_not_served() {
    let (scene, sidecar) = Scene::attached().await;
    let good = scene.stream.state().facts.clone();
    for (says, transient) in [("noeviction", false), ("replica", false), ("append-only file", false), ("loading", true)]
    {
        let mut bad = good.clone();
        match says {
            "noeviction" => bad.maxmemory_policy = "allkeys-lru".into(),
            "replica" => bad.master = false,
            "append-only file" => bad.aof_last_write_ok = false,
            _ => bad.loading = true,
        }
        scene.stream.state().facts = bad;
        let error = sidecar.attach.run_once().await.expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.is_transient(), transient, "{error}");
        assert_eq!(scene.stream.served(0), None, "{says}");
        scene.stream.state().facts = good.clone();
        sidecar.attach.run_once().await.unwrap();
        assert_eq!(scene.stream.served(0), Some(1));
    }
}

#[tokio::test]
async fn other_constants_refuse_to_start() {
    let (mut scene, _) = Scene::attached().await;
    for (constants, says) in [
        (Constants { shards: 2, units_per_usd: 100_000_000 }, "set shards to 4"),
        (Constants { shards: SHARDS, units_per_usd: 1 }, "set units_per_usd to 100000000"),
    ] {
        scene.settings.constants = constants;
        let sidecar = scene.sidecar("two");
        let error = sidecar.attach.run(std::future::pending()).await.expect_err(says);
        assert!(matches!(error, AttachError::Mismatch(_)));
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_redis_ahead_is_served_and_posted() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    post_all(&sidecar).await;
    scene.charge(1, 5..9);
    let next = scene.sidecar("two");
    let report = next.attach.run_once().await.unwrap();
    assert_eq!(report.agreed, usize::from(SHARDS));
    next.drain.drain(&account(1)).await.unwrap();
    assert_eq!(scene.sums(1).await[0], -9);
}

#[tokio::test]
async fn a_branch_that_cannot_be_followed_is_not_served() {
    let (scene, sidecar) = Scene::attached().await;
    for shard in 1..=3 {
        scene.charge(shard, 0..5);
    }
    post_all(&sidecar).await;
    // 1: another entry at the mark that follows from nothing. 2: entries after the mark that are not there.
    // 3: an entry after the mark that nobody can read.
    let mut changed = scene.stream.shard(1);
    changed.entries.last_mut().unwrap().digest[0] ^= 1;
    changed.meta.as_mut().unwrap().digest[0] ^= 1;
    scene.stream.put_back(1, changed);
    scene.charge(2, 5..9);
    scene.stream.state().shards.get_mut(&2).unwrap().entries.truncate(5);
    let mut garbage = scene.stream.shard(3);
    let meta = garbage.meta.as_mut().unwrap();
    let payload = b"?".to_vec();
    (meta.top, meta.digest) = (at(1, 6), chain(&meta.digest, &payload));
    garbage.entries.push(RawEntry { at: meta.top, digest: meta.digest, payload });
    scene.stream.put_back(3, garbage);
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    let refused: Vec<u16> = report.refused.iter().map(|(shard, _)| *shard).collect();
    assert_eq!((refused, report.agreed), (vec![1, 2, 3], 1), "{report:?}");
    for (place, says) in [(0, "does not follow"), (1, "ends before"), (2, "cannot be read")] {
        assert!(report.refused[place].1.contains(says), "{:?}", report.refused[place]);
    }
    for shard in 1..=3 {
        assert_eq!(scene.stream.served(shard), None);
        assert_eq!(scene.mark(shard).await, at(1, 5), "nothing of it is posted");
    }
    assert_eq!(scene.stream.served(0), Some(1));
}

#[tokio::test]
async fn a_stream_that_is_gone_loses_nothing_when_all_of_it_was_posted() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    post_all(&sidecar).await;
    scene.stream.state().shards.get_mut(&1).unwrap().entries.clear();
    let next = scene.sidecar("two");
    assert_eq!(next.attach.run_once().await.unwrap().agreed, usize::from(SHARDS));
    scene.charge(1, 5..7);
    next.drain.drain(&account(1)).await.unwrap();
    assert_eq!(scene.sums(1).await[0], -7);
}

#[tokio::test]
async fn a_database_that_does_not_know_redis_is_refused() {
    let (scene, _) = Scene::attached().await;
    scene.lose_database().await;
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!(report.refused.len(), usize::from(SHARDS));
    assert!(report.refused[0].1.contains("knows nothing of"), "{:?}", report.refused);
}

#[tokio::test]
async fn an_attach_to_a_server_that_was_replaced_serves_nothing() {
    let (scene, _) = Scene::attached().await;
    let next = scene.sidecar("two");
    scene.stream.state().served.clear();
    // Between the question who the server is and the serving, another one takes over.
    let moves = async {
        scene.stream.era.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    };
    let (attached, ()) = tokio::join!(next.attach.run_once(), moves);
    assert!(attached.is_err_and(|error| error.is_transient()));
    assert_eq!(scene.stream.served(0), None);
    next.attach.run_once().await.unwrap();
    assert_eq!(scene.stream.served(0), Some(1));
}

#[tokio::test]
async fn attach_runs_again_when_it_is_needed() {
    let scene = Scene::new().await;
    let sidecar = scene.sidecar("one");
    scene.stream.state().facts.loading = true;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let attach = sidecar.attach.clone();
    let running = tokio::spawn(async move {
        attach
            .run(async {
                let _ = stopped.await;
            })
            .await
    });
    let until = |generation: u32| {
        let stream = scene.stream.clone();
        async move {
            let served = async {
                while stream.served(0) != Some(generation) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), served).await.expect("served in time");
        }
    };
    tokio::task::yield_now().await;
    assert_eq!(scene.stream.served(0), None);
    scene.stream.state().facts.loading = false;
    until(1).await;
    scene.stream.lose_everything("run-2");
    scene.stream.attach_needed.notify_one();
    until(2).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
