//! Versions of rules: how Redis, and by it every sidecar, hears that SQL has others.

use super::{
    Engine,
    ports::{Status, Unavailable},
};
use crate::quota::id::AccountId;

impl Engine {
    /// From then on no sidecar decides by older rules. An account that Redis does not hold gets the version when it
    /// is loaded.
    pub(crate) async fn raise_version(&self, account: &AccountId, version: u32) -> Result<(), Unavailable> {
        let reply = self.counters.raise_version(account, version).await?;
        match reply.status {
            Status::Done | Status::Replayed | Status::Idle | Status::Absent => Ok(()),
            Status::Generation => Err(Unavailable::Recovering),
            other => Err(Unavailable::Corrupt(format!("raising a version was answered {other:?}"))),
        }
    }

    /// The same for a version that another sidecar may have written: this one has to read the rules, too, because
    /// what is granted without Redis goes by what is in memory.
    pub(crate) async fn catch_up(&self, account: &AccountId, version: u32) -> Result<(), Unavailable> {
        if self.cache.get(account, 0).is_some_and(|rules| rules.policy.version < version) {
            self.reload(account).await?;
        }
        self.raise_version(account, version).await
    }

    /// Redis has seen a version that SQL does not have: SQL was restored from an older copy. Its rules are the truth
    /// all the same, under a version that is new to everybody; nothing, when SQL has caught up meanwhile.
    pub(crate) async fn overtake(&self, account: &AccountId, seen: u32) -> Result<(), Unavailable> {
        let Some(version) = self.policies.overtake(account, seen).await? else { return Ok(()) };
        tracing::warn!(%account, seen, version, "the database's rules are older than those Redis has seen, as after \
            it was restored from a copy: they are in force again");
        self.reload(account).await?;
        self.raise_version(account, version).await
    }
}
