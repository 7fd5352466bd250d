//! The database is away, stands still, is locked or killed, while gateways go on.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{database::Backend, world::World};
use crate::harness::eventually;

const SOON: Duration = Duration::from_secs(30);
/// How long the database is away.
const AWAY: Duration = Duration::from_secs(3);
/// What a call may take meanwhile, on a busy machine.
const UNTOUCHED: Duration = Duration::from_secs(1);

on_every_backend!(
    sql_away_for_seconds_under_load_leaves_the_hot_path_untouched,
    sql_locked_under_load_is_waited_out,
    sql_away_longer_than_allowed_refuses_reserves,
);

fn sql_away_for_seconds_under_load_leaves_the_hot_path_untouched(backend: Backend) {
    let mut world = World::new(backend);
    world.database.take_away();
    load_while(&world, || {
        let begun = Instant::now();
        eventually("the lag rises", SOON, || world.metric("quotad_writeback_lag_entries") > 5.0);
        eventually("the lag grows old", SOON, || world.metric("quotad_writeback_lag_seconds") >= 1.0);
        std::thread::sleep(AWAY.saturating_sub(begun.elapsed()));
    });
    world.database.bring_back();
    flows_again(&world);
}

fn sql_locked_under_load_is_waited_out(backend: Backend) {
    let world = World::new(backend);
    let lock = world.database.locked();
    load_while(&world, || std::thread::sleep(AWAY));
    lock.unlock();
    flows_again(&world);
}

mod server {
    use std::time::Duration;

    use super::{AWAY, Backend, World, flows_again, load_while};

    #[test]
    fn postgres_killed_under_load_loses_nothing() {
        killed(Backend::Postgres);
    }

    #[test]
    fn mariadb_killed_under_load_loses_nothing() {
        killed(Backend::MariaDb);
    }

    #[test]
    fn postgres_standing_still_leaves_the_hot_path_untouched() {
        frozen(Backend::Postgres);
    }

    #[test]
    fn mariadb_standing_still_leaves_the_hot_path_untouched() {
        frozen(Backend::MariaDb);
    }

    /// Wherever it is: reading, in a transaction, committing.
    fn killed(backend: Backend) {
        let mut world = World::new(backend);
        for _ in 0..3 {
            load_while(&world, || std::thread::sleep(Duration::from_millis(200)));
            world.database.kill();
            load_while(&world, || std::thread::sleep(Duration::from_millis(200)));
            world.database.start_again();
        }
        flows_again(&world);
    }

    fn frozen(backend: Backend) {
        let mut world = World::new(backend);
        load_while(&world, || std::thread::sleep(Duration::from_millis(200)));
        world.database.freeze();
        load_while(&world, || std::thread::sleep(AWAY));
        world.database.thaw();
        flows_again(&world);
    }
}

/// Money that nobody can post for too long is not promised any more; what is owed is still taken.
fn sql_away_longer_than_allowed_refuses_reserves(backend: Backend) {
    let mut world = World::with(backend, |setup| setup.set("writeback_lag_max_ms", "500"));
    world.reserve("before", 100);
    world.database.take_away();
    world.charge("unposted", 10);
    let reserve = || {
        let body = json!({"account": "a", "id": "during", "amount": 1});
        world.quotad.gateway.post("/v1/reserve", &body)
    };
    eventually("reserves are refused", SOON, || reserve().status == 503);
    world.settle("before", 60);
    let forced = json!({"account": "a", "id": "forced", "amount": 5, "force": true});
    world.quotad.gateway.post("/v1/charge", &forced).expect(200);
    world.journal.note("a", "forced", -5);
    reserve().problem(503, "unavailable");
    world.database.bring_back();
    eventually("reserves are granted", SOON, || {
        let body = json!({"account": "a", "id": "after", "amount": 1});
        world.quotad.gateway.post("/v1/reserve", &body).status == 200
    });
    flows_again(&world);
}

/// Charges from four sides as long as `act` takes, each of them answered at once and well.
fn load_while(world: &World, act: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let round = world.journal.len();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let done = &done;
            scope.spawn(move || {
                let mut number = 0;
                while !done.load(Ordering::SeqCst) {
                    let id = format!("{round}-{worker}-{number}");
                    let begun = Instant::now();
                    let body = json!({"account": "a", "id": id, "amount": 1});
                    let answer = world.quotad.gateway.post("/v1/charge", &body);
                    assert!(begun.elapsed() < UNTOUCHED, "{id} took {:?}", begun.elapsed());
                    answer.expect(200);
                    world.journal.note("a", &id, -1);
                    number += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        act();
        done.store(true, Ordering::SeqCst);
    });
}

#[track_caller]
fn flows_again(world: &World) {
    eventually("the lag is gone", SOON, || world.metric("quotad_writeback_lag_entries") == 0.0);
    world.charge_new("flows", 1);
    world.wait_posted("a", "flows");
    world.audit();
}
