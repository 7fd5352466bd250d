//! The real database behind a door that can shut: answers of commits get lost, calls fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use async_trait::async_trait;
use quotad::{
    engine::ports::{Applied, Batch, Constants, Digest, Mark, Position, Posting, RawEntry, StoreError},
    sql::Store,
};

pub struct Door {
    pub store: Arc<Store>,
    /// The next commit is done, but its answer is an error.
    pub lose_answer: AtomicBool,
    /// The next batch finds that the mark has moved.
    pub overtake: AtomicBool,
    /// Calls are refused while set.
    pub shut: AtomicBool,
    pub applied: AtomicU32,
}

impl Door {
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            lose_answer: AtomicBool::new(false),
            overtake: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            applied: AtomicU32::new(0),
        }
    }

    fn pass(&self) -> Result<&Store, StoreError> {
        if self.shut.load(Ordering::SeqCst) { Err(lost()) } else { Ok(&self.store) }
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the connection was lost".into())
}

#[async_trait]
impl Posting for Door {
    async fn mark(&self, shard: u16) -> Result<Option<Mark>, StoreError> {
        self.pass()?.mark(shard).await
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        if self.overtake.swap(false, Ordering::SeqCst) {
            return Ok(Applied::default());
        }
        let applied = self.pass()?.apply(batch).await?;
        if applied.moved {
            self.applied.fetch_add(1, Ordering::SeqCst);
        }
        if self.lose_answer.swap(false, Ordering::SeqCst) { Err(lost()) } else { Ok(applied) }
    }

    async fn open_generation(
        &self,
        shard: u16,
        expected: Option<&Mark>,
        generation: u32,
    ) -> Result<Option<Mark>, StoreError> {
        let opened = self.pass()?.open_generation(shard, expected, generation).await?;
        if self.lose_answer.swap(false, Ordering::SeqCst) { Err(lost()) } else { Ok(opened) }
    }

    async fn constants(&self, wanted: Constants) -> Result<Constants, StoreError> {
        self.pass()?.constants(wanted).await
    }

    async fn last_run_id(&self) -> Result<Option<String>, StoreError> {
        self.pass()?.last_run_id().await
    }

    async fn set_run_id(&self, run_id: &str) -> Result<(), StoreError> {
        self.pass()?.set_run_id(run_id).await
    }

    async fn digest_at(&self, shard: u16, at: Position) -> Result<Option<Digest>, StoreError> {
        self.pass()?.digest_at(shard, at).await
    }

    async fn recent(&self, shard: u16, before: Option<Position>, most: u32) -> Result<Vec<RawEntry>, StoreError> {
        self.pass()?.recent(shard, before, most).await
    }
}
