//! Deciding again: stale rules, cold accounts, wrong windows, and the end of patience.

use std::sync::Arc;

use super::{
    account, by,
    fake::{Fake, granted, loading, reply},
    op, policy, refused, reserve,
};
use crate::{
    engine::{
        ports::{AccountPatch, Posted, Reply, Status, Unavailable},
        reserve::{Ask, Reserve},
    },
    quota::{
        clock::{Millis, local_now},
        counter::Head,
        entry::Kind,
        limit::{Limit, Metric, Period},
        policy::{AccountStatus, KeyPolicy, KeyStatus, Policy},
        verdict::Code,
    },
};

#[tokio::test]
async fn a_stale_policy_is_read_again_and_the_call_decided_anew() {
    let (fake, engine) = Fake::new(|_, seen| match (seen.version, seen.refusal) {
        (1, _) => granted(),
        (2, Some(_)) => reply(Status::Denied),
        (version, refusal) => panic!("{version} {refusal:?}"),
    });
    super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    let (fake2, engine2) = Fake::new(|world, seen| match seen.version {
        1 if world.count("reserve") == 1 => granted(),
        1 => reply(Status::Stale),
        _ => reply(Status::Denied),
    });
    super::done(engine2.reserve(&reserve(Ask::Units(1))).await.unwrap());
    let mut disabled = policy(2);
    disabled.status = AccountStatus::Disabled;
    fake2.set(|world| drop(world.policies.insert(account(), disabled)));
    let refusal = refused(engine2.reserve(&reserve(Ask::Units(1))).await.unwrap());
    assert_eq!(refusal.code, Code::AccountDisabled);
    let versions: Vec<_> = fake2.seen("reserve").iter().map(|seen| seen.version).collect();
    assert_eq!(versions, [1, 1, 2]);
    assert_eq!(fake2.seen("policy").len(), 2, "once cold, once stale");
    assert_eq!(fake.seen("policy").len(), 1);
}

/// Redis lost the raised version with its last writes, so no script answers `stale`.
#[tokio::test]
async fn rules_are_read_again_when_another_server_may_have_lost_their_version() {
    let (fake, engine) = Fake::new(|_, seen| match seen.refusal {
        None => granted(),
        Some(_) => reply(Status::Denied),
    });
    let ask = Reserve { key: Some(super::key("k")), ..reserve(Ask::Units(1)) };
    let enabled = super::with_key(policy(1), "k", KeyPolicy::default());
    let disabled = super::with_key(policy(2), "k", KeyPolicy { status: KeyStatus::Disabled, ..KeyPolicy::default() });
    fake.set(|world| drop(world.policies.insert(account(), enabled)));
    super::done(engine.reserve(&ask).await.unwrap());
    fake.set(|world| drop(world.policies.insert(account(), disabled)));
    super::done(engine.reserve(&ask).await.unwrap());
    assert_eq!(fake.seen("policy").len(), 1, "what is in memory holds for the era");
    fake.set(|world| world.era += 1);
    assert_eq!(refused(engine.reserve(&ask).await.unwrap()).code, Code::KeyDisabled);
    assert_eq!(refused(engine.reserve(&ask).await.unwrap()).code, Code::KeyDisabled);
    assert_eq!(fake.seen("policy").len(), 2, "once per era");
}

/// The store answers with what it had before another server came: that is not taken for the new era's.
#[tokio::test]
async fn rules_read_across_a_change_of_servers_are_read_once_more() {
    let (fake, engine) = Fake::new(|_, _| granted());
    let rules = engine.cache.put(policy(1), 0);
    assert_eq!(rules.policy.version, 1);
    fake.set(|world| world.era = 1);
    engine.cache.put(policy(2), 0);
    super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    assert_eq!(fake.seen("policy").len(), 1);
    assert_eq!(fake.seen("reserve")[0].version, 1, "the store's, though it is older than what was in memory");
}

