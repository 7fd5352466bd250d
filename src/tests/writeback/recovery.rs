//! Redis comes back as another one, or SQL does: who is brought to where the other stands.

use std::sync::atomic::Ordering;

use quotad::{
    engine::ports::{Batch, Cause, Drain, Line, Opening, Posting, ShardMeta},
    quota::{
        clock::Millis,
        entry::{Entry, Kind, LogFields},
        reservation::State,
    },
    writeback::{Recovered, Report, Turn},
};

use super::{
    fake_stream::NOW,
    scene::{SHARDS, Scene, account, at, post_all, settle},
};

fn of(report: &Report, shard: u16) -> &Recovered {
    report.recovered.iter().find(|recovered| recovered.shard == shard).expect("recovered")
}

fn wiped(scene: &Scene) -> bool {
    scene.stream.state().log.iter().any(|line| line.starts_with("wipe"))
}

#[tokio::test]
async fn a_restart_that_loses_nothing_keeps_everything_and_opens_a_generation() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..20);
    post_all(&sidecar).await;
    scene.charge(1, 20..35);
    scene.stream.state().log.clear();
    scene.stream.restart("run-2");
    let report = sidecar.attach.run_once().await.unwrap();
    let expected = Recovered {
        shard: 1,
        cause: Cause::Restarted,
        after: at(1, 35),
        generation: 2,
        redone: 0,
        merged: 0,
        lost: 0,
        kept_until: Some(NOW),
        rebuilt: false,
    };
    assert_eq!((report.recovered.len(), of(&report, 1)), (usize::from(SHARDS), &expected));
    assert!(!wiped(&scene), "holds stay, also where nothing was ever charged");
    for shard in 0..SHARDS {
        scene.assert_level(shard).await;
        assert_eq!((scene.mark(shard).await.generation, scene.stream.served(shard)), (2, Some(2)));
    }
    scene.charge(1, 35..37);
    post_all(&sidecar).await;
    assert_eq!((scene.sums(1).await[0], scene.mark(1).await), (-37, at(2, 2)));
    assert_eq!(scene.ledger(1).await.len(), 37);
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!(report.agreed, usize::from(SHARDS), "once for each server");
}

#[tokio::test]
async fn a_redis_that_lost_everything_goes_on_in_the_next_generation() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..20);
    post_all(&sidecar).await;
    scene.charge(1, 20..25);
    // Somebody saw that there was more than was posted.
    scene.door.shut.store(true, Ordering::SeqCst);
    assert!(matches!(sidecar.worker.turn().await, Turn::Away(_)));
    scene.door.shut.store(false, Ordering::SeqCst);
    scene.stream.lose_everything("run-2");
    let report = sidecar.attach.run_once().await.unwrap();
    let expected = Recovered {
        shard: 1,
        cause: Cause::Missing,
        after: at(1, 20),
        generation: 2,
        redone: 0,
        merged: 0,
        lost: 5,
        kept_until: None,
        rebuilt: true,
    };
    assert_eq!((report.recovered.len(), of(&report, 1)), (usize::from(SHARDS), &expected));
    for shard in 0..SHARDS {
        assert_eq!(scene.stream.served(shard), Some(2));
        scene.assert_level(shard).await;
    }
    assert_eq!(scene.sums(1).await[0], -20, "what was posted is there");
    assert_eq!(scene.stream.meta_now(1).unwrap().now, NOW, "time does not go back");
    scene.charge(1, 20..22);
    post_all(&sidecar).await;
    assert_eq!((scene.sums(1).await[0], scene.mark(1).await), (-22, at(2, 2)));
    scene.ledger(1).await;
}

#[tokio::test]
async fn a_redis_that_lost_posted_entries_gets_them_again() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    let older = scene.stream.shard(1);
    scene.charge(1, 5..9);
    post_all(&sidecar).await;
    scene.charge(1, 9..12);
    sidecar.lag.look().await.unwrap();
    scene.stream.put_back(1, older);
    scene.stream.restart("run-2");
    let report = sidecar.attach.run_once().await.unwrap();
    let recovered = of(&report, 1);
    assert_eq!((recovered.cause, recovered.after, recovered.redone), (Cause::Behind, at(1, 9), 4));
    assert_eq!((recovered.lost, recovered.rebuilt, recovered.generation), (3, false, 2));
    assert!(!wiped(&scene));
    let shard = scene.stream.shard(1);
    assert_eq!((shard.redone, shard.entries.len(), shard.entries[8].at), (4, 9, at(1, 9)), "with their own ids");
    scene.assert_level(1).await;
    scene.charge(1, 9..10);
    post_all(&sidecar).await;
    assert_eq!(scene.sums(1).await[0], -10, "nothing posted is lost");
    assert_eq!(scene.ledger(1).await.len(), 10);
}

