//! Floor 1: the use cases. Each verb is one file; [`ports`] is what they need from outside. All
//! verbs take typed requests, ask the policy, call one script, and answer a verdict; what they
//! cannot tell is `Err(Unavailable)`.
//!
//! Around the verbs: `policies`, `tariffs` and `settings` (what is in memory), `decide`, `load` and `versions` (what to do
//! when a script cannot decide), `content` (what makes two calls the same), `pricing`, `limits` and
//! `denial` (numbers in, refusals out), `estimate` (what a call would hold), `sweep` (holds that nobody
//! ended), `unload` (accounts that nobody uses), `degraded` (what is answered without Redis), `trust`
//! (what is granted without asking). `again` is the loop of what runs beside the calls.
//! Deliberately absent: any lock or queue around an account while a call is under way; Redis orders the
//! calls.

pub mod accounts;
pub mod adjust;
mod again;
pub mod balance;
mod cache;
mod changes;
pub mod charge;
pub mod codes;
mod content;
mod decide;
pub mod defaults;
mod degraded;
mod denial;
pub mod estimate;
pub mod extend;
mod flight;
pub mod keys;
mod limits;
mod load;
pub mod outbox;
pub mod own_key;
pub mod patch;
pub mod platforms;
mod policies;
pub mod ports;
mod pricing;
pub mod provision;
pub mod reconcile;
pub mod referrals;
pub mod refund;
pub mod release;
pub mod reserve;
pub mod reset;
pub mod settings;
pub mod settle;
mod signup;
mod step;
mod sweep;
pub mod tariffs;
#[cfg(test)]
mod tests;
mod trust;
pub mod unload;
mod versions;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::quota::{
    clock::Clock,
    group::GroupTables,
    id::{AccountId, KeyId},
    tariff::Tariff,
    verdict::Verdict,
};
use degraded::Local;
use estimate::Texts;
use flight::Flights;
use load::Loader;
use policies::Cache;
use ports::{Backlog, Counters, Drain, LedgerStore, News, PolicyStore, Spool, Unavailable};
use settings::{Deployment, Live};
use tariffs::Tariffs;
use trust::Trust;

/// What a verb answers.
pub type Answer<T> = Result<Verdict<T>, Unavailable>;

/// Who pays: named, or found through the caller's secret.
#[derive(Clone, Debug)]
pub enum Payer {
    Account(AccountId),
    /// The API key's secret, never logged.
    Secret(Box<str>),
}

/// What an aborted call costs when nobody says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortCharge {
    Nothing,
    /// The estimate's prompt part; nothing when the reserve carried no estimate.
    Prompt,
    /// The whole hold.
    Estimate,
}

/// The engine's settings; `config.rs` documents each.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is set at run time starts from here.
    pub deployment: Deployment,
    /// The most sidecars that share this Redis: each trusts for its part of the threshold.
    pub trust_sidecars: u32,
    /// Policies kept in memory.
    pub policy_cache_accounts: usize,
    /// Written to the log blob only when true.
    pub log_ip: bool,
    /// A whole call of the gateway is answered by then, or a little later.
    pub time_budget: Duration,
}

/// The engine: shared by every listener, one per process.
pub struct Engine {
    pub(crate) counters: Arc<dyn Counters>,
    pub(crate) policies: Arc<dyn PolicyStore>,
    pub(crate) ledger: Arc<dyn LedgerStore>,
    pub(crate) drain: Arc<dyn Drain>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) settings: Settings,
    live: Arc<Live>,
    news: Option<Arc<dyn News>>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) tariffs: Tariffs,
    loader: Loader,
    /// Cold loads under way.
    loads: Flights<()>,
    pub(crate) backlog: Arc<Backlog>,
    /// What is done without Redis.
    pub(crate) local: Local,
    pub(crate) trust: Trust,
    pub(crate) texts: Texts,
    /// Which price groups there are, and for whom.
    pub(crate) groups: ArcSwap<GroupTables>,
}

impl Engine {
    #[must_use]
    pub fn new(
        counters: Arc<dyn Counters>,
        policies: Arc<dyn PolicyStore>,
        ledger: Arc<dyn LedgerStore>,
        drain: Arc<dyn Drain>,
        clock: Arc<Clock>,
        settings: Settings,
    ) -> Self {
        let cache = Arc::new(Cache::new(settings.policy_cache_accounts));
        let loader = Loader {
            counters: counters.clone(),
            policies: policies.clone(),
            drain: drain.clone(),
            cache: cache.clone(),
        };
        let live = Arc::new(Live::new(settings.deployment.clone()));
        let local = Local::new(&live.now());
        let trust = Trust::new(live.clone(), settings.trust_sidecars);
        let (tariffs, loads) = (Tariffs::new(Tariff::builtin()), Flights::new());
        let (backlog, groups) = (Arc::default(), ArcSwap::default());
        Self {
            counters,
            policies,
            ledger,
            drain,
            clock,
            settings,
            live,
            news: None,
            cache,
            tariffs,
            loader,
            loads,
            backlog,
            local,
            trust,
            texts: Texts::default(),
            groups,
        }
    }

    /// The same engine, which takes on no more while SQL is further behind than it may be.
    #[must_use]
    pub fn with_backlog(self, backlog: Arc<Backlog>) -> Self {
        Self { backlog, ..self }
    }

    /// Where calls that are answered without Redis are kept; without one, none are.
    #[must_use]
    pub fn with_spool(mut self, spool: Arc<dyn Spool>) -> Self {
        self.local.spool = Some(spool);
        self
    }

    /// Takes over the tables of price groups; the next call is decided by them.
    pub fn set_groups(&self, tables: GroupTables) {
        // The same tables again leave what was worked out with them.
        if **self.groups.load() != tables {
            self.groups.store(Arc::new(tables));
        }
    }

    /// How other sidecars are told of changes; without it they find them by themselves.
    #[must_use]
    pub fn with_news(self, news: Arc<dyn News>) -> Self {
        Self { news: Some(news), ..self }
    }

    /// Account and key behind a payer, for callers that need the name (authz headers, metrics).
    pub async fn identify(&self, payer: &Payer) -> Answer<(AccountId, Option<KeyId>)> {
        let found = async { Ok(step::Done::now(self.who(payer, None).await.map(|who| (who.account, who.key))?)) };
        self.in_time(Box::pin(found)).await
    }
}