#[tokio::test]
async fn a_warm_account_costs_no_sql() {
    let (fake, engine) = Fake::new(|_, _| granted());
    for _ in 0..10 {
        super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    }
    let world = fake.state.lock().unwrap();
    assert_eq!((world.count("policy"), world.count("posted"), world.count("reserve")), (1, 0, 10));
}

#[tokio::test]
async fn a_cold_account_is_loaded_once_for_fifty_calls() {
    let (fake, engine) = Fake::new(|world, seen| loading(world, seen.verb));
    fake.set(|world| world.posted = Some(Posted { initial: Some((op("v1"), 500)), ..Posted::default() }));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let engine = Arc::clone(&engine);
        calls.spawn(async move { super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap()).0.held });
    }
    assert_eq!(calls.join_all().await, [120; 50]);
    let world = fake.state.lock().unwrap();
    let order: Vec<_> = world.seen.iter().map(|seen| seen.verb).filter(|verb| *verb != "reserve").collect();
    assert_eq!(order, ["policy", "begin_load", "drain", "posted", "hydrate", "policy", "adjust"]);
    assert_eq!(world.of("hydrate")[0].version, 1);
    let initial = &world.of("adjust")[0];
    assert_eq!((initial.kind, initial.id.as_str(), initial.amount), (Some(Kind::Initial), "v1", 500));
}

#[tokio::test]
async fn a_change_during_a_load_is_raised_in_redis() {
    let (fake, engine) = Fake::new(|world, seen| loading(world, seen.verb));
    super::done(engine.identify(&crate::engine::Payer::Account(account())).await.unwrap());
    fake.set(|world| drop(world.policies.insert(account(), policy(2))));
    super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    assert_eq!(fake.seen("hydrate")[0].version, 1);
    assert_eq!(fake.seen("raise").iter().map(|seen| seen.version).collect::<Vec<_>>(), [2]);
    assert_eq!(fake.seen("reserve").last().unwrap().version, 2);
}

