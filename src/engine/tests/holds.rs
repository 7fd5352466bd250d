//! Reserve, extend and release: what is asked of the counters, and what denials say.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use smallvec::smallvec;

use super::{
    account, done,
    fake::{Fake, record, reply, with_record},
    key, policy, refused, reservation, reserve, settle, with_key,
};
use crate::{
    engine::{
        Payer,
        charge::Charge,
        extend::Extend,
        ports::{Backlog, Reply, Status, Unavailable},
        release::Release,
        reserve::{Ask, Mode, Reserve},
        settle::Price,
    },
    quota::{
        clock::Millis,
        counter::{Head, KeyCounter, WindowCounter},
        id::Model,
        limit::{GroupField, Limit, Metric, Period},
        policy::{AccountStatus, KeyPolicy},
        reservation::{Record, State, WindowRefs},
        verdict::Code,
    },
};

fn limit(metric: Metric, period: Period, cap: i64) -> Arc<Limit> {
    Arc::new(Limit { platform: "openai".into(), model: "*".into(), metric, period, cap: Some(cap) })
}

#[tokio::test]
async fn a_grant_shows_the_hold_and_what_is_left() {
    let head = Head { balance: 1_000, held: 120, ..Head::default() };
    let (fake, engine) =
        Fake::new(move |_, _| Reply { head: Some(head), ..with_record(Status::Done, record(State::Held)) });
    fake.set(|world| world.policies.get_mut(&account()).unwrap().credit_limit = 50);
    let (answer, replayed) = done(engine.reserve(&reserve(Ask::Default)).await.unwrap());
    assert_eq!((answer.held, answer.balance, answer.available, answer.trusted), (120, Some(1_000), Some(930), false));
    assert_eq!((answer.expires_at, replayed), (Millis(2), false));
    assert_eq!(fake.seen("reserve")[0].amount, 1_000, "the setting default_hold");
}

#[tokio::test]
async fn while_sql_is_too_far_behind_nothing_new_is_taken_on_and_what_was_is_finished() {
    let (fake, engine) = Fake::new(|_, _| with_record(Status::Done, record(State::Held)));
    let backlog = Arc::new(Backlog::new(Some(Duration::from_secs(5))));
    let engine = Arc::into_inner(engine).unwrap().with_backlog(backlog.clone());
    let extend = Extend {
        payer: Payer::Account(account()),
        id: reservation("r-1"),
        amount: None,
        ttl_ms: Some(1_000),
        group: None,
        model: None,
        estimate: None,
    };
    let charge =
        |force| Charge { settle: settle(Price::Units(10)), estimate: None, tokens: None, client_ip: None, force };
    backlog.set(Duration::from_secs(6));
    assert!(matches!(engine.reserve(&reserve(Ask::Default)).await, Err(Unavailable::Behind)));
    assert!(matches!(engine.extend(&extend).await, Err(Unavailable::Behind)));
    assert!(matches!(engine.charge(&charge(false)).await, Err(Unavailable::Behind)));
    assert_eq!(fake.seen("reserve").len(), 0, "Redis is not asked");
    done(engine.charge(&charge(true)).await.unwrap());
    done(engine.settle(&settle(Price::Units(10))).await.unwrap());
    backlog.set(Duration::ZERO);
    done(engine.reserve(&reserve(Ask::Default)).await.unwrap());
}

#[tokio::test]
async fn modes_set_the_least_amount() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    let cases = [
        (Mode::Strict, None, 100, false),
        (Mode::BestEffort, None, 1, false),
        (Mode::BestEffort, Some(40), 40, false),
        (Mode::CheckOnly, None, 100, true),
    ];
    for (mode, min_amount, least, check_only) in cases {
        let ask = Reserve { mode, min_amount, ..reserve(Ask::Units(100)) };
        assert_eq!(done(engine.reserve(&ask).await.unwrap()).0.held, 0);
        let seen = fake.seen("reserve").pop().unwrap();
        assert_eq!((seen.amount, seen.min_amount, seen.check_only), (100, least, check_only), "{mode:?}");
    }
}

