//! The stream side of a Redis in memory: shards with a meta and a dense, digested stream.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use quotad::{
    engine::ports::{Position, RawEntry, ServerFacts, ShardMeta, Stream, Tombstone, Unavailable},
    quota::{clock::Millis, entry::Entry, reservation::Record},
    writeback::chain,
};
use tokio::sync::Notify;

use super::budget::{Budget, Dead};

pub const NOW: Millis = Millis(1_795_168_800_000);

#[derive(Clone, Default)]
pub struct Shard {
    pub meta: Option<ShardMeta>,
    pub entries: Vec<RawEntry>,
    /// Ledger rows that were applied again.
    pub redone: usize,
}

pub struct State {
    pub shards: HashMap<u16, Shard>,
    pub facts: ServerFacts,
    pub served: HashMap<u16, Option<u32>>,
    /// What happened, in order: `rewrite`, `serve <shard>`, `wipe <shard>`, `trim <shard>`.
    pub log: Vec<String>,
    pub refuse_trim: bool,
    /// Tombstones put back, by account and id.
    pub restored: HashMap<(String, String), Record>,
    leases: HashMap<String, (String, Instant)>,
}

pub struct FakeStream {
    state: Mutex<State>,
    pub budget: Arc<Budget>,
    pub attach_needed: Notify,
    /// See [`Counters::era`](quotad::engine::ports::Counters::era): moved by the tests.
    pub era: AtomicU64,
}

