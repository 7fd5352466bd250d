//! Attach: who may be served.

use std::time::Duration;

use quotad::{
    engine::ports::{Constants, Posting, ShardMeta},
    writeback::{AttachError, Turn},
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
    assert!(report.rebuilt.is_empty() && report.refused.is_empty());
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
        assert!(reports.iter().all(|report| report.refused.is_empty() && report.rebuilt.is_empty()));
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
    assert_eq!((report.run_id.as_str(), report.agreed), ("run-2", usize::from(SHARDS)));
    let log = scene.stream.state().log.clone();
    let place = |what: &str| log.iter().position(|line| line == what).expect(what);
    assert!(place("serve 3 None") < place("rewrite"), "{log:?}");
    assert!(place("rewrite") < place("serve 0 Some(1)"), "{log:?}");
    assert_eq!(scene.mark(1).await.generation, 1, "the same data goes on");
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
async fn shards_whose_histories_differ_are_not_served() {
    let (scene, sidecar) = Scene::attached().await;
    for shard in 1..=3 {
        scene.charge(shard, 0..5);
    }
    let older = scene.stream.shard(2);
    post_all(&sidecar).await;
    scene.charge(2, 5..9);
    post_all(&sidecar).await;
    // 1: another entry at the mark. 2: an older state that went on by itself, below the mark. 3: no entry there.
    let mut changed = scene.stream.shard(1);
    changed.entries.last_mut().unwrap().digest[0] ^= 1;
    scene.stream.put_back(1, changed);
    scene.stream.put_back(2, older);
    scene.charge(2, 100..102);
    scene.stream.state().shards.get_mut(&3).unwrap().entries.clear();
    let report = sidecar.attach.run_once().await.unwrap();
    let refused: Vec<u16> = report.refused.iter().map(|(shard, _)| *shard).collect();
    assert_eq!((refused, report.agreed), (vec![1, 2, 3], 1));
    assert!(report.refused[0].1.contains("different histories at 1-5"), "{:?}", report.refused);
    assert!(report.refused[1].1.contains("1-9") && report.refused[1].1.contains("1-7"), "{:?}", report.refused);
    for shard in 1..=3 {
        assert_eq!(scene.stream.served(shard), None);
        assert!(scene.stream.meta_now(shard).unwrap().open, "nothing of it is touched");
    }
    assert_eq!(scene.stream.served(0), Some(1));
}

#[tokio::test]
async fn a_database_that_does_not_know_redis_is_refused() {
    let (mut scene, _) = Scene::attached().await;
    scene.lose_database().await;
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!(report.refused.len(), usize::from(SHARDS));
    assert!(report.refused[0].1.contains("knows nothing of"), "{:?}", report.refused);
    // An older copy of the database: Redis is a generation ahead.
    let (scene, sidecar) = Scene::attached().await;
    let meta = scene.stream.meta_now(1).unwrap();
    scene.stream.state().shards.get_mut(&1).unwrap().meta = Some(ShardMeta { top: at(2, 0), ..meta });
    let report = sidecar.attach.run_once().await.unwrap();
    assert_eq!(report.refused.len(), 1);
    assert!(report.refused[0].1.contains("restored from a copy"), "{:?}", report.refused);
    assert_eq!(scene.door.mark(1).await.unwrap().unwrap().at, at(1, 0));
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