#[tokio::test]
async fn a_redis_that_is_generations_behind_is_brought_up_through_them() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    let (older, before_any) = (scene.stream.shard(1), scene.stream.shard(0));
    for (run, ids) in [("run-2", 5..8), ("run-3", 8..10)] {
        post_all(&sidecar).await;
        scene.stream.restart(run);
        sidecar.attach.run_once().await.unwrap();
        scene.charge(1, ids.clone());
        scene.charge(0, ids);
    }
    post_all(&sidecar).await;
    scene.stream.put_back(1, older);
    scene.stream.put_back(0, before_any);
    scene.stream.restart("run-4");
    let report = sidecar.attach.run_once().await.unwrap();
    for (shard, redone, sum) in [(0, 5, -5), (1, 5, -10)] {
        let recovered = of(&report, shard);
        assert_eq!((recovered.cause, recovered.redone, recovered.generation), (Cause::Behind, redone, 4));
        assert_eq!(scene.sums(shard).await[0], sum);
        scene.assert_level(shard).await;
    }
    assert!(!wiped(&scene) || scene.stream.shard(1).redone == 5);
    scene.ledger(1).await;
}

#[tokio::test]
async fn a_redis_that_is_too_far_behind_is_rebuilt() {
    let (mut scene, sidecar) = Scene::attached().await;
    scene.settings.redo_rows_max = 3;
    scene.charge(1, 0..5);
    scene.charge(2, 0..5);
    let (four, three) = (scene.stream.shard(1), scene.stream.shard(2));
    scene.charge(1, 5..9);
    scene.charge(2, 5..8);
    post_all(&sidecar).await;
    scene.stream.put_back(1, four);
    scene.stream.put_back(2, three);
    scene.stream.restart("run-2");
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!((of(&report, 1).cause, of(&report, 1).rebuilt), (Cause::Behind, true));
    assert_eq!((of(&report, 2).cause, of(&report, 2).rebuilt), (Cause::Behind, false));
    assert!(scene.stream.shard(1).entries.is_empty(), "what it had is wiped");
    assert_eq!((scene.sums(1).await[0], scene.sums(2).await[0]), (-9, -8), "nothing posted is lost");
    scene.assert_level(1).await;
    scene.assert_level(2).await;
}

/// A scene whose shard 1 went two ways after its fifth entry: four entries in SQL, and in Redis one
/// of the same operations and three others.
async fn forked() -> Scene {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    let older = scene.stream.shard(1);
    scene.charge(1, 5..9);
    post_all(&sidecar).await;
    scene.stream.put_back(1, older);
    scene.charge(1, 6..7);
    scene.charge(1, 100..103);
    scene
}

#[tokio::test]
async fn two_branches_are_both_in_the_ledger_once() {
    // As many entries as the ledger's branch, fewer, and more.
    for more in [0, 1, 7] {
        let scene = forked().await;
        scene.charge(1, 200..200 + more);
        scene.stream.restart("run-2");
        let report = scene.sidecar("two").attach.run_once().await.unwrap();
        let recovered = of(&report, 1);
        let merged = 3 + more as u64;
        assert_eq!((recovered.cause, recovered.merged, recovered.rebuilt), (Cause::Diverged, merged, true), "{more}");
        let n = 12 + more as i64;
        assert_eq!(scene.sums(1).await, [-n, n, n]);
        let ledger = scene.ledger(1).await;
        assert_eq!(ledger.len() as i64, n);
        assert_eq!(ledger.last().unwrap().0, at(2, merged));
        assert!(scene.stream.state().restored.contains_key(&("u1".into(), "r101".into())), "its reservations too");
        assert_eq!(scene.mark(1).await, at(3, 0));
        scene.assert_level(1).await;
    }
}

/// Redis' branch had charged a reservation in part; in the other branch its whole cost had been settled
/// as unreserved. Both were charged.
#[tokio::test]
async fn a_branch_with_a_part_of_what_the_ledger_has_settled_adds_nothing() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    let older = scene.stream.shard(1);
    scene.stream.append(1, &settle(1, "long", 100)).unwrap();
    post_all(&sidecar).await;
    scene.stream.put_back(1, older);
    let mut part = Entry { kind: Kind::Partial, requests: 0, ..settle(1, "long", 60) };
    if let Some(record) = part.record.as_mut() {
        (record.state, record.parts) = (State::Held, 1);
    }
    scene.stream.append(1, &part).unwrap();
    scene.charge(1, 100..101);
    scene.stream.restart("run-2");
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!((of(&report, 1).cause, of(&report, 1).merged), (Cause::Diverged, 1));
    assert_eq!(scene.sums(1).await, [-106, 106, 7]);
}