impl FakeStream {
    pub fn new() -> Self {
        let facts = ServerFacts {
            run_id: "run-1".into(),
            version: "7.0.15".into(),
            valkey: false,
            master: true,
            loading: false,
            maxmemory_policy: "noeviction".into(),
            append_only: true,
            aof_last_write_ok: true,
        };
        let state = State {
            shards: HashMap::new(),
            facts,
            served: HashMap::new(),
            log: Vec::new(),
            refuse_trim: false,
            restored: HashMap::new(),
            leases: HashMap::new(),
        };
        Self { state: Mutex::new(state), budget: Arc::default(), attach_needed: Notify::new(), era: AtomicU64::new(0) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A call of the port.
    fn call<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, Unavailable> {
        let dead = |Dead| Unavailable::Connection("the process is dead".into());
        let lost = self.budget.enter().map_err(dead)?;
        let answer = act(&mut self.state());
        if lost { Err(dead(Dead)) } else { Ok(answer) }
    }

    /// What a script does: appends one entry and moves the meta. Fails under a fence.
    pub fn append(&self, shard: u16, entry: &Entry) -> Result<Position, Unavailable> {
        let mut state = self.state();
        let shard = state.shards.entry(shard).or_default();
        let meta = shard.meta.as_mut().filter(|meta| meta.open).ok_or(Unavailable::Recovering)?;
        let payload = entry.pack();
        meta.digest = chain(&meta.digest, &payload);
        meta.top.seq += 1;
        meta.now = entry.at;
        shard.entries.push(RawEntry { at: meta.top, payload, digest: meta.digest });
        Ok(meta.top)
    }

    pub fn meta_now(&self, shard: u16) -> Option<ShardMeta> {
        self.state().shards.get(&shard).and_then(|shard| shard.meta)
    }

    pub fn shard(&self, shard: u16) -> Shard {
        self.state().shards.get(&shard).cloned().unwrap_or_default()
    }

    /// Puts an older copy of a shard back: an append-only file without its tail.
    pub fn put_back(&self, number: u16, shard: Shard) {
        self.state().shards.insert(number, shard);
    }

    /// Another process answers, with the same data.
    pub fn restart(&self, run_id: &str) {
        let mut state = self.state();
        state.leases.clear();
        state.facts.run_id = run_id.into();
    }

    /// Everything is gone, and another process answers.
    pub fn lose_everything(&self, run_id: &str) {
        let mut state = self.state();
        state.shards.clear();
        state.leases.clear();
        state.facts.run_id = run_id.into();
    }

    pub fn served(&self, shard: u16) -> Option<u32> {
        self.state().served.get(&shard).copied().flatten()
    }
}

#[async_trait]
impl Stream for FakeStream {
    async fn server(&self) -> Result<ServerFacts, Unavailable> {
        self.call(|state| state.facts.clone())
    }

    async fn rewrite_aof(&self) -> Result<(), Unavailable> {
        self.call(|state| state.log.push("rewrite".into()))
    }

    async fn meta(&self, shard: u16) -> Result<Option<ShardMeta>, Unavailable> {
        self.call(|state| state.shards.get(&shard).and_then(|shard| shard.meta))
    }

    async fn read(&self, shard: u16, from: Position, most: usize) -> Result<Vec<RawEntry>, Unavailable> {
        // Others may come in between, as they may with a real one.
        tokio::task::yield_now().await;
        self.call(|state| {
            let Some(shard) = state.shards.get(&shard) else { return Vec::new() };
            shard.entries.iter().filter(|entry| entry.at >= from).take(most).cloned().collect()
        })
    }

    async fn trim(&self, keep_from: &[(u16, Position)]) -> Result<(), Unavailable> {
        self.call(|state| {
            if state.refuse_trim {
                return Err(Unavailable::Timeout);
            }
            for (shard, keep_from) in keep_from {
                state.log.push(format!("trim {shard}"));
                if let Some(shard) = state.shards.get_mut(shard) {
                    shard.entries.retain(|entry| entry.at >= *keep_from);
                }
            }
            Ok(())
        })?
    }

    async fn set_meta(&self, shard: u16, expected: Option<&ShardMeta>, meta: &ShardMeta) -> Result<bool, Unavailable> {
        self.call(|state| {
            let place = &mut state.shards.entry(shard).or_default().meta;
            let fits = place.as_ref() == expected;
            if fits {
                *place = Some(*meta);
            }
            fits
        })
    }

    async fn wipe(&self, shard: u16, fence: &ShardMeta) -> Result<bool, Unavailable> {
        self.call(|state| {
            let place = state.shards.entry(shard).or_default();
            if place.meta.as_ref() != Some(fence) {
                return false;
            }
            place.entries.clear();
            state.log.push(format!("wipe {shard}"));
            true
        })
    }

    async fn redo(&self, shard: u16, fence: &ShardMeta, row: &RawEntry) -> Result<Option<ShardMeta>, Unavailable> {
        let entry = Entry::unpack(&row.payload).unwrap();
        self.call(|state| {
            let place = state.shards.entry(shard).or_default();
            if place.meta.as_ref() != Some(fence) {
                return None;
            }
            assert!(!fence.open, "redo under a fence");
            assert_eq!(row.digest, chain(&fence.digest, &row.payload), "redo in order");
            let meta = ShardMeta { top: row.at, digest: row.digest, now: fence.now.max(entry.at), ..*fence };
            (place.meta, place.redone) = (Some(meta), place.redone + 1);
            place.entries.push(row.clone());
            Some(meta)
        })
    }

    async fn restore(&self, shard: u16, fence: &ShardMeta, tombstones: &[Tombstone]) -> Result<bool, Unavailable> {
        self.call(|state| {
            if state.shards.entry(shard).or_default().meta.as_ref() != Some(fence) {
                return false;
            }
            for Tombstone { account, id, record } in tombstones {
                let name = (account.as_str().to_owned(), id.as_str().to_owned());
                state.restored.entry(name).or_insert_with(|| record.clone());
            }
            true
        })
    }

    async fn lease(&self, name: &str, holder: &str, ttl_ms: u64) -> Result<bool, Unavailable> {
        self.call(|state| {
            let now = Instant::now();
            if state.leases.get(name).is_some_and(|(other, until)| other != holder && *until > now) {
                return false;
            }
            state.leases.insert(name.into(), (holder.into(), now + Duration::from_millis(ttl_ms)));
            true
        })
    }

    fn serve(&self, shard: u16, generation: u32, era: u64) -> bool {
        let mut state = self.state();
        let serves = self.era.load(Ordering::SeqCst) == era;
        if serves {
            state.served.insert(shard, Some(generation));
            state.log.push(format!("serve {shard} {generation}"));
        }
        serves
    }

    fn stop(&self, shard: u16) {
        let mut state = self.state();
        state.served.insert(shard, None);
        state.log.push(format!("stop {shard}"));
    }

    async fn needs_attach(&self) {
        self.attach_needed.notified().await;
    }
}
