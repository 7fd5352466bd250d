//! Defaults, provisioning and referrals over HTTP.

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, Sidecar};

const USD: i64 = 100_000_000;

/// A sidecar where accounts begin with 2 USD (github 3, group vip 5), and inviting brings 4 and 1 USD.
fn sidecar() -> Sidecar {
    let quotad = Sidecar::start();
    terms(&quotad);
    quotad
}

pub fn terms(quotad: &Sidecar) {
    let initial = json!({"default": 2 * USD, "groups": {"vip": 5 * USD}, "sources": {"github": 3 * USD}});
    for (name, value) in
        [("initial_balance", initial), ("inviter_reward", json!(4 * USD)), ("invitee_reward", json!(USD))]
    {
        quotad.admin.put(&format!("/admin/v1/settings/{name}"), &json!({"value": value})).expect(200);
    }
}

fn provision(quotad: &Sidecar, body: &Value) -> Answer {
    quotad.admin.post("/admin/v1/provision", body)
}

fn referrals(quotad: &Sidecar, account: &str) -> Value {
    quotad.admin.get(&format!("/admin/v1/accounts/{account}/referrals")).expect(200)
}

#[test]
fn defaults_are_nested_values_replaced_whole() {
    let quotad = Sidecar::start();
    let all = "/admin/v1/defaults";
    let empty = quotad.admin.get(all).expect(200);
    assert_eq!(empty.as_object().unwrap().len(), 8);
    assert!(empty.as_object().unwrap().values().all(|layer| *layer == json!({})));
    let system = json!({"openai": {"daily": 10, "weekly": null, "monthly": 0}});
    assert_eq!(quotad.admin.put(&format!("{all}/system"), &system).expect(200), system);
    let github = json!({"openai": {"daily": 0}, "gemini": {"weekly": 2.5}});
    let shown = quotad.admin.put(&format!("{all}/github"), &github).expect(200);
    let null = Value::Null;
    let expected = json!({"gemini": {"daily": null, "weekly": 2.5, "monthly": null},
        "openai": {"daily": 0, "weekly": null, "monthly": null}});
    assert_eq!(shown, expected);
    let read = quotad.admin.get(all).expect(200);
    assert_eq!((&read["system"], &read["github"], &read["email"]), (&system, &expected, &json!({})));
    // What was read can be written, and a value is replaced as a whole.
    assert_eq!(quotad.admin.put(all, &read).expect(200), read);
    assert_eq!(quotad.admin.put(all, &json!({"email": system})).expect(200)["github"], json!({}));
    for (path, body, field) in [
        ("", json!({"facebook": {}}), "facebook"),
        ("", json!({"github": {"openai": {"daily": -1}}}), "github.openai.daily"),
        ("/github", json!({"openai": {"daily": 1e-9}}), "openai.daily"),
        ("/github", json!({"openai": {"day": 1}}), "openai.day"),
        ("/github", json!({"facebook": {"daily": 1}}), "github"),
    ] {
        let problem = quotad.admin.put(&format!("{all}{path}"), &body).problem(400, "invalid_request");
        assert_eq!(problem["field"], field, "{body}");
    }
    quotad.admin.put(&format!("{all}/facebook"), &json!({})).problem(404, "not_found");
    assert_eq!(quotad.admin.get(all).expect(200)["email"], system);
    assert_ne!(null, system);
    let audit = quotad.admin.get("/admin/v1/audit?subject=defaults/github").expect(200);
    assert_eq!(audit["changes"].as_array().unwrap().len(), 2, "set, and emptied: {audit}");
}

