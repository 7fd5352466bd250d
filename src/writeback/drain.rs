//! The port `Drain`: the slow path of an account that is not in Redis waits here until SQL has all of
//! its shard's entries. It posts them itself rather than wait for the worker's turn.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};

use super::poster::{PostError, Poster, Step};
use crate::{
    engine::ports::{Drain, Position, Unavailable},
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

    async fn drain_shard(&self, shard: u16) -> Result<Position, Unavailable> {
        let meta = self.poster.ports.stream.meta(shard).await?.ok_or(Unavailable::Recovering)?;
        if !meta.open {
            return Err(Unavailable::Recovering);
        }
        while !self.poster.has(shard, &meta).await? {
            match self.poster.post(shard).await {
                Ok(Step::Idle) => sleep(LOOK_AGAIN).await,
                Ok(Step::Posted { .. } | Step::Overtaken) => {}
                Err(error) => match self.poster.judge(shard, error).await {
                    PostError::Unavailable(reason) => return Err(reason),
                    stopped @ (PostError::Diverged(_) | PostError::Stopped(_)) => {
                        return Err(Unavailable::Store(stopped.to_string()));
                    }
                },
            }
        }
        Ok(meta.top)
    }
}

#[async_trait]
impl Drain for Drainer {
    async fn drain(&self, account: &AccountId) -> Result<Position, Unavailable> {
        let shard = self.poster.ports.counters.shard_of(account);
        timeout(PATIENCE, self.drain_shard(shard)).await.unwrap_or(Err(Unavailable::Timeout))
    }
}
