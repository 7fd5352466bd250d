//! Calls that cannot be decided in time, and what is answered without Redis.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;

use super::{
    done,
    fake::{Fake, World, granted, loading, record, reply, with_record},
    op, policy, refused, reservation, reserve, settings, settle,
};
use crate::{
    engine::{
        Engine, Settings,
        charge::Charge,
        extend::Extend,
        ports::{Cost, Posted, Reply, Spool, SpoolError, Status, Unavailable},
        release::Release,
        reserve::{Ask, Reserve},
        settle::{Outcome, Price, Settle},
    },
    quota::{policy::OnUnavailable, reservation::State, verdict::Code},
};

/// A spool in memory, which can be full.
#[derive(Default)]
struct Kept {
    records: Mutex<Vec<(u64, Arc<[u8]>)>>,
    refused: Mutex<Vec<String>>,
    full: Mutex<bool>,
}

#[async_trait]
impl Spool for Kept {
    async fn append(&self, record: Vec<u8>) -> Result<(), SpoolError> {
        tokio::task::yield_now().await;
        if *self.full.lock().unwrap() {
            return Err(SpoolError::Full(0));
        }
        let mut records = self.records.lock().unwrap();
        let ticket = records.last().map_or(0, |(last, _)| last + 1);
        records.push((ticket, record.into()));
        Ok(())
    }

    fn waiting(&self) -> Vec<(u64, Arc<[u8]>)> {
        self.records.lock().unwrap().clone()
    }

    async fn done(&self, ticket: u64) {
        self.records.lock().unwrap().retain(|(known, _)| *known != ticket);
    }

    async fn refuse(&self, ticket: u64, reason: &str) -> Result<(), SpoolError> {
        self.refused.lock().unwrap().push(reason.to_owned());
        self.done(ticket).await;
        Ok(())
    }

    fn entries(&self) -> usize {
        self.records.lock().unwrap().len()
    }
}

fn hurried() -> Settings {
    Settings { time_budget: Duration::from_millis(40), ..settings() }
}

/// An engine whose Redis is away, for an account that allows it; its answers when it is back.
fn away(
    script: impl Fn(&World, &super::fake::Seen) -> Reply + Send + Sync + 'static,
) -> (Arc<Fake>, Arc<Kept>, Arc<Engine>) {
    let settings = super::with(|values| values.on_unavailable = OnUnavailable::Allow);
    let (fake, engine) = Fake::with(settings, script);
    let spool = Arc::new(Kept::default());
    let engine = Arc::try_unwrap(engine).ok().expect("nobody else has it yet").with_spool(spool.clone());
    fake.set(|world| world.outage = Some(Unavailable::Connection("gone".into())));
    (fake, spool, Arc::new(engine))
}

fn reserve_as(id: &str, units: i64) -> Reserve {
    Reserve { id: reservation(id), ..reserve(Ask::Units(units)) }
}

fn settle_as(id: &str, price: Price) -> Settle {
    Settle { id: reservation(id), ..settle(price) }
}

fn charge_as(id: &str, units: i64, force: bool) -> Charge {
    let settle = settle_as(id, Price::Units(units));
    Charge { settle, estimate: None, tokens: None, client_ip: None, force }
}

#[tokio::test]
async fn a_database_that_never_answers_costs_a_cold_account_its_budget_and_no_more() {
    let (fake, engine) = Fake::with(hurried(), |world, seen| loading(world, seen.verb));
    fake.set(|world| world.posted = Some(Posted { initial: Some((op("v1"), 500)), ..Posted::default() }));
    for hangs_at in ["policy", "posted"] {
        fake.set(|world| world.store_hangs = hangs_at == "policy");
        if hangs_at == "posted" {
            // The policy is read now, the sums are not.
            while engine.reserve(&reserve(Ask::Units(1))).await.is_err() && fake.seen("posted").is_empty() {}
            fake.set(|world| {
                world.counters = None;
                world.store_hangs = true;
            });
        }
        let calls = fake.seen(hangs_at).len();
        for _ in 0..3 {
            let begun = Instant::now();
            let answer = engine.reserve(&reserve(Ask::Units(1))).await;
            assert!(matches!(answer, Err(Unavailable::Timeout)), "{hangs_at}: {answer:?}");
            assert!(begun.elapsed() < Duration::from_secs(1), "{hangs_at}");
        }
        assert!(fake.seen(hangs_at).len() <= calls + 1, "{hangs_at}: one question for all who wait");
    }
    // The work went on by itself: the retry finds it done.
    fake.set(|world| world.store_hangs = false);
    while fake.seen("hydrate").len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
    fake.set(|world| world.store_hangs = true);
    done(engine.reserve(&reserve(Ask::Units(1))).await.unwrap());
}

