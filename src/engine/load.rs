//! Cold loads: an account that Redis does not have is installed from what SQL has posted.
//!
//! The nonce (write-back, "Cold account") makes sure that only numbers read after it can be
//! installed, and only where nothing has been installed since.

use std::time::Duration;

use super::{
    Engine,
    ports::{AdjustCall, Status, Unavailable},
};
use crate::quota::{entry::Kind, fingerprint::Fingerprint, id::AccountId};

/// How long to leave another sidecar's load alone before looking again.
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(5);
/// Attempts at posting an initial balance, whose script may time out once it is the account's first.
const INITIAL_ATTEMPTS: u32 = 3;

impl Engine {
    /// Sees to it that the account is loaded, if it exists; the caller looks again. One load per
    /// account and process at a time.
    pub(crate) async fn load(&self, account: &AccountId) -> Result<(), Unavailable> {
        self.loads.run(account, || self.load_once(account)).await
    }

    async fn load_once(&self, account: &AccountId) -> Result<(), Unavailable> {
        let nonce = self.counters.begin_load(account).await?;
        self.drain.drain(account).await?;
        let Some(mut posted) = self.policies.posted(account).await? else {
            self.cache.remove(account);
            return Ok(());
        };
        let known = self.rules(account).await?.map_or(0, |rules| rules.policy.version);
        let version = posted.counters.head.version.max(known);
        posted.counters.head.version = version;
        let reply = self.counters.hydrate(account, nonce, &posted.counters).await?;
        match reply.status {
            Status::Done => {}
            Status::Idle => {
                tokio::time::sleep(ELSEWHERE_PAUSE).await;
                return Ok(());
            }
            Status::Generation => return Err(Unavailable::Recovering),
            other => return Err(Unavailable::Corrupt(format!("hydrate answered {other:?}"))),
        }
        // A change made meanwhile found no account in Redis whose version it could raise.
        if let Some(rules) = self.reload(account).await?
            && rules.policy.version > version
        {
            self.counters.raise_version(account, rules.policy.version).await?;
        }
        self.post_initial(account, posted.initial).await
    }

    /// Credits the balance an account was created with. Its op id makes that happen once, however
    /// many sidecars try.
    pub(crate) async fn post_initial(
        &self,
        account: &AccountId,
        initial: Option<(crate::quota::id::OpId, i64)>,
    ) -> Result<(), Unavailable> {
        let Some((op_id, amount)) = initial else { return Ok(()) };
        let call = AdjustCall {
            account,
            kind: Kind::Initial,
            op_id: &op_id,
            amount,
            force: false,
            fingerprint: Fingerprint::of("initial", &[Some(&amount.to_string())]),
            log: &[],
        };
        let mut attempt = 1;
        let reply = loop {
            match self.counters.adjust(&call).await {
                Ok(reply) => break reply,
                Err(_) if attempt < INITIAL_ATTEMPTS => attempt += 1,
                Err(unavailable) => return Err(unavailable),
            }
        };
        match reply.status {
            // Absent: unloaded again already; the next load finds it unposted and comes here.
            Status::Done | Status::Replayed | Status::Absent => Ok(()),
            Status::Generation => Err(Unavailable::Recovering),
            other => Err(Unavailable::Corrupt(format!("the initial balance was answered {other:?}"))),
        }
    }
}
