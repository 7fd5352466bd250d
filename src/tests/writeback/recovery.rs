//! Shards that lost their memory, in whole or in part.

use std::sync::atomic::Ordering;

use quotad::{
    engine::ports::ShardMeta,
    quota::{
        clock::Millis,
        entry::{Kind, LogFields},
        reservation::State,
    },
    writeback::{Rebuilt, Writeback},
};

use super::{
    fake_stream::NOW,
    scene::{SHARDS, Scene, at, post_all, settle},
};

#[tokio::test]
async fn a_redis_that_lost_everything_goes_on_in_the_next_generation() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..20);
    post_all(&sidecar).await;
    scene.charge(1, 20..25);
    scene.stream.lose_everything("run-2");
    let report = sidecar.attach.run_once().await.unwrap();
    let expected = Rebuilt { shard: 1, after: at(1, 20), empty: true, generation: 2 };
    assert_eq!(report.rebuilt.len(), usize::from(SHARDS));
    assert_eq!(report.rebuilt[1], expected);
    for shard in 0..SHARDS {
        assert_eq!(scene.stream.served(shard), Some(2));
        scene.assert_level(shard).await;
    }
    assert_eq!(scene.sums(1).await[0], -20, "what was posted is there");
    scene.charge(1, 20..22);
    post_all(&sidecar).await;
    assert_eq!((scene.sums(1).await[0], scene.mark(1).await), (-22, at(2, 2)));
}

#[tokio::test]
async fn a_redis_that_lost_posted_entries_goes_on_in_the_next_generation() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    let older = scene.stream.shard(1);
    scene.charge(1, 5..9);
    scene.charge(2, 0..5);
    post_all(&sidecar).await;
    scene.stream.put_back(1, older);
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!(report.rebuilt, [Rebuilt { shard: 1, after: at(1, 9), empty: false, generation: 2 }]);
    assert_eq!(report.agreed, usize::from(SHARDS) - 1);
    assert!(scene.stream.shard(1).entries.is_empty(), "what it had is wiped");
    assert_eq!(scene.stream.shard(2).entries.len(), 5);
    assert_eq!(scene.sums(1).await[0], -9, "nothing charged is lost");
    scene.charge(1, 9..10);
    post_all(&sidecar).await;
    assert_eq!(scene.sums(1).await[0], -10);
    scene.assert_level(1).await;
}

#[tokio::test]
async fn an_old_copy_from_a_generation_before_goes_on_in_the_next() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    post_all(&sidecar).await;
    let (older, before_any) = (scene.stream.shard(1), scene.stream.shard(0));
    scene.stream.lose_everything("run-2");
    sidecar.attach.run_once().await.unwrap();
    scene.charge(1, 5..8);
    scene.charge(0, 5..8);
    post_all(&sidecar).await;
    scene.stream.put_back(1, older);
    scene.stream.put_back(0, before_any);
    let report = sidecar.attach.run_once().await.unwrap();
    let generations: Vec<_> = report.rebuilt.iter().map(|rebuilt| (rebuilt.shard, rebuilt.generation)).collect();
    assert_eq!(generations, [(0, 3), (1, 3)]);
    assert_eq!((scene.sums(0).await[0], scene.sums(1).await[0]), (-3, -8));
}

#[tokio::test]
async fn recent_reservations_are_remembered() {
    let (scene, sidecar) = Scene::attached().await;
    let mut old = settle(1, "old", 1);
    old.at = Millis(NOW.0 - 901_000);
    let mut part = settle(1, "part", 4);
    part.kind = Kind::Partial;
    part.record.as_mut().unwrap().state = State::Held;
    let mut refund = settle(1, "f", -2);
    refund.kind = Kind::Refund;
    refund.record = settle(1, "refunded", 5).record;
    refund.record.as_mut().unwrap().refunded = 2;
    refund.log = serde_json::to_vec(&LogFields { of: Some("refunded".into()), ..LogFields::default() }).unwrap();
    let mut credit = settle(1, "c", -9);
    (credit.kind, credit.record) = (Kind::Credit, None);
    for entry in [old, settle(1, "refunded", 5), settle(1, "plain", 3), part, refund, credit] {
        scene.stream.append(1, &entry).unwrap();
    }
    post_all(&sidecar).await;
    scene.stream.lose_everything("run-2");
    sidecar.attach.run_once().await.unwrap();
    let restored = scene.counters.restored.lock().unwrap();
    let mut names: Vec<&str> = restored.keys().map(|(_, id)| id.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["part", "plain", "refunded"]);
    let record = |id: &str| &restored[&("u1".to_owned(), id.to_owned())];
    assert_eq!((record("plain").state, record("plain").charged), (State::Settled, 3));
    assert_eq!(record("refunded").refunded, 2, "the latest record");
    assert_eq!((record("part").state, record("part").charged), (State::Expired, 4), "its hold is gone");
}

