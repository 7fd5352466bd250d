use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    Place, made,
    made::{AT, account, credit, op, post, ready},
};
use crate::{
    engine::ports::{
        AccountPatch, Changes, CodeFilter, CodePatch, CodeStore, Edited, GuessBound, Made, NewCodes, Outbox, Owed,
        PolicyStore, Redemption, StoreError,
    },
    quota::{
        clock::Millis,
        code::{Code, CodeName, CodeState, Plain},
        entry::{Entry, Kind},
        id::{Actor, CodeId},
    },
    sql::Store,
};

const BOUND: GuessBound = GuessBound { failures_max: 3, window_ms: 60_000 };

fn by() -> Actor {
    Actor::new("olga").unwrap()
}

fn later(ms: i64) -> Millis {
    Millis(AT.0 + ms)
}

/// The n-th code of all.
fn plain(n: u32) -> Plain {
    Plain::parse(&format!("aBcD{n:024}wXyZ")).unwrap()
}

fn sha256(n: u32) -> [u8; 32] {
    Sha256::digest(plain(n).expose()).into()
}

fn new(op_id: &str, name: &str, numbers: std::ops::Range<u32>) -> NewCodes {
    let codes = numbers.map(|n| (CodeId::new(format!("{op_id}-{n:03}")).unwrap(), plain(n), sha256(n))).collect();
    let name = CodeName::parse(name).unwrap();
    NewCodes { op_id: op(op_id), name, amount: 500, expires_at: Some(later(1_000_000)), codes }
}

async fn make(store: &Store, new: &NewCodes) -> Vec<Code> {
    match store.make(&by(), new, AT).await.unwrap() {
        Made::Now(codes) => codes,
        other => panic!("{other:?}"),
    }
}

async fn try_code(store: &Store, who: &str, n: u32, at: Millis) -> Redemption {
    let account = account(who);
    store.redeem(&Actor::account(&account), &account, &sha256(n), BOUND, at).await.unwrap()
}

async fn ids(store: &Store, filter: &CodeFilter, cursor: Option<&str>, most: u32, at: Millis) -> Vec<String> {
    let cursor = cursor.map(|cursor| CodeId::new(cursor).unwrap());
    let codes = store.codes(filter, cursor.as_ref(), most, at).await.unwrap();
    codes.iter().map(|code| code.id.to_string()).collect()
}

/// Verbs of the audit about codes, oldest first.
async fn told(store: &Store) -> Vec<String> {
    let mut session = store.read().await.unwrap();
    let sql = "SELECT action, actor FROM audit WHERE subject LIKE 'code%' ORDER BY id";
    let rows = session.fetch(sql.into(), &[]).await.unwrap();
    rows.iter().map(|row| format!("{} {}", row.text(0).unwrap(), row.text(1).unwrap())).collect()
}

pub async fn codes_are_made_once_whoever_repeats_the_call(place: &Place) {
    let (store, _) = ready(place).await;
    let first = make(&store, &new("b", "spring — 春", 0..3)).await;
    assert_eq!(first.len(), 3);
    assert_eq!((first[0].shown().as_str(), first[0].name.as_str()), ("aBcD00…wXyZ", "spring — 春"));
    // The same call has other random codes each time.
    let again = new("b", "spring — 春", 10..13);
    assert_eq!(store.make(&by(), &again, later(2_000_000)).await.unwrap(), Made::Before(first.clone()));
    for (other, field) in [
        (NewCodes { amount: 501, ..again.clone() }, "amount"),
        (NewCodes { expires_at: None, ..again.clone() }, "expires_at"),
        (new("b", "summer", 10..13), "name"),
        (new("b", "spring — 春", 10..14), "count"),
    ] {
        assert_eq!(store.make(&by(), &other, AT).await.unwrap(), Made::Conflict(field));
    }
    assert_eq!(store.code(&first[1].id).await.unwrap().as_ref(), Some(&first[1]));
    assert_eq!(ids(&store, &CodeFilter::default(), None, 100, AT).await.len(), 3);
    let late = NewCodes { expires_at: Some(AT), ..new("c", "late", 20..21) };
    let refused = store.make(&by(), &late, AT).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { field: "expires_at", .. }), "{refused}");
    make(&store, &NewCodes { expires_at: None, ..new("c", "late", 20..21) }).await;
    assert_eq!(told(&store).await, ["make olga", "make olga"]);
}

