use serde_json::json;

use super::{
    Place,
    made::{account, by, key, limit, op},
};
use crate::{
    engine::ports::{AccountPatch, Changes, KeyPatch, PolicyStore, StoreError},
    quota::{
        change::{Change, Recorded, Subject},
        id::Actor,
        limit::Period,
    },
    sql::Store,
};

async fn all(store: &Store, subject: Option<&str>) -> Vec<Recorded> {
    store.changes(subject, None, 1000).await.unwrap()
}

fn told(rows: &[Recorded]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (row.what.as_str(), row.subject.as_str())).collect()
}

pub async fn every_change_has_a_row(place: &Place) {
    let store = place.store().await;
    let (ada, id) = (Actor::new("ada").unwrap(), account("a"));
    let patch = AccountPatch { initial_balance: Some(7), group: Some("vip".into()), ..AccountPatch::default() };
    store.put_account(&ada, &id, &patch).await.unwrap();
    let patch = AccountPatch { limits: Some(vec![limit("openai", Period::Day, Some(5))]), ..AccountPatch::default() };
    store.put_account(&by(), &id, &patch).await.unwrap();
    store.put_account(&by(), &id, &patch).await.unwrap();
    let patch = KeyPatch { secret_sha256: Some([7; 32]), ..KeyPatch::default() };
    store.put_key(&ada, &id, &key("k"), &patch).await.unwrap();
    let patch = KeyPatch { secret_sha256: Some([8; 32]), allowance: Some(Some(9)), ..KeyPatch::default() };
    store.put_key(&by(), &id, &key("k"), &patch).await.unwrap();
    store.put_key(&by(), &id, &key("l"), &KeyPatch::default()).await.unwrap();
    store.delete_key(&ada, &id, &key("l")).await.unwrap();
    assert_eq!(store.put_tariff(&ada, b"{}", "list.json", None).await.unwrap(), 1);
    store.delete_account(&ada, &id, 0).await.unwrap();
    let rows = all(&store, None).await;
    let expected = [
        ("delete", "account/a"),
        ("import", "tariff/1"),
        ("delete", "account/a/key/l"),
        ("put", "account/a/key/l"),
        ("put", "account/a/key/k"),
        ("put", "account/a/key/k"),
        ("put", "account/a"), // The third put changed nothing.
        ("put", "account/a"),
    ];
    assert_eq!(told(&rows), expected);
    let [deleted, imported, _, _, replaced, _, limited, created] = &rows[..] else { panic!() };
    let after = created.after.as_ref().unwrap();
    assert_eq!((&*created.by, &created.before), ("ada", &None));
    assert_eq!((&after["group"], &after["initial_balance"]), (&json!("vip"), &json!(7)));
    assert_eq!((&*limited.by, &limited.before.as_ref().unwrap()["limits"]), ("admin", &json!([])));
    assert_eq!(limited.after.as_ref().unwrap()["limits"][0]["cap"], 5);
    assert_eq!(replaced.before.as_ref().unwrap()["allowance"], json!(null));
    assert_eq!(replaced.after.as_ref().unwrap()["secret"], "replaced");
    assert_eq!(imported.after, Some(json!({"version": 1, "source": "list.json"})));
    assert_eq!((&deleted.after, &deleted.before.as_ref().unwrap()["keys"]), (&None, &json!(["k"])));
    assert!(rows.is_sorted_by(|newer, older| newer.id > older.id && newer.at >= older.at));
}

pub async fn what_is_refused_has_no_row(place: &Place) {
    let store = place.store().await;
    let id = account("a");
    store.put_account(&by(), &id, &AccountPatch::default()).await.unwrap();
    let bad = AccountPatch { credit_limit: Some(-1), group: Some("vip".into()), ..AccountPatch::default() };
    assert!(store.put_account(&by(), &id, &bad).await.is_err());
    assert!(store.put_account(&by(), &account("b"), &bad).await.is_err());
    assert_eq!(store.delete_key(&by(), &id, &key("k")).await.unwrap(), None);
    assert_eq!(store.delete_account(&by(), &account("b"), 0).await.unwrap(), None);
    assert_eq!(told(&all(&store, None).await), [("put", "account/a")]);
}

pub async fn the_audit_is_read_by_subject_and_by_page(place: &Place) {
    let store = place.store().await;
    // What sorts next to a subject is not below it.
    for id in ["a", "a.b", "a:", "A", "ab", "a0"] {
        store.put_account(&by(), &account(id), &AccountPatch::default()).await.unwrap();
    }
    for number in 0..5 {
        store.put_key(&by(), &account("a"), &key(&format!("k{number}")), &KeyPatch::default()).await.unwrap();
    }
    assert_eq!(all(&store, Some("account/a")).await.len(), 6);
    assert_eq!(told(&all(&store, Some("account/a/key/k3")).await), [("put", "account/a/key/k3")]);
    assert_eq!(all(&store, Some("account/A")).await.len(), 1);
    assert_eq!(all(&store, Some("account")).await.len(), 11);
    assert_eq!(all(&store, Some("acc")).await.len(), 0);
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.changes(Some("account/a"), cursor, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        cursor = Some(last.id);
        seen.extend(page);
    }
    assert_eq!(seen, all(&store, Some("account/a")).await);
}

pub async fn an_operation_is_kept_once(place: &Place) {
    let store = place.store().await;
    let change = |units: i64| {
        let subject = Subject::account(&account("a"));
        Change::new(&by(), "credit", subject, None, json!({"amount": units})).with_op(&op("inv-1"))
    };
    let (same, other) = (change(1), place.store().await);
    let (first, second) = tokio::join!(store.record_change(&same), other.record_change(&same));
    first.unwrap();
    second.unwrap();
    store.record_change(&change(2)).await.unwrap();
    let rows = all(&store, None).await;
    assert_eq!((rows.len(), rows[0].op_id.as_deref()), (1, Some("inv-1")));
    assert_eq!(rows[0].after, Some(json!({"amount": 1})));
    let debit = Change { what: "debit", ..change(3) };
    store.record_change(&debit).await.unwrap();
    assert_eq!(told(&all(&store, None).await), [("debit", "account/a"), ("credit", "account/a")]);
}

pub async fn the_audit_only_grows(place: &Place) {
    let store = place.store().await;
    store.put_account(&by(), &account("a"), &AccountPatch::default()).await.unwrap();
    for sql in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
        let mut session = store.write().await.unwrap();
        let refused = session.execute(sql.into(), &[]).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Refused { detail, .. } if detail.contains("only grows")), "{refused}");
    }
    assert_eq!(all(&store, None).await[0].by, "admin");
}
