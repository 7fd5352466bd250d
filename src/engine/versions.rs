//! Versions of rules: how Redis, and by it every sidecar, hears that SQL has others.

use super::{
    Engine,
    ports::{Status, Unavailable},
};
use crate::quota::id::AccountId;

impl Engine {
    /// From then on no sidecar decides by older rules. An account that Redis does not hold gets the version when it
    /// is loaded. True when Redis had seen a later one, which was overtaken: then the rules are those of SQL under
    /// another version than this.
    pub(crate) async fn raise_version(&self, account: &AccountId, version: u32) -> Result<bool, Unavailable> {
        match self.tell_version(account, version).await? {
            seen if seen > version => self.overtake(account, seen).await,
            _ => Ok(false),
        }
    }

    /// The version that Redis has now; 0 without the account.
    async fn tell_version(&self, account: &AccountId, version: u32) -> Result<u32, Unavailable> {
        let reply = self.counters.raise_version(account, version).await?;
        match reply.status {
            Status::Done | Status::Replayed | Status::Idle | Status::Absent => {
                Ok(reply.head.map_or(0, |head| head.version))
            }
            Status::Generation => Err(Unavailable::Recovering),
            other => Err(Unavailable::Corrupt(format!("raising a version was answered {other:?}"))),
        }
    }

    /// Redis has seen a version that SQL does not have: SQL was restored from an older copy. Its rules are the truth
    /// all the same, under a version that is new to everybody. False, and nothing is done, when SQL has caught up
    /// meanwhile.
    pub(crate) async fn overtake(&self, account: &AccountId, seen: u32) -> Result<bool, Unavailable> {
        let Some(version) = self.policies.overtake(account, seen).await? else { return Ok(false) };
        tracing::warn!(%account, seen, version, "the database's rules are older than those Redis has seen, as after \
            it was restored from a copy: they are in force again");
        self.reload(account).await?;
        self.tell_version(account, version).await?;
        Ok(true)
    }
}