pub async fn one_call_of_many_makes_the_codes(place: &Place) {
    let store = place.store().await;
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.make(&by(), &new("b", "spring", n * 10..n * 10 + 5), AT).await.unwrap() })
        })
        .collect();
    let mut first = 0;
    for call in calls {
        match call.await.unwrap() {
            Made::Now(codes) => first += codes.len(),
            Made::Before(codes) => assert_eq!(codes.len(), 5),
            Made::Conflict(field) => panic!("{field}"),
        }
    }
    assert_eq!((first, ids(&store, &CodeFilter::default(), None, 100, AT).await.len()), (5, 5));
}

pub async fn a_code_is_redeemed_once_with_the_credit_that_is_owed(place: &Place) {
    let (store, _) = ready(place).await;
    store.put_account(&by(), &account("b"), &AccountPatch::default()).await.unwrap();
    let code = make(&store, &new("x", "spring", 0..1)).await.remove(0);
    assert_eq!(try_code(&store, "nobody", 0, AT).await, Redemption::NoAccount);
    let Redemption::Done { code: used, first: true } = try_code(&store, "a", 0, AT).await else { panic!("refused") };
    assert_eq!((used.id.clone(), used.amount), (code.id.clone(), 500));
    let due = store.due(later(5_000), 10).await.unwrap();
    assert_eq!(due.iter().map(|due| &due.owed).collect::<Vec<_>>(), [&Owed::for_code(&account("a"), &code)]);
    // Asked again, also long after its time: it is the account's own.
    let again = try_code(&store, "a", 0, later(2_000_000)).await;
    assert!(matches!(again, Redemption::Done { first: false, .. }), "{again:?}");
    assert_eq!(try_code(&store, "b", 0, AT).await, Redemption::Used);
    assert_eq!(store.due(later(5_000), 10).await.unwrap().len(), 1);
    let stored = store.code(&code.id).await.unwrap().unwrap();
    assert_eq!(stored.used.as_ref().map(|used| (used.by.as_str(), used.at)), Some(("a", AT)));
    let patch = CodePatch { amount: Some(9), ..CodePatch::default() };
    assert_eq!(store.edit(&by(), &code.id, &patch, AT).await.unwrap(), Edited::Used);
    assert_eq!(told(&store).await, ["make olga", "redeem account:a"]);
}

/// A database restored from a copy had a code as new whose credit came back from the stream: it was redeemed again.
pub async fn a_credit_that_is_posted_uses_its_code_up(place: &Place) {
    let (store, _) = ready(place).await;
    store.put_account(&by(), &account("b"), &AccountPatch::default()).await.unwrap();
    let codes = make(&store, &new("x", "spring", 0..4)).await;
    let off = CodePatch { disabled: Some(true), ..CodePatch::default() };
    store.edit(&by(), &codes[1].id, &off, AT).await.unwrap();
    try_code(&store, "b", 2, later(5)).await;
    let debit = Entry { kind: Kind::Debit, ..credit("a", Kind::Debit, "redeem:x-003", -1) };
    let credit = |n: usize| credit("a", Kind::Credit, codes[n].credit_op().as_str(), 500);
    let unknown = made::credit("a", Kind::Credit, "redeem:nothing", 1);
    post(&store, vec![credit(1), credit(0), credit(2), debit, unknown]).await;
    let used = async |n: usize| {
        let code = store.code(&codes[n].id).await.unwrap().unwrap();
        code.used.map(|used| (used.by.to_string(), used.at))
    };
    assert_eq!(used(0).await, Some(("a".to_owned(), AT)), "when it was credited");
    assert_eq!(used(1).await, Some(("a".to_owned(), AT)), "also one that the copy has as switched off");
    assert_eq!(used(2).await, Some(("b".to_owned(), later(5))), "what is known stays");
    assert_eq!(used(3).await, None, "a debit is no redemption");
    assert_eq!(try_code(&store, "b", 0, later(9)).await, Redemption::Used);
    assert!(matches!(try_code(&store, "a", 0, later(9)).await, Redemption::Done { first: false, .. }));
    let told = told(&store).await;
    assert_eq!(told[2..], ["redeem account:b", "redeem account:a", "redeem account:a"], "{told:?}");
    assert_eq!(store.due(later(9_000), 10).await.unwrap().len(), 1, "nothing more is owed");
}

pub async fn one_of_many_accounts_redeems_a_code(place: &Place) {
    const ACCOUNTS: usize = 24;
    let (store, _) = ready(place).await;
    for n in 0..ACCOUNTS {
        store.put_account(&by(), &account(&format!("a{n}")), &AccountPatch::default()).await.unwrap();
    }
    make(&store, &new("x", "spring", 0..1)).await;
    let calls: Vec<_> = (0..ACCOUNTS)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { try_code(&store, &format!("a{n}"), 0, AT).await })
        })
        .collect();
    let (mut won, mut lost) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Redemption::Done { first: true, .. } => won += 1,
            Redemption::Used => lost += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((won, lost), (1, ACCOUNTS - 1));
    assert_eq!(store.due(later(5_000), 10).await.unwrap().len(), 1);
}