#[tokio::test]
async fn bad_calls_name_their_field_and_ask_no_script() {
    let (fake, engine) = Fake::new(|_, _| panic!("no script is asked"));
    let good = || reserve(Ask::Units(100));
    let cases = [
        (reserve(Ask::Units(1_000_001)), "amount"),
        (Reserve { ttl_ms: Some(999), ..good() }, "ttl_ms"),
        (Reserve { ttl_ms: Some(86_400_001), ..good() }, "ttl_ms"),
        (Reserve { min_amount: Some(1), ..good() }, "min_amount"),
        (Reserve { mode: Mode::BestEffort, min_amount: Some(101), ..good() }, "min_amount"),
        (Reserve { model: None, ..reserve(Ask::Estimate { prompt_tokens: 1, max_tokens: None }) }, "model"),
    ];
    for (ask, field) in cases {
        let refusal = refused(engine.reserve(&ask).await.unwrap());
        assert_eq!((refusal.code, refusal.field), (Code::InvalidRequest, Some(field)));
    }
    // Who is unknown hears that first.
    let ask = Reserve { payer: Payer::Secret("sk-none".into()), ..reserve(Ask::Units(1_000_001)) };
    assert_eq!(refused(engine.reserve(&ask).await.unwrap()).code, Code::Unauthorized);
    assert_eq!(fake.seen("reserve").len(), 0);
}

#[tokio::test]
async fn policy_denials_go_before_unpriced_models() {
    let (fake, engine) = Fake::new(|_, seen| reply(if seen.refusal.is_some() { Status::Denied } else { Status::Done }));
    let ask = Reserve {
        model: Some(Model::new("nobody has priced this").unwrap()),
        ..reserve(Ask::Estimate { prompt_tokens: 1, max_tokens: Some(1) })
    };
    assert_eq!(refused(engine.reserve(&ask).await.unwrap()).code, Code::ModelNotPriced);
    let ask = Reserve { key: Some(key("k")), ..ask };
    assert_eq!(refused(engine.reserve(&ask).await.unwrap()).code, Code::KeyNotFound);
    let mut disabled = policy(2);
    disabled.status = AccountStatus::Disabled;
    fake.set(|world| drop(world.policies.insert(account(), disabled)));
    done(engine.account(&account()).await.unwrap());
    assert_eq!(refused(engine.reserve(&ask).await.unwrap()).code, Code::AccountDisabled);
    let codes: Vec<_> = fake.seen("reserve").iter().map(|seen| seen.refusal.unwrap()).collect();
    assert_eq!(codes, [Code::ModelNotPriced, Code::KeyNotFound, Code::AccountDisabled], "the script may replay first");
}

#[tokio::test]
async fn a_conflict_names_the_field() {
    let (_, engine) = Fake::new(|world, seen| {
        let mut first = record(State::Held);
        first.fingerprint = world.of("reserve")[0].fingerprint;
        let same = seen.fingerprint == first.fingerprint;
        with_record(if same { Status::Done } else { Status::Conflict }, first)
    });
    let first = || reserve(Ask::Units(100));
    done(engine.reserve(&first()).await.unwrap());
    done(engine.reserve(&Reserve { mode: Mode::Strict, ..first() }).await.unwrap());
    let cases = [
        (reserve(Ask::Units(101)), "amount"),
        (reserve(Ask::Estimate { prompt_tokens: 5, max_tokens: None }), "estimate"),
        (Reserve { tokens: Some(7), ..first() }, "tokens"),
        (Reserve { client_ip: None, ..first() }, "client_ip"),
        (Reserve { mode: Mode::BestEffort, ..first() }, "mode"),
        (Reserve { charge_on_expiry: true, ..first() }, "on_expiry"),
        (Reserve { platform: None, ..first() }, "platform"),
    ];
    for (ask, field) in cases {
        let ask = Reserve { model: None, ..ask };
        let ask = Reserve { model: first().model, ..ask };
        // An unpriced estimate is a conflict all the same: the script compares first.
        let refusal = refused(engine.reserve(&ask).await.unwrap());
        assert_eq!((refusal.code, refusal.field), (Code::Conflict, Some(field)));
        assert!(refusal.detail.contains(field));
    }
}

