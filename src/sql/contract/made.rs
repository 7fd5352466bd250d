//! Accounts, entries and batches for the cases.

use std::sync::Arc;

use crate::{
    engine::ports::{
        AccountPatch, Applied, Batch, Cause, Digest, Line, Mark, Opening, PolicyStore, Position, Posted, Posting,
        StoreError,
    },
    quota::{
        clock::Millis,
        entry::{Entry, Kind, WindowDelta},
        fingerprint::Fingerprint,
        id::{AccountId, Actor, KeyId, OpId},
        limit::{CounterCode, GroupField, Limit, Metric, Period},
        reservation::{Flags, Record, State},
    },
    sql::Store,
};

pub const AT: Millis = Millis(1_795_168_800_000);

pub fn account(id: &str) -> AccountId {
    AccountId::new(id).unwrap()
}

/// Who makes the changes.
pub fn by() -> Actor {
    Actor::admin()
}

pub fn key(id: &str) -> KeyId {
    KeyId::new(id).unwrap()
}

pub fn op(id: &str) -> OpId {
    OpId::new(id).unwrap()
}

pub fn limit(platform: &str, period: Period, cap: Option<i64>) -> Limit {
    let metric = if period == Period::None { Metric::Concurrency } else { Metric::Cost };
    Limit { platform: platform.into(), model: "*".into(), metric, period, cap }
}

/// A day window of cost on platform `openai`.
pub fn window(start_s: u32, used: i64) -> WindowDelta {
    let code = CounterCode::new(Metric::Cost, Period::Day);
    WindowDelta { field: GroupField::new("openai", "*", None), code, start_s, used }
}

pub fn record(charged: i64, with_key: Option<&str>) -> Record {
    Record {
        state: State::Settled,
        flags: Flags::default(),
        fingerprint: Fingerprint::of("settle", &[Some("1")]),
        created: AT,
        expires: Millis(AT.0 + 300_000),
        held: charged,
        tokens: 10,
        prompt_cost: 0,
        charged,
        refunded: 0,
        overdraft: 0,
        parts: 0,
        key: with_key.map(key),
        price_tag: Vec::new(),
        windows: smallvec::SmallVec::new(),
    }
}

/// A final settle of `cost`.
pub fn settle(of: &str, id: &str, cost: i64, with_key: Option<&str>) -> Entry {
    Entry {
        kind: Kind::Settle,
        at: AT,
        balance: -cost,
        used: cost,
        requests: 1,
        tokens: 10,
        account: account(of),
        op_id: op(id),
        record: Some(record(cost, with_key)),
        windows: Vec::new(),
        log: Vec::new(),
    }
}

/// A credit (or any kind that only moves the balance).
pub fn credit(of: &str, kind: Kind, id: &str, amount: i64) -> Entry {
    Entry { kind, balance: amount, used: 0, requests: 0, tokens: 0, record: None, ..settle(of, id, 0, None) }
}

/// A digest that differs with every place; the store does not compute them.
pub fn digest(at: Position) -> Digest {
    let text = format!("{:020}{:020}", at.generation, at.seq);
    text.as_bytes().try_into().unwrap()
}

/// The batch of the entries that follow a mark.
pub fn batch(shard: u16, from: Mark, entries: Vec<Entry>) -> Batch {
    let generation = from.at.generation;
    let entries: Vec<_> = (from.at.seq + 1..)
        .zip(entries)
        .map(|(seq, entry)| {
            let at = Position { generation, seq };
            Line::of(at, digest(at), entry)
        })
        .collect();
    let Line { at, digest, .. } = *entries.last().expect("a batch has entries");
    Batch { shard, from, to: Mark { at, digest, fence: from.fence }, entries }
}

/// A store with account `a` and shard 1 opened.
pub async fn ready(place: &super::Place) -> (Arc<Store>, Mark) {
    let store = place.store().await;
    store.put_account(&by(), &account("a"), &AccountPatch::default()).await.unwrap();
    let mark = open_generation(&store, 1, None, 1).await.unwrap().expect("a new shard");
    (store, mark)
}

pub async fn mark_of(store: &Store, shard: u16) -> Option<Mark> {
    store.opened(shard).await.unwrap().map(|opened| opened.mark)
}

/// Opens a generation for Redis `r<generation>`.
pub async fn open_generation(
    store: &Store,
    shard: u16,
    expected: Option<&Mark>,
    generation: u32,
) -> Result<Option<Mark>, StoreError> {
    let cause = if expected.is_some() { Cause::Restarted } else { Cause::First };
    let run_id = format!("r{generation}");
    let opening = Opening { generation, run_id, cause, redone: 0, merged: 0, seen: None, kept_until: None };
    store.open_generation(shard, expected, &opening).await
}

/// Posts one batch.
pub async fn apply(store: &Store, batch: &Batch) -> Result<Applied, StoreError> {
    let mut applied = store.apply(std::slice::from_ref(batch)).await?;
    Ok(applied.pop().expect("an answer for the batch"))
}

/// Posts entries to shard 1 after its present mark.
pub async fn post(store: &Store, entries: Vec<Entry>) -> Applied {
    let mark = mark_of(store, 1).await.expect("an open shard");
    let applied = apply(store, &batch(1, mark, entries)).await.unwrap();
    assert!(applied.moved);
    applied
}

pub async fn posted(store: &Store, of: &str) -> Posted {
    store.posted(&account(of)).await.unwrap().expect("an account")
}

/// Balance, used and requests.
pub async fn sums(store: &Store, of: &str) -> [i64; 3] {
    let head = posted(store, of).await.counters.head;
    [head.balance, head.used, head.requests]
}
