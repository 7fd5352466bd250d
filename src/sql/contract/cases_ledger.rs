use super::{
    Place,
    made::{account, credit, mark_of, op, open_generation, post, ready, settle, window},
};
use crate::{
    engine::ports::{LedgerStore, Position, Posting, RawEntry},
    quota::{
        entry::{Entry, Kind, LogFields},
        id::ReservationId,
    },
};

pub async fn an_operation_is_found_by_its_name(place: &Place) {
    let (store, _) = ready(place).await;
    let mut entry = settle("a", "r1", 30, Some("k"));
    entry.windows = vec![window(86_400, 30)];
    entry.log = br#"{"model":"gpt-4o"}"#.to_vec();
    post(&store, vec![entry.clone(), credit("a", Kind::Credit, "r1", 5)]).await;
    let find = |kind, id: &'static str| {
        let store = store.clone();
        async move { store.operation(&account("a"), kind, &op(id)).await.unwrap() }
    };
    assert_eq!(find(Kind::Settle, "r1").await, Some(entry));
    assert_eq!(find(Kind::Credit, "r1").await.map(|entry| entry.balance), Some(5));
    assert_eq!(find(Kind::Debit, "r1").await, None);
    assert_eq!(find(Kind::Credit, "r2").await, None);
    assert_eq!(store.operation(&account("b"), Kind::Credit, &op("r1")).await.unwrap(), None);
}

pub async fn the_latest_record_of_a_reservation_is_found(place: &Place) {
    let (store, _) = ready(place).await;
    let id = ReservationId::new("r1").unwrap();
    let find = || async { store.record(&account("a"), &id).await.unwrap() };
    assert_eq!(find().await, None);
    let part = |number: u16, charged: i64| {
        let mut entry = settle("a", "r1", charged, None);
        entry.kind = Kind::Partial;
        let record = entry.record.as_mut().unwrap();
        (record.parts, record.charged) = (number, charged);
        entry
    };
    let done = post(&store, vec![part(1, 10), part(2, 20), credit("a", Kind::Credit, "r1", 5)]).await;
    assert!(done.duplicates.is_empty(), "parts are numbered");
    assert_eq!(find().await.map(|record| record.charged), Some(20));
    let entry = settle("a", "r1", 30, None);
    post(&store, vec![entry.clone(), settle("a", "r2", 1, None)]).await;
    assert_eq!(find().await, entry.record);
    let mut refund = credit("a", Kind::Refund, "f1", 10);
    refund.record = entry.record;
    refund.record.as_mut().unwrap().refunded = 10;
    refund.log = serde_json::to_vec(&LogFields { of: Some("r1".into()), ..LogFields::default() }).unwrap();
    post(&store, vec![refund]).await;
    assert_eq!(find().await.map(|record| record.refunded), Some(10));
    let mark = mark_of(&store, 1).await.unwrap();
    open_generation(&store, 1, Some(&mark), 2).await.unwrap().unwrap();
    post(&store, vec![settle("a", "r1", 99, None), settle("a", "r3", 1, None)]).await;
    assert_eq!(find().await.map(|record| record.refunded), Some(10), "a rejected row is no record");
}

pub async fn rows_can_be_neither_changed_nor_deleted(place: &Place) {
    let (store, _) = ready(place).await;
    post(&store, vec![credit("a", Kind::Credit, "c1", 5)]).await;
    for sql in ["UPDATE ledger SET balance = 6", "DELETE FROM ledger"] {
        let error = store.write().await.unwrap().execute(sql.into(), &[]).await.expect_err(sql).to_string();
        assert!(error.contains("the ledger only grows"), "{error}");
    }
    assert!(store.operation(&account("a"), Kind::Credit, &op("c1")).await.unwrap().is_some());
}

pub async fn columns_are_filled_from_entry_and_log(place: &Place) {
    let (store, _) = ready(place).await;
    let mut entry = settle("a", "r1", 30, Some("k"));
    entry.log = br#"{"key":"other","platform":"openai","model":"gpt-4o","group":"vip","prompt_tokens":7,
        "completion_tokens":3,"cached_tokens":1,"duration_ms":250,"stream":true,"ip":"::1","outcome":"ok",
        "kind":"x","note":"n","meta":{"a":1}}"#
        .to_vec();
    let mut garbage = settle("a", "r2", 1, None);
    garbage.log = b"not json".to_vec();
    post(&store, vec![entry, garbage]).await;
    let columns = "key_id, platform, model, price_group, ip, outcome, sub_kind, note, meta, status, kind";
    let mut session = store.read().await.unwrap();
    let rows = session.fetch(format!("SELECT {columns} FROM ledger ORDER BY seq").into(), &[]).await.unwrap();
    let texts: Vec<&str> = (0..11).map(|column| rows[0].text(column).unwrap()).collect();
    let meta = r#"{"a":1}"#;
    assert_eq!(texts, ["k", "openai", "gpt-4o", "vip", "::1", "ok", "x", "n", meta, "posted", "settle"]);
    assert_eq!(rows[1].opt_text(1).unwrap(), None, "an unreadable log loses nothing but its columns");
    let columns = "prompt_tokens, completion_tokens, cached_tokens, duration_ms, stream, at, balance, used, \
                   requests, tokens, part";
    let rows = session.fetch(format!("SELECT {columns} FROM ledger ORDER BY seq").into(), &[]).await.unwrap();
    let numbers: Vec<i64> = (0..11).map(|column| rows[0].int(column).unwrap()).collect();
    assert_eq!(numbers, [7, 3, 1, 250, 1, super::made::AT.0, -30, 30, 1, 10, 0]);
}

pub async fn recent_entries_come_newest_first_and_byte_for_byte(place: &Place) {
    let (store, _) = ready(place).await;
    let entries: Vec<Entry> = (1..=5).map(|n| settle("a", &format!("r{n}"), n, Some("k"))).collect();
    post(&store, entries.clone()).await;
    let mark = mark_of(&store, 1).await.unwrap();
    open_generation(&store, 1, Some(&mark), 2).await.unwrap().unwrap();
    post(&store, vec![settle("a", "s1", 1, None)]).await;
    let page = store.recent(1, None, 3).await.unwrap();
    let places: Vec<(u32, u64)> = page.iter().map(|raw| (raw.at.generation, raw.at.seq)).collect();
    assert_eq!(places, [(2, 1), (1, 5), (1, 4)]);
    let page = store.recent(1, Some(page[2].at), 10).await.unwrap();
    assert_eq!(page.len(), 3);
    let at = Position { generation: 1, seq: 3 };
    let raw = RawEntry { at, payload: entries[2].pack(), digest: super::made::digest(at) };
    assert_eq!(page[0], raw);
    assert_eq!(store.digest_at(1, at).await.unwrap(), Some(raw.digest));
    assert_eq!(store.digest_at(1, Position { generation: 1, seq: 6 }).await.unwrap(), None);
    assert_eq!(store.digest_at(2, at).await.unwrap(), None);
}
