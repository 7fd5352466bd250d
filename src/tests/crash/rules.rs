//! Rules are in SQL, and Redis has their version: whatever dies between them, nobody decides by the old rules for
//! more than a few seconds.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    database::Backend,
    world::{BEGIN, World},
};
use crate::harness::{Sidecar, eventually};

const SOON: Duration = Duration::from_secs(20);
/// The first look at what was left behind is after two seconds.
const HEARD: Duration = Duration::from_secs(6);

on_every_backend!(
    a_key_deleted_by_a_sidecar_that_died_is_refused_by_the_other,
    a_key_disabled_by_a_sidecar_that_died_is_refused_by_the_other,
    an_account_deleted_by_a_sidecar_that_died_is_refused_by_the_other,
    what_is_credited_while_an_account_is_deleted_is_taken_away_too,
    a_key_disabled_while_redis_was_away_is_refused_everywhere,
    rules_of_a_restored_database_are_in_force_again,
);

/// Asks for a little of account `b`'s money with its key, and holds nothing.
fn code_of(sidecar: &Sidecar) -> String {
    let ask = json!({"account": "b", "key": "k", "amount": 1, "mode": "check_only"});
    let answer = sidecar.gateway.post("/v1/reserve", &ask);
    if answer.status == 200 { "granted".to_owned() } else { answer.code() }
}

/// Account `b` has a key that the sidecar has used.
fn with_key(world: &World) {
    world.open("b");
    world.quotad.key("b", "k", json!({}));
    assert_eq!(code_of(&world.quotad), "granted");
}

/// Another sidecar takes the call, and dies when SQL has committed it.
fn dies_at(world: &World, method: &str, path: &str, body: &Value) {
    let mut doomed = world.another().variable("FAILPOINTS", "policy-committed=panic").start();
    let lost = doomed.admin.try_call(method, path, &[], body.to_string().as_bytes());
    assert!(lost.is_err(), "it died before it answered: {lost:?}");
    doomed.wait_end(SOON);
}

#[track_caller]
fn heard(world: &World, sidecar: &Sidecar, code: &str) {
    eventually(&format!("it answers {code}"), HEARD, || code_of(sidecar) == code);
    let mut client = world.database.client();
    let left = client.text("(SELECT COUNT(*) FROM raises)");
    eventually("nothing is left to be raised", SOON, || client.ask(&format!("SELECT {left}"))[0][0] == "0");
    assert_eq!(code_of(sidecar), code);
}

const KEY: &str = "/admin/v1/accounts/b/keys/k";

fn a_key_deleted_by_a_sidecar_that_died_is_refused_by_the_other(backend: Backend) {
    let world = World::new(backend);
    with_key(&world);
    dies_at(&world, "DELETE", KEY, &Value::Null);
    heard(&world, &world.quotad, "key_not_found");
    // Asking again is no cure: it is gone.
    world.quotad.admin.delete(KEY).problem(404, "key_not_found");
}

fn a_key_disabled_by_a_sidecar_that_died_is_refused_by_the_other(backend: Backend) {
    let world = World::new(backend);
    with_key(&world);
    dies_at(&world, "PUT", KEY, &json!({"status": "disabled"}));
    heard(&world, &world.quotad, "key_disabled");
}

fn an_account_deleted_by_a_sidecar_that_died_is_refused_by_the_other(backend: Backend) {
    let world = World::new(backend);
    with_key(&world);
    dies_at(&world, "DELETE", "/admin/v1/accounts/b", &Value::Null);
    heard(&world, &world.quotad, "account_not_found");
}

/// The credit comes after the balance was taken, and before SQL has deleted the account.
fn what_is_credited_while_an_account_is_deleted_is_taken_away_too(backend: Backend) {
    let world = World::new(backend);
    world.open("b");
    let slow = world.another().variable("FAILPOINTS", "account-closed=sleep(2000)").start();
    std::thread::scope(|scope| {
        let deleted = scope.spawn(|| slow.admin.delete("/admin/v1/accounts/b").expect(204));
        eventually("its balance was taken", SOON, || world.quotad.money("b")[0] == 0);
        let credit = json!({"op_id": "late", "amount": 70});
        world.quotad.admin.post("/admin/v1/accounts/b/credit", &credit).expect(200);
        deleted.join().expect("it is deleted");
    });
    eventually("SQL has all of it", SOON, || {
        let ledger = world.ledger();
        let closed: Vec<i64> =
            ledger.rows.iter().filter(|row| row.op_id.starts_with("close:")).map(|row| row.balance).collect();
        closed == [-BEGIN, -70] && ledger.accounts["b"][0] == 0
    });
    let told = world.quotad.admin.get("/admin/v1/audit?subject=account/b").expect(200);
    let before = |what: &str| {
        let rows = told["changes"].as_array().expect("a list");
        rows.iter().find(|row| row["what"] == what).map(|row| row["before"]["balance"].clone())
    };
    assert_eq!((before("delete"), before("close")), (Some(json!(BEGIN)), Some(json!(70))));
}

fn a_key_disabled_while_redis_was_away_is_refused_everywhere(backend: Backend) {
    let hurry = |setup: crate::harness::Setup| setup.set("time_budget_ms", "500");
    let world = World::with(backend, hurry);
    with_key(&world);
    let second = hurry(world.another()).start();
    assert_eq!(code_of(&second), "granted");
    world.redis.freeze();
    world.quotad.admin.put(KEY, &json!({"status": "disabled"})).problem(503, "unavailable");
    world.redis.thaw();
    for sidecar in [&world.quotad, &second] {
        heard(&world, sidecar, "key_disabled");
    }
}

/// The copy's rules have a version that Redis has left behind: every call was 503 for ever.
fn rules_of_a_restored_database_are_in_force_again(backend: Backend) {
    let mut world = World::new(backend);
    with_key(&world);
    world.quotad.kill();
    world.database.save_as("old");
    world.quotad = world.setup.start();
    for status in ["disabled", "enabled", "disabled"] {
        world.quotad.admin.put(KEY, &json!({"status": status})).expect(200);
    }
    assert_eq!(code_of(&world.quotad), "key_disabled");
    world.quotad.kill();
    world.database.restore_from("old");
    world.quotad = world.setup.start();
    let second = world.another().start();
    for sidecar in [&world.quotad, &second] {
        eventually("the copy's rules are in force", HEARD, || code_of(sidecar) == "granted");
    }
    let told = world.quotad.admin.get("/admin/v1/audit?subject=account/b").expect(200);
    let row = &told["changes"][0];
    assert_eq!((&row["what"], &row["by"]), (&json!("overtake"), &json!("quotad")));
    assert_eq!((&row["before"], &row["after"]), (&json!({"version": 2}), &json!({"version": 6})));
    second.admin.put(KEY, &json!({"status": "disabled"})).expect(200);
    for sidecar in [&world.quotad, &second] {
        assert_eq!(code_of(sidecar), "key_disabled");
    }
}