pub async fn what_cannot_be_redeemed_says_why_and_counts(place: &Place) {
    let (store, _) = ready(place).await;
    let code = make(&store, &new("x", "spring", 0..1)).await.remove(0);
    let switch = |disabled| CodePatch { disabled: Some(disabled), ..CodePatch::default() };
    store.edit(&by(), &code.id, &switch(true), AT).await.unwrap();
    assert_eq!(try_code(&store, "a", 0, AT).await, Redemption::Disabled);
    store.edit(&by(), &code.id, &switch(false), AT).await.unwrap();
    assert_eq!(try_code(&store, "a", 0, later(1_000_000)).await, Redemption::Expired);
    let at = later(2_000_000);
    for _ in 0..3 {
        assert_eq!(try_code(&store, "a", 7, at).await, Redemption::Unknown);
    }
    // Also one that could be redeemed: it is not even looked at.
    let until = Millis(at.0 + BOUND.window_ms);
    let patch = CodePatch { expires_at: Some(None), ..CodePatch::default() };
    store.edit(&by(), &code.id, &patch, at).await.unwrap();
    assert_eq!(try_code(&store, "a", 0, at).await, Redemption::TooMany { until });
    assert!(matches!(try_code(&store, "a", 0, until).await, Redemption::Done { first: true, .. }));
    assert_eq!(told(&store).await, ["make olga", "edit olga", "edit olga", "edit olga", "redeem account:a"]);
}

pub async fn parallel_guesses_are_bounded_all_the_same(place: &Place) {
    let (store, _) = ready(place).await;
    let calls: Vec<_> = (0..12)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { try_code(&store, "a", n, AT).await })
        })
        .collect();
    let mut looked = 0;
    for call in calls {
        looked += u32::from(call.await.unwrap() == Redemption::Unknown);
    }
    assert_eq!(looked, BOUND.failures_max);
}

pub async fn codes_are_listed_and_searched(place: &Place) {
    let (store, _) = ready(place).await;
    make(&store, &new("x", "Spring 50%", 0..5)).await;
    make(&store, &NewCodes { expires_at: None, ..new("y", "summer_1", 5..8) }).await;
    try_code(&store, "a", 6, AT).await;
    let off = CodePatch { disabled: Some(true), ..CodePatch::default() };
    store.edit(&by(), &CodeId::new("y-007").unwrap(), &off, AT).await.unwrap();
    let all = CodeFilter::default();
    assert_eq!(ids(&store, &all, None, 3, AT).await, ["y-007", "y-006", "y-005"]);
    assert_eq!(ids(&store, &all, Some("y-005"), 3, AT).await, ["x-004", "x-003", "x-002"]);
    let state = |state| CodeFilter { state: Some(state), ..CodeFilter::default() };
    assert_eq!(ids(&store, &state(CodeState::Enabled), None, 9, AT).await.len(), 6);
    let end = later(1_000_000);
    assert_eq!(ids(&store, &state(CodeState::Enabled), None, 9, end).await, ["y-005"]);
    assert_eq!(ids(&store, &state(CodeState::Expired), None, 9, end).await.len(), 5);
    assert_eq!(ids(&store, &state(CodeState::Used), None, 9, end).await, ["y-006"]);
    assert_eq!(ids(&store, &state(CodeState::Disabled), None, 9, AT).await, ["y-007"]);
    let named = CodeFilter { name: CodeName::parse("summer_1"), ..CodeFilter::default() };
    assert_eq!(ids(&store, &named, None, 9, AT).await.len(), 3);
    let batch = CodeFilter { batch: Some(op("x")), state: Some(CodeState::Expired), ..CodeFilter::default() };
    assert_eq!(ids(&store, &batch, None, 9, AT).await, [""; 0]);
    for (text, found) in [("sPRing", 5), ("0%", 5), ("%1", 0), ("r_1", 3), ("x-003", 1), ("aBcD00", 8), ("nothing", 0)]
    {
        let search = CodeFilter { search: Some((text.to_owned(), None)), ..CodeFilter::default() };
        assert_eq!(ids(&store, &search, None, 9, AT).await.len(), found, "{text}");
    }
    let search = Some((plain(4).expose().to_owned(), Some(sha256(4))));
    assert_eq!(ids(&store, &CodeFilter { search, ..CodeFilter::default() }, None, 9, AT).await, ["x-004"]);
}

