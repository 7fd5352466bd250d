//! Refund, credit and debit: done once, also when only the ledger remembers.

use super::{
    account, by, done,
    fake::{Fake, record, reply, with_op, with_record},
    op, refused, reservation,
};
use crate::{
    engine::{
        Payer,
        adjust::{Credit, CreditKind, Debit},
        ports::Status,
        refund::Refund,
    },
    quota::{
        clock::Millis,
        entry::{Entry, Kind},
        reservation::{Record, State},
        verdict::Code,
    },
};

fn settled(charged: i64) -> Record {
    Record { charged, ..record(State::Settled) }
}

fn refund() -> Refund {
    let payer = Payer::Account(account());
    Refund { payer, op_id: op("f-1"), of: reservation("r-1"), amount: 30, reason: None }
}

#[tokio::test]
async fn a_refund_restores_what_only_the_ledger_remembers() {
    let (fake, engine) = Fake::new(|world, seen| match world.count("restore") {
        0 => reply(Status::Unknown),
        _ => with_op(Status::Done, seen.amount, seen.fingerprint),
    });
    assert_eq!(refused(engine.refund(&refund()).await.unwrap()).code, Code::ReservationNotFound);
    fake.set(|world| world.ledger_record = Some(settled(70)));
    assert_eq!(done(engine.refund(&refund()).await.unwrap()).0.refunded, 30);
    let world = fake.state.lock().unwrap();
    assert_eq!((world.count("drain"), world.count("restore"), world.count("refund")), (2, 1, 3));
}

#[tokio::test]
async fn refunds_stay_within_the_charge() {
    let (_, engine) =
        Fake::new(|_, _| with_record(Status::RefundExceedsCharge, Record { refunded: 50, ..settled(70) }));
    let refusal = refused(engine.refund(&refund()).await.unwrap());
    assert_eq!((refusal.code, refusal.requested, refusal.available), (Code::RefundExceedsCharge, Some(30), Some(20)));
}

fn entry(kind: Kind, balance: i64, log: &str) -> Entry {
    Entry {
        kind,
        at: Millis(1),
        balance,
        used: 0,
        requests: 0,
        tokens: 0,
        account: account(),
        op_id: op("f-1"),
        record: None,
        windows: Vec::new(),
        log: log.into(),
    }
}

#[tokio::test]
async fn operations_of_long_ago_are_found_in_the_ledger() {
    let (fake, engine) = Fake::new(|_, seen| panic!("{} is not asked", seen.verb));
    fake.set(|world| world.counters = Some(Default::default()));
    let remember = |entry| fake.set(|world| world.operation = Some(entry));
    remember(entry(Kind::Refund, 30, r#"{"of":"r-1"}"#));
    assert!(done(engine.refund(&refund()).await.unwrap()).1);
    let other = Refund { of: reservation("r-2"), ..refund() };
    assert_eq!(refused(engine.refund(&other).await.unwrap()).field, Some("of"));
    assert_eq!(refused(engine.refund(&Refund { amount: 31, ..refund() }).await.unwrap()).field, Some("amount"));

    remember(entry(Kind::Credit, 30, r#"{"kind":"topup"}"#));
    let credit = Credit { account: account(), op_id: op("c"), amount: 30, kind: CreditKind::Topup, note: None };
    let (answer, replayed) = done(engine.credit(&by(), &credit).await.unwrap());
    assert_eq!((answer.amount, replayed), (30, true));
    let other = Credit { kind: CreditKind::Grant, ..credit };
    assert_eq!(refused(engine.credit(&by(), &other).await.unwrap()).field, Some("kind"));

    remember(entry(Kind::Debit, -30, r#"{"kind":"force"}"#));
    let debit = Debit { account: account(), op_id: op("d"), amount: 30, force: true, note: None };
    assert_eq!(done(engine.debit(&by(), &debit).await.unwrap()).0.amount, 30);
    assert_eq!(refused(engine.debit(&by(), &Debit { force: false, ..debit }).await.unwrap()).field, Some("force"));
}

#[tokio::test]
async fn credits_have_no_bound_of_their_own_debits_do() {
    let (fake, engine) = Fake::new(|_, seen| match seen.kind {
        Some(Kind::Credit) => with_op(Status::Done, seen.amount, seen.fingerprint),
        _ => reply(Status::InsufficientBalance),
    });
    let (account, op_id) = (account(), op("c"));
    let credit = Credit { account: account.clone(), op_id, amount: 9_000_000, kind: CreditKind::Topup, note: None };
    assert_eq!(done(engine.credit(&by(), &credit).await.unwrap()).0.amount, 9_000_000);
    let debit = Debit { account, op_id: op("d"), amount: 1_000_001, force: true, note: None };
    assert_eq!(refused(engine.debit(&by(), &debit).await.unwrap()).field, Some("amount"));
    let refusal = refused(engine.debit(&by(), &Debit { amount: 5, ..debit }).await.unwrap());
    assert_eq!((refusal.code, refusal.available), (Code::InsufficientBalance, Some(1_000_000)));
    fake.set(|world| world.policies.clear());
    assert_eq!(refused(engine.credit(&by(), &credit).await.unwrap()).code, Code::AccountNotFound);
}
