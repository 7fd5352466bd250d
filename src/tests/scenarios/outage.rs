//! Redis goes away, stands still, or swallows its answers.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{
    Answer, Setup, Sidecar, at_once, eventually,
    proxy::{Mode, Proxy},
    redis::Redis,
};

/// With the time budget that users have.
fn hurried() -> Setup {
    Setup::default().set("time_budget_ms", "250")
}

/// A sidecar that reaches its Redis through a proxy.
fn behind_proxy() -> (Redis, Proxy, Sidecar) {
    let redis = Redis::start();
    let proxy = Proxy::in_folder(redis.folder(), redis.socket());
    let quotad = hurried().set("redis_url", proxy.url()).start();
    (redis, proxy, quotad)
}

fn timed(call: impl FnOnce() -> Answer) -> (Duration, Answer) {
    let begun = Instant::now();
    let answer = call();
    (begun.elapsed(), answer)
}

#[track_caller]
fn assert_unavailable_soon((took, answer): (Duration, Answer)) {
    assert!(took < Duration::from_secs(1), "answered after {took:?}: {answer}");
    answer.problem(503, "unavailable");
}

#[test]
fn without_redis_calls_are_503_at_once_and_serve_again_by_themselves() {
    let (_redis, proxy, quotad) = behind_proxy();
    quotad.account("a", json!({"initial_balance": 1000}));
    let ask = |id: &str| quotad.reserve(json!({"account": "a", "id": id, "amount": 100}));
    ask("before").expect(200);
    proxy.set(Mode::Stop);
    for _ in 0..5 {
        assert_unavailable_soon(timed(|| ask("during")));
        let settle = || quotad.settle(json!({"account": "a", "id": "before", "amount": 50}));
        assert_unavailable_soon(timed(settle));
        assert_unavailable_soon(timed(|| quotad.gateway.get("/v1/accounts/a/balance")));
    }
    for (took, answer) in at_once(50, |number| timed(|| ask(&format!("many-{number}")))) {
        assert_unavailable_soon((took, answer));
    }
    assert_eq!(quotad.gateway.get("/healthz").status, 200, "the process is well");
    eventually("readyz tells", Duration::from_secs(5), || quotad.gateway.get("/readyz").status == 503);
    proxy.set(Mode::Pass);
    eventually("served again", Duration::from_secs(10), || ask("during").status == 200);
    quotad.wait_ready();
    // What was refused was not counted; the same ids are asked again.
    quotad.settle(json!({"account": "a", "id": "before", "amount": 50})).expect(200);
    assert_eq!(quotad.money("a"), [950, 100, 850]);
    assert_eq!(ask("during").expect(200)["replayed"], true);
    quotad.assert_reconciled();
}

#[test]
fn a_redis_that_stands_still_costs_no_more_than_the_time_budget() {
    let redis = Redis::start();
    let quotad = hurried().set("redis_url", redis.url()).start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let ask = |id: &str| quotad.reserve(json!({"account": "a", "id": id, "amount": 1}));
    ask("before").expect(200);
    redis.freeze();
    for answer in at_once(20, |number| timed(|| ask(&format!("r-{number}")))) {
        assert_unavailable_soon(answer);
    }
    redis.thaw();
    eventually("served again", Duration::from_secs(10), || ask("after").status == 200);
    // Some of the calls that timed out may have been done when Redis went on: each at most once.
    let asked = at_once(20, |number| {
        let mut answer = ask(&format!("r-{number}"));
        while answer.status == 503 {
            answer = ask(&format!("r-{number}"));
        }
        answer.expect(200)
    });
    assert_eq!(asked.len(), 20);
    assert_eq!(quotad.money("a"), [1000, 22, 978]);
    quotad.assert_reconciled();
}

#[test]
fn a_lost_answer_is_a_replay_when_asked_again() {
    let (_redis, proxy, quotad) = behind_proxy();
    quotad.account("a", json!({"initial_balance": 1000}));
    quotad.reserve(json!({"account": "a", "id": "warm", "amount": 1})).expect(200);
    // Every script has been used once: the first use asks twice (Redis does not know the script).
    quotad.play(
        r#"
        account warm initial_balance=1000 => 201
        reserve r amount=1 => 200
        settle r amount=1 => 200
        charge c amount=1 => 200
        refund f of=c amount=1 => 200
        release q => 200
    "#,
    );
    let verbs = [
        ("/v1/reserve", json!({"account": "a", "id": "r", "amount": 400})),
        ("/v1/settle", json!({"account": "a", "id": "r", "amount": 300})),
        ("/v1/charge", json!({"account": "a", "id": "c", "amount": 50})),
        ("/v1/refund", json!({"account": "a", "op_id": "f", "of": "c", "amount": 20})),
        ("/v1/settle", json!({"account": "a", "id": "unreserved", "amount": 7})),
        ("/v1/reserve", json!({"account": "a", "id": "q", "amount": 5})),
        ("/v1/release", json!({"account": "a", "id": "q"})),
    ];
    for (verb, body) in verbs {
        // All connections are back and looked at when it has answered for a while.
        let mut in_a_row = 0;
        eventually("served steadily", Duration::from_secs(10), || {
            let served = quotad.gateway.get("/v1/accounts/a/balance").status == 200;
            in_a_row = if served { in_a_row + 1 } else { 0 };
            in_a_row == 30
        });
        proxy.set(Mode::SwallowAnswers);
        let (took, answer) = timed(|| quotad.gateway.post(verb, &body));
        assert_unavailable_soon((took, answer));
        proxy.set(Mode::Pass);
        proxy.cut();
        let mut last = None;
        eventually("answered", Duration::from_secs(10), || {
            let answer = quotad.gateway.post(verb, &body);
            let done = answer.status != 503;
            last = Some(answer);
            done
        });
        // An unreserved settle asks twice (settle, then charge): its first question was lost.
        let answer = last.unwrap().expect(200);
        assert!(answer["replayed"] == true || body["id"] == "unreserved", "{verb} {body}: {answer}");
        assert_eq!(quotad.gateway.post(verb, &body).expect(200)["replayed"], true, "{verb} {body}");
    }
    assert_eq!(quotad.money("a"), [663, 1, 662]);
    let sheet = quotad.balance("a");
    assert_eq!((&sheet["used"], &sheet["requests"]), (&json!(337), &json!(3)));
    quotad.assert_reconciled();
}

