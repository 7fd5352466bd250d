//! The real database behind a door that can shut: answers of commits get lost, calls fail.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use async_trait::async_trait;
use quotad::{
    engine::ports::{
        Applied, Batch, Constants, Digest, Mark, Opened, Opening, Position, Posting, RawEntry, StoreError,
    },
    quota::entry::Entry,
    sql::Store,
};

use super::budget::{Budget, Dead};

pub struct Door {
    store: Mutex<Arc<Store>>,
    budget: Arc<Budget>,
    /// The next commit is done, but its answer is an error.
    pub lose_answer: AtomicBool,
    /// The next batch finds that the mark has moved.
    pub overtake: AtomicBool,
    /// Calls are refused while set.
    pub shut: AtomicBool,
    /// What the next look at each of these shards shows: something that was true before.
    pub stale: Mutex<Vec<Opened>>,
    /// Batches that moved a mark, and transactions that had any.
    pub applied: AtomicU32,
    pub applies: AtomicU32,
}

impl Door {
    pub fn new(store: Arc<Store>, budget: Arc<Budget>) -> Self {
        Self {
            store: Mutex::new(store),
            budget,
            lose_answer: AtomicBool::new(false),
            overtake: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            stale: Mutex::default(),
            applied: AtomicU32::new(0),
            applies: AtomicU32::new(0),
        }
    }

    pub fn store(&self) -> Arc<Store> {
        self.store.lock().unwrap().clone()
    }

    /// Another database answers from now on.
    pub fn put(&self, store: Arc<Store>) {
        *self.store.lock().unwrap() = store;
    }

    async fn pass<T>(&self, act: impl AsyncFnOnce(&Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.shut.load(Ordering::SeqCst) {
            return Err(lost());
        }
        let loses = self.budget.enter().map_err(|Dead| lost())?;
        let answer = act(&self.store()).await;
        if loses { Err(lost()) } else { answer }
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the connection was lost".into())
}

#[async_trait]
impl Posting for Door {
    async fn opened(&self, shard: u16) -> Result<Option<Opened>, StoreError> {
        let answer = self.pass(async |store| store.opened(shard).await).await?;
        let mut stale = self.stale.lock().unwrap();
        let place = stale.iter().position(|opened| opened.shard == shard);
        Ok(place.map(|place| stale.swap_remove(place)).or(answer))
    }

    async fn all_opened(&self) -> Result<Vec<Opened>, StoreError> {
        let answer = self.pass(async |store| store.all_opened().await).await?;
        let stale = self.stale.lock().unwrap();
        Ok(if stale.is_empty() { answer } else { stale.clone() })
    }

    async fn apply(&self, batches: &[Batch]) -> Result<Vec<Applied>, StoreError> {
        if self.overtake.swap(false, Ordering::SeqCst) {
            return Ok(vec![Applied::default(); batches.len()]);
        }
        let applied = self.pass(async |store| store.apply(batches).await).await?;
        let moved = applied.iter().filter(|one| one.moved).count();
        self.applied.fetch_add(moved as u32, Ordering::SeqCst);
        self.applies.fetch_add(1, Ordering::SeqCst);
        if self.lose_answer.swap(false, Ordering::SeqCst) { Err(lost()) } else { Ok(applied) }
    }

    async fn open_generation(
        &self,
        shard: u16,
        expected: Option<&Mark>,
        opening: &Opening,
    ) -> Result<Option<Mark>, StoreError> {
        let opened = self.pass(async |store| store.open_generation(shard, expected, opening).await).await?;
        if self.lose_answer.swap(false, Ordering::SeqCst) { Err(lost()) } else { Ok(opened) }
    }

    async fn rows_after(&self, shard: u16, after: Position, most: u32) -> Result<Vec<RawEntry>, StoreError> {
        self.pass(async |store| store.rows_after(shard, after, most).await).await
    }

    async fn known(&self, entries: &[Entry]) -> Result<Vec<bool>, StoreError> {
        self.pass(async |store| store.known(entries).await).await
    }

    async fn uncompensated(&self, most: u32) -> Result<Vec<(u16, RawEntry)>, StoreError> {
        self.pass(async |store| store.uncompensated(most).await).await
    }

    async fn constants(&self, wanted: Constants) -> Result<Constants, StoreError> {
        self.pass(async |store| store.constants(wanted).await).await
    }

    async fn last_run_id(&self) -> Result<Option<String>, StoreError> {
        self.pass(async |store| store.last_run_id().await).await
    }

    async fn set_run_id(&self, run_id: &str) -> Result<(), StoreError> {
        self.pass(async |store| store.set_run_id(run_id).await).await
    }

    async fn digest_at(&self, shard: u16, at: Position) -> Result<Option<Digest>, StoreError> {
        self.pass(async |store| store.digest_at(shard, at).await).await
    }

    async fn recent(&self, shard: u16, before: Option<Position>, most: u32) -> Result<Vec<RawEntry>, StoreError> {
        self.pass(async |store| store.recent(shard, before, most).await).await
    }
}
