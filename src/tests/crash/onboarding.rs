//! A sidecar that dies between SQL and Redis while it provisions, or moves a reward.

use std::time::Duration;

use serde_json::{Value, json};

use super::{database::Backend, world::World};
use crate::harness::{Sidecar, eventually};

const USD: i64 = 100_000_000;
const SOON: Duration = Duration::from_secs(20);

on_every_backend!(
    a_provisioning_that_died_before_redis_is_ended_by_the_same_call,
    a_transfer_that_died_before_redis_is_credited_once_when_it_is_asked_again,
    a_transfer_that_died_before_redis_is_credited_once_by_itself,
);

/// Accounts begin with 2 USD; inviting brings 4 and 1 USD. `ann` is there.
fn world(backend: Backend) -> World {
    let world = World::new(backend);
    for (name, value) in [
        ("initial_balance", json!({"default": 2 * USD})),
        ("inviter_reward", json!(4 * USD)),
        ("invitee_reward", json!(USD)),
    ] {
        world.quotad.admin.put(&format!("/admin/v1/settings/{name}"), &json!({"value": value})).expect(200);
    }
    provision(&world.quotad, &json!({"account": "ann", "source": "email"})).expect(201);
    world
}

fn provision(quotad: &Sidecar, body: &Value) -> crate::harness::Answer {
    quotad.admin.post("/admin/v1/provision", body)
}

/// A call on a sidecar that dies at the fail point; another one takes its place.
fn dies(world: &mut World, point: &str, path: &str, body: &Value) {
    world.quotad.kill();
    let mut doomed = world.setup.clone().variable("FAILPOINTS", format!("{point}=panic")).start();
    let lost = doomed.admin.try_call("POST", path, &[], body.to_string().as_bytes());
    assert!(lost.is_err(), "it died before it answered: {lost:?}");
    doomed.wait_end(SOON);
    world.quotad = world.setup.start();
}

fn a_provisioning_that_died_before_redis_is_ended_by_the_same_call(backend: Backend) {
    let mut world = world(backend);
    let body = json!({"account": "bob", "source": "email", "inviter": "ann", "key": {"key": "k"}});
    dies(&mut world, "provisioned", "/admin/v1/provision", &body);
    let again = provision(&world.quotad, &body).expect(200);
    assert_eq!(
        (&again["replayed"], &again["balance"], &again["secret"]),
        (&json!(true), &json!(3 * USD), &Value::Null)
    );
    assert_eq!(world.quotad.money("bob"), [3 * USD, 0, 3 * USD]);
    assert_eq!(world.quotad.admin.get("/admin/v1/accounts/ann/referrals").expect(200)["history"], 4 * USD);
    assert_eq!(provision(&world.quotad, &body).expect(200)["balance"], 3 * USD);
    world.audit();
}

fn a_transfer_that_died_before_redis_is_credited_once_when_it_is_asked_again(backend: Backend) {
    transfer_that_died(backend, true);
}

fn a_transfer_that_died_before_redis_is_credited_once_by_itself(backend: Backend) {
    transfer_that_died(backend, false);
}

fn transfer_that_died(backend: Backend, asked_again: bool) {
    let mut world = world(backend);
    provision(&world.quotad, &json!({"account": "bob", "source": "email", "inviter": "ann"})).expect(201);
    let path = "/admin/v1/accounts/ann/referrals/transfer";
    let body = json!({"op_id": "t", "amount": 3 * USD});
    dies(&mut world, "transferred", path, &body);
    if asked_again {
        assert_eq!(world.quotad.admin.post(path, &body).expect(200)["balance"], 5 * USD);
    }
    eventually("SQL pays what it owes", SOON, || world.quotad.money("ann")[0] == 5 * USD);
    assert_eq!(world.quotad.admin.post(path, &body).expect(200)["replayed"], true);
    assert_eq!(world.quotad.money("ann")[0], 5 * USD);
    assert_eq!(world.quotad.admin.get("/admin/v1/accounts/ann/referrals").expect(200)["pending"], USD);
    world.audit();
}
