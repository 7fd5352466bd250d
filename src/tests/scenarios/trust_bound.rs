//! Trust mode: however fast several sidecars spend from one account, it loses no more than it may.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use serde_json::{Value, json};

use super::trust::{metric, reserve, settle, sidecars, trusted};
use crate::harness::{Sidecar, USD, at_once};

#[test]
fn beside_holds_one_sidecar_is_as_exact_as_ever() {
    let (_redis, [quotad]) = sidecars(10 * USD);
    let storm = |account: &str, more: Value| {
        let answers = at_once(200, |number| {
            let mut body = json!({"account": account, "id": format!("r-{number}"), "platform": "openai",
                "amount": USD / 10});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            quotad.reserve(body)
        });
        let granted: Vec<bool> = answers
            .iter()
            .filter(|answer| answer.status == 200)
            .map(|answer| answer.json()["trusted"] == true)
            .collect();
        (granted.len(), granted.iter().filter(|trusted| **trusted).count())
    };
    let warm = |account: &str, more: Value| {
        let mut body = json!({"account": account, "id": "warm", "platform": "openai", "amount": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        quotad.reserve(body).expect(200);
    };
    quotad.account("balance", json!({"initial_balance": 15 * USD}));
    quotad.account("key", json!({"initial_balance": 1_000 * USD}));
    quotad.key("key", "k", json!({"allowance": 15 * USD}));
    let day = json!({"platform": "openai", "metric": "cost", "period": "month", "cap": 15 * USD});
    quotad.account("limit", json!({"initial_balance": 1_000 * USD, "limits": [day]}));
    for (account, more) in [("balance", json!({})), ("key", json!({"key": "k"})), ("limit", json!({}))] {
        warm(account, more.clone());
        let (granted, trusted) = storm(account, more);
        assert_eq!(granted, 150, "{account}, {trusted} of them trusted");
        assert!(trusted < 50, "{account}: {trusted} of 50 that are above the threshold");
    }
}

/// The worst that can be: one sidecar holds all that it sees while the work of the others is under way.
#[test]
fn holds_and_the_trusted_work_of_others_overdraw_by_less_than_the_threshold() {
    let (_redis, [first, second]) = sidecars(1_000);
    first.account("a", json!({"initial_balance": 10_000}));
    let of_first: Vec<String> = (0..5).map(|number| trusted(&first, &format!("f{number}"), 100)).collect();
    let of_second: Vec<String> = (0..5).map(|number| trusted(&second, &format!("s{number}"), 100)).collect();
    for quotad in [&first, &second] {
        assert_eq!(reserve(quotad, &format!("full-{}", quotad.pid()), 1)["trusted"], false, "the share is full");
        let release = json!({"account": "a", "id": format!("full-{}", quotad.pid())});
        quotad.gateway.post("/v1/release", &release).expect(200);
    }
    let all = first.reserve(json!({"account": "a", "id": "all", "amount": 9_501}));
    let problem = all.problem(402, "insufficient_balance");
    assert_eq!(problem["available"], 9_500, "room for the five of its own");
    reserve(&first, "all", 9_500);
    settle(&first, "all", 9_500);
    of_first.iter().for_each(|id| drop(settle(&first, id, 100)));
    assert_eq!(second.money("a"), [0, 0, 0]);
    let last: Vec<Value> = of_second.iter().map(|id| settle(&second, id, 100)).collect();
    assert_eq!((&last[4]["balance"], &last[4]["overdraft"]), (&json!(-500), &json!(500)));
    second.assert_reconciled();
}

#[test]
fn sidecars_that_spend_as_fast_as_they_can_stay_within_the_bound() {
    const SPENDERS: usize = 9;
    let (threshold, initial) = (10 * USD, 25 * USD);
    let (_redis, quotads) = sidecars::<3>(threshold);
    quotads[0].account("a", json!({"initial_balance": initial}));
    let (charged, trusted, least) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(initial));
    let spend = |spender: usize| {
        let quotad = &quotads[spender % quotads.len()];
        for number in 0.. {
            let id = format!("{spender}-{number}");
            let ask = json!({"account": "a", "id": id, "amount": USD / 20});
            let answer = quotad.reserve(ask);
            if answer.status == 402 {
                return;
            }
            let granted = answer.expect(200);
            trusted.fetch_add(i64::from(granted["trusted"] == true), Ordering::Relaxed);
            // Now and then the settle goes to another sidecar, which does not know of it.
            let by = if number % 7 == 6 { &quotads[(spender + 1) % quotads.len()] } else { quotad };
            let cost = USD / 20 - number % 3;
            let settled = settle(by, &id, cost);
            assert_eq!(settled["charged"], cost, "{settled}");
            charged.fetch_add(cost, Ordering::Relaxed);
            least.fetch_min(settled["balance"].as_i64().unwrap(), Ordering::Relaxed);
        }
    };
    at_once(SPENDERS, spend);
    let [balance, held, _] = quotads[0].money("a");
    assert_eq!((balance + charged.into_inner(), held), (initial, 0));
    let (trusted, least) = (trusted.into_inner(), least.into_inner());
    assert!(trusted > 50, "only {trusted} were trusted");
    // What is in flight here is far less than the shares, so holds cannot take what it needs.
    assert!(least >= 0, "{least} after {trusted} trusted calls");
    quotads.iter().for_each(Sidecar::assert_reconciled);
}

/// Whatever is done in whatever order through whichever sidecar, what was charged is what is missing.
#[test]
fn random_operations_add_up() {
    let (_redis, quotads) = sidecars::<3>(5_000);
    let seed = std::env::var("QUOTAD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121_u64);
    println!("QUOTAD_SEED={seed}");
    quotads[0].account("a", json!({"initial_balance": 60_000}));
    quotads[1].account("b", json!({"initial_balance": 30_000, "credit_limit": 5_000}));
    let charged = Mutex::new(BTreeMap::<(String, String), i64>::new());
    at_once(6, |worker| {
        let mut state = seed ^ (worker as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = move |end: i64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            i64::try_from(state % end.unsigned_abs()).unwrap()
        };
        for number in 0..80 {
            let account = ["a", "b"][below(2) as usize];
            let id = format!("{worker}-{number}");
            let ask = json!({"account": account, "id": id, "amount": 1 + below(400)});
            let home = below(3) as usize;
            if quotads[home].reserve(ask.clone()).status != 200 {
                continue;
            }
            let mut near = |away: i64| &quotads[if below(away) == 0 { (home + 1) % 3 } else { home }];
            let by = near(5);
            let cost = 1 + number % 97;
            let verb = |path: &str, more: Value| {
                let mut body = json!({"account": account, "id": id});
                body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                let answer = by.gateway.post(path, &body);
                if let (200, Some(units)) = (answer.status, answer.json()["charged"].as_i64()) {
                    charged.lock().unwrap().insert((account.to_owned(), id.clone()), units);
                }
            };
            match number % 8 {
                0 => verb("/v1/release", json!({})),
                1 => verb("/v1/settle", json!({"amount": cost, "final": false})),
                2 => verb("/v1/extend", json!({"amount": 500})),
                3 => drop(near(2).reserve(ask)),
                _ => {}
            }
            if number % 8 != 4 {
                verb("/v1/settle", json!({"amount": cost}));
                verb("/v1/settle", json!({"amount": cost}));
            }
        }
    });
    let charged = charged.into_inner().unwrap();
    for (account, initial) in [("a", 60_000), ("b", 30_000)] {
        let sum: i64 = charged.iter().filter(|((of, _), _)| of == account).map(|(_, units)| units).sum();
        let sheet = quotads[2].balance(account);
        assert_eq!((&sheet["balance"], &sheet["used"]), (&json!(initial - sum), &json!(sum)), "{account}");
    }
    assert!(quotads.iter().map(|quotad| metric(quotad, "quotad_trusted_grants_total")).sum::<i64>() > 50);
    quotads.iter().for_each(Sidecar::assert_reconciled);
}