#[tokio::test]
async fn a_branch_without_a_restart_is_merged_too() {
    let scene = forked().await;
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!((report.recovered.len(), of(&report, 1).merged), (1, 3));
    assert_eq!(scene.sums(1).await[0], -12);
}

#[tokio::test]
async fn a_database_restored_from_a_copy_of_this_generation_gets_the_retained_tail() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    post_all(&sidecar).await;
    let copy = scene.copy_database();
    scene.charge(1, 5..20);
    post_all(&sidecar).await;
    scene.restore_database(&copy).await;
    assert_eq!(scene.sums(1).await[0], -5);
    // Without an attach: write-back sees that the mark went back.
    sidecar.lag.look().await.unwrap();
    post_all(&sidecar).await;
    assert_eq!(scene.sums(1).await[0], -20);
    // And with one.
    scene.restore_database(&copy).await;
    let next = scene.sidecar("two");
    assert_eq!(next.attach.run_once().await.unwrap().agreed, usize::from(SHARDS));
    scene.charge(1, 20..21);
    next.drain.drain(&account(1)).await.unwrap();
    assert_eq!(scene.sums(1).await[0], -21);
    scene.ledger(1).await;
}

/// A cold load right after the database went back read sums without the tail: what had been spent
/// since the copy could be spent again.
#[tokio::test]
async fn a_drain_after_the_database_was_restored_does_not_trust_the_mark_it_has_seen() {
    let (scene, sidecar) = Scene::attached().await;
    let copy = scene.copy_database();
    scene.charge(1, 0..20);
    sidecar.drain.drain(&account(1)).await.unwrap();
    scene.restore_database(&copy).await;
    sidecar.drain.drain(&account(1)).await.unwrap();
    assert_eq!(scene.sums(1).await[0], -20);
}

