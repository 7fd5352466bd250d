//! The crash table, row by row: what is there after a crash at the named place.

use std::time::Duration;

use serde_json::json;

use super::{
    database::Backend,
    world::{BEGIN, WRITTEN, World, metric, told},
};
use crate::harness::{
    eventually,
    link::{Flow, Link, Target},
    redis::Redis,
};

const SOON: Duration = Duration::from_secs(20);

on_every_backend!(
    acknowledged_and_tail_lost_is_reported,
    loss_that_a_living_sidecar_saw_is_counted_as_certain,
    acknowledged_posted_and_tail_lost_is_redone,
    batch_read_crash_has_no_effect,
    middle_of_the_transaction_crash_has_no_effect,
    commit_done_and_crash_posts_once,
    commit_before_trim_is_skipped_by_the_mark_and_trimmed_later,
    every_step_of_a_redo_may_be_the_last,
    half_a_redo_continues,
    every_step_of_a_rebuild_may_be_the_last,
    install_lease_lost_loads_again,
);

/// A world whose sidecar reaches Redis through a link.
fn linked() -> (World, Link) {
    let redis = Redis::with(&WRITTEN);
    let link = Link::to(Target::Unix(redis.socket()));
    let url = format!("redis://{}", link.address());
    let world = World::on(Backend::Sqlite, redis, &url, |setup| setup.set("time_budget_ms", "500"));
    // Each script was used once: the first use asks twice.
    world.charge_new("warm", 1);
    world.quotad.play("account a => 200\nreserve w amount=1 => 200\nrelease w => 200");
    (world, link)
}

#[test]
fn request_sent_and_script_not_run_is_run_by_the_retry() {
    let (world, link) = linked();
    link.set(Flow::Lose);
    let body = json!({"account": "a", "id": "c", "amount": 10});
    world.quotad.gateway.post("/v1/charge", &body).problem(503, "unavailable");
    link.set(Flow::Pass);
    link.cut();
    world.charge_new("c", 10);
    world.charge_again("c", 10);
    world.audit();
}

#[test]
fn script_ran_and_reply_lost_replays() {
    let (world, link) = linked();
    link.swallow_answer_to(b"r/a/c");
    let body = json!({"account": "a", "id": "c", "amount": 10});
    world.quotad.gateway.post("/v1/charge", &body).problem(503, "unavailable");
    assert_eq!(link.swallowed(), 1);
    world.charge_again("c", 10);
    world.audit();
}

/// A power loss of the whole machine: what SQL does not have and the append-only file lost is gone from
/// both, the generation that ended there is closed in the audit table, and what comes back is counted once.
fn acknowledged_and_tail_lost_is_reported(backend: Backend) {
    let mut world = World::new(backend);
    world.charge_new("kept", 10);
    world.wait_posted("a", "kept");
    world.database.take_away();
    world.reserve("promised", 100);
    world.charge_new("lost", 20);
    world.quotad.kill();
    world.restart_redis(|redis| {
        redis.aof().cut_from(b"r/a/promised");
    });
    world.database.bring_back();
    world.journal.strike("a", "lost");
    world.quotad = world.setup.start();
    world.charge_again("kept", 10);
    assert_eq!(world.quotad.balance("a")["held"], 0, "the hold was in the lost range");
    eventually("a metric tells", SOON, || world.metric("quotad_recoveries_total") >= 1.0);
    eventually("a line tells", SOON, || world.quotad.said().contains("is lost"));
    let generations = world.ledger().generations;
    let told: Vec<_> = generations.iter().map(|one| (one.closed, one.last_seq, one.cause.as_str())).collect();
    assert_eq!(told, [(true, 2, "first"), (false, 0, "restarted")], "the one that lost its tail is a row");
    // Its settle is charged all the same, and a retry of what was lost is no replay.
    assert_eq!(world.settle("promised", 70)["unreserved"], true);
    world.charge_new("lost", 20);
    world.audit();
}

