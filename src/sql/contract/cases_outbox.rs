use super::{
    Place,
    made::{AT, account, credit, op, post, ready},
};
use crate::{
    engine::{
        adjust::CreditKind,
        outbox::FIRST_LOOK_MS,
        ports::{Closed, Due, Outbox, Owed},
    },
    quota::{clock::Millis, entry::Kind, verdict::Code},
    sql::{Store, outbox::owe},
};

fn owed(of: &str, id: &str, amount: i64) -> Owed {
    let note = Some("spring — 春".to_owned());
    Owed { account: account(of), op_id: op(id), kind: CreditKind::Redeem, amount, note }
}

async fn write(store: &Store, owed: &Owed) {
    let mut session = store.write().await.unwrap();
    owe(&mut *session, owed, AT).await.unwrap();
    session.commit().await.unwrap();
}

fn later(ms: i64) -> Millis {
    Millis(AT.0 + ms)
}

async fn names(store: &Store, at: Millis) -> Vec<String> {
    store.due(at, 10).await.unwrap().iter().map(|due| due.owed.op_id.to_string()).collect()
}

pub async fn what_is_owed_is_due_until_the_ledger_has_it(place: &Place) {
    let (store, _) = ready(place).await;
    let first = owed("a", "redeem:1", 500);
    write(&store, &first).await;
    assert_eq!(store.due(later(FIRST_LOOK_MS - 1), 10).await.unwrap(), [], "its writer has time to bring it");
    let at = later(FIRST_LOOK_MS);
    let due = Due { owed: first, due_at: at, attempts: 0, posted: false };
    assert_eq!(store.due(at, 10).await.unwrap(), std::slice::from_ref(&due));
    // Another kind of operation with this name, another account's, and a rejected one: none is this credit.
    post(&store, vec![credit("a", Kind::Debit, "redeem:1", -1)]).await;
    assert!(!store.due(at, 10).await.unwrap()[0].posted);
    post(&store, vec![credit("a", Kind::Credit, "redeem:1", 500)]).await;
    let posted = store.due(at, 10).await.unwrap();
    assert_eq!(posted, [Due { posted: true, ..due }]);
    store.done(&posted, Closed::Credited, at).await.unwrap();
    assert_eq!(store.due(later(1_000_000), 10).await.unwrap(), []);
}

pub async fn one_of_many_takes_a_credit_that_is_owed(place: &Place) {
    let (store, _) = ready(place).await;
    write(&store, &owed("a", "redeem:1", 500)).await;
    let due = store.due(later(FIRST_LOOK_MS), 10).await.unwrap().remove(0);
    let takes: Vec<_> = (0..8).map(|n| store.postpone(&due, later(10_000 + n))).collect();
    let mut taken = 0;
    for take in takes {
        taken += u32::from(take.await.unwrap());
    }
    assert_eq!(taken, 1);
    assert_eq!(names(&store, later(9_999)).await, [""; 0]);
    let again = store.due(later(20_000), 10).await.unwrap();
    assert_eq!((again[0].attempts, again[0].due_at), (1, later(10_000)));
}

pub async fn a_credit_is_owed_with_its_cause_or_not_at_all(place: &Place) {
    let (store, _) = ready(place).await;
    let mut session = store.write().await.unwrap();
    owe(&mut *session, &owed("a", "redeem:1", 500), AT).await.unwrap();
    drop(session);
    assert_eq!(names(&store, later(1_000_000)).await, [""; 0]);
    for (id, amount) in [("redeem:3", 3), ("redeem:2", 2), ("redeem:1", 1)] {
        write(&store, &owed("a", id, amount)).await;
    }
    write(&store, &owed("b", "redeem:1", 9)).await;
    let mut session = store.write().await.unwrap();
    assert!(owe(&mut *session, &owed("a", "redeem:1", 500), AT).await.is_err(), "one name, one credit");
    drop(session);
    assert_eq!(store.due(later(1_000_000), 2).await.unwrap().len(), 2);
    let due = store.due(later(1_000_000), 10).await.unwrap();
    assert_eq!(due.len(), 4);
    // Closed in a heap, and whatever became of it, it stays closed.
    store.done(&due, Closed::Refused(Code::AccountNotFound), AT).await.unwrap();
    store.done(&due, Closed::Credited, AT).await.unwrap();
    assert!(!store.postpone(&due[0], later(5)).await.unwrap());
    let mut session = store.read().await.unwrap();
    let rows = session.fetch("SELECT outcome, done_at FROM outbox".into(), &[]).await.unwrap();
    assert!(rows.iter().all(|row| row.text(0).unwrap() == "account_not_found" && row.int(1).unwrap() == AT.0));
}
