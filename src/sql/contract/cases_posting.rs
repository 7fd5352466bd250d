use super::{
    Place,
    made::{
        account, apply, batch, by, credit, digest, key, limit, mark_of, op, open_generation, post, posted, ready,
        settle, sums, window,
    },
};
use crate::{
    engine::ports::{AccountPatch, Constants, KeyPatch, LedgerStore, Mark, PolicyStore, Position, Posting, StoreError},
    quota::{
        counter::KeyCounter,
        entry::{Entry, Kind},
        limit::Period,
    },
};

pub async fn constants_are_written_once(place: &Place) {
    let store = place.store().await;
    let first = Constants { shards: 64, units_per_usd: 100_000_000 };
    assert_eq!(store.constants(first).await.unwrap(), first);
    assert_eq!(store.constants(Constants { shards: 8, units_per_usd: 1 }).await.unwrap(), first);
    assert_eq!(store.last_run_id().await.unwrap(), None);
    for run_id in ["one", "two"] {
        store.set_run_id(run_id).await.unwrap();
        assert_eq!(store.last_run_id().await.unwrap().as_deref(), Some(run_id));
    }
}

pub async fn a_shard_is_opened_once(place: &Place) {
    let store = place.store().await;
    assert_eq!(mark_of(&store, 1).await, None);
    let mark = open_generation(&store, 1, None, 1).await.unwrap().unwrap();
    assert_eq!(mark, Mark { at: Position { generation: 1, seq: 0 }, digest: [b'0'; 40], fence: 1 });
    assert_eq!(mark_of(&store, 1).await, Some(mark));
    assert_eq!(open_generation(&store, 1, None, 1).await.unwrap(), None);
    assert_eq!(open_generation(&store, 1, None, 2).await.unwrap(), None);
    assert_eq!(mark_of(&store, 1).await, Some(mark));
    assert_eq!(mark_of(&store, 2).await, None);
}

pub async fn a_generation_follows_its_mark(place: &Place) {
    let (store, first) = ready(place).await;
    post(&store, vec![credit("a", Kind::Credit, "c", 5)]).await;
    assert_eq!(open_generation(&store, 1, Some(&first), 2).await.unwrap(), None, "the mark has moved");
    let mark = mark_of(&store, 1).await.unwrap();
    assert!(open_generation(&store, 1, Some(&mark), 1).await.is_err(), "generations only grow");
    let second = open_generation(&store, 1, Some(&mark), 2).await.unwrap().unwrap();
    assert_eq!(second, Mark { at: Position { generation: 2, seq: 0 }, digest: mark.digest, fence: 2 });
    let late = batch(1, mark, vec![credit("a", Kind::Credit, "late", 5)]);
    assert!(!apply(&store, &late).await.unwrap().moved, "a poster of the old generation comes too late");
    post(&store, vec![credit("a", Kind::Credit, "d", 7)]).await;
    assert_eq!(sums(&store, "a").await, [12, 0, 0]);
    let mut session = store.read().await.unwrap();
    let sql = "SELECT last_seq, closed_at IS NULL FROM generations ORDER BY generation";
    let rows = session.fetch(sql.into(), &[]).await.unwrap();
    assert_eq!((rows[0].int(0).unwrap(), rows[0].int(1).unwrap(), rows[1].int(1).unwrap()), (1, 0, 1));
}

pub async fn a_batch_moves_sums_and_mark(place: &Place) {
    let (store, mark) = ready(place).await;
    store.put_account(&by(), &account("b"), &AccountPatch::default()).await.unwrap();
    let mut charge = settle("a", "r1", 30, Some("k"));
    charge.windows = vec![window(86_400, 30)];
    let mut refund = credit("a", Kind::Refund, "f1", 10);
    (refund.used, refund.record) = (-10, charge.record.clone());
    refund.windows = vec![window(86_400, -10)];
    let entries = vec![credit("a", Kind::Credit, "c1", 100), charge, settle("b", "r1", 7, None), refund];
    let made = batch(1, mark, entries);
    let applied = apply(&store, &made).await.unwrap();
    assert!(applied.moved && applied.duplicates.is_empty());
    assert_eq!(mark_of(&store, 1).await, Some(made.to));
    assert_eq!(sums(&store, "a").await, [80, 20, 1]);
    assert_eq!(sums(&store, "b").await, [-7, 7, 1]);
    let counters = posted(&store, "a").await.counters;
    assert_eq!((counters.head.version, counters.head.held), (1, 0));
    assert_eq!(counters.keys, vec![(key("k"), KeyCounter { used: 20, held: 0, requests: 1 })]);
    assert_eq!(counters.groups.len(), 1);
    let counter = counters.groups[0].1[0];
    assert_eq!((counter.code, counter.start_s, counter.used, counter.held), (window(0, 0).code, 86_400, 20, 0));
    post(&store, vec![settle("a", "r2", 5, Some("k"))]).await;
    assert_eq!(sums(&store, "a").await, [75, 25, 2]);
    assert_eq!(posted(&store, "a").await.counters.keys[0].1.used, 25);
}