#[test]
fn an_account_is_provisioned_in_one_step_that_may_be_repeated() {
    let quotad = sidecar();
    quotad.admin.put("/admin/v1/defaults/system", &json!({"openai": {"daily": 10, "monthly": 50}})).expect(200);
    quotad.admin.put("/admin/v1/defaults/github", &json!({"openai": {"daily": 0}})).expect(200);
    provision(&quotad, &json!({"account": "ann", "source": "email"})).expect(201);
    let body = json!({"account": "bob", "source": "github", "inviter": "ann", "name": "Bob", "contact": "b@x.org",
        "timezone": "Asia/Tokyo", "key": {"key": "main", "allowance": 5}});
    let first = provision(&quotad, &body);
    assert_eq!(first.header("idempotency-replayed"), None);
    let first = first.expect(201);
    for (field, value) in [
        ("group", json!("default")),
        ("timezone", json!("Asia/Tokyo")),
        ("inviter", json!("ann")),
        ("initial_balance", json!(3 * USD)),
        ("bonus", json!(USD)),
        ("balance", json!(4 * USD)),
        ("key", json!("main")),
    ] {
        assert_eq!(first[field], value, "{field} of {first}");
    }
    let secret = first["secret"].as_str().expect("the key's secret").to_owned();
    let quota = quotad.admin.get("/admin/v1/accounts/bob/platform-quotas/openai").expect(200);
    assert_eq!((&quota["daily_limit_usd"], &quota["monthly_limit_usd"]), (&json!(0), &json!(50)));
    // Spendable at once, by the key.
    quotad
        .gateway
        .post("/v1/charge", &json!({"api_key": secret, "id": "c", "platform": "gemini", "amount": 5}))
        .expect(200);

    quotad.admin.put("/admin/v1/defaults", &json!({"system": {"gemini": {"daily": 0}}})).expect(200);
    let again = provision(&quotad, &body);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let again = again.expect(200);
    assert_eq!(
        (&again["replayed"], &again["secret"], &again["balance"]),
        (&json!(true), &Value::Null, &json!(4 * USD - 5))
    );
    assert_eq!((&again["bonus"], &again["limits"]), (&first["bonus"], &first["limits"]), "later defaults touch nobody");
    assert_eq!(referrals(&quotad, "ann")["pending"], 4 * USD, "one reward");

    for (field, value) in [
        ("source", json!("email")),
        ("group", json!("vip")),
        ("inviter", json!("cyd")),
        ("name", json!("Bobby")),
        ("timezone", json!("UTC")),
        ("key", json!({"key": "main", "allowance": 6})),
    ] {
        let mut other = body.clone();
        other[field] = value;
        assert_eq!(provision(&quotad, &other).problem(409, "conflict")["field"], field);
    }
    let vip = provision(&quotad, &json!({"account": "vip", "source": "github", "group": "vip"})).expect(201);
    assert_eq!(vip["balance"], 5 * USD, "the group's balance, before the source's");
    quotad.assert_reconciled();
}

#[test]
fn what_cannot_be_provisioned_is_refused_by_name() {
    let quotad = sidecar();
    quotad.account("made", json!({}));
    quotad.account("gone", json!({}));
    quotad.admin.delete("/admin/v1/accounts/gone").expect(204);
    for (body, status, code, field) in [
        (json!({"account": "x", "source": "facebook"}), 400, "invalid_request", "source"),
        (json!({"account": "x"}), 400, "invalid_request", "source"),
        (json!({"account": "x y", "source": "email"}), 400, "invalid_request", "account"),
        (json!({"account": "x", "source": "email", "inviter": "x"}), 400, "invalid_request", "inviter"),
        (json!({"account": "x", "source": "email", "inviter": "nobody"}), 404, "account_not_found", "inviter"),
        (json!({"account": "x", "source": "email", "inviter": "gone"}), 404, "account_not_found", "inviter"),
        (json!({"account": "x", "source": "email", "timezone": "Mars"}), 400, "invalid_request", "timezone"),
        (json!({"account": "x", "source": "email", "key": {}}), 400, "invalid_request", "key.key"),
        (
            json!({"account": "x", "source": "email", "key": {"key": "k", "status": "?"}}),
            400,
            "invalid_request",
            "key.status",
        ),
        (json!({"account": "x", "source": "email", "balance": 5}), 400, "invalid_request", "balance"),
        (json!({"account": "made", "source": "email"}), 409, "conflict", "account"),
    ] {
        assert_eq!(provision(&quotad, &body).problem(status, code)["field"], field, "{body}");
    }
    quotad.admin.get("/admin/v1/accounts/x").problem(404, "account_not_found");
    assert_eq!(quotad.admin.get("/admin/v1/accounts").expect(200)["accounts"].as_array().unwrap().len(), 1);
}

#[test]
fn a_hundred_provisionings_at_once_give_one_bonus_and_one_secret() {
    let quotad = sidecar();
    provision(&quotad, &json!({"account": "ann", "source": "email"})).expect(201);
    let body = json!({"account": "bob", "source": "github", "inviter": "ann", "key": {"key": "main"}});
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..100).map(|_| scope.spawn(|| provision(&quotad, &body))).collect();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect()
    });
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    // On a machine that is too busy a call may not end in time: then it is asked again.
    assert_eq!((count(201), count(200) + count(503)), (1, 99));
    assert_eq!(answers.iter().filter(|answer| answer.json()["secret"].is_string()).count(), 1);
    assert_eq!(quotad.money("bob"), [4 * USD, 0, 4 * USD]);
    let found = referrals(&quotad, "ann");
    assert_eq!((&found["pending"], &found["history"]), (&json!(4 * USD), &json!(4 * USD)));
    assert_eq!(found["invitees"].as_array().unwrap().len(), 1);
    quotad.assert_reconciled();
}