#[tokio::test]
async fn denials_carry_their_numbers() {
    let head = Head { balance: 100, held: 70, ..Head::default() };
    let counter = Some(KeyCounter { used: 10, held: 5, requests: 1 });
    let day = limit(Metric::Cost, Period::Day, 1_000);
    let parallel = limit(Metric::Concurrency, Period::None, 2);
    let (of_day, of_parallel) = (day.code(), parallel.code());
    for (status, code, requested, available) in [
        (Status::InsufficientBalance, Code::InsufficientBalance, Some(50), Some(30)),
        (Status::KeyExhausted, Code::KeyExhausted, Some(50), Some(5)),
        (Status::LimitExceeded, Code::LimitExceeded, None, None),
    ] {
        let (fake, engine) = Fake::new(move |_, seen| {
            let start_s = seen.groups[0].gauges.iter().map(|gauge| gauge.start_s).max().unwrap();
            let windows = smallvec![smallvec![
                WindowCounter { code: of_day, start_s, used: 900, held: 60 },
                WindowCounter { code: of_parallel, start_s: 0, used: 0, held: 1 },
            ]];
            Reply { head: Some(head), key: counter, windows, ..reply(status) }
        });
        let rules = KeyPolicy { allowance: Some(20), ..KeyPolicy::default() };
        let mut rules = with_key(policy(1), "k", rules);
        rules.limits = vec![day.clone(), parallel.clone()];
        fake.set(|world| drop(world.policies.insert(account(), rules)));
        let ask = Reserve { key: Some(key("k")), ..reserve(Ask::Units(50)) };
        let refusal = refused(engine.reserve(&ask).await.unwrap());
        assert_eq!((refusal.code, refusal.requested, refusal.available), (code, requested, available));
        if code == Code::LimitExceeded {
            assert_eq!(refusal.violated.len(), 1, "concurrency still has room");
            assert_eq!((refusal.violated[0].used, refusal.violated[0].held), (900, 60));
            let wait = refusal.retry_after_ms.unwrap();
            assert!(wait > 0 && wait <= 86_400_000);
        }
    }
}

#[tokio::test]
async fn a_rotated_secret_stops_with_the_next_call() {
    let hash = |secret: &str| -> [u8; 32] { Sha256::digest(secret.as_bytes()).into() };
    let with_secret = |version, secret: &str| {
        with_key(policy(version), "k", KeyPolicy { secret_sha256: Some(hash(secret)), ..KeyPolicy::default() })
    };
    let current = Arc::new(std::sync::atomic::AtomicU32::new(1));
    let newest = current.clone();
    let (fake, engine) = Fake::new(move |_, seen| {
        let stale = seen.version < newest.load(std::sync::atomic::Ordering::Relaxed);
        reply(if stale { Status::Stale } else { Status::Done })
    });
    fake.set(|world| {
        world.policies.insert(account(), with_secret(1, "old"));
        world.secrets.insert(hash("old"), (account(), key("k")));
    });
    let by = |secret: &str| Reserve { payer: Payer::Secret(secret.into()), ..reserve(Ask::Units(1)) };
    done(engine.reserve(&by("old")).await.unwrap());
    done(engine.reserve(&by("old")).await.unwrap());
    assert_eq!(fake.seen("secret").len(), 1, "then it is known");
    assert_eq!(fake.seen("reserve")[1].key, Some(key("k")));
    let refusal = refused(engine.reserve(&Reserve { key: Some(key("j")), ..by("old") }).await.unwrap());
    assert_eq!((refusal.code, refusal.field), (Code::InvalidRequest, Some("key")));

    fake.set(|world| {
        world.policies.insert(account(), with_secret(2, "new"));
        world.secrets.clear();
        world.secrets.insert(hash("new"), (account(), key("k")));
    });
    current.store(2, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(refused(engine.reserve(&by("old")).await.unwrap()).code, Code::Unauthorized);
    done(engine.reserve(&by("new")).await.unwrap());
}

#[tokio::test]
async fn a_new_secret_works_although_the_rules_in_memory_are_older() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    let sha256: [u8; 32] = Sha256::digest(b"new").into();
    let rules = KeyPolicy { secret_sha256: Some(sha256), ..KeyPolicy::default() };
    fake.set(|world| {
        world.policies.insert(account(), with_key(policy(2), "k", rules));
        world.secrets.insert(sha256, (account(), key("k")));
    });
    done(engine.reserve(&Reserve { payer: Payer::Secret("new".into()), ..reserve(Ask::Units(1)) }).await.unwrap());
    assert_eq!(fake.seen("reserve").pop().unwrap().version, 2);
}