#[test]
fn an_external_redis_that_was_killed_is_attached_again() {
    let mut redis = Redis::start();
    let quotad = hurried().set("redis_url", redis.url()).start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let ask = |id: &str| quotad.gateway.post("/v1/charge", &json!({"account": "a", "id": id, "amount": 10}));
    for round in 0..3 {
        ask(&format!("c-{round}")).expect(200);
        quotad.assert_reconciled();
        redis.kill();
        assert_unavailable_soon(timed(|| ask(&format!("c-{round}"))));
        redis.start_again();
        eventually("served again", Duration::from_secs(20), || ask(&format!("c-{round}")).status == 200);
        assert_eq!(ask(&format!("c-{round}")).expect(200)["replayed"], true, "round {round}");
        let spent = 10 * (round + 1);
        assert_eq!(quotad.money("a"), [1000 - spent, 0, 1000 - spent]);
    }
    quotad.assert_reconciled();
}

#[test]
fn calls_through_cuts_are_counted_once_each() {
    let (_redis, proxy, quotad) = behind_proxy();
    quotad.account("a", json!({"initial_balance": 100_000}));
    let until_told = |verb: &str, body: serde_json::Value| loop {
        let answer = quotad.gateway.post(verb, &body);
        if answer.status != 503 {
            return answer.expect(200);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                let until_told = &until_told;
                scope.spawn(move || {
                    for number in 0..40 {
                        let id = format!("w{worker}-{number}");
                        until_told("/v1/reserve", json!({"account": "a", "id": id, "amount": 100}));
                        until_told("/v1/settle", json!({"account": "a", "id": id, "amount": 60}));
                    }
                })
            })
            .collect();
        // Lose answers and connections again and again while they work.
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            for mode in [Mode::SwallowAnswers, Mode::Pass] {
                proxy.set(mode);
                std::thread::sleep(Duration::from_millis(15));
            }
            proxy.cut();
            std::thread::sleep(Duration::from_millis(150));
        }
        proxy.set(Mode::Pass);
    });
    eventually("served again", Duration::from_secs(10), || quotad.gateway.get("/v1/accounts/a/balance").status == 200);
    let spent = 6 * 40 * 60;
    assert_eq!(quotad.money("a"), [100_000 - spent, 0, 100_000 - spent]);
    assert_eq!(quotad.balance("a")["requests"], 6 * 40);
    quotad.assert_reconciled();
}

/// A shard emptied again before it had an entry kept the mark of a generation that was closed, and
/// none of its accounts could be loaded until a restart.
#[test]
fn a_redis_emptied_again_and_again_loads_accounts_each_time() {
    let redis = Redis::start();
    let quotad = Setup::default().set("redis_url", redis.url()).start();
    quotad.account("a", json!({"initial_balance": 1000}));
    quotad.assert_reconciled();
    let rebuilt = || {
        let page = quotad.admin.get("/metrics");
        let text = String::from_utf8_lossy(&page.body).into_owned();
        let line = text.lines().find(|line| line.starts_with("quotad_attach_rebuilt_shards_total")).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let mut connection = ::redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    for round in 1..=3 {
        let before = rebuilt();
        ::redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
        eventually("all four shards rebuilt", Duration::from_secs(20), || rebuilt() >= before + 4.0);
        assert!(quotad.ready(), "round {round}");
    }
    let (took, answer) = timed(|| quotad.gateway.post("/v1/charge", &json!({"account": "a", "id": "c", "amount": 10})));
    answer.expect(200);
    assert!(took < Duration::from_secs(5), "{took:?}");
    quotad.account("b", json!({"initial_balance": 7}));
    assert_eq!((quotad.money("a"), quotad.money("b")), ([990, 0, 990], [7, 0, 7]));
    quotad.assert_reconciled();
}