pub async fn a_mark_that_moved_leaves_everything_alone(place: &Place) {
    let (store, mark) = ready(place).await;
    let made = batch(1, mark, vec![credit("a", Kind::Credit, "c1", 100)]);
    let here = Position { generation: 1, seq: 0 };
    for from in [
        Mark { fence: mark.fence + 1, ..mark },
        Mark { digest: digest(here), ..mark },
        Mark { at: Position { generation: 2, seq: 0 }, ..mark },
        Mark { at: Position { generation: 1, seq: 1 }, ..mark },
    ] {
        let entries = made.entries.iter().map(|line| line.entry.clone()).collect();
        assert!(!apply(&store, &batch(1, from, entries)).await.unwrap().moved, "{from:?}");
    }
    assert_eq!(mark_of(&store, 1).await, Some(mark));
    assert_eq!(sums(&store, "a").await, [0, 0, 0]);
    assert!(apply(&store, &made).await.unwrap().moved);
    assert!(!apply(&store, &made).await.unwrap().moved, "the same batch again");
    assert_eq!(sums(&store, "a").await, [100, 0, 0]);
}

pub async fn two_posters_of_one_batch_apply_it_once(place: &Place) {
    let (store, mark) = ready(place).await;
    let other = place.store().await;
    let made = batch(1, mark, vec![credit("a", Kind::Credit, "c1", 100)]);
    let (one, two) = tokio::join!(apply(&store, &made), apply(&other, &made));
    assert!(one.unwrap().moved ^ two.unwrap().moved);
    assert_eq!(sums(&store, "a").await, [100, 0, 0]);
}

pub async fn a_batch_that_does_not_fit_its_marks_is_refused(place: &Place) {
    let (store, mark) = ready(place).await;
    let good = batch(1, mark, vec![credit("a", Kind::Credit, "1", 1), credit("a", Kind::Credit, "2", 1)]);
    let mut gap = good.clone();
    gap.entries.remove(0);
    let mut short = good.clone();
    short.entries.pop();
    let mut empty = good.clone();
    empty.entries.clear();
    let mut fence = good.clone();
    fence.to.fence += 1;
    for bad in [gap, short, empty, fence] {
        assert!(matches!(apply(&store, &bad).await, Err(StoreError::Refused { field: "batch", .. })));
    }
    assert_eq!(mark_of(&store, 1).await, Some(mark));
}

pub async fn an_unknown_account_refuses_the_whole_batch(place: &Place) {
    let (store, mark) = ready(place).await;
    let made = batch(1, mark, vec![credit("a", Kind::Credit, "c1", 100), credit("ghost", Kind::Credit, "c1", 1)]);
    let error = apply(&store, &made).await.expect_err("an unknown account");
    assert!(matches!(&error, StoreError::Refused { field: "account", detail } if detail.contains("ghost")), "{error}");
    assert_eq!(mark_of(&store, 1).await, Some(mark));
    assert_eq!(sums(&store, "a").await, [0, 0, 0]);
    assert!(store.recent(1, None, 10).await.unwrap().is_empty());
    store.put_account(&by(), &account("ghost"), &AccountPatch::default()).await.unwrap();
    assert!(apply(&store, &made).await.unwrap().moved);
}