#[test]
fn rewards_are_pending_until_they_are_moved() {
    let quotad = sidecar();
    provision(&quotad, &json!({"account": "ann", "source": "email"})).expect(201);
    for name in ["b1", "b2", "b3"] {
        provision(&quotad, &json!({"account": name, "source": "oidc", "inviter": "ann"})).expect(201);
    }
    let found = referrals(&quotad, "ann");
    assert_eq!(
        (&found["pending"], &found["pending_usd"], &found["history"]),
        (&json!(12 * USD), &json!(12), &json!(12 * USD))
    );
    assert_eq!(quotad.money("ann")[0], 2 * USD, "not spendable yet");
    let page = quotad.admin.get("/admin/v1/accounts/ann/referrals?limit=2").expect(200);
    let names = |page: &Value| -> Vec<String> {
        page["invitees"].as_array().unwrap().iter().map(|it| it["account"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((names(&page), &page["next_cursor"]), (vec!["b1".to_owned(), "b2".to_owned()], &json!("b2")));
    assert_eq!(page["invitees"][0]["reward"], 4 * USD);
    let last = quotad.admin.get("/admin/v1/accounts/ann/referrals?limit=2&cursor=b2").expect(200);
    assert_eq!((names(&last), &last["next_cursor"]), (vec!["b3".to_owned()], &Value::Null));

    let transfer = |op: &str, amount: i64| {
        quotad.admin.post("/admin/v1/accounts/ann/referrals/transfer", &json!({"op_id": op, "amount": amount}))
    };
    assert_eq!(transfer("t1", USD - 1).problem(400, "invalid_request")["field"], "amount");
    let least = |units: i64| {
        quotad.admin.put("/admin/v1/settings/referral_transfer_min", &json!({"value": units})).expect(200);
    };
    least(0);
    let problem = transfer("t1", 0).problem(400, "invalid_request");
    assert_eq!((&problem["field"], &problem["detail"]), (&json!("amount"), &json!("must be at least 1")), "{problem}");
    least(USD);
    let problem = transfer("t1", 12 * USD + 1).problem(402, "insufficient_balance");
    assert_eq!((&problem["requested"], &problem["available"]), (&json!(12 * USD + 1), &json!(12 * USD)));
    let done = transfer("t1", 5 * USD).expect(200);
    assert_eq!(
        (&done["outcome"], &done["pending"], &done["balance"]),
        (&json!("transferred"), &json!(7 * USD), &json!(7 * USD))
    );
    // The next reserve has it.
    quotad.reserve(json!({"account": "ann", "id": "r", "amount": 7 * USD})).expect(200);
    let again = transfer("t1", 5 * USD);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.expect(200)["replayed"], true);
    assert_eq!(transfer("t1", 6 * USD).problem(409, "conflict")["field"], "amount");
    quotad
        .admin
        .post("/admin/v1/accounts/ann/referrals/transfer", &json!({"amount": USD}))
        .problem(400, "invalid_request");
    assert_eq!(quotad.money("ann")[0], 7 * USD);
    let found = referrals(&quotad, "ann");
    assert_eq!((&found["pending"], &found["history"]), (&json!(7 * USD), &json!(12 * USD)));
    for path in ["referrals", "referrals/transfer"] {
        let path = format!("/admin/v1/accounts/nobody/{path}");
        let answer = match path.ends_with("transfer") {
            true => quotad.admin.post(&path, &json!({"op_id": "t", "amount": USD})),
            false => quotad.admin.get(&path),
        };
        answer.problem(404, "account_not_found");
    }
    quotad.assert_reconciled();
}

/// A platform that left the list while defaults name it is no obstacle, neither to sign-ups nor to whoever puts back
/// what was read.
#[test]
fn defaults_may_name_a_platform_that_left_the_list() {
    let quotad = sidecar();
    let defaults = json!({"openai": {"daily": 10}, "gemini": {"daily": 5}});
    quotad.admin.put("/admin/v1/defaults/system", &defaults).expect(200);
    quotad.admin.put("/admin/v1/settings/platforms", &json!({"value": ["openai"]})).expect(200);
    provision(&quotad, &json!({"account": "bob", "source": "email"})).expect(201);
    let quota = quotad.admin.get("/admin/v1/accounts/bob/platform-quotas/gemini").expect(200);
    assert_eq!(quota["daily_limit_usd"], 5);
    let read = quotad.admin.get("/admin/v1/defaults").expect(200);
    assert_eq!(quotad.admin.put("/admin/v1/defaults", &read).expect(200), read);
    let quotas = json!({"quotas": [{"platform": "gemini", "daily_limit_usd": 6}]});
    quotad.admin.put("/admin/v1/accounts/bob/platform-quotas", &quotas).expect(200);
    // Where it was not, it cannot be put.
    let github = quotad.admin.put("/admin/v1/defaults/github", &json!({"gemini": {"daily": 1}}));
    let problem = github.problem(400, "invalid_request");
    assert_eq!(problem["field"], "github");
    assert!(problem["detail"].as_str().unwrap().contains("gemini"), "{problem}");
}

#[test]
fn an_account_without_a_zone_gets_that_of_the_configuration() {
    let quotad = Setup::default().set("timezone", "Asia/Tokyo").start();
    assert_eq!(quotad.account("made", json!({}))["timezone"], "Asia/Tokyo");
    let provisioned = provision(&quotad, &json!({"account": "bob", "source": "email"})).expect(201);
    assert_eq!(provisioned["timezone"], "Asia/Tokyo");
    let own = json!({"account": "ann", "source": "email", "timezone": "Europe/Berlin"});
    assert_eq!(provision(&quotad, &own).expect(201)["timezone"], "Europe/Berlin");
}
