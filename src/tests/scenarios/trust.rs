//! Trust mode: nothing is held, and all is charged once, whatever becomes of the sidecar that granted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, eventually, redis::Redis};

/// Sidecars that share a Redis and a database, with that threshold for each account.
pub(super) fn sidecars<const N: usize>(threshold: i64) -> (Redis, [Sidecar; N]) {
    let redis = Redis::start();
    let setup = Setup::default().set("redis_url", redis.url()).set("trust_threshold", threshold.to_string());
    let setup = setup.set("trust_sidecars", N.to_string());
    let database = format!("sqlite:{}", setup.folder().join("shared.db").display());
    let first = setup.set("database_url", &database).start();
    let like = |_| {
        let other = Setup::default().set("redis_url", redis.url()).set("trust_threshold", threshold.to_string());
        other.set("trust_sidecars", N.to_string()).set("database_url", &database).start()
    };
    let mut all = vec![first];
    all.extend((1..N).map(like));
    (redis, all.try_into().unwrap_or_else(|_| unreachable!("as many as were started")))
}

pub(super) fn reserve(quotad: &Sidecar, id: &str, amount: i64) -> Value {
    quotad.reserve(json!({"account": "a", "id": id, "platform": "openai", "amount": amount})).expect(200)
}

pub(super) fn settle(quotad: &Sidecar, id: &str, amount: i64) -> Value {
    quotad.settle(json!({"account": "a", "id": id, "amount": amount})).expect(200)
}

/// A trusted reserve. Numbers age within a second, which a busy machine may take: then one more call brings
/// new ones.
#[track_caller]
pub(super) fn trusted(quotad: &Sidecar, prefix: &str, amount: i64) -> String {
    for attempt in 0..50 {
        let id = format!("{prefix}-{attempt}");
        let granted = reserve(quotad, &id, amount);
        if granted["trusted"] == true {
            assert_eq!(granted["held"], 0, "{granted}");
            return id;
        }
        assert_eq!(granted["held"], amount, "{granted}");
        quotad.gateway.post("/v1/release", &json!({"account": "a", "id": id})).expect(200);
    }
    panic!("{prefix} was never trusted");
}

/// One second, after which no sidecar trusts what it saw before.
fn age() {
    std::thread::sleep(Duration::from_millis(1_001));
}

pub(super) fn metric(quotad: &Sidecar, name: &str) -> i64 {
    let page = quotad.admin.get("/metrics");
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let value = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or(0)
}

#[test]
fn nothing_is_held_and_all_is_charged() {
    let (_redis, [quotad]) = sidecars(1_000);
    quotad.account("a", json!({"initial_balance": 100_000}));
    let first = trusted(&quotad, "r", 100);
    assert_eq!(quotad.money("a"), [100_000, 0, 100_000]);
    let again = reserve(&quotad, &first, 100);
    assert_eq!((&again["replayed"], &again["trusted"], &again["held"]), (&json!(true), &json!(true), &json!(0)));
    let other = quotad.reserve(json!({"account": "a", "id": first, "platform": "openai", "amount": 101}));
    assert_eq!(other.problem(409, "conflict")["field"], "amount");
    quotad.admin.get(&format!("/admin/v1/reservations/a/{first}")).problem(404, "reservation_not_found");
    let settled = settle(&quotad, &first, 90);
    for (field, value) in
        [("charged", json!(90)), ("returned", json!(0)), ("unreserved", json!(false)), ("balance", json!(99_910))]
    {
        assert_eq!(settled[field], value, "{settled}");
    }
    let again = settle(&quotad, &first, 90);
    assert_eq!((&again["replayed"], &again["unreserved"]), (&json!(true), &json!(false)));
    quotad.reserve(json!({"account": "a", "id": first, "amount": 100})).problem(409, "already_settled");
    // Released, in parts, longer: Redis is told.
    let released = trusted(&quotad, "released", 100);
    let answer = quotad.gateway.post("/v1/release", &json!({"account": "a", "id": released})).expect(200);
    assert_eq!(answer["returned"], 0);
    quotad.reserve(json!({"account": "a", "id": released, "amount": 100})).problem(409, "already_released");
    let stream = trusted(&quotad, "stream", 100);
    quotad.settle(json!({"account": "a", "id": stream, "amount": 30, "final": false})).expect(200);
    assert_eq!(quotad.money("a"), [99_880, 70, 99_810]);
    assert_eq!(settle(&quotad, &stream, 60)["returned"], 40);
    let longer = trusted(&quotad, "longer", 100);
    quotad.gateway.post("/v1/extend", &json!({"account": "a", "id": longer, "amount": 150})).expect(200);
    assert_eq!(quotad.money("a"), [99_850, 150, 99_700]);
    assert_eq!(settle(&quotad, &longer, 150)["returned"], 0);
    assert_eq!(metric(&quotad, "quotad_trusted_in_flight"), 0);
    assert!(metric(&quotad, "quotad_trusted_grants_total") >= 4);
    quotad.assert_reconciled();
}