#[tokio::test]
async fn a_database_restored_from_an_older_generation_gets_the_retained_tail() {
    for attach in [false, true] {
        let (scene, sidecar) = Scene::attached().await;
        scene.charge(1, 0..5);
        post_all(&sidecar).await;
        let copy = scene.copy_database();
        scene.charge(1, 5..8);
        scene.stream.restart("run-2");
        sidecar.attach.run_once().await.unwrap();
        scene.charge(1, 8..10);
        scene.stream.restart("run-3");
        sidecar.attach.run_once().await.unwrap();
        scene.charge(1, 10..14);
        post_all(&sidecar).await;
        let whole = scene.ledger(1).await;
        scene.restore_database(&copy).await;
        assert_eq!(scene.mark(1).await, at(1, 5));
        let next = if attach {
            let next = scene.sidecar("one");
            let report = next.attach.run_once().await.unwrap();
            assert_eq!((report.refused.len(), of(&report, 1).rebuilt), (0, false), "{report:?}");
            next
        } else {
            sidecar.lag.look().await.unwrap();
            sidecar
        };
        post_all(&next).await;
        let now = scene.ledger(1).await;
        assert_eq!(now[..whole.len()], whole[..], "entry by entry, under the ids they had");
        scene.charge(1, 14..16);
        next.drain.drain(&account(1)).await.unwrap();
        assert_eq!(scene.sums(1).await[0], -16);
        // Shards that only had their generations opened are drained at once.
        next.drain.drain(&account(2)).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_older_than_the_retained_tail_is_refused_and_nothing_is_skipped() {
    let (scene, sidecar) = Scene::attached().await;
    let copy = scene.copy_database();
    scene.charge(1, 0..300);
    post_all(&sidecar).await;
    assert!(scene.stream.shard(1).entries[0].at > at(1, 1), "trimmed");
    scene.restore_database(&copy).await;
    // The worker stops that shard, and an attach does not serve it.
    sidecar.lag.look().await.unwrap();
    while !matches!(sidecar.worker.turn().await, Turn::Idle) {}
    assert_eq!(scene.mark(1).await, at(1, 0));
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!((report.refused.len(), report.agreed), (1, usize::from(SHARDS) - 1));
    assert!(report.refused[0].1.contains("too old a copy"), "{:?}", report.refused);
    assert_eq!((scene.stream.served(1), scene.mark(1).await), (None, at(1, 0)));
    assert!(!wiped(&scene) && !scene.stream.shard(1).entries.is_empty());
}

#[tokio::test]
async fn a_poster_of_the_old_life_commits_nothing() {
    let (scene, sidecar) = Scene::attached().await;
    scene.charge(1, 0..5);
    post_all(&sidecar).await;
    let older = scene.stream.shard(1);
    scene.charge(1, 5..9);
    // It has read the tail that Redis then loses, and comes to commit it late.
    let store = scene.door.store();
    let from = store.opened(1).await.unwrap().unwrap().mark;
    let mut to = from;
    let tail = scene.stream.shard(1).entries.split_off(5);
    let entries = tail.into_iter().map(|raw| {
        (to.at, to.digest) = (raw.at, raw.digest);
        Line::of(raw.at, raw.digest, Entry::unpack(&raw.payload).unwrap())
    });
    let entries = entries.collect();
    let late = Batch { shard: 1, from, to, entries };
    scene.stream.put_back(1, older);
    scene.stream.restart("run-2");
    sidecar.attach.run_once().await.unwrap();
    scene.charge(1, 5..7);
    assert!(!store.apply(&[late]).await.unwrap()[0].moved);
    post_all(&sidecar).await;
    assert_eq!(scene.sums(1).await[0], -7);
    scene.ledger(1).await;
}

#[tokio::test]
async fn a_generation_opened_for_a_server_that_is_gone_is_closed_before_anything_opens() {
    // A recovery died after its generation was opened in SQL, and then Redis died as well.
    for empty in [false, true] {
        let (scene, sidecar) = Scene::attached().await;
        scene.charge(1, 0..5);
        post_all(&sidecar).await;
        let mark = scene.door.store().opened(1).await.unwrap().unwrap().mark;
        let opening = Opening {
            generation: 2,
            run_id: "run-2".into(),
            cause: Cause::Restarted,
            redone: 0,
            merged: 0,
            seen: None,
            kept_until: None,
        };
        scene.door.store().open_generation(1, Some(&mark), &opening).await.unwrap().unwrap();
        let meta = scene.stream.meta_now(1).unwrap();
        let now = if empty { Millis(0) } else { meta.now };
        scene.stream.state().shards.get_mut(&1).unwrap().meta = Some(ShardMeta { open: false, now, ..meta });
        scene.stream.restart("run-3");
        scene.sidecar("two").attach.run_once().await.unwrap();
        assert_eq!(scene.mark(1).await, at(3, 0));
        assert_eq!(wiped(&scene), empty || scene.stream.state().log.contains(&"wipe 1".to_owned()));
        scene.assert_level(1).await;
    }
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
    let restored = scene.stream.state().restored.clone();
    let mut names: Vec<&str> = restored.keys().map(|(_, id)| id.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["part", "plain", "refunded"]);
    let record = |id: &str| &restored[&("u1".to_owned(), id.to_owned())];
    assert_eq!((record("plain").state, record("plain").charged), (State::Settled, 3));
    assert_eq!(record("refunded").refunded, 2, "the latest record");
    assert_eq!((record("part").state, record("part").charged), (State::Expired, 4), "its hold is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_that_recover_at_once_agree() {
    for round in 0..12 {
        let scene = if round % 3 == 2 { forked().await } else { Scene::attached().await.0 };
        let one = scene.sidecar("one");
        match round % 3 {
            0 => {
                scene.charge(1, 0..5);
                post_all(&one).await;
                scene.stream.lose_everything("run-2");
            }
            1 => {
                scene.charge(1, 0..2);
                let older = scene.stream.shard(1);
                scene.charge(1, 2..5);
                post_all(&one).await;
                scene.stream.put_back(1, older);
                scene.stream.restart("run-2");
            }
            _ => scene.stream.restart("run-2"),
        }
        let two = scene.sidecar("two");
        let (one_report, two_report) = tokio::join!(one.attach.run_once(), two.attach.run_once());
        let reports = [one_report.unwrap(), two_report.unwrap()];
        let recovered: usize = reports.iter().map(|report| report.recovered.len()).sum();
        assert_eq!(recovered, usize::from(SHARDS), "each shard is recovered, and reported, once");
        for shard in 0..SHARDS {
            scene.assert_level(shard).await;
            assert_eq!(scene.stream.served(shard), Some(scene.mark(shard).await.generation));
        }
        let sum = if round % 3 == 2 { -12 } else { -5 };
        assert_eq!(scene.sums(1).await[0], sum, "round {round}");
        scene.ledger(1).await;
    }
}

/// A sidecar that had read the mark before another one opened the shard fenced what was just opened; with three of them
/// this went on for ever.
#[tokio::test]
async fn a_shard_that_was_opened_between_two_looks_is_not_fenced() {
    let (scene, one) = Scene::attached().await;
    scene.charge(1, 0..3);
    post_all(&one).await;
    let before = scene.door.all_opened().await.unwrap();
    scene.stream.restart("run-2");
    one.attach.run_once().await.unwrap();
    *scene.door.stale.lock().unwrap() = before;
    let report = scene.sidecar("two").attach.run_once().await.unwrap();
    assert_eq!(report.agreed, usize::from(SHARDS));
    assert!(scene.door.stale.lock().unwrap().is_empty(), "every look was at something old");
    for shard in 0..SHARDS {
        assert_eq!((scene.mark(shard).await.generation, scene.stream.served(shard)), (2, Some(2)));
    }
}