#[tokio::test]
async fn without_redis_an_account_goes_on_within_its_allowance() {
    let (fake, spool, engine) = away(|_, _| granted());
    let (answer, replayed) = done(engine.reserve(&reserve_as("r-1", 600)).await.unwrap());
    assert_eq!((answer.held, answer.balance, answer.available, replayed), (600, None, None, false));
    let (answer, replayed) = done(engine.reserve(&reserve_as("r-1", 600)).await.unwrap());
    assert_eq!((answer.held, replayed), (600, true));
    let conflict = refused(engine.reserve(&reserve_as("r-1", 601)).await.unwrap());
    assert_eq!((conflict.code, conflict.field), (Code::Conflict, Some("amount")));
    assert!(matches!(engine.reserve(&reserve_as("r-2", 500)).await, Err(Unavailable::Connection(_))));
    assert_eq!(spool.entries(), 0, "a reserve is soft state");
    // Given back: there is room again. Charged: there is not.
    let release = Release { payer: reserve_as("r-1", 1).payer, id: reservation("r-1") };
    assert_eq!(done(engine.release(&release).await.unwrap()).0.returned, Some(600));
    done(engine.reserve(&reserve_as("r-2", 500)).await.unwrap());
    let more = Extend {
        payer: release.payer.clone(),
        id: reservation("r-2"),
        amount: Some(900),
        ttl_ms: None,
        group: None,
        model: None,
        estimate: None,
    };
    assert_eq!(done(engine.extend(&more).await.unwrap()).0.held, 900);
    assert!(engine.extend(&Extend { amount: Some(1_001), ..more.clone() }).await.is_err());
    assert!(engine.extend(&Extend { id: reservation("other"), ..more }).await.is_err(), "Redis' to check");
    assert!(engine.charge(&charge_as("c-1", 200, false)).await.is_err());
    assert_eq!(done(engine.charge(&charge_as("c-1", 200, true)).await.unwrap()).0.charged, Some(200));
    assert_eq!(spool.entries(), 2);
    // The rules that need no counter still hold, and an account that denies is denied.
    let mut disabled = policy(2);
    disabled.status = crate::quota::policy::AccountStatus::Disabled;
    engine.cache.put(disabled, 0);
    assert_eq!(refused(engine.reserve(&reserve_as("r-3", 1)).await.unwrap()).code, Code::AccountDisabled);
    engine.cache.put(crate::quota::policy::Policy { on_unavailable: Some(OnUnavailable::Deny), ..policy(3) }, 0);
    assert!(engine.reserve(&reserve_as("r-3", 1)).await.is_err());
    assert!(engine.settle(&settle_as("r-2", Price::Units(1))).await.is_err());
    assert_eq!(fake.seen("policy").len(), 1);
}

#[tokio::test]
async fn only_an_outage_is_answered_without_redis() {
    let (fake, spool, engine) = away(|_, _| granted());
    for not in [Unavailable::Overloaded, Unavailable::Behind, Unavailable::Corrupt("x".into())] {
        fake.set(|world| world.outage = Some(not));
        assert!(engine.reserve(&reserve_as("r", 1)).await.is_err());
        assert!(engine.settle(&settle_as("r", Price::Units(1))).await.is_err());
    }
    assert_eq!(spool.entries(), 0);
    for outage in [Unavailable::Timeout, Unavailable::Recovering] {
        fake.set(|world| world.outage = Some(outage));
        done(engine.reserve(&reserve_as("r", 1)).await.unwrap());
    }
}

#[tokio::test]
async fn settles_are_kept_and_replayed_as_the_client_would_repeat_them() {
    let (fake, spool, engine) = away(|_, seen| match seen.verb {
        "settle" => Reply { record: None, ..reply(Status::Unknown) },
        _ => with_record(Status::Done, record(State::Settled)),
    });
    done(engine.reserve(&reserve_as("r-1", 600)).await.unwrap());
    let aborted = Settle { outcome: Some(Outcome::Unknown), ..settle_as("r-1", Price::Unsaid) };
    let (answer, _) = done(engine.settle(&aborted).await.unwrap());
    assert_eq!((answer.charged, answer.returned, answer.balance), (Some(600), Some(0), None));
    let (answer, replayed) = done(engine.settle(&aborted).await.unwrap());
    assert_eq!((answer.charged, replayed, spool.entries()), (Some(600), true, 1), "kept once");
    let other = refused(engine.settle(&settle_as("r-1", Price::Units(5))).await.unwrap());
    assert_eq!(other.code, Code::Conflict);
    assert_eq!(refused(engine.reserve(&reserve_as("r-1", 600)).await.unwrap()).code, Code::AlreadySettled);
    // A hold that Redis has: what it comes to is Redis' to say.
    let elsewhere = settle_as("r-0", Price::Unsaid);
    assert_eq!(done(engine.settle(&elsewhere).await.unwrap()).0.charged, None);
    done(engine.charge(&charge_as("c-1", 70, false)).await.unwrap());
    engine.clone().replay_once().await;
    assert_eq!(spool.entries(), 3, "Redis is still away");
    fake.set(|world| {
        world.outage = None;
        world.seen.clear();
    });
    engine.clone().replay_once().await;
    assert_eq!(spool.entries(), 0);
    let settled: Vec<_> = fake.seen("settle").iter().map(|seen| (seen.id.clone(), seen.cost.unwrap())).collect();
    assert_eq!(settled, [("r-1".to_owned(), Cost::Units(600)), ("r-0".to_owned(), Cost::Held)]);
    let charged: Vec<_> = fake.seen("charge").iter().map(|seen| (seen.id.clone(), seen.amount, seen.force)).collect();
    let expected = [("r-1", 600), ("r-0", 0), ("c-1", 70)].map(|(id, amount)| (id.to_owned(), amount, true));
    assert_eq!(charged, expected, "in their order");
    // The client's own repetition has the same content.
    fake.set(|world| world.seen.clear());
    done(engine.settle(&aborted).await.unwrap());
    done(engine.charge(&charge_as("c-1", 70, false)).await.unwrap());
    let _ = engine.settle(&elsewhere).await.unwrap();
    assert_eq!(fake.seen("charge").len(), 3);
}

