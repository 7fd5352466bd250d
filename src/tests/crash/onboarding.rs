//! A sidecar that dies between SQL and Redis while it provisions, or moves a reward.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, eventually};

const USD: i64 = 100_000_000;

/// A call on a sidecar that dies at the fail point; it keeps its Redis alive until it goes out of scope.
fn dies(setup: &Setup, point: &str, path: &str, body: &Value) -> Sidecar {
    let mut doomed = setup.clone().variable("FAILPOINTS", format!("{point}=panic")).start();
    let lost = doomed.admin.try_call("POST", path, &[], body.to_string().as_bytes());
    assert!(lost.is_err(), "it died before it answered: {lost:?}");
    doomed.wait_end(Duration::from_secs(5));
    doomed
}

fn settings(quotad: &Sidecar) {
    let settings = [
        ("initial_balance", json!({"default": 2 * USD})),
        ("inviter_reward", json!(4 * USD)),
        ("invitee_reward", json!(USD)),
    ];
    for (name, value) in settings {
        quotad.admin.put(&format!("/admin/v1/settings/{name}"), &json!({"value": value})).expect(200);
    }
}

#[test]
fn a_provisioning_that_died_before_redis_is_ended_by_the_same_call() {
    let setup = Setup::default();
    let mut quotad = setup.start();
    settings(&quotad);
    let provision = |quotad: &Sidecar, body: &Value| quotad.admin.post("/admin/v1/provision", body);
    provision(&quotad, &json!({"account": "ann", "source": "email"})).expect(201);
    quotad.terminate();
    let body = json!({"account": "bob", "source": "email", "inviter": "ann", "key": {"key": "k"}});
    let _doomed = dies(&setup, "provisioned", "/admin/v1/provision", &body);
    let quotad = setup.start();
    let again = provision(&quotad, &body).expect(200);
    assert_eq!(
        (&again["replayed"], &again["balance"], &again["secret"]),
        (&json!(true), &json!(3 * USD), &Value::Null)
    );
    assert_eq!(quotad.money("bob"), [3 * USD, 0, 3 * USD]);
    assert_eq!(quotad.admin.get("/admin/v1/accounts/ann/referrals").expect(200)["history"], 4 * USD);
    assert_eq!(provision(&quotad, &body).expect(200)["balance"], 3 * USD);
    quotad.assert_reconciled();
}

#[test]
fn a_transfer_that_died_before_redis_is_credited_once_with_or_without_the_call() {
    for asked_again in [true, false] {
        let setup = Setup::default();
        let mut quotad = setup.start();
        settings(&quotad);
        for (name, inviter) in [("ann", None), ("bob", Some("ann"))] {
            let mut body = json!({"account": name, "source": "email"});
            if let Some(inviter) = inviter {
                body["inviter"] = json!(inviter);
            }
            quotad.admin.post("/admin/v1/provision", &body).expect(201);
        }
        quotad.terminate();
        let path = "/admin/v1/accounts/ann/referrals/transfer";
        let body = json!({"op_id": "t", "amount": 3 * USD});
        let _doomed = dies(&setup, "transferred", path, &body);
        let quotad = setup.start();
        if asked_again {
            assert_eq!(quotad.admin.post(path, &body).expect(200)["balance"], 5 * USD);
        }
        eventually("SQL pays what it owes", Duration::from_secs(15), || quotad.money("ann")[0] == 5 * USD);
        assert_eq!(quotad.admin.post(path, &body).expect(200)["replayed"], true);
        assert_eq!(quotad.money("ann")[0], 5 * USD);
        assert_eq!(quotad.admin.get("/admin/v1/accounts/ann/referrals").expect(200)["pending"], USD);
        quotad.assert_reconciled();
    }
}
