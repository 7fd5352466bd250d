//! What is granted in trust, without asking Redis, and what is asked all the same.

use std::sync::{Arc, atomic::Ordering};

use super::{
    account,
    bank::{ask, bank, named, trusting, warmed},
    done, key, policy, refused, reservation, settings, settle, with_key,
};
use crate::{
    engine::{
        reserve::{Mode, Reserve},
        settle::{Price, Settle},
    },
    quota::{
        clock::Millis,
        limit::{Limit, Metric, Period},
        policy::{AccountStatus, KeyPolicy, Policy, Trust},
        verdict::Code,
    },
};

#[tokio::test]
async fn far_above_the_threshold_nothing_is_held_and_redis_is_not_asked() {
    let (_, fake, engine) = warmed(trusting(), 100_000).await;
    let (answer, replayed) = ask(&engine, &named("r", 700)).await;
    assert_eq!((answer.held, answer.trusted, replayed), (0, true, false));
    assert_eq!((answer.balance, answer.available), (Some(100_000), Some(99_300)));
    assert_eq!(fake.seen("reserve").len(), 1);
    // Repeated it is answered as before; with other content it is another call.
    let (again, replayed) = ask(&engine, &named("r", 700)).await;
    assert_eq!((again.held, again.trusted, again.expires_at, replayed), (0, true, answer.expires_at, true));
    let refusal = refused(engine.reserve(&named("r", 701)).await.unwrap());
    assert_eq!((refusal.code, refusal.field), (Code::Conflict, Some("amount")));
    assert_eq!(fake.seen("reserve").len(), 1);
}

#[tokio::test]
async fn the_share_bounds_what_is_in_flight() {
    let (_, fake, engine) = warmed(trusting(), 100_000).await;
    assert!(!ask(&engine, &named("large", 2_501)).await.0.trusted, "more than the share");
    assert!(ask(&engine, &named("a", 2_000)).await.0.trusted);
    assert!(!ask(&engine, &named("b", 501)).await.0.trusted, "more than is left of the share");
    assert!(ask(&engine, &named("c", 500)).await.0.trusted);
    assert!(!ask(&engine, &named("d", 1)).await.0.trusted);
    // Settled, its part of the share is free again; the same id is Redis' from now on.
    done(engine.settle(&Settle { id: reservation("a"), ..settle(Price::Units(1_900)) }).await.unwrap());
    assert!(ask(&engine, &named("e", 2_000)).await.0.trusted);
    let asked = fake.seen("reserve").len();
    assert!(!ask(&engine, &named("a", 2_000)).await.0.trusted);
    assert_eq!(fake.seen("reserve").len(), asked + 1);
}

#[tokio::test]
async fn near_the_threshold_everything_is_held() {
    let (bank, _, engine) = warmed(trusting(), 10_100).await;
    assert!(ask(&engine, &named("a", 99)).await.0.trusted);
    assert!(!ask(&engine, &named("b", 1)).await.0.trusted, "exactly the threshold is left");
    bank.head.lock().unwrap().balance = 20_000;
    assert!(!ask(&engine, &named("c", 1)).await.0.trusted, "nobody has told yet");
    assert!(ask(&engine, &named("d", 1)).await.0.trusted);
    bank.head.lock().unwrap().held = 12_000;
    ask(&engine, &named("e", 3_000)).await;
    assert!(!ask(&engine, &named("f", 1)).await.0.trusted, "what is held is not there");
}

#[tokio::test]
async fn what_needs_a_hold_is_held() {
    let (_, _, engine) = warmed(trusting(), 100_000).await;
    for (id, call) in [
        ("effort", Reserve { mode: Mode::BestEffort, ..named("effort", 1) }),
        ("check", Reserve { mode: Mode::CheckOnly, ..named("check", 1) }),
        ("charge", Reserve { charge_on_expiry: true, ..named("charge", 1) }),
    ] {
        assert!(!ask(&engine, &call).await.0.trusted, "{id}");
    }
    assert!(ask(&engine, &named("plain", 1)).await.0.trusted);
    // What Redis knows under an id is asked of Redis.
    assert!(!ask(&engine, &named("effort", 1)).await.0.trusted);
}