#[test]
fn a_settle_through_another_sidecar_or_after_a_kill_is_charged_once() {
    let (_redis, [mut first, second]) = sidecars(1_000);
    first.account("a", json!({"initial_balance": 100_000}));
    // Another sidecar does not know of it.
    let id = trusted(&first, "other", 100);
    let settled = settle(&second, &id, 90);
    assert_eq!((&settled["charged"], &settled["unreserved"]), (&json!(90), &json!(true)));
    let again = settle(&first, &id, 90);
    assert_eq!((&again["replayed"], &again["charged"]), (&json!(true), &json!(90)));
    assert_eq!(metric(&first, "quotad_trusted_in_flight"), 0, "it has heard of it now");
    // The reserve, sent again to another one, is held there, if it is not trusted there too.
    age();
    let id = trusted(&first, "twice", 100);
    let held = reserve(&second, &id, 100);
    assert_eq!((&held["held"], &held["trusted"]), (&json!(100), &json!(false)), "its numbers are too old");
    let settled = settle(&first, &id, 80);
    assert_eq!((&settled["charged"], &settled["returned"]), (&json!(80), &json!(20)));
    assert_eq!(second.money("a"), [99_830, 0, 99_830]);
    // Killed in between: nobody knows of it, and it is charged all the same.
    let id = trusted(&first, "killed", 100);
    first.kill();
    let settled = settle(&second, &id, 70);
    assert_eq!((&settled["charged"], &settled["unreserved"]), (&json!(70), &json!(true)));
    first.start_again();
    assert_eq!(settle(&first, &id, 70)["replayed"], true);
    assert_eq!(first.money("a"), [99_760, 0, 99_760]);
    // Its time over, it is settled late, as if it had never been reserved.
    let late = (0..50).find_map(|attempt| {
        let id = format!("late-{attempt}");
        let ask = json!({"account": "a", "id": id, "amount": 100, "ttl_ms": 1_000});
        (first.reserve(ask).expect(200)["trusted"] == true).then_some(id)
    });
    let late = late.expect("it is trusted at some time");
    eventually("it is over", Duration::from_secs(5), || metric(&first, "quotad_trusted_in_flight") == 0);
    assert_eq!(settle(&first, &late, 60)["unreserved"], true);
    assert_eq!(settle(&second, &late, 60)["replayed"], true);
    eventually("the holds beside it are over, too", Duration::from_secs(5), || first.money("a") == [99_700, 0, 99_700]);
    second.assert_reconciled();
}

#[test]
fn a_change_of_the_rules_stops_trust_here_at_once_and_elsewhere_within_a_second() {
    let (_redis, [first, second]) = sidecars(1_000);
    first.account("a", json!({"initial_balance": 100_000}));
    first.key("a", "k", json!({}));
    let ask = |quotad: &Sidecar, id: String| quotad.reserve(json!({"account": "a", "key": "k", "id": id, "amount": 0}));
    for round in 0..3 {
        for quotad in [&first, &second] {
            let trusted =
                |number| ask(quotad, format!("{round}-{}-{number}", quotad.pid())).expect(200)["trusted"] == true;
            assert!((0..50).any(trusted), "round {round}");
        }
        first.admin.put("/admin/v1/accounts/a/keys/k", &json!({"status": "disabled"})).expect(200);
        let changed = Instant::now();
        ask(&first, format!("{round}-no")).problem(403, "key_disabled");
        let mut number = 0;
        let denied_after = loop {
            let asked = Instant::now();
            let answer = ask(&second, format!("{round}-still-{number}"));
            if answer.status == 403 {
                answer.problem(403, "key_disabled");
                break asked - changed;
            }
            assert_eq!(answer.expect(200)["trusted"], true, "Redis was asked, and did not deny it");
            number += 1;
        };
        assert!(denied_after <= Duration::from_millis(1_100), "{denied_after:?}");
        first.admin.put("/admin/v1/accounts/a/keys/k", &json!({"status": "enabled"})).expect(200);
    }
    // An account that is not trusted any more.
    first.admin.put("/admin/v1/accounts/a", &json!({"trust_threshold": null})).expect(200);
    for number in 0..3 {
        assert_eq!(ask(&first, format!("held-{number}")).expect(200)["trusted"], false);
    }
}