/// The sidecar that wrote back dies with its Redis and what it had read; the other one knew that there was
/// more.
fn loss_that_a_living_sidecar_saw_is_counted_as_certain(backend: Backend) {
    let mut world = World::new(backend);
    world.charge_new("kept", 10);
    world.wait_posted("a", "kept");
    // Begins with nothing left to post, so that what it sees behind is what will be lost.
    let second = world.another().start();
    world.database.take_away();
    world.charge_new("lost", 20);
    let lag = || metric(&second, "quotad_writeback_lag_entries");
    eventually("the other one sees it", SOON, || lag() >= 1.0);
    world.quotad.kill();
    world.restart_redis(|redis| {
        redis.aof().cut_from(b"r/a/lost");
    });
    world.database.bring_back();
    world.journal.strike("a", "lost");
    assert_eq!(world.charge_at(&second.gateway, "kept", 10)["replayed"], true);
    // Told once the attach has ended, which is after the shard is served.
    let lost = || metric(&second, "quotad_recovery_lost_entries_total");
    eventually("the loss is counted", SOON, || lost() > 0.0);
    assert_eq!(lost(), 1.0);
    let generations = world.ledger().generations;
    assert_eq!(generations.last().map(|one| one.seen.as_str()), Some("1-3"), "{generations:?}");
    assert!(world.charge_at(&second.gateway, "lost", 20)["replayed"] != true);
    world.audit_through(&second);
}

fn acknowledged_posted_and_tail_lost_is_redone(backend: Backend) {
    let mut world = World::new(backend);
    world.charge_new("kept", 10);
    world.quotad.play("account a => 200\nreserve held amount=100 => 200\nreserve spent amount=100 => 200");
    world.charge_new("lost", 20);
    world.quotad.play("account a => 200\nsettle spent amount=60 => 200\nrefund back of=lost amount=5 => 200");
    world.journal.note("a", "spent", -60);
    world.journal.note("a", "back", 5);
    world.wait_posted("a", "back");
    world.restart_redis(|redis| {
        redis.aof().cut_from(b"r/a/lost");
    });
    for (id, amount) in [("kept", 10), ("lost", 20)] {
        world.charge_again(id, amount);
    }
    assert_eq!(world.quotad.money("a"), [BEGIN - 85, 100, BEGIN - 185]);
    world.quotad.play(
        "account a => 200
         settle spent amount=60 => 200 replayed charged=60
         refund back of=lost amount=5 => 200 replayed refunded=5
         refund more of=lost amount=16 => 409 refund_exceeds_charge
         settle held amount=30 => 200 charged=30 unreserved=false",
    );
    world.journal.note("a", "held", -30);
    eventually("a metric tells", SOON, || world.metric("quotad_recoveries_total") >= 1.0);
    world.audit();
}

fn batch_read_crash_has_no_effect(backend: Backend) {
    crash_while_posting(backend, "batch-read", false);
}

fn middle_of_the_transaction_crash_has_no_effect(backend: Backend) {
    crash_while_posting(backend, "posting-before-commit", false);
}

fn commit_done_and_crash_posts_once(backend: Backend) {
    crash_while_posting(backend, "posting-committed", true);
}

fn crash_while_posting(backend: Backend, point: &str, is_posted: bool) {
    let mut world = World::new(backend);
    world.charge_unposted(&[("c1", 10), ("c2", 20)]);
    world.die_at(point);
    for id in ["c1", "c2"] {
        assert_eq!(world.is_posted("a", id), is_posted, "{id} after {point}");
    }
    world.ledger().check();
    world.quotad = world.setup.start();
    world.charge_again("c1", 10);
    world.charge_again("c2", 20);
    world.charge_new("c3", 30);
    world.audit();
}

/// The answer to COMMIT is lost on its way: the next turn reads the mark instead of assuming anything.
fn commit_done_and_acknowledgement_lost_posts_once(backend: Backend) {
    let world = World::new(backend);
    world.charge_new("before", 1);
    world.wait_posted("a", "before");
    let link = world.database.link().expect("a server");
    link.swallow_answer_to(b"COMMIT");
    world.charge_new("c", 10);
    eventually("an answer to COMMIT is swallowed", SOON, || link.swallowed() >= 1);
    world.wait_posted("a", "c");
    world.charge_new("after", 10);
    world.audit();
    assert!(world.ledger().rows.iter().all(|row| row.posted), "nothing was posted a second time");
}

mod acknowledgement {
    use super::{Backend, commit_done_and_acknowledgement_lost_posts_once as check};

    #[test]
    fn lost_by_postgres_posts_once() {
        check(Backend::Postgres);
    }

    #[test]
    fn lost_by_mariadb_posts_once() {
        check(Backend::MariaDb);
    }
}

