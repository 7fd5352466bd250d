//! A code and its money are in two places, SQL and Redis: whatever dies between them, the code is credited
//! once.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    database::Backend,
    world::{World, metric, told},
};
use crate::harness::{Sidecar, at_once, eventually};

const SOON: Duration = Duration::from_secs(20);
const WORTH: i64 = 700;

on_every_backend!(
    used_and_not_credited_is_credited_once,
    credited_and_not_told_is_credited_once,
    a_credit_that_redis_lost_is_credited_again,
    a_credit_whose_name_redis_forgot_is_not_repeated,
    redis_away_for_a_moment_delays_the_credit,
    a_credit_that_keeps_failing_stays_in_the_gauge,
    one_of_100_wins_on_two_sidecars_and_the_money_is_there_on_both,
);

/// A code: its characters, and the op id of its credit.
fn code(world: &World) -> (String, String) {
    let ask = json!({"op_id": "batch", "name": "spring", "amount": WORTH});
    let made = told(&world.quotad.admin, "/admin/v1/codes", &ask).expect(201);
    let text = |field: &str| made["codes"][0][field].as_str().expect("a text").to_owned();
    (text("code"), format!("redeem:{}", text("id")))
}

fn ask(code: &str) -> Value {
    json!({"account": "a", "code": code})
}

/// A sidecar that is asked to redeem the code, and dies at these fail points before it answers.
fn die_redeeming(world: &mut World, points: &str, code: &str) {
    world.quotad.kill();
    let mut doomed = world.setup.clone().variable("FAILPOINTS", points).start();
    // A fail point that sleeps does so on a thread that others need: then the call is 503, and asked again.
    eventually(&format!("{points} ends it"), SOON, || {
        match doomed.gateway.try_call("POST", "/v1/redeem", &[], ask(code).to_string().as_bytes()) {
            Ok(answer) => answer.problem(503, "unavailable").is_null(),
            Err(_) => true,
        }
    });
    doomed.wait_end(SOON);
}

/// Whoever asks again hears that it was done, and nothing is owed any more.
#[track_caller]
fn redeemed_once(world: &World, code: &str, op_id: &str) {
    world.journal.note("a", op_id, WORTH);
    let again = told(&world.quotad.gateway, "/v1/redeem", &ask(code)).expect(200);
    assert_eq!((&again["replayed"], &again["amount"]), (&json!(true), &json!(WORTH)));
    world.wait_posted("a", op_id);
    let mut client = world.database.client();
    let closed = "SELECT COUNT(*) FROM outbox WHERE due_at IS NULL AND outcome = 'credited'";
    let closed = client.text(&format!("({closed})"));
    eventually("the outbox is empty", SOON, || client.ask(&format!("SELECT {closed}"))[0][0] == "1");
    assert_eq!(world.ledger().of("a", op_id).len(), 1, "one entry, and none that was rejected");
    assert_eq!(metric(&world.quotad, "quotad_writeback_duplicates_total"), 0.0);
    world.audit();
}

fn used_and_not_credited_is_credited_once(backend: Backend) {
    let mut world = World::new(backend);
    let before = world.quotad.money("a")[0];
    let (code, op_id) = code(&world);
    die_redeeming(&mut world, "code-used=panic", &code);
    world.quotad = world.setup.start();
    // By itself: nobody asks again.
    eventually("it is credited", SOON, || world.quotad.money("a")[0] == before + WORTH);
    redeemed_once(&world, &code, &op_id);
}

fn credited_and_not_told_is_credited_once(backend: Backend) {
    let mut world = World::new(backend);
    let before = world.quotad.money("a")[0];
    let (code, op_id) = code(&world);
    die_redeeming(&mut world, "code-credited=panic", &code);
    world.quotad = world.setup.start();
    assert_eq!(world.quotad.money("a")[0], before + WORTH);
    redeemed_once(&world, &code, &op_id);
}

/// Write-back of that sidecar stands still, so SQL has nothing of the credit when it dies.
const UNPOSTED: &str = "code-credited=panic;batch-read=sleep(600000)";

