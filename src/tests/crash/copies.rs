//! One side is put back to what it was: an old copy of Redis, of its file, of the database.

use std::time::Duration;

use serde_json::json;

use super::{
    database::Backend,
    world::{BEGIN, World, told},
};
use crate::harness::{eventually, redis::Redis};

const SOON: Duration = Duration::from_secs(20);

on_every_backend!(
    sql_restored_from_before_the_trim_replays_the_tail,
    sql_restored_from_an_earlier_generation_replays_the_tail,
    sql_restored_from_too_old_a_copy_stops_with_an_alarm,
    codes_and_transfers_of_a_restored_database_are_credited_once,
    torn_append_only_file_restarted_twice_revives_and_drops_nothing,
    total_loss_of_redis_is_rebuilt_from_sql,
    old_copy_of_redis_is_redone,
);

fn sql_restored_from_before_the_trim_replays_the_tail(backend: Backend) {
    restored_sql(backend, |_| {});
}

/// Redis' generation is one that the restored database never heard of.
fn sql_restored_from_an_earlier_generation_replays_the_tail(backend: Backend) {
    restored_sql(backend, |world| {
        world.quotad.kill();
        world.restart_redis(|_| {});
        world.quotad = world.setup.start();
    });
}

fn restored_sql(backend: Backend, meanwhile: impl FnOnce(&mut World)) {
    let mut world = World::new(backend);
    world.charge_new("c1", 10);
    world.wait_posted("a", "c1");
    world.quotad.kill();
    world.database.save_as("old");
    world.quotad = world.setup.start();
    world.charge_new("c2", 20);
    meanwhile(&mut world);
    world.charge_new("c3", 30);
    world.wait_posted("a", "c3");
    world.quotad.kill();
    world.database.restore_from("old");
    assert!(!world.is_posted("a", "c2"));
    world.quotad = world.setup.start();
    for (id, amount) in [("c1", 10), ("c2", 20), ("c3", 30)] {
        world.charge_again(id, amount);
        world.wait_posted("a", id);
    }
    world.charge_new("c4", 40);
    world.audit();
}

fn sql_restored_from_too_old_a_copy_stops_with_an_alarm(backend: Backend) {
    let mut world = World::with(backend, |setup| setup.set("writeback_retention", "1"));
    world.charge_new("c0", 10);
    world.wait_posted("a", "c0");
    world.quotad.kill();
    world.database.save_as("old");
    world.quotad = world.setup.start();
    // Trims wait until they are worth it.
    for number in 1..160 {
        world.charge_new(&format!("c{number}"), 10);
    }
    world.wait_posted("a", "c159");
    eventually("the stream is trimmed", SOON, || world.stream_length() < 150);
    world.quotad.kill();
    world.database.save_as("new");
    world.database.restore_from("old");
    world.quotad = world.setup.start_without_waiting();
    eventually("the alarm", SOON, || world.metric("quotad_attach_refused_shards") >= 1.0);
    let body = json!({"account": "a", "id": "refused", "amount": 1});
    world.quotad.gateway.post("/v1/charge", &body).problem(503, "unavailable");
    assert!(!world.is_posted("a", "c159"), "nothing was invented");
    world.quotad.kill();
    // With the right copy everything is there again.
    world.database.restore_from("new");
    world.quotad = world.setup.start();
    for number in [0, 1, 100, 159] {
        world.charge_again(&format!("c{number}"), 10);
    }
    world.charge_new("refused", 1);
    world.audit();
}

/// The copy knew the code as new and the reward as pending: another account redeemed the one, and the other was moved
/// a second time.
fn codes_and_transfers_of_a_restored_database_are_credited_once(backend: Backend) {
    const USD: i64 = 100_000_000;
    let mut world = World::new(backend);
    world.open("b");
    let admin = |world: &World, path: &str, body: serde_json::Value| told(&world.quotad.admin, path, &body);
    let made = admin(&world, "/admin/v1/codes", json!({"op_id": "batch", "name": "spring", "amount": 700})).expect(201);
    let text = |field: &str| made["codes"][0][field].as_str().expect("a text").to_owned();
    let (code, of_code) = (text("code"), format!("redeem:{}", text("id")));
    world.quotad.admin.put("/admin/v1/settings/inviter_reward", &json!({"value": 4 * USD})).expect(200);
    admin(&world, "/admin/v1/provision", json!({"account": "new", "source": "email", "inviter": "a"})).expect(201);
    world.quotad.kill();
    world.database.save_as("old");
    world.quotad = world.setup.start();
    let redeem = |world: &World, account: &str| {
        told(&world.quotad.gateway, "/v1/redeem", &json!({"account": account, "code": code}))
    };
    let transfer = |world: &World| {
        let body = json!({"op_id": "t", "amount": 3 * USD});
        admin(world, "/admin/v1/accounts/a/referrals/transfer", body).expect(200)
    };
    redeem(&world, "a").expect(200);
    assert_eq!(transfer(&world)["pending"], USD);
    for (op_id, amount) in [(of_code.as_str(), 700), ("referral:t", 3 * USD)] {
        world.journal.note("a", op_id, amount);
        world.wait_posted("a", op_id);
    }
    let rich = [BEGIN + 700 + 3 * USD, 0, BEGIN + 700 + 3 * USD];
    world.quotad.kill();
    world.database.restore_from("old");
    assert!(!world.is_posted("a", &of_code));
    world.quotad = world.setup.start();
    world.wait_posted("a", &of_code);
    redeem(&world, "b").problem(409, "code_used");
    assert_eq!(redeem(&world, "a").expect(200)["replayed"], true);
    let shown = world.quotad.admin.get(&format!("/admin/v1/codes/{}", text("id"))).expect(200);
    assert_eq!((&shown["status"], &shown["used_by"]), (&json!("used"), &json!("a")));
    assert_eq!(transfer(&world)["balance"], rich[0]);
    assert_eq!(transfer(&world)["replayed"], true);
    assert_eq!(world.quotad.money("a"), rich);
    world.audit();
    assert_eq!(world.ledger().of("a", "referral:t").len(), 1, "and none that was rejected");
}