#[tokio::test]
async fn an_extension_is_checked_against_the_reservations_own_windows() {
    let (day, week) = (limit(Metric::Cost, Period::Day, 1_000), limit(Metric::Cost, Period::Week, 5_000));
    let tokens = limit(Metric::Tokens, Period::Day, 1_000);
    let field = GroupField::new("openai", "*", None);
    let counters = smallvec![(day.code(), 86_400), (tokens.code(), 86_400)];
    let held = Record { windows: smallvec![WindowRefs { field: field.clone(), counters }], ..record(State::Held) };
    let longer = Record { held: 500, ..held.clone() };
    let (fake, engine) = Fake::new(move |_, seen| match seen.amount {
        500 => with_record(Status::Done, longer.clone()),
        1 => with_record(Status::Decreasing, longer.clone()),
        _ => with_record(Status::InsufficientBalance, record(State::Held)),
    });
    fake.set(|world| {
        world.policies.get_mut(&account()).unwrap().limits = vec![day.clone(), week, tokens];
        world.record = Some(held);
    });
    let ask = Extend {
        payer: Payer::Account(account()),
        id: reservation("r-1"),
        amount: Some(500),
        ttl_ms: None,
        group: None,
        model: None,
        estimate: None,
    };
    assert_eq!(done(engine.extend(&ask).await.unwrap()).0.held, 500);
    let groups = &fake.seen("extend")[0].groups;
    assert_eq!((groups.len(), &groups[0].field, groups[0].gauges.len()), (1, &field, 1));
    assert_eq!((&groups[0].gauges[0].limit, groups[0].gauges[0].start_s), (&day, 86_400));

    let refusal = refused(engine.extend(&Extend { amount: Some(620), ..ask.clone() }).await.unwrap());
    assert_eq!((refusal.code, refusal.requested), (Code::InsufficientBalance, Some(500)), "only what comes on top");
    let refusal = refused(engine.extend(&Extend { amount: Some(1), ..ask.clone() }).await.unwrap());
    assert_eq!((refusal.code, refusal.field), (Code::Conflict, Some("amount")));
    let refusal = refused(engine.extend(&Extend { amount: None, ..ask.clone() }).await.unwrap());
    assert_eq!(refusal.code, Code::InvalidRequest);
    fake.set(|world| world.record = None);
    assert_eq!(refused(engine.extend(&ask).await.unwrap()).code, Code::ReservationNotFound);
}

#[tokio::test]
async fn a_release_says_what_it_gave_back() {
    let partly = Record { charged: 20, ..record(State::Released) };
    let cases = [
        (with_record(Status::Done, record(State::Released)), Ok((120, false))),
        (with_record(Status::Replayed, partly), Ok((100, true))),
        (with_record(Status::Replayed, record(State::Expired)), Ok((0, true))),
        (with_record(Status::AlreadySettled, record(State::Settled)), Err(Code::AlreadySettled)),
    ];
    for (answer, expected) in cases {
        let (_, engine) = Fake::new(move |_, _| answer.clone());
        let ask = Release { payer: Payer::Account(account()), id: reservation("r-1") };
        let verdict = engine.release(&ask).await.unwrap();
        match expected {
            Ok((returned, replayed)) => {
                let (answer, was_replayed) = done(verdict);
                assert_eq!((answer.returned, was_replayed), (Some(returned), replayed));
            }
            Err(code) => assert_eq!(refused(verdict).code, code),
        }
    }
}
