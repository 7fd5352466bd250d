//! What SQL owes: credits are brought until the ledger has them, and credited once; versions until Redis has answered.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{
    account, done,
    fake::{Fake, reply, with_op},
    op, policy,
};
use crate::{
    engine::{
        adjust::CreditKind,
        outbox::{Attempt, Courier},
        ports::{Closed, Due, Outbox, Owed, Raise, Raises, Status, StoreError, Unavailable},
    },
    quota::{
        clock::Millis,
        counter::{AccountCounters, Head},
        id::AccountId,
        verdict::Code,
    },
};

fn owed() -> Owed {
    Owed { account: account(), op_id: op("redeem:1"), kind: CreditKind::Redeem, amount: 70, note: None }
}

/// One row, and what was done to it; and versions to be raised.
struct Row {
    due: Mutex<Due>,
    quicker: bool,
    closed: Mutex<Vec<Closed>>,
    raises: Mutex<Vec<Raise>>,
}

impl Row {
    fn new(posted: bool) -> Arc<Self> {
        let due = Due { owed: owed(), due_at: Millis(0), attempts: 0, posted };
        Arc::new(Self { due: Mutex::new(due), quicker: false, closed: Mutex::default(), raises: Mutex::default() })
    }

    /// No credit, and these versions of accounts.
    fn raising(raises: &[(&str, u32)]) -> Arc<Self> {
        let row = Self::new(true);
        row.closed.lock().unwrap().push(Closed::Credited);
        let raise = |(account, version): &(&str, u32)| Raise { account: named(account), version: *version };
        *row.raises.lock().unwrap() = raises.iter().map(raise).collect();
        row
    }

    fn left(&self) -> Vec<u32> {
        self.raises.lock().unwrap().iter().map(|raise| raise.version).collect()
    }

    fn closed(&self) -> Vec<Closed> {
        self.closed.lock().unwrap().clone()
    }
}

fn named(account: &str) -> AccountId {
    AccountId::new(account).unwrap()
}

#[async_trait]
impl Raises for Row {
    async fn raises(&self, _: Millis, cursor: Option<&AccountId>, most: u32) -> Result<Vec<Raise>, StoreError> {
        let raises = self.raises.lock().unwrap();
        Ok(raises.iter().filter(|raise| Some(&raise.account) > cursor).take(most as usize).cloned().collect())
    }

    async fn raised(&self, raised: &[Raise]) -> Result<(), StoreError> {
        self.raises.lock().unwrap().retain(|raise| !raised.contains(raise));
        Ok(())
    }
}

#[async_trait]
impl Outbox for Row {
    async fn due(&self, now: Millis, _: u32) -> Result<Vec<Due>, StoreError> {
        let due = self.due.lock().unwrap().clone();
        Ok(if due.due_at <= now && self.closed().is_empty() { vec![due] } else { Vec::new() })
    }

    async fn late(&self, _: Millis) -> Result<u64, StoreError> {
        Ok(u64::from(self.closed().is_empty()))
    }

    async fn postpone(&self, due: &Due, until: Millis) -> Result<bool, StoreError> {
        let mut row = self.due.lock().unwrap();
        if self.quicker || row.due_at != due.due_at {
            return Ok(false);
        }
        (row.due_at, row.attempts) = (until, row.attempts + 1);
        Ok(true)
    }

    async fn done(&self, _: &[Due], how: Closed, _: Millis) -> Result<(), StoreError> {
        self.closed.lock().unwrap().push(how);
        Ok(())
    }
}

#[tokio::test]
async fn a_credit_stays_open_until_the_ledger_has_it() {
    let (fake, engine) = Fake::new(|_, seen| with_op(Status::Done, seen.amount, seen.fingerprint));
    let outbox = Row::new(false);
    let courier = Courier::new(engine, outbox.clone());
    courier.look().await.unwrap();
    courier.look().await.unwrap();
    let verbs: Vec<_> = fake.state.lock().unwrap().seen.iter().map(|seen| seen.verb).collect();
    assert_eq!(verbs, ["drain", "policy", "adjust"], "posted first, then asked; the next look is later");
    let seen = &fake.seen("adjust")[0];
    assert_eq!((seen.id.as_str(), seen.amount), ("redeem:1", 70));
    assert_eq!(outbox.closed(), [], "Redis can still lose it");
    {
        let mut row = outbox.due.lock().unwrap();
        (row.due_at, row.posted) = (Millis(0), true);
    }
    courier.look().await.unwrap();
    assert_eq!((outbox.closed(), fake.seen("adjust").len()), (vec![Closed::Credited], 1));
}