#[tokio::test]
async fn a_replay_has_the_fingerprint_of_the_call() {
    let (fake, _, engine) = away(|_, _| with_record(Status::Done, record(State::Settled)));
    let asked = settle_as("r-1", Price::Units(7));
    done(engine.settle(&asked).await.unwrap());
    let charge = charge_as("c-1", 9, false);
    done(engine.charge(&charge).await.unwrap());
    fake.set(|world| {
        world.outage = None;
        world.seen.clear();
    });
    engine.clone().replay_once().await;
    done(engine.settle(&asked).await.unwrap());
    done(engine.charge(&charge).await.unwrap());
    for verb in ["settle", "charge"] {
        let seen = fake.seen(verb);
        assert_eq!(seen.len(), 2, "{verb}");
        assert_eq!(seen[0].fingerprint, seen[1].fingerprint, "{verb}");
    }
}

#[tokio::test]
async fn what_redis_refuses_is_kept_aside_and_holds_up_nothing() {
    let (fake, spool, engine) = away(|_, seen| match seen.id.as_str() {
        "bad" => with_record(Status::AlreadySettled, record(State::Settled)),
        _ => with_record(Status::Done, record(State::Settled)),
    });
    done(engine.settle(&settle_as("bad", Price::Units(7))).await.unwrap());
    done(engine.settle(&settle_as("good", Price::Units(7))).await.unwrap());
    fake.set(|world| world.outage = None);
    engine.clone().replay_once().await;
    assert_eq!(spool.entries(), 0);
    assert!(matches!(spool.refused.lock().unwrap().as_slice(), [reason] if reason.starts_with("already_settled")));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_promised() {
    let (_, spool, engine) = away(|_, _| granted());
    *spool.full.lock().unwrap() = true;
    done(engine.reserve(&reserve_as("r-1", 600)).await.unwrap());
    assert!(matches!(engine.settle(&settle_as("r-1", Price::Units(5))).await, Err(Unavailable::Connection(_))));
    assert!(engine.charge(&charge_as("c-1", 5, true)).await.is_err());
    *spool.full.lock().unwrap() = false;
    let (answer, replayed) = done(engine.settle(&settle_as("r-1", Price::Units(5))).await.unwrap());
    assert_eq!((answer.charged, replayed), (Some(5), false), "as if the first had never been");
    assert!(!done(engine.charge(&charge_as("c-1", 5, false)).await.unwrap()).1);
}

/// A grant of the outage is not in Redis: a settle after it that names no price charged nothing.
#[tokio::test]
async fn a_settle_after_the_outage_still_knows_the_local_grant() {
    let (fake, _, engine) = away(|_, seen| match seen.verb {
        "settle" => Reply { record: None, ..reply(Status::Unknown) },
        _ => with_record(Status::Done, record(State::Settled)),
    });
    done(engine.reserve(&reserve_as("r-1", 600)).await.unwrap());
    fake.set(|world| world.outage = None);
    done(engine.settle(&settle_as("r-1", Price::Unsaid)).await.unwrap());
    assert_eq!(fake.seen("charge")[0].amount, 600);
    // Repeated before the replay has been there: what was answered stands.
    let (fake, _, engine) = away(|_, seen| match seen.verb {
        "settle" => Reply { record: None, ..reply(Status::Unknown) },
        _ => with_record(Status::Done, record(State::Settled)),
    });
    done(engine.reserve(&reserve_as("r-1", 600)).await.unwrap());
    done(engine.settle(&settle_as("r-1", Price::Unsaid)).await.unwrap());
    fake.set(|world| world.outage = None);
    done(engine.settle(&settle_as("r-1", Price::Unsaid)).await.unwrap());
    assert_eq!(fake.seen("charge")[0].amount, 600);
}
