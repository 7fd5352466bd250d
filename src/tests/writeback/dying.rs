//! A process that dies at its n-th port call, for every n and every kind of recovery, before the call
//! was done and after it; and the one that comes after it.

use std::path::Path;

use quotad::writeback::Writeback;

use super::scene::{Scene, at, post_all};

/// What happened before the attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    First,
    Restarted,
    Ahead,
    Behind,
    BehindByGenerations,
    TooFarBehind,
    Missing,
    Diverged,
    SqlOlder,
    SqlOlderByGenerations,
}

/// A scene of one shard after that story, and what the account has spent in the end.
async fn told(story: Story) -> (Scene, i64) {
    let mut scene = Scene::of_shards(1).await;
    if story == Story::First {
        return (scene, 0);
    }
    let first = scene.sidecar("one");
    first.attach.run_once().await.unwrap();
    scene.charge(0, 0..3);
    let older = scene.stream.shard(0);
    scene.charge(0, 3..5);
    post_all(&first).await;
    let copy = scene.copy_database();
    let spent = match story {
        Story::First => 0,
        Story::Restarted => 5,
        // More than a batch.
        Story::Ahead => {
            scene.charge(0, 5..17);
            17
        }
        Story::Behind => {
            scene.stream.put_back(0, older);
            5
        }
        Story::BehindByGenerations => {
            next_life(&scene, &first, 5..7).await;
            scene.stream.put_back(0, older);
            7
        }
        Story::TooFarBehind => {
            scene.settings.redo_rows_max = 1;
            scene.stream.put_back(0, older);
            5
        }
        Story::Missing => {
            scene.stream.lose_everything("run-2");
            5
        }
        Story::Diverged => {
            scene.stream.put_back(0, older);
            scene.charge(0, 4..5);
            scene.charge(0, 100..103);
            8
        }
        Story::SqlOlder => restored(&scene, &first, &copy, 5..8).await,
        Story::SqlOlderByGenerations => {
            next_life(&scene, &first, 5..7).await;
            restored(&scene, &first, &copy, 7..9).await
        }
    };
    if story != Story::SqlOlder {
        scene.stream.restart("run-9");
    }
    (scene, spent)
}

async fn next_life(scene: &Scene, sidecar: &Writeback, ids: std::ops::Range<usize>) {
    scene.stream.restart("run-2");
    sidecar.attach.run_once().await.unwrap();
    scene.charge(0, ids);
    post_all(sidecar).await;
}

async fn restored(scene: &Scene, sidecar: &Writeback, copy: &Path, ids: std::ops::Range<usize>) -> i64 {
    let spent = ids.end as i64;
    scene.charge(0, ids);
    post_all(sidecar).await;
    scene.restore_database(copy).await;
    spent
}

/// Lets the process die at its call after `calls`; false when it had no more than that to do.
async fn dies(story: Story, calls: u32, lose_answer: bool) -> bool {
    let (scene, spent) = told(story).await;
    let context = format!("{story:?}, call {calls}, answer lost: {lose_answer}");
    scene.stream.budget.set(Some(calls), lose_answer);
    let attached = scene.sidecar("one").attach.run_once().await;
    let died = scene.stream.budget.is_spent();
    scene.stream.budget.set(None, false);
    assert_eq!(attached.is_err(), died, "{context}");
    // Its successor has its name, and may or may not find all done.
    let next = scene.sidecar("one");
    let report = next.attach.run_once().await.expect(&context);
    assert!(report.refused.is_empty(), "{context}: {report:?}");
    let generation = scene.mark(0).await.generation;
    assert_eq!(scene.stream.served(0), Some(generation), "{context}");
    post_all(&next).await;
    assert_eq!(scene.sums(0).await, [-spent, spent, spent], "{context}");
    assert_eq!(scene.ledger(0).await.len() as i64, spent, "{context}");
    scene.assert_level(0).await;
    let wipes = matches!(story, Story::First | Story::TooFarBehind | Story::Missing | Story::Diverged);
    let wiped = scene.stream.state().log.iter().filter(|line| *line == "wipe 0").count();
    // The first opening of the story wiped what was not there.
    assert_eq!(wiped > usize::from(story != Story::First), wipes, "{context}");
    if !wipes {
        let in_redis = scene.stream.shard(0).entries.len() as i64;
        assert_eq!(in_redis, spent, "{context}: Redis has done all of it");
    }
    scene.charge(0, 1000..1002);
    post_all(&next).await;
    assert_eq!(scene.sums(0).await[0], -spent - 2, "{context}");
    assert!(scene.mark(0).await > at(0, 0));
    scene.ledger(0).await;
    died
}

/// All ends of one story, and of a process that has at least so many port calls to die at.
async fn every_death(story: Story, calls_min: u32) {
    for lose_answer in [false, true] {
        let mut calls = 0;
        while dies(story, calls, lose_answer).await {
            calls += 1;
        }
        assert!(calls >= calls_min, "{story:?} has {calls} ends");
    }
}

macro_rules! stories {
    ($($name:ident: $story:ident, $calls_min:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                every_death(Story::$story, $calls_min).await;
            }
        )*
    };
}

stories! {
    a_first_attach_that_dies_anywhere_goes_on: First, 12;
    an_attach_after_a_restart_that_dies_anywhere_goes_on: Restarted, 12;
    posting_the_rest_that_dies_anywhere_goes_on: Ahead, 16;
    a_redo_that_dies_anywhere_goes_on: Behind, 16;
    a_redo_through_generations_that_dies_anywhere_goes_on: BehindByGenerations, 16;
    giving_up_a_redo_that_dies_anywhere_goes_on: TooFarBehind, 16;
    a_rebuild_that_dies_anywhere_goes_on: Missing, 16;
    a_merge_that_dies_anywhere_goes_on: Diverged, 24;
    an_attach_to_a_restored_database_that_dies_anywhere_goes_on: SqlOlder, 4;
    an_attach_to_a_much_older_database_that_dies_anywhere_goes_on: SqlOlderByGenerations, 16;
}
