//! Accounts, keys, balance sheet and sweep.

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use smallvec::smallvec;

use super::{
    account, by, done,
    fake::{Fake, record, reply, with_op},
    key, op, policy, refused, reservation, with_key,
};
use crate::{
    engine::{
        Payer,
        ports::{AccountPatch, KeyPatch, Posted, Reply, Status, Unavailable},
        reset::Reset,
    },
    quota::{
        clock::local_now,
        counter::{AccountCounters, Head, KeyCounter, WindowCounter},
        entry::{Entry, Kind, WindowDelta},
        id::AccountId,
        limit::{GroupField, Limit, Metric, Period},
        policy::KeyPolicy,
        reservation::State,
        verdict::Code,
    },
};

fn absent_until_loaded(loaded: bool) -> Reply {
    if loaded { reply(Status::Done) } else { Reply { head: None, ..reply(Status::Absent) } }
}

#[tokio::test]
async fn a_new_account_has_its_balance_when_it_is_answered() {
    let (fake, engine) = Fake::new(|world, seen| match seen.verb {
        "hydrate" => reply(Status::Done),
        _ => absent_until_loaded(world.counters.is_some()),
    });
    fake.set(|world| {
        world.policies.clear();
        world.posted = Some(Posted { initial: Some((op("v1"), 700)), ..Posted::default() });
    });
    let patch = AccountPatch { initial_balance: Some(700), ..AccountPatch::default() };
    let ((policy, created), _) = done(engine.put_account(&by(), &account(), &patch).await.unwrap());
    assert_eq!((policy.version, created), (1, true));
    let initial: Vec<_> = fake.seen("adjust").iter().map(|seen| (seen.kind, seen.id.clone(), seen.amount)).collect();
    assert!(!initial.is_empty() && initial.iter().all(|it| *it == (Some(Kind::Initial), "v1".to_owned(), 700)));

    // Merging raises the version and touches no balance.
    let before = fake.seen("adjust").len();
    let ((policy, created), _) = done(engine.put_account(&by(), &account(), &AccountPatch::default()).await.unwrap());
    assert_eq!((policy.version, created), (2, false));
    assert_eq!(fake.seen("raise").pop().unwrap().version, 2);
    assert_eq!(fake.seen("adjust").len(), before);
}

#[tokio::test]
async fn an_account_with_live_holds_is_not_deleted() {
    let holds = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let live = holds.clone();
    let (fake, engine) = Fake::new(move |_, seen| match seen.kind {
        Some(Kind::Close) if live.load(std::sync::atomic::Ordering::Relaxed) => reply(Status::Idle),
        _ => reply(Status::Done),
    });
    let refusal = refused(engine.delete_account(&by(), &account()).await.unwrap());
    assert_eq!(refusal.code, Code::Conflict);
    assert_eq!(fake.seen("delete").len(), 0);
    holds.store(false, std::sync::atomic::Ordering::Relaxed);
    done(engine.delete_account(&by(), &account()).await.unwrap());
    assert_eq!(fake.seen("raise").pop().unwrap().version, 2);
    let closes: Vec<_> = fake.seen("adjust").into_iter().map(|seen| seen.id).collect();
    assert!(closes[0] != closes[1] && closes[0].starts_with("close:"));
    assert_eq!(refused(engine.account(&account()).await.unwrap()).code, Code::AccountNotFound);
    assert_eq!(refused(engine.delete_account(&by(), &account()).await.unwrap()).code, Code::AccountNotFound);
}