#[tokio::test]
async fn a_fenced_shard_that_is_ahead_is_posted_first() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..25);
    let meta = scene.stream.meta_now(1).unwrap();
    scene.stream.state().shards.get_mut(&1).unwrap().meta = Some(ShardMeta { open: false, ..meta });
    let report = sidecar.attach.run_once().await.unwrap();
    assert_eq!(report.rebuilt.len(), 1);
    assert_eq!((scene.sums(1).await[0], scene.mark(1).await), (-25, at(2, 0)));
    scene.assert_level(1).await;
}

/// Stops an attach at its `calls`-th call of Redis, then lets a new process attach.
async fn interrupted(scene: &Scene, sidecar: &Writeback, calls: u32) -> Option<Vec<Rebuilt>> {
    scene.stream.state().calls_left = Some(calls);
    let whole = sidecar.attach.run_once().await.is_ok();
    scene.stream.state().calls_left = None;
    scene.door.lose_answer.store(false, Ordering::SeqCst);
    if whole {
        return None;
    }
    // The process before held the leases; it is gone, and the next one has its name.
    let report = scene.sidecar("one").attach.run_once().await.unwrap();
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    Some(report.rebuilt)
}

#[tokio::test]
async fn a_recovery_that_stops_anywhere_goes_on() {
    let mut interruptions = 0;
    for calls in 0..400 {
        let (scene, sidecar) = Scene::attached().await;
        scene.charge(1, 0..5);
        let older = scene.stream.shard(1);
        scene.charge(1, 5..9);
        scene.charge(2, 0..3);
        post_all(&sidecar).await;
        if calls % 2 == 0 {
            scene.stream.lose_everything("run-2");
        } else {
            scene.stream.put_back(1, older);
        }
        scene.door.lose_answer.store(calls % 3 == 0, Ordering::SeqCst);
        let Some(_) = interrupted(&scene, &sidecar, calls / 2).await else {
            // Neither way has more calls than this.
            if calls % 2 == 0 {
                break;
            }
            continue;
        };
        interruptions += 1;
        for shard in 0..SHARDS {
            scene.assert_level(shard).await;
            let generation = scene.mark(shard).await.generation;
            assert_eq!(scene.stream.served(shard), Some(generation), "after {calls} calls");
        }
        scene.charge(1, 9..11);
        post_all(&scene.sidecar("one")).await;
        assert_eq!((scene.sums(1).await[0], scene.sums(2).await[0]), (-11, -3), "after {calls} calls");
    }
    assert!(interruptions > 60, "{interruptions} interruptions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_that_recover_at_once_agree() {
    for _ in 0..10 {
        let (scene, one) = Scene::attached().await;
        scene.charge(1, 0..5);
        post_all(&one).await;
        scene.stream.lose_everything("run-2");
        let two = scene.sidecar("two");
        let (one_report, two_report) = tokio::join!(one.attach.run_once(), two.attach.run_once());
        let reports = [one_report.unwrap(), two_report.unwrap()];
        let rebuilt: usize = reports.iter().map(|report| report.rebuilt.len()).sum();
        assert_eq!(rebuilt, usize::from(SHARDS), "each shard is rebuilt, and reported, once");
        for shard in 0..SHARDS {
            scene.assert_level(shard).await;
            assert_eq!(scene.mark(shard).await, at(2, 0));
        }
    }
}