pub async fn codes_are_edited_deleted_and_purged(place: &Place) {
    let (store, _) = ready(place).await;
    make(&store, &new("x", "spring", 0..6)).await;
    let id = |n: u32| CodeId::new(format!("x-{n:03}")).unwrap();
    let patch = CodePatch {
        name: CodeName::parse("autumn"),
        amount: Some(7),
        expires_at: Some(Some(later(9))),
        disabled: None,
    };
    let Edited::Done(code) = store.edit(&by(), &id(0), &patch, AT).await.unwrap() else { panic!("not edited") };
    assert_eq!((code.name.as_str(), code.amount, code.expires_at), ("autumn", 7, Some(later(9))));
    assert_eq!(store.code(&id(0)).await.unwrap(), Some(code));
    let refused = store.edit(&by(), &id(0), &patch, later(9)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { field: "expires_at", .. }), "{refused}");
    assert_eq!(store.edit(&by(), &id(9), &patch, AT).await.unwrap(), Edited::Unknown);

    assert!(store.delete(&by(), &id(1), AT).await.unwrap());
    assert!(!store.delete(&by(), &id(1), AT).await.unwrap());
    told_whole(&store).await;
    try_code(&store, "a", 2, AT).await;
    let off = CodePatch { disabled: Some(true), ..CodePatch::default() };
    for n in [3, 4] {
        store.edit(&by(), &id(n), &off, AT).await.unwrap();
    }
    let spent = [CodeState::Used, CodeState::Expired, CodeState::Disabled];
    assert_eq!(store.purge(&by(), &[], 9, AT).await.unwrap(), 0);
    assert_eq!(store.purge(&by(), &spent[..1], 9, AT).await.unwrap(), 1);
    assert_eq!(store.purge(&by(), &spent, 1, later(9)).await.unwrap(), 1);
    assert_eq!(store.purge(&by(), &spent, 9, later(9)).await.unwrap(), 2);
    assert_eq!(store.purge(&by(), &spent, 9, later(9)).await.unwrap(), 0);
    assert_eq!(ids(&store, &CodeFilter::default(), None, 9, AT).await, ["x-005"]);
    let told = told(&store).await;
    assert_eq!(told.iter().filter(|row| *row == "purge olga").count(), 3, "{told:?}");
    let rows = store.changes(Some("codes/purge"), None, 9).await.unwrap();
    let last = json!({"count": 2, "status": ["used", "expired", "disabled"], "codes": {"x-003": 500, "x-004": 500}});
    assert_eq!((&rows[0].before, &rows[0].after), (&Some(last), &None), "which, and worth how much");
    assert_eq!(rows[1].before.as_ref().unwrap()["codes"], json!({"x-000": 7}));
    assert_eq!(told.iter().filter(|row| *row == "delete olga").count(), 1, "{told:?}");
}

/// A code as the audit has it: enabled, and worth what it was made with.
fn doc_of(name: &str, amount: i64, expires_at: Millis) -> serde_json::Value {
    json!({"code": "aBcD00…wXyZ", "name": name, "amount": amount, "status": "enabled",
        "expires_at": expires_at.rfc3339(), "used_by": null})
}

/// Made, `x-000` edited and `x-001` deleted: the audit tells each before and after.
async fn told_whole(store: &Store) {
    let made = store.changes(Some("codes/x"), None, 9).await.unwrap().remove(0);
    let ids: Vec<String> = (0..6).map(|n| format!("x-{n:03}")).collect();
    let end = later(1_000_000);
    let after = json!({"name": "spring", "amount": 500, "expires_at": end.rfc3339(), "codes": ids});
    assert_eq!((made.what.as_str(), made.op_id.as_deref()), ("make", Some("x")));
    assert_eq!((made.before, made.after), (None, Some(after)));
    let edited = store.changes(Some("code/x-000"), None, 9).await.unwrap().remove(0);
    let before_after = (Some(doc_of("spring", 500, end)), Some(doc_of("autumn", 7, later(9))));
    assert_eq!((edited.what.as_str(), (edited.before, edited.after)), ("edit", before_after));
    let deleted = store.changes(Some("code/x-001"), None, 9).await.unwrap().remove(0);
    assert_eq!((deleted.what.as_str(), deleted.before), ("delete", Some(doc_of("spring", 500, end))));
    assert_eq!(deleted.after, None);
}