#[tokio::test]
async fn who_writes_it_brings_it_without_waiting_for_write_back() {
    let (fake, engine) = Fake::new(|_, seen| with_op(Status::Done, seen.amount, seen.fingerprint));
    let (given, _) = done(engine.give(&owed(), Attempt::First).await.unwrap());
    assert_eq!((given.amount, given.balance), (70, 1_000_000));
    assert_eq!(fake.seen("drain").len(), 0);
}

#[tokio::test]
async fn another_sidecar_that_was_quicker_is_left_alone() {
    let (fake, engine) = Fake::new(|_, seen| panic!("{} is not asked", seen.verb));
    let row = Row::new(false).due.lock().unwrap().clone();
    let outbox =
        Arc::new(Row { due: Mutex::new(row), quicker: true, closed: Mutex::default(), raises: Mutex::default() });
    Courier::new(engine, outbox.clone()).look().await.unwrap();
    assert_eq!((outbox.closed(), fake.seen("drain").len()), (vec![], 0));
}

#[tokio::test]
async fn what_can_never_be_credited_is_closed_and_the_rest_waits() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::OutOfRange));
    let look = |outbox: &Arc<Row>| {
        outbox.due.lock().unwrap().due_at = Millis(0);
        let courier = Courier::new(engine.clone(), outbox.clone());
        async move { courier.look().await.unwrap() }
    };
    let outbox = Row::new(false);
    look(&outbox).await;
    assert_eq!(outbox.closed(), [], "a balance that is full today has room another day");
    fake.set(|world| world.outage = Some(Unavailable::Recovering));
    look(&outbox).await;
    assert_eq!((outbox.closed(), outbox.due.lock().unwrap().attempts), (vec![], 2));
    fake.set(|world| (world.outage, world.policies) = (None, Default::default()));
    look(&outbox).await;
    assert_eq!(outbox.closed(), [Closed::Refused(Code::AccountNotFound)]);
}

/// SQL had committed a change of rules whose version Redis was never told: others decided by the old ones for ever.
#[tokio::test]
async fn a_version_that_nobody_raised_is_raised_until_redis_answers() {
    let (fake, engine) = Fake::new(|_, seen| match seen.id.as_str() {
        "b" => reply(Status::Generation),
        _ => reply(Status::Done),
    });
    engine.cache.put(policy(1), 0);
    fake.set(|world| drop(world.policies.insert(account(), policy(3))));
    let outbox = Row::raising(&[("a", 3), ("b", 5), ("c", 7)]);
    let courier = Courier::new(engine.clone(), outbox.clone());
    fake.set(|world| world.outage = Some(Unavailable::Timeout));
    courier.look().await.unwrap();
    assert_eq!((outbox.left(), fake.seen("raise").len()), (vec![3, 5, 7], 1), "one time-out is enough of them");
    assert_eq!(engine.cache.get(&account(), 0).unwrap().policy.version, 3, "this sidecar needs no Redis for it");
    fake.set(|world| world.outage = None);
    courier.look().await.unwrap();
    assert_eq!(outbox.left(), [5], "the shard of `b` is being recovered, which keeps no other one waiting");
    let raised: Vec<_> = fake.seen("raise").into_iter().map(|seen| (seen.id, seen.version)).collect();
    assert_eq!(raised[1..], [("a".into(), 3), ("b".into(), 5), ("c".into(), 7)]);
}

/// A sidecar died between the deletion in SQL and the second closing: what was credited in between stayed.
#[tokio::test]
async fn what_a_deletion_left_undone_is_done_with_its_version() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    let rich = Head { balance: 70, ..Head::default() };
    let counters = AccountCounters { head: rich, ..AccountCounters::default() };
    fake.set(|world| (world.policies, world.counters) = (Default::default(), Some(counters.clone())));
    let look = async |version| {
        let outbox = Row::raising(&[("a", version)]);
        Courier::new(engine.clone(), outbox.clone()).look().await.unwrap();
        assert!(outbox.left().is_empty());
    };
    look(3).await;
    let closed: Vec<_> = fake.seen("adjust").into_iter().map(|seen| seen.id).collect();
    assert!(closed.len() == 1 && closed[0].starts_with("close:"), "{closed:?}");
    // An account that is there keeps its money.
    fake.set(|world| drop(world.policies.insert(account(), policy(5))));
    look(5).await;
    assert_eq!(fake.seen("adjust").len(), 1);
}

#[tokio::test]
async fn every_page_of_versions_is_looked_at() {
    let (_, engine) = Fake::new(|_, _| reply(Status::Done));
    let names: Vec<String> = (0..250).map(|n| format!("a{n:03}")).collect();
    let raises: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let outbox = Row::raising(&raises);
    Courier::new(engine, outbox.clone()).look().await.unwrap();
    assert!(outbox.left().is_empty());
}
