use super::{
    Place,
    made::{AT, account, by, credit, key, op, post, ready},
};
use crate::{
    engine::{
        adjust::CreditKind,
        outbox::FIRST_LOOK_MS,
        ports::{AccountPatch, Closed, Due, KeyPatch, Onboarding, Outbox, Owed, PolicyStore, Raise, Raises},
    },
    quota::{
        clock::{Millis, local_now},
        entry::Kind,
        platform::Month,
        policy::AccountStatus,
        verdict::Code,
    },
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

/// The gauge counted what one look found due: between two looks at a credit that kept failing it read 0.
pub async fn what_is_owed_for_long_is_counted_between_its_looks(place: &Place) {
    let (store, _) = ready(place).await;
    for id in ["1", "2"] {
        write(&store, &owed("a", id, 5)).await;
    }
    assert_eq!(store.late(later(FIRST_LOOK_MS - 1)).await.unwrap(), 0);
    let at = later(FIRST_LOOK_MS);
    assert_eq!(store.late(at).await.unwrap(), 2);
    for due in store.due(at, 10).await.unwrap() {
        assert!(store.postpone(&due, later(300_000)).await.unwrap());
    }
    assert_eq!((store.due(at, 10).await.unwrap().len(), store.late(at).await.unwrap()), (0, 2));
    let due = store.due(later(300_000), 10).await.unwrap();
    store.done(&due[..1], Closed::Credited, at).await.unwrap();
    assert_eq!(store.late(at).await.unwrap(), 1);
    store.done(&due[1..], Closed::Refused(Code::AccountNotFound), at).await.unwrap();
    assert_eq!(store.late(at).await.unwrap(), 0);
}

/// Accounts and versions that Redis is to hear of at that time.
async fn raises(store: &Store, at: Millis) -> Vec<(String, u32)> {
    let raises = store.raises(at, None, 100).await.unwrap();
    raises.into_iter().map(|raise| (raise.account.to_string(), raise.version)).collect()
}

pub async fn every_change_of_rules_leaves_its_version_to_be_raised(place: &Place) {
    let store = place.store().await;
    let before = local_now();
    let (a, soon) = (account("a"), Millis(before.0 + 60_000));
    let expect = async |version: u32, what: &str| {
        assert_eq!(raises(&store, soon).await, [("a".to_owned(), version)], "{what}");
        let sql = "SELECT raises.version, due_at FROM raises JOIN accounts ON accounts.account = raises.account \
                   AND accounts.version = raises.version";
        let rows = store.read().await.unwrap().fetch(sql.into(), &[]).await.unwrap();
        assert!(rows[0].int(1).unwrap() >= before.0 + FIRST_LOOK_MS, "whoever raised it has time to tell Redis");
    };
    store.put_account(&by(), &a, &AccountPatch::default()).await.unwrap();
    expect(1, "created").await;
    assert_eq!(raises(&store, before).await, [], "not yet");
    let disabled = AccountPatch { status: Some(AccountStatus::Disabled), ..AccountPatch::default() };
    store.put_account(&by(), &a, &disabled).await.unwrap();
    expect(2, "merged").await;
    store.put_key(&by(), &a, &key("k"), &KeyPatch::default()).await.unwrap();
    expect(3, "a key").await;
    store.delete_key(&by(), &a, &key("k")).await.unwrap();
    expect(4, "no key").await;
    store.put_quotas(&by(), &a, &[], Month::Calendar).await.unwrap();
    expect(5, "platform quotas").await;
    store.delete_account(&by(), &a, 0).await.unwrap();
    expect(6, "deleted").await;
    let refused = store.delete_key(&by(), &a, &key("k")).await.unwrap();
    assert!(refused.is_none());
    expect(6, "what changes nothing raises nothing").await;
}

pub async fn a_version_goes_when_it_was_raised_and_no_newer_one_came(place: &Place) {
    let store = place.store().await;
    for name in ["a", "b", "c"] {
        store.put_account(&by(), &account(name), &AccountPatch::default()).await.unwrap();
    }
    let at = Millis(local_now().0 + 60_000);
    let page = store.raises(at, None, 2).await.unwrap();
    let names: Vec<_> = page.iter().map(|raise| raise.account.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let rest = store.raises(at, Some(&account("b")), 2).await.unwrap();
    assert_eq!(rest, [Raise { account: account("c"), version: 1 }]);
    store.put_account(&by(), &account("a"), &AccountPatch::default()).await.unwrap();
    // From the other end, as another sidecar might have it.
    let seen: Vec<_> = page.into_iter().rev().collect();
    for _ in 0..2 {
        store.raised(&seen).await.unwrap();
        assert_eq!(raises(&store, at).await, [("a".to_owned(), 2), ("c".to_owned(), 1)]);
    }
}