pub async fn a_sum_out_of_range_refuses_the_whole_batch(place: &Place) {
    let (store, mark) = ready(place).await;
    post(&store, vec![credit("a", Kind::Credit, "c1", 1 << 52)]).await;
    let mark = Mark { at: Position { seq: 1, ..mark.at }, digest: digest(Position { generation: 1, seq: 1 }), ..mark };
    let mut flood: Vec<Entry> = (2..6).map(|n| credit("a", Kind::Credit, &format!("c{n}"), 1 << 52)).collect();
    let error = apply(&store, &batch(1, mark, flood.clone())).await.expect_err("out of range");
    assert!(matches!(error, StoreError::Refused { field: "row", .. }), "{error}");
    flood.iter_mut().for_each(|entry| entry.balance = (1 << 54) - 1);
    flood.extend((6..900).map(|n| credit("a", Kind::Credit, &format!("c{n}"), (1 << 54) - 1)));
    let error = apply(&store, &batch(1, mark, flood)).await.expect_err("out of 64 bits");
    assert!(matches!(error, StoreError::Refused { field: "entries", .. }), "{error}");
    assert_eq!(mark_of(&store, 1).await, Some(mark));
    assert_eq!(sums(&store, "a").await, [1 << 52, 0, 0]);
}

pub async fn an_operation_posted_before_is_kept_as_rejected(place: &Place) {
    let (store, _) = ready(place).await;
    post(&store, vec![settle("a", "r1", 30, Some("k"))]).await;
    let mut partial = settle("a", "r1", 1, None);
    partial.kind = Kind::Partial;
    let second = settle("a", "r1", 40, Some("k"));
    let applied = post(&store, vec![second, partial, settle("a", "r2", 2, None), settle("a", "r2", 3, None)]).await;
    let seqs: Vec<u64> = applied.duplicates.iter().map(|at| at.seq).collect();
    assert_eq!(seqs, [2, 5], "before this batch, and within it; another kind is another operation");
    assert_eq!(sums(&store, "a").await, [-76, 76, 5], "what Redis counted counts until it is taken back");
    let first = store.operation(&account("a"), Kind::Settle, &op("r1")).await.unwrap().unwrap();
    assert_eq!(first.balance, -30, "the operation is the one that was posted first");
    let mut session = store.read().await.unwrap();
    let rows = session.fetch("SELECT status FROM ledger ORDER BY seq".into(), &[]).await.unwrap();
    let status: Vec<&str> = rows.iter().map(|row| row.text(0).unwrap()).collect();
    assert_eq!(status, ["posted", "rejected", "posted", "posted", "rejected"]);
    drop(session);
    post(&store, vec![credit("a", Kind::Credit, "dup:1-1-2", 40), credit("a", Kind::Credit, "dup:1-1-5", 3)]).await;
    assert_eq!(sums(&store, "a").await[0], -33);
}

pub async fn the_initial_balance_is_due_until_it_is_posted(place: &Place) {
    let (store, _) = ready(place).await;
    assert_eq!(posted(&store, "a").await.initial, None);
    assert_eq!(store.posted(&account("ghost")).await.unwrap(), None);
    let patch = AccountPatch { initial_balance: Some(50), ..AccountPatch::default() };
    store.put_account(&by(), &account("b"), &patch).await.unwrap();
    store.put_account(&by(), &account("a"), &patch).await.unwrap();
    assert_eq!(posted(&store, "a").await.initial, None, "only at creation");
    let due = Some((op("v1"), 50));
    assert_eq!(posted(&store, "b").await.initial, due);
    store.put_account(&by(), &account("b"), &AccountPatch { initial_balance: Some(9), ..patch }).await.unwrap();
    post(&store, vec![credit("b", Kind::Credit, "v1", 1), credit("a", Kind::Initial, "v1", 1)]).await;
    assert_eq!(posted(&store, "b").await.initial, due, "another kind, another account");
    post(&store, vec![credit("b", Kind::Initial, "v1", 50)]).await;
    assert_eq!(posted(&store, "b").await.initial, None);
    assert_eq!(sums(&store, "b").await[0], 51);
}

