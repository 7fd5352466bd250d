//! Cold loads: an account that Redis does not have is installed from what SQL has posted.
//!
//! The nonce (write-back, "Cold account") makes sure that only numbers read after it can be
//! installed, and only where nothing has been installed since.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Engine,
    policies::{Cache, Rules},
    ports::{AdjustCall, Counters, Drain, Load, PolicyStore, Status, Unavailable},
};
use crate::{
    metrics,
    quota::{entry::Kind, fingerprint::Fingerprint, id::AccountId},
};

/// How long to leave another sidecar's load alone before looking again.
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(5);
/// Attempts at posting an initial balance, whose script may time out once it is the account's first.
const INITIAL_ATTEMPTS: u32 = 3;

#[async_trait]
impl Load for Engine {
    async fn load(&self, account: &AccountId) -> Result<(), Unavailable> {
        Engine::load(self, account).await
    }
}

/// What a load or a read of policies needs, in its own hands: it goes on when its caller has gone.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) counters: Arc<dyn Counters>,
    pub(crate) policies: Arc<dyn PolicyStore>,
    pub(crate) drain: Arc<dyn Drain>,
    pub(crate) cache: Arc<Cache>,
}

impl Engine {
    /// Sees to it that the account is loaded, if it exists; the caller looks again. One load per
    /// account and process at a time.
    pub(crate) async fn load(&self, account: &AccountId) -> Result<(), Unavailable> {
        let load = || {
            let (loader, account) = (self.loader.clone(), account.clone());
            async move { loader.load_once(&account).await }
        };
        self.loads.run(account, load).await
    }

    /// See [`Loader::post_initial`].
    pub(crate) async fn post_initial(
        &self,
        account: &AccountId,
        initial: Option<(crate::quota::id::OpId, i64)>,
    ) -> Result<(), Unavailable> {
        self.loader.post_initial(account, initial).await
    }
}

impl Loader {
    /// The account's rules, from memory if they are there.
    pub(crate) async fn rules(&self, account: &AccountId) -> Result<Option<Arc<Rules>>, Unavailable> {
        match self.cache.get(account, self.counters.era()) {
            Some(rules) => Ok(Some(rules)),
            None => self.reload(account).await,
        }
    }

    /// The account's rules from the store.
    pub(crate) async fn reload(&self, account: &AccountId) -> Result<Option<Arc<Rules>>, Unavailable> {
        let read = || {
            let (loader, account) = (self.clone(), account.clone());
            async move { loader.read(&account).await }
        };
        self.cache.reads.run(account, read).await
    }

    async fn read(&self, account: &AccountId) -> Result<Option<Arc<Rules>>, Unavailable> {
        // Before the store is asked: what is lost meanwhile belongs to the next era.
        let era = self.counters.era();
        metrics::policy_reloaded(if self.cache.get(account, 0).is_some() { "stale" } else { "miss" });
        let Some(policy) = self.policies.policy(account).await? else {
            self.cache.remove(account);
            return Ok(None);
        };
        Ok(Some(self.cache.put(policy, era)))
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
