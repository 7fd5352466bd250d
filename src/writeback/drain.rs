//! The port `Drain`: the slow path of an account that is not in Redis waits here until SQL has all of
//! its shard's entries. It posts them itself rather than wait for the worker's turn.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};

use super::poster::{PostError, Poster, Step};
use crate::{
    engine::ports::{Drain, Unavailable},
    quota::id::AccountId,
};

/// A drain that takes longer answers `Timeout`; what it posted stays posted.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause when there was nothing to post although the mark seemed behind.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Drains one shard at a time.
pub struct Drainer {
    poster: Arc<Poster>,
}

impl Drainer {
    pub(super) fn new(poster: Arc<Poster>) -> Self {
        Self { poster }
    }

    async fn drain_shard(&self, shard: u16) -> Result<(), Unavailable> {
        let meta = self.poster.ports.stream.meta(shard).await?.ok_or(Unavailable::Recovering)?;
        if !meta.open {
            return Err(Unavailable::Recovering);
        }
        // Whatever the mark was when it was last seen, SQL has at least that.
        while self.poster.seen(shard).await? < meta.top {
            match self.poster.post_once(shard).await {
                Ok(Step::Idle) => sleep(LOOK_AGAIN).await,
                Ok(Step::Posted { .. } | Step::Overtaken) => {}
                Err(PostError::Unavailable(reason)) => return Err(reason),
                Err(PostError::Stopped(sentence)) => return Err(Unavailable::Store(sentence)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Drain for Drainer {
    async fn drain(&self, account: &AccountId) -> Result<(), Unavailable> {
        let shard = self.poster.ports.counters.shard_of(account);
        timeout(PATIENCE, self.drain_shard(shard)).await.unwrap_or(Err(Unavailable::Timeout))
    }
}
