use super::{
    Place,
    made::{account, apply, batch, by, credit, key, mark_of, op, post, posted, ready, settle, sums, window},
};
use crate::{
    engine::ports::{AccountPatch, KeyPatch, LedgerStore, PolicyStore, StoreError},
    quota::{
        amount::COUNTER_MAX,
        entry::{Kind, LogFields},
    },
};

pub async fn ids_that_differ_in_case_are_different(place: &Place) {
    let (store, _) = ready(place).await;
    store.put_account(&by(), &account("A"), &AccountPatch::default()).await.unwrap();
    for id in ["k", "K"] {
        store.put_key(&by(), &account("a"), &key(id), &KeyPatch::default()).await.unwrap().unwrap();
    }
    let entries = vec![
        settle("a", "r1", 1, Some("k")),
        settle("a", "R1", 2, Some("K")),
        settle("A", "r1", 4, Some("k")),
        settle("A", "R1", 8, Some("k")),
    ];
    assert!(post(&store, entries).await.duplicates.is_empty());
    assert_eq!((sums(&store, "a").await[1], sums(&store, "A").await[1]), (3, 12));
    let keys: Vec<i64> = posted(&store, "a").await.counters.keys.iter().map(|(_, counter)| counter.used).collect();
    assert_eq!(keys, [2, 1], "K before k, byte by byte");
    let find = |id| {
        let store = store.clone();
        async move { store.operation(&account("a"), Kind::Settle, &op(id)).await.unwrap().map(|entry| entry.used) }
    };
    assert_eq!((find("r1").await, find("R1").await), (Some(1), Some(2)));
    assert_eq!(store.list_accounts(None, 10).await.unwrap().len(), 2);
    assert_eq!(store.policy(&account("a")).await.unwrap().unwrap().keys.len(), 2);
}

pub async fn texts_of_any_script_are_kept(place: &Place) {
    let (store, _) = ready(place).await;
    let name = "Zoë 🦀 \u{10ffff} 漢字";
    let patch = AccountPatch { name: Some(Some(name.into())), ..AccountPatch::default() };
    store.put_account(&by(), &account("a"), &patch).await.unwrap();
    assert_eq!(store.policy(&account("a")).await.unwrap().unwrap().name.as_deref(), Some(name));
    let meta = format!(r#"{{"text":"🦀{}","zero":"\u0000"}}"#, "é".repeat(2030));
    assert!(meta.len() > 4000);
    let mut entry = settle("a", "r1", 1, None);
    let meta_value = serde_json::value::RawValue::from_string(meta.clone()).unwrap();
    let fields = LogFields { note: Some(name.into()), meta: Some(meta_value), ..LogFields::default() };
    entry.log = serde_json::to_vec(&fields).unwrap();
    post(&store, vec![entry.clone()]).await;
    let mut session = store.read().await.unwrap();
    let rows = session.fetch("SELECT note, meta FROM ledger".into(), &[]).await.unwrap();
    assert_eq!((rows[0].text(0).unwrap(), rows[0].text(1).unwrap()), (name, meta.as_str()));
    assert_eq!(store.operation(&account("a"), Kind::Settle, &op("r1")).await.unwrap(), Some(entry));
}

pub async fn the_largest_amounts_are_kept(place: &Place) {
    let (store, _) = ready(place).await;
    store.put_account(&by(), &account("b"), &AccountPatch::default()).await.unwrap();
    let mut most = settle("a", "r1", COUNTER_MAX, Some("k"));
    most.windows = vec![window(u32::MAX, COUNTER_MAX)];
    post(&store, vec![most, credit("b", Kind::Credit, "c", COUNTER_MAX)]).await;
    assert_eq!(sums(&store, "a").await, [-COUNTER_MAX, COUNTER_MAX, 1]);
    assert_eq!(sums(&store, "b").await, [COUNTER_MAX, 0, 0]);
    let counters = posted(&store, "a").await.counters;
    assert_eq!((counters.keys[0].1.used, counters.groups[0].1[0].used), (COUNTER_MAX, COUNTER_MAX));
    assert_eq!(counters.groups[0].1[0].start_s, u32::MAX);
    let mark = mark_of(&store, 1).await.unwrap();
    let over = (1_i64 << 53) + 1 - COUNTER_MAX;
    for entry in [credit("b", Kind::Credit, "d", over), credit("a", Kind::Debit, "d", -over)] {
        let error = apply(&store, &batch(1, mark, vec![entry])).await.expect_err("beyond the range");
        assert!(matches!(error, StoreError::Refused { field: "row", .. }), "{error}");
    }
    assert_eq!(mark_of(&store, 1).await, Some(mark));
}

pub async fn a_zero_character_does_not_stop_the_ledger(place: &Place) {
    let (store, _) = ready(place).await;
    let mut entry = settle("a", "r1", 1, None);
    entry.log = br#"{"note":"a\u0000b","model":"\u0000"}"#.to_vec();
    post(&store, vec![entry]).await;
    let mut session = store.read().await.unwrap();
    let rows = session.fetch("SELECT note FROM ledger".into(), &[]).await.unwrap();
    assert_eq!(rows[0].text(0).unwrap(), "a\u{fffd}b");
}