fn commit_before_trim_is_skipped_by_the_mark_and_trimmed_later(backend: Backend) {
    let mut world = World::with(backend, |setup| setup.set("writeback_retention", "2"));
    // Trims wait until they are worth it.
    let charges: Vec<String> = (0..150).map(|number| format!("c{number}")).collect();
    let charges: Vec<(&str, i64)> = charges.iter().map(|id| (id.as_str(), 10)).collect();
    world.charge_unposted(&charges);
    world.die_at("after-commit-before-trim");
    assert!(world.is_posted("a", "c149"));
    assert!(world.stream_length() >= 150, "not trimmed yet");
    world.quotad = world.setup.start();
    world.charge_again("c0", 10);
    world.charge_new("next", 10);
    eventually("the stream is trimmed", SOON, || world.stream_length() <= 4);
    world.audit();
    let last = world.ledger().rows.last().map(|row| format!("{}-{}", row.generation, row.seq)).unwrap();
    let overlap: Vec<::redis::Value> = world.redis.ask(&format!("XRANGE q{{0}}l {last} {last}"));
    assert_eq!(overlap.len(), 1, "the trim keeps the entry at the mark");
}

fn every_step_of_a_redo_may_be_the_last(backend: Backend) {
    let mut world = World::new(backend);
    for (round, point) in
        ["rewrite-done", "fence-set", "redo-one", "generation-committed", "reopened"].iter().enumerate()
    {
        let [kept, lost, too] = ["kept", "lost", "too"].map(|name| format!("{name}-{round}"));
        [&kept, &lost, &too].into_iter().for_each(|id| world.charge_new(id, 10));
        world.wait_posted("a", &too);
        world.quotad.kill();
        world.restart_redis(|redis| {
            redis.aof().cut_from(format!("r/a/{lost}").as_bytes());
        });
        world.run_until(&format!("{point}=panic"));
        world.quotad = world.setup.start();
        for id in [&kept, &lost, &too] {
            world.charge_again(id, 10);
        }
    }
    world.audit();
}

fn half_a_redo_continues(backend: Backend) {
    let mut world = World::new(backend);
    let charges: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
    for id in &charges {
        world.charge_new(id, 10);
    }
    world.wait_posted("a", "c5");
    world.quotad.kill();
    world.restart_redis(|redis| {
        redis.aof().cut_from(b"r/a/c1");
    });
    // The first two rows are done again, the third is not; then Redis crashes as well.
    world.run_until("redo-one=2*off->panic");
    world.restart_redis(|_| {});
    world.run_until("redo-one=1*off->panic");
    world.quotad = world.setup.start();
    for id in &charges {
        world.charge_again(id, 10);
    }
    world.audit();
}

fn every_step_of_a_rebuild_may_be_the_last(backend: Backend) {
    let mut world = World::new(backend);
    for (round, point) in ["fence-set", "generation-committed", "wiped", "restored", "reopened"].iter().enumerate() {
        let id = format!("c{round}");
        world.charge_new(&id, 10);
        world.wait_posted("a", &id);
        world.quotad.kill();
        world.restart_redis(Redis::lose_everything);
        world.run_until(&format!("{point}=panic"));
        world.quotad = world.setup.start();
        for before in 0..=round {
            world.charge_again(&format!("c{before}"), 10);
        }
    }
    world.audit();
}

/// A load that took too long finds another nonce, and loads again.
fn install_lease_lost_loads_again(backend: Backend) {
    let mut world = World::new(backend);
    world.open("b");
    world.charge_new("before", 10);
    world.wait_posted("a", "before");
    world.restart_redis(Redis::lose_everything);
    // Loads `b` alone; then its next entry cannot be posted, which a load of `a` waits for.
    let charge_b = |id: &str| {
        let body = json!({"account": "b", "id": id, "amount": 5});
        told(&world.quotad.gateway, "/v1/charge", &body).expect(200);
        world.journal.note("b", id, -5);
    };
    charge_b("b1");
    world.wait_posted("b", "b1");
    let lock = world.database.locked();
    charge_b("b2");
    std::thread::scope(|scope| {
        let charge = scope.spawn(|| world.charge("c", 10));
        eventually("a load has begun", SOON, || world.redis.ask::<i64>("EXISTS q{0}n/a") == 1);
        world.redis.ask::<()>("SET q{0}n/a another-sidecar's PX 10000");
        lock.unlock();
        let answer = charge.join().expect("the charge was told");
        assert!(answer["replayed"] != true, "{answer}");
    });
    world.audit();
}