#[tokio::test]
async fn an_account_that_is_gone_is_not_found() {
    let (fake, engine) = Fake::new(|_, _| Reply { head: None, ..reply(Status::Absent) });
    super::done(engine.identify(&crate::engine::Payer::Account(account())).await.unwrap());
    fake.set(|world| {
        world.policies.clear();
        world.posted = None;
    });
    let refusal = refused(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    assert_eq!(refusal.code, Code::AccountNotFound);
}

#[tokio::test]
async fn another_window_is_computed_with_redis_time() {
    let tomorrow = Millis(local_now().0 + 86_400_000);
    let (fake, engine) = Fake::new(move |_, seen| {
        let right = seen.windows_from.0 > tomorrow.0 - 86_400_000;
        let reply = if right { granted() } else { reply(Status::Window) };
        Reply { now: tomorrow, ..reply }
    });
    let limit =
        Limit { platform: "*".into(), model: "*".into(), metric: Metric::Cost, period: Period::Day, cap: Some(9_999) };
    fake.set(|world| world.policies.get_mut(&account()).unwrap().limits.push(limit.into()));
    let (answer, _) = super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    assert_eq!(fake.seen("reserve").len(), 2);
    let resets_at = answer.limits[0].resets_at.unwrap();
    assert!(resets_at > tomorrow && resets_at.0 <= tomorrow.0 + 86_400_000);
    // The clock has learnt it: the next call is right at once.
    super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    assert_eq!(fake.seen("reserve").len(), 3);
}

#[tokio::test]
async fn patience_ends() {
    for (status, policies) in [(Status::Stale, 8), (Status::Window, 1)] {
        let (fake, engine) = Fake::new(move |_, _| reply(status));
        let failed = engine.reserve(&reserve(Ask::Units(1))).await.unwrap_err();
        assert!(failed.to_string().contains("8 turns"), "{failed}");
        assert_eq!(fake.seen("reserve").len(), 8);
        assert_eq!(fake.seen("policy").len(), policies);
    }
}

/// A database restored from a copy had rules older than Redis had seen: every call was given up, for ever.
#[tokio::test]
async fn rules_that_came_back_from_a_copy_overtake_the_version_redis_has_seen() {
    let (fake, engine) = Fake::new(|world, seen| {
        let raised = world.of("raise").last().map_or(9, |raise| raise.version);
        let head = Head { version: raised, balance: 1_000_000, ..Head::default() };
        match seen.verb {
            "reserve" if seen.version < raised => Reply { head: Some(head), ..reply(Status::Stale) },
            "reserve" => granted(),
            _ => reply(Status::Done),
        }
    });
    super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    let versions: Vec<_> = fake.seen("reserve").iter().map(|seen| seen.version).collect();
    assert_eq!(versions, [1, 10]);
    assert_eq!((fake.seen("raise").len(), fake.seen("raise")[0].version), (1, 10));
    super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    assert_eq!(fake.seen("overtake").len(), 1, "once");
}

/// A sidecar that knew later rules took its own change for an old one: it was answered, and never in force.
#[tokio::test]
async fn a_change_after_a_restore_is_in_force() {
    let (fake, engine) = Fake::new(|world, seen| {
        let raised = world.of("raise").iter().map(|raise| raise.version).max().map_or(7, |version| version.max(7));
        let head = Head { version: raised, balance: 1_000_000, ..Head::default() };
        match seen.verb {
            "reserve" if seen.version < raised => Reply { head: Some(head), ..reply(Status::Stale) },
            "reserve" => granted(),
            _ => Reply { head: Some(head), ..reply(Status::Done) },
        }
    });
    let lost = Policy { credit_limit: 70, ..policy(7) };
    engine.cache.put(lost, 0);
    fake.set(|world| drop(world.policies.insert(account(), policy(5))));
    let ((shown, _), _) = super::done(engine.put_account(&by(), &account(), &AccountPatch::default()).await.unwrap());
    assert_eq!((shown.version, shown.credit_limit), (8, 0), "SQL's rules, under a version that is new to all");
    let raised: Vec<_> = fake.seen("raise").iter().map(|raise| raise.version).collect();
    assert_eq!(raised, [6, 8]);
    super::done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    assert_eq!(fake.seen("reserve")[0].version, 8);
    // Nothing is overtaken where nothing was restored.
    let ((shown, _), _) = super::done(engine.put_account(&by(), &account(), &AccountPatch::default()).await.unwrap());
    assert_eq!((shown.version, fake.seen("overtake").len()), (9, 1));
}

#[tokio::test]
async fn a_recovering_shard_is_unavailable() {
    let (_, engine) = Fake::new(|_, _| reply(Status::Generation));
    let failed = engine.reserve(&reserve(Ask::Units(1))).await.unwrap_err();
    assert!(matches!(failed, Unavailable::Recovering));
}

#[tokio::test]
async fn admissions_that_depend_on_the_address_are_not_remembered() {
    let (_, engine) = Fake::new(|_, seen| if seen.refusal.is_some() { reply(Status::Denied) } else { granted() });
    let mut rules = policy(1);
    let networks = vec!["10.0.0.0/24".parse().unwrap()];
    rules.keys.insert(super::key("k"), KeyPolicy { networks, ..KeyPolicy::default() });
    engine.cache.put(rules, 0);
    let from =
        |ip: [u8; 4]| Reserve { key: Some(super::key("k")), client_ip: Some(ip.into()), ..reserve(Ask::Units(1)) };
    super::done(engine.reserve(&from([10, 0, 0, 1])).await.unwrap());
    let refusal = refused(engine.reserve(&from([10, 0, 1, 1])).await.unwrap());
    assert_eq!(refusal.code, Code::IpNotAllowed);
    super::done(engine.reserve(&from([10, 0, 0, 2])).await.unwrap());
}