fn a_credit_that_redis_lost_is_credited_again(backend: Backend) {
    let mut world = World::new(backend);
    let before = world.quotad.money("a")[0];
    let (code, op_id) = code(&world);
    die_redeeming(&mut world, UNPOSTED, &code);
    assert!(!world.is_posted("a", &op_id));
    world.restart_redis(|redis| {
        redis.aof().cut_from(op_id.as_bytes());
    });
    world.quotad = world.setup.start();
    eventually("it is credited again", SOON, || world.quotad.money("a")[0] == before + WORTH);
    redeemed_once(&world, &code, &op_id);
}

fn a_credit_whose_name_redis_forgot_is_not_repeated(backend: Backend) {
    let mut world = World::with(backend, |setup| setup.set("tombstone_ttl_ms", "1000"));
    let before = world.quotad.money("a")[0];
    let (code, op_id) = code(&world);
    die_redeeming(&mut world, UNPOSTED, &code);
    std::thread::sleep(Duration::from_millis(2_500));
    // The first batch takes its time: the look at the outbox comes before the ledger has the credit.
    world.quotad = world.setup.clone().variable("FAILPOINTS", "batch-read=1*sleep(3000)").start();
    eventually("write-back goes on", SOON, || world.is_posted("a", &op_id));
    assert_eq!(world.quotad.money("a")[0], before + WORTH);
    redeemed_once(&world, &code, &op_id);
}

fn redis_away_for_a_moment_delays_the_credit(backend: Backend) {
    let world = World::with(backend, |setup| setup.set("time_budget_ms", "500"));
    let before = world.quotad.money("a")[0];
    let (code, op_id) = code(&world);
    world.redis.freeze();
    world.quotad.gateway.post("/v1/redeem", &ask(&code)).problem(503, "unavailable");
    world.redis.thaw();
    eventually("it is credited", SOON, || {
        let sheet = world.quotad.gateway.get("/v1/accounts/a/balance");
        sheet.status == 200 && sheet.json()["balance"] == before + WORTH
    });
    redeemed_once(&world, &code, &op_id);
}

/// Looks at it come after 2, 3, 5 and 9 seconds; between them the gauge read 0.
fn a_credit_that_keeps_failing_stays_in_the_gauge(backend: Backend) {
    let world = World::with(backend, |setup| setup.set("time_budget_ms", "500"));
    let (code, op_id) = code(&world);
    let owed = || metric(&world.quotad, "quotad_credits_owed");
    world.redis.freeze();
    world.quotad.gateway.post("/v1/redeem", &ask(&code)).problem(503, "unavailable");
    eventually("it is owed", SOON, || owed() == 1.0);
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(owed(), 1.0);
    }
    world.redis.thaw();
    eventually("it is paid", SOON, || owed() == 0.0);
    redeemed_once(&world, &code, &op_id);
}

fn one_of_100_wins_on_two_sidecars_and_the_money_is_there_on_both(backend: Backend) {
    const ACCOUNTS: usize = 20;
    let world = World::new(backend);
    let second = world.another().start();
    for n in 0..ACCOUNTS {
        world.quotad.account(&format!("a{n}"), json!({}));
    }
    let (code, op_id) = code(&world);
    let on = |n: usize| -> &Sidecar { if n.is_multiple_of(2) { &world.quotad } else { &second } };
    // Each account asks five times, here and there.
    let answers = at_once(100, |n| {
        let body = json!({"account": format!("a{}", n % ACCOUNTS), "code": code});
        told(&on(n / ACCOUNTS).gateway, "/v1/redeem", &body)
    });
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).map(|answer| answer.json()).collect();
    assert_eq!(won.len(), 5, "{answers:?}");
    let winner = won[0]["account"].as_str().unwrap();
    assert!(won.iter().all(|answer| answer["account"] == winner), "{won:?}");
    assert!(answers.iter().filter(|answer| answer.status != 200).all(|answer| answer.code() == "code_used"));
    for (id, sidecar) in [("here", &world.quotad), ("there", &second)] {
        let ask = json!({"account": winner, "id": id, "amount": WORTH / 2});
        sidecar.reserve(ask).expect(200);
    }
    world.quotad.reserve(json!({"account": winner, "id": "more", "amount": 1})).problem(402, "insufficient_balance");
    world.wait_posted(winner, &op_id);
    assert_eq!(world.ledger().of(winner, &op_id).len(), 1);
    world.audit();
}
