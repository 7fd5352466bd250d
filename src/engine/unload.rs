//! Unload: an account that nobody asks for leaves Redis; its next call loads it again. SQL has all of it
//! by then: the script sees to it that it holds nothing and that no entry of its is younger than what is
//! posted.

use std::{sync::Arc, time::Duration};

use super::ports::{Counters, Position, Posting, Status, Unavailable};
use crate::{
    metrics,
    quota::{
        clock::{Clock, Millis},
        entry::Entry,
        id::AccountId,
    },
};

/// Finds idle accounts and unloads them. Several at the same time do no harm.
pub struct Unloader {
    counters: Arc<dyn Counters>,
    posting: Arc<dyn Posting>,
    clock: Arc<Clock>,
    idle: Duration,
}

/// Where a walk over all loaded accounts stands; the default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub shard: u16,
    pub cursor: u64,
}

impl Unloader {
    /// Accounts last written longer than `idle` ago are unloaded.
    #[must_use]
    pub fn new(counters: Arc<dyn Counters>, posting: Arc<dyn Posting>, clock: Arc<Clock>, idle: Duration) -> Self {
        Self { counters, posting, clock, idle }
    }

    /// Goes over one page of loaded accounts: how many were unloaded, and where to go on; `None` at the
    /// end of the last shard.
    ///
    /// # Errors
    /// [`Unavailable`]; the page can be asked for again.
    pub async fn page(&self, at: Place) -> Result<(u64, Option<Place>), Unavailable> {
        let (cursor, accounts) = self.counters.loaded(at.shard, at.cursor).await?;
        let idle_ms = i64::try_from(self.idle.as_millis()).unwrap_or(i64::MAX);
        let before = Millis(self.clock.now().0.saturating_sub(idle_ms));
        let idle: Vec<AccountId> =
            accounts.into_iter().filter(|(_, written)| *written <= before).map(|(account, _)| account).collect();
        let gone = if idle.is_empty() { 0 } else { self.unload(at.shard, &idle).await? };
        metrics::unloaded(gone);
        let next = match cursor {
            0 if at.shard + 1 < self.counters.shards() => Some(Place { shard: at.shard + 1, cursor: 0 }),
            0 => None,
            cursor => Some(Place { cursor, ..at }),
        };
        Ok((gone, next))
    }

    async fn unload(&self, shard: u16, accounts: &[AccountId]) -> Result<u64, Unavailable> {
        let Some((posted, posted_at)) = self.posted(shard).await? else { return Ok(0) };
        let mut gone = 0;
        for account in accounts {
            match self.counters.unload(account, posted, posted_at).await?.status {
                Status::Done => gone += 1,
                Status::Generation => return Err(Unavailable::Recovering),
                // It was used meanwhile, holds something, or is gone already.
                _ => {}
            }
        }
        Ok(gone)
    }

    /// Up to where the shard is posted, and when the last entry that is posted was made.
    async fn posted(&self, shard: u16) -> Result<Option<(Position, Millis)>, Unavailable> {
        let Some(opened) = self.posting.opened(shard).await? else { return Ok(None) };
        let last = self.posting.recent(shard, None, 1).await?.pop();
        let Some(last) = last else { return Ok(Some((opened.mark.at, Millis(0)))) };
        let entry = Entry::unpack(&last.payload).map_err(|error| Unavailable::Corrupt(error.to_string()))?;
        Ok(Some((opened.mark.at.max(last.at), entry.at)))
    }
}