#[tokio::test]
async fn off_means_off() {
    let trust = |trust| Policy { trust, ..policy(1) };
    for (settings, of, trusted) in [
        (settings(), Trust::Default, false),
        (settings(), Trust::Above(10_000), true),
        (trusting(), Trust::Off, false),
        (trusting(), Trust::Above(100_000), false),
        (trusting(), Trust::Default, true),
    ] {
        let (_, fake, engine) = bank(settings, 100_000);
        fake.set(|world| drop(world.policies.insert(account(), trust(of))));
        ask(&engine, &named("warm", 0)).await;
        assert_eq!(ask(&engine, &named("r", 1)).await.0.trusted, trusted, "{of:?}");
    }
}

fn limit(metric: Metric, period: Period, cap: Option<i64>) -> Arc<Limit> {
    Arc::new(Limit { platform: "openai".into(), model: "*".into(), metric, period, cap })
}

#[tokio::test]
async fn near_a_cap_or_under_one_that_counts_calls_everything_is_held() {
    for (limit, used, trusted) in [
        (limit(Metric::Cost, Period::Day, Some(20_000)), 0, true),
        (limit(Metric::Cost, Period::Day, Some(20_000)), 9_899, true),
        (limit(Metric::Cost, Period::Day, Some(20_000)), 9_900, false),
        (limit(Metric::Cost, Period::Rolling(3_600), Some(20_000)), 9_900, false),
        (limit(Metric::Cost, Period::Day, None), 1 << 40, true),
        (limit(Metric::Tokens, Period::Day, None), 1 << 40, true),
        (limit(Metric::Tokens, Period::Day, Some(1 << 40)), 0, false),
        (limit(Metric::Requests, Period::Day, Some(1 << 40)), 0, false),
        (limit(Metric::Concurrency, Period::None, Some(1 << 40)), 0, false),
    ] {
        let (bank, fake, engine) = bank(trusting(), 100_000);
        bank.window_used.store(used, Ordering::Relaxed);
        fake.set(|world| world.policies.get_mut(&account()).unwrap().limits = vec![limit.clone()]);
        ask(&engine, &named("warm", 0)).await;
        let (answer, _) = ask(&engine, &named("r", 100)).await;
        assert_eq!(answer.trusted, trusted, "{limit:?} {used}");
        if trusted {
            assert_eq!((answer.limits[0].used, answer.limits.len()), (used, 1));
            let held = if limit.metric == Metric::Cost { 100 } else { 0 };
            assert_eq!(answer.limits[0].held, held, "what is in flight is shown as held");
        }
    }
}

#[tokio::test]
async fn near_its_allowance_a_key_is_held_for() {
    for (allowance, used, trusted) in
        [(None, 1 << 40, true), (Some(20_000), 9_899, true), (Some(20_000), 9_900, false), (Some(5), 0, false)]
    {
        let (bank, fake, engine) = bank(trusting(), 100_000);
        bank.key_used.store(used, Ordering::Relaxed);
        let rules = KeyPolicy { allowance, ..KeyPolicy::default() };
        fake.set(|world| drop(world.policies.insert(account(), with_key(policy(1), "k", rules))));
        let by = |id: &str, amount| Reserve { key: Some(key("k")), ..named(id, amount) };
        ask(&engine, &by("warm", 0)).await;
        assert_eq!(ask(&engine, &by("r", 100)).await.0.trusted, trusted, "{allowance:?} {used}");
    }
}