/// A credit between the closing in Redis and the deletion in SQL left money in a deleted account.
#[tokio::test]
async fn what_is_credited_while_an_account_is_deleted_is_taken_away_too() {
    let (fake, engine) = Fake::new(|world, seen| match seen.kind {
        Some(Kind::Close) if world.count("delete") == 0 => with_op(Status::Done, 500, seen.fingerprint),
        Some(Kind::Close) => with_op(Status::Done, 70, seen.fingerprint),
        _ => reply(Status::Done),
    });
    let head = Head { version: 1, balance: 70, ..Head::default() };
    fake.set(|world| world.counters = Some(AccountCounters { head, ..AccountCounters::default() }));
    done(engine.delete_account(&by(), &account()).await.unwrap());
    let closes: Vec<_> = fake.seen("adjust").into_iter().map(|seen| seen.id).collect();
    assert!(closes.len() == 2 && closes[0] != closes[1], "{closes:?}");
    let world = fake.state.lock().unwrap();
    let told = &world.changes[0];
    assert_eq!((told.what, told.op_id.as_ref().unwrap().as_str()), ("close", closes[1].as_str()));
    assert_eq!((&told.before, &told.after), (&Some(json!({"balance": 70})), &Some(json!({"balance": 0}))));
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    let (put, _) = done(engine.put_key(&by(), &account(), &key("k"), &KeyPatch::default()).await.unwrap());
    let secret = put.secret.unwrap();
    assert!(put.created && secret.len() == 51 && secret.starts_with("sk-"));
    let stored = put.policy.keys[&key("k")].secret_sha256.unwrap();
    assert_eq!(stored, <[u8; 32]>::from(Sha256::digest(secret.as_bytes())));
    let (who, _) = done(engine.identify(&Payer::Secret(secret.into())).await.unwrap());
    assert_eq!(who, (account(), Some(key("k"))));
    assert_eq!(fake.seen("raise").pop().unwrap().version, 2);

    let (put, _) = done(engine.put_key(&by(), &account(), &key("k"), &KeyPatch::default()).await.unwrap());
    assert_eq!((put.created, put.secret), (false, None));
    assert_eq!(put.policy.keys[&key("k")].secret_sha256, Some(stored), "and stays as it was");
    let patch = KeyPatch { secret_sha256: Some([9; 32]), ..KeyPatch::default() };
    let (put, _) = done(engine.put_key(&by(), &account(), &key("l"), &patch).await.unwrap());
    assert_eq!((put.created, put.secret), (true, None));

    done(engine.delete_key(&by(), &account(), &key("k")).await.unwrap());
    assert_eq!(refused(engine.delete_key(&by(), &account(), &key("k")).await.unwrap()).code, Code::KeyNotFound);
    let nobody = AccountId::new("b").unwrap();
    assert_eq!(refused(engine.delete_key(&by(), &nobody, &key("k")).await.unwrap()).code, Code::AccountNotFound);
    assert_eq!(
        refused(engine.put_key(&by(), &nobody, &key("k"), &KeyPatch::default()).await.unwrap()).code,
        Code::AccountNotFound
    );
}

fn day(cap: i64) -> Limit {
    Limit { platform: "openai".into(), model: "*".into(), metric: Metric::Cost, period: Period::Day, cap: Some(cap) }
}

fn used_yesterday(used: i64) -> AccountCounters {
    used_since(86_400, used)
}

/// In a window that began so many seconds ago.
fn used_since(age_s: i64, used: i64) -> AccountCounters {
    let start_s = u32::try_from(local_now().seconds() - age_s).unwrap();
    let counter = WindowCounter { code: day(0).code(), start_s, used, held: 0 };
    AccountCounters {
        head: Head { version: 2, balance: 500, held: 100, used: 40, requests: 3, ..Head::default() },
        keys: vec![(key("k"), KeyCounter { used: 7, held: 1, requests: 2 })],
        groups: vec![(GroupField::new("openai", "*", None), smallvec![counter])],
    }
}

#[tokio::test]
async fn the_sheet_shows_live_numbers_by_the_newest_rules() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    done(engine.identify(&Payer::Account(account())).await.unwrap());
    let allowance = KeyPolicy { allowance: Some(20), ..KeyPolicy::default() };
    let mut newer = with_key(with_key(policy(2), "k", allowance), "j", KeyPolicy::default());
    newer.limits.push(day(900).into());
    newer.credit_limit = 10;
    fake.set(|world| {
        world.policies.insert(account(), newer);
        world.counters = Some(used_yesterday(800));
    });
    let (sheet, _) = done(engine.balance(&Payer::Account(account())).await.unwrap());
    assert_eq!((sheet.balance, sheet.held, sheet.available, sheet.used, sheet.requests), (500, 100, 410, 40, 3));
    let keys: Vec<_> = sheet.keys.iter().map(|key| (key.key.as_str(), key.left, key.used)).collect();
    assert_eq!(keys, [("j", None, 0), ("k", Some(12), 7)]);
    assert_eq!((sheet.limits[0].used, sheet.limits[0].limit.cap), (0, Some(900)), "yesterday is over");
    assert!(sheet.limits[0].resets_at.unwrap() > sheet.at);
}

#[tokio::test]
async fn reservations_are_looked_up_in_redis_then_in_the_ledger() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    let look_up = || engine.reservation(&ACCOUNT, &ID);
    static ACCOUNT: std::sync::LazyLock<AccountId> = std::sync::LazyLock::new(account);
    static ID: std::sync::LazyLock<crate::quota::id::ReservationId> = std::sync::LazyLock::new(|| reservation("r-1"));
    assert_eq!(refused(look_up().await.unwrap()).code, Code::ReservationNotFound);
    fake.set(|world| world.ledger_record = Some(record(State::Settled)));
    assert_eq!(done(look_up().await.unwrap()).0.record.state, State::Settled);
    fake.set(|world| world.record = Some(record(State::Held)));
    assert_eq!(done(look_up().await.unwrap()).0.record.state, State::Held);
    fake.set(|world| world.policies.clear());
    done(look_up().await.unwrap());
}