pub async fn windows_follow_the_rule_of_the_scripts(place: &Place) {
    let (store, _) = ready(place).await;
    let with = |id: &str, windows: Vec<_>| {
        let mut entry = settle("a", id, 0, None);
        entry.windows = windows;
        entry
    };
    let read = || async {
        let counter = posted(&store, "a").await.counters.groups[0].1[0];
        (counter.start_s, counter.used)
    };
    post(&store, vec![with("1", vec![window(100, 5)])]).await;
    post(&store, vec![with("2", vec![window(100, 6)]), with("3", vec![window(50, 9)])]).await;
    assert_eq!(read().await, (100, 11), "same start adds, an older one is dropped");
    post(&store, vec![with("4", vec![window(50, 1)])]).await;
    assert_eq!(read().await, (100, 11));
    post(&store, vec![with("5", vec![window(100, 1), window(200, 2), window(100, 4), window(200, 3)])]).await;
    assert_eq!(read().await, (200, 5), "a newer start replaces");
    post(&store, vec![with("6", vec![window(200, -5)])]).await;
    assert_eq!(read().await, (200, 0), "a reset takes off what was used");
    post(&store, vec![with("7", vec![window(300, 0)])]).await;
    assert_eq!(read().await, (300, 0));
}

pub async fn usage_outlives_keys_limits_and_the_account(place: &Place) {
    let (store, _) = ready(place).await;
    let id = account("a");
    let limits = |limits| AccountPatch { limits: Some(limits), ..AccountPatch::default() };
    let rule = limit("openai", Period::Day, Some(100));
    store.put_account(&by(), &id, &limits(vec![rule.clone()])).await.unwrap();
    store.put_key(&by(), &id, &key("k"), &KeyPatch::default()).await.unwrap();
    let mut entry = settle("a", "r1", 30, Some("k"));
    entry.windows = vec![window(86_400, 30)];
    post(&store, vec![entry]).await;
    let before = posted(&store, "a").await.counters;
    store.put_account(&by(), &id, &limits(Vec::new())).await.unwrap();
    store.delete_key(&by(), &id, &key("k")).await.unwrap();
    store.delete_account(&by(), &id, 0).await.unwrap();
    post(&store, vec![settle("a", "r2", 1, Some("k"))]).await;
    store.put_account(&by(), &id, &limits(vec![rule])).await.unwrap();
    store.put_key(&by(), &id, &key("k"), &KeyPatch::default()).await.unwrap();
    let after = posted(&store, "a").await.counters;
    assert_eq!(after.groups, before.groups);
    assert_eq!(after.keys[0].1.used, 31);
    assert_eq!((after.head.balance, after.head.used), (-31, 31));
    assert!(store.operation(&id, Kind::Settle, &op("r1")).await.unwrap().is_some());
}

/// Prints how fast 10 000 entries of 200 accounts are posted; asserts only that they are.
pub async fn many_rows_are_posted_fast(place: &Place) {
    const ROWS: usize = 10_000;
    let (store, mark) = ready(place).await;
    for number in 0..200 {
        store.put_account(&by(), &account(&format!("u{number}")), &AccountPatch::default()).await.unwrap();
    }
    let make = |number: usize| {
        let mut entry = settle(&format!("u{}", number % 200), &format!("r-{number}"), 3, Some("k"));
        entry.windows = vec![window(86_400, 3), window(86_400, 0)];
        entry.log = br#"{"platform":"openai","model":"gpt-4o","prompt_tokens":7,"outcome":"ok"}"#.to_vec();
        entry
    };
    for (name, rows) in [("one batch", ROWS..2 * ROWS), ("batches of 2000", 2 * ROWS..3 * ROWS)] {
        let batches: Vec<usize> = if name == "one batch" { vec![ROWS] } else { vec![2000; 5] };
        let mut entries = rows.map(make);
        let begun = std::time::Instant::now();
        let mut from = mark_of(&store, 1).await.unwrap_or(mark);
        for size in batches {
            let made = batch(1, from, entries.by_ref().take(size).collect());
            assert!(apply(&store, &made).await.unwrap().moved);
            from = made.to;
        }
        let took = begun.elapsed();
        println!("{ROWS} entries, {name}: {took:.0?}, {:.0} rows/s", ROWS as f64 / took.as_secs_f64());
    }
    assert_eq!(sums(&store, "u0").await, [-300, 300, 100]);
    assert_eq!(store.recent(1, None, 1).await.unwrap()[0].at.seq, 2 * ROWS as u64);
}