#[tokio::test]
async fn a_hold_leaves_room_for_trusted_work() {
    let (bank, fake, engine) = bank(trusting(), 30_000);
    let day = limit(Metric::Cost, Period::Day, Some(50_000));
    let rules = KeyPolicy { allowance: Some(40_000), ..KeyPolicy::default() };
    fake.set(|world| {
        let policy = with_key(policy(1), "k", rules);
        world.policies.insert(account(), Policy { limits: vec![day], ..policy });
    });
    let by = |id: &str, amount| Reserve { key: Some(key("k")), ..named(id, amount) };
    ask(&engine, &by("warm", 0)).await;
    assert!(ask(&engine, &by("t", 2_000)).await.0.trusted);
    let (answer, _) = ask(&engine, &by("strict", 20_000)).await;
    let seen = fake.seen("reserve").pop().unwrap();
    assert_eq!((seen.credit_limit, seen.allowance), (-2_000, Some(38_000)));
    assert_eq!(seen.groups[0].gauges[0].limit.cap, Some(48_000));
    assert_eq!((answer.limits[0].limit.cap, answer.limits[0].held), (Some(50_000), 2_000));
    // 10 000 are there, of which 2 000 are spoken for.
    let refusal = refused(engine.reserve(&by("more", 9_000)).await.unwrap());
    assert_eq!((refusal.code, refusal.available), (Code::InsufficientBalance, Some(8_000)));
    ask(&engine, &by("rest", 8_000)).await;
    assert_eq!(bank.head.lock().unwrap().held, 28_000);
}

#[tokio::test]
async fn a_change_of_the_rules_ends_trust_at_once() {
    let (_, fake, engine) = warmed(trusting(), 100_000).await;
    assert!(ask(&engine, &named("a", 1)).await.0.trusted);
    // Changed here: the numbers are of older rules.
    let mut disabled = policy(2);
    disabled.status = AccountStatus::Disabled;
    fake.set(|world| drop(world.policies.insert(account(), disabled)));
    engine.reload(&account()).await.unwrap();
    assert_eq!(refused(engine.reserve(&named("b", 1)).await.unwrap()).code, Code::AccountDisabled);
    // Changed elsewhere: any reply tells, here that of a settle.
    fake.set(|world| drop(world.policies.insert(account(), policy(3))));
    ask(&engine, &named("c", 1)).await;
    assert!(ask(&engine, &named("d", 1)).await.0.trusted);
    let mut disabled = policy(4);
    disabled.status = AccountStatus::Disabled;
    fake.set(|world| drop(world.policies.insert(account(), disabled)));
    done(engine.settle(&Settle { id: reservation("d"), ..settle(Price::Units(1)) }).await.unwrap());
    assert_eq!(refused(engine.reserve(&named("e", 1)).await.unwrap()).code, Code::AccountDisabled);
}

#[tokio::test]
async fn another_server_is_not_trusted_by_the_numbers_of_the_one_before() {
    let (_, fake, engine) = warmed(trusting(), 100_000).await;
    assert!(ask(&engine, &named("a", 1)).await.0.trusted);
    fake.set(|world| world.era += 1);
    assert!(!ask(&engine, &named("b", 1)).await.0.trusted);
    assert!(ask(&engine, &named("c", 1)).await.0.trusted);
    assert!(ask(&engine, &named("a", 1)).await.1, "what was granted stays granted");
}

/// Windows are asked for anew when the ones that were seen are over.
#[tokio::test]
async fn a_window_that_was_not_seen_yet_is_not_trusted() {
    let (bank, fake, engine) = bank(trusting(), 100_000);
    let minute = limit(Metric::Cost, Period::Minute, Some(20_000));
    fake.set(|world| world.policies.get_mut(&account()).unwrap().limits = vec![minute]);
    bank.window_used.store(7, Ordering::Relaxed);
    ask(&engine, &named("warm", 0)).await;
    let now = engine.clock.now();
    engine.clock.observe(Millis(now.0 + 60_000));
    let strict = fake.seen("reserve").len();
    ask(&engine, &named("r", 1)).await;
    assert_eq!(fake.seen("reserve").len(), strict + 1);
}