fn daily_reset() -> Reset {
    Reset {
        account: account(),
        key: None,
        platform: "openai".into(),
        model: "*".into(),
        metric: Metric::Cost,
        period: Period::Day,
        op_id: op("x"),
    }
}

/// The reset of a window that was over told, and audited, what was used in it when it was open.
#[tokio::test]
async fn a_window_that_is_over_has_nothing_to_clear() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    fake.set(|world| world.counters = Some(used_yesterday(800)));
    assert_eq!(done(engine.reset(&by(), &daily_reset()).await.unwrap()).0.cleared, 0);
    assert_eq!(fake.state.lock().unwrap().changes.len(), 1);
    assert_eq!(fake.state.lock().unwrap().changes[0].before.as_ref().unwrap()["used"], 0);
}

/// The audit's row was lost when SQL did not answer after Redis: every call was a new one.
#[tokio::test]
async fn a_repeated_reset_tells_what_the_first_one_cleared() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Replayed));
    let start_s = u32::try_from(local_now().seconds() / 86_400 * 86_400).unwrap();
    let delta = WindowDelta { field: GroupField::new("openai", "*", None), code: day(0).code(), start_s, used: -800 };
    let entry = Entry {
        kind: Kind::Reset,
        at: local_now(),
        balance: 0,
        used: 0,
        requests: 0,
        tokens: 0,
        account: account(),
        op_id: op("x"),
        record: None,
        windows: vec![delta],
        log: br#"{"platform":"openai","model":"*"}"#.to_vec(),
    };
    fake.set(|world| (world.counters, world.operation) = (Some(used_since(0, 5)), Some(entry)));
    let (answer, replayed) = done(engine.reset(&by(), &daily_reset()).await.unwrap());
    assert_eq!((answer.cleared, replayed, fake.seen("reset").len()), (800, true, 0), "the ledger knows it");
    let told = fake.state.lock().unwrap().changes[0].clone();
    assert_eq!((told.what, told.op_id, &told.before.unwrap()["used"]), ("reset", Some(op("x")), &json!(800)));
    for (other, field) in [
        (Reset { platform: "gemini".into(), ..daily_reset() }, "platform"),
        (Reset { model: "m".into(), ..daily_reset() }, "model"),
        (Reset { period: Period::Week, ..daily_reset() }, "period"),
    ] {
        let refusal = refused(engine.reset(&by(), &other).await.unwrap());
        assert_eq!((refusal.code, refusal.field), (Code::Conflict, Some(field)));
    }
}

#[tokio::test]
async fn a_reset_names_its_counter_and_what_it_cleared() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    fake.set(|world| world.counters = Some(used_since(0, 800)));
    let ask = daily_reset();
    assert_eq!(done(engine.reset(&by(), &ask).await.unwrap()).0.cleared, 800);
    assert_eq!(fake.seen("reset")[0].id, GroupField::new("openai", "*", None).as_str());
    assert_eq!(fake.state.lock().unwrap().changes[0].before.as_ref().unwrap()["used"], 800);
    let unknown = Reset { key: Some(key("k")), ..ask.clone() };
    assert_eq!(refused(engine.reset(&by(), &unknown).await.unwrap()).code, Code::KeyNotFound);
    let none = Reset { metric: Metric::Concurrency, period: Period::None, ..ask };
    assert_eq!(refused(engine.reset(&by(), &none).await.unwrap()).field, Some("metric"));
}

#[tokio::test]
async fn a_sweep_ends_all_that_is_due() {
    let (fake, engine) = Fake::new(|_, seen| match seen.id.as_str() {
        "r-0" => reply(Status::Idle),
        _ => reply(Status::Done),
    });
    fake.set(|world| world.due = (0..150).map(|n| (account(), reservation(&format!("r-{n}")))).collect());
    assert_eq!(engine.sweep_once().await.unwrap(), 149);
    assert_eq!(engine.sweep_once().await.unwrap(), 0);

    let (fake, engine) = Fake::new(|_, _| reply(Status::Generation));
    fake.set(|world| world.due = vec![(account(), reservation("r"))]);
    assert!(matches!(engine.sweep_once().await, Err(Unavailable::Recovering)));
}

#[tokio::test]
async fn the_sweeper_stops_when_told() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    fake.set(|world| world.due = vec![(account(), reservation("r"))]);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let sweeper = tokio::spawn(engine.run_sweeper(std::time::Duration::from_secs(1), stopped));
    while !fake.seen("expire").iter().any(|seen| seen.id == "r") {
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    sweeper.await.unwrap();
}