/// Redis rolls the half script back at its first start but leaves half of it in the file: at the second
/// it would come alive with the next block, or take what was written since with it. Nothing touches the
/// account meanwhile, so that nothing covers what comes alive.
fn torn_append_only_file_restarted_twice_revives_and_drops_nothing(backend: Backend) {
    let mut world = World::new(backend);
    world.open("b");
    world.charge_new("kept", 10);
    world.wait_posted("a", "kept");
    world.database.take_away();
    world.charge_new("torn", 20);
    world.quotad.kill();
    world.restart_redis(|redis| redis.aof().tear(b"r/a/torn"));
    world.database.bring_back();
    world.journal.strike("a", "torn");
    world.quotad = world.setup.start();
    let untouched = [BEGIN - 10, 0, BEGIN - 10];
    assert_eq!(world.quotad.money("a"), untouched, "the half script was rolled back");
    let body = json!({"account": "b", "id": "since", "amount": 30});
    told(&world.quotad.gateway, "/v1/charge", &body).expect(200);
    world.journal.note("b", "since", -30);
    let held = json!({"account": "b", "id": "held", "amount": 100});
    told(&world.quotad.gateway, "/v1/reserve", &held).expect(200);
    world.restart_redis(|_| {});
    assert_eq!(told(&world.quotad.gateway, "/v1/charge", &body).expect(200)["replayed"], true, "nothing was dropped");
    assert_eq!(world.quotad.money("a"), untouched, "nothing came alive");
    assert_eq!(world.quotad.money("b"), [BEGIN - 30, 100, BEGIN - 130]);
    world.charge_again("kept", 10);
    world.charge_new("torn", 20);
    world.restart_redis(|_| {});
    world.charge_again("torn", 20);
    let settle = json!({"account": "b", "id": "held", "amount": 50});
    assert_eq!(told(&world.quotad.gateway, "/v1/settle", &settle).expect(200)["unreserved"], false);
    world.journal.note("b", "held", -50);
    world.audit();
}

fn total_loss_of_redis_is_rebuilt_from_sql(backend: Backend) {
    let mut world = World::new(backend);
    world.quotad.play("account a => 200\nreserve held amount=100 => 200\nreserve done amount=100 => 200");
    world.quotad.play("account a => 200\nsettle done amount=60 => 200 charged=60");
    world.journal.note("a", "done", -60);
    world.charge_new("c", 10);
    world.wait_posted("a", "c");
    world.restart_redis(Redis::lose_everything);
    world.charge_again("c", 10);
    world.quotad.play(
        "account a => 200
         settle done amount=60 => 200 replayed charged=60 unreserved=false
         settle held amount=70 => 200 charged=70 unreserved=true
         settle held amount=70 => 200 replayed charged=70",
    );
    world.journal.note("a", "held", -70);
    world.audit();
}

fn old_copy_of_redis_is_redone(backend: Backend) {
    let mut world = World::new(backend);
    world.charge_new("c1", 10);
    world.wait_posted("a", "c1");
    world.redis.kill();
    let copy = world.redis.copy();
    world.redis.start_again();
    world.charge_new("c2", 20);
    world.restart_redis(|_| {});
    world.charge_new("c3", 30);
    world.wait_posted("a", "c3");
    // Two generations older than what SQL has.
    world.restart_redis(|redis| redis.restore(&copy));
    for (id, amount) in [("c1", 10), ("c2", 20), ("c3", 30)] {
        world.charge_again(id, amount);
    }
    world.charge_new("c4", 40);
    world.audit();
}
