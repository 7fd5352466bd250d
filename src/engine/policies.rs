//! Policies in memory: by account, with the admissions already worked out, and by secret.
//!
//! Nothing here expires by time. A policy is replaced when a script answers `stale` (or when this
//! process changed it), and a secret is compared with the loaded policy at every use, so that a
//! revoked key stops with the next script call. That an account or a secret does not exist is
//! never remembered.
//!
//! `stale` can be trusted only as far as Redis can: a server that lost its last writes may have lost a
//! version that was raised. So rules are kept for one era of the counters, and read again in the next.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Engine, Payer,
    cache::Bounded,
    flight::Flights,
    ports::Unavailable,
    step::{Step, Stop},
};
use crate::quota::{
    clock::Millis,
    group::{AUTO, GroupTables},
    id::{AccountId, KeyId, Model, Platform},
    policy::{Admission, Ask, Policy},
    tariff::{Groups, PriceTag, Tariff},
    usage::Usage,
    verdict::{Code, Refusal},
};

/// Admissions kept per policy; when there are more they are all worked out anew.
const READY_MAX: usize = 256;

/// A policy and what was worked out from it.
pub(crate) struct Rules {
    pub(crate) policy: Arc<Policy>,
    /// Of the counters, when the store was asked.
    era: u64,
    /// By a hash of key, platform and model; a clash is told by comparing and costs a new entry.
    ready: RwLock<HashMap<u64, Arc<Ready>>>,
}

/// What the rules say of calls with this key, platform and model.
pub(crate) struct Ready {
    pub(crate) key: Option<KeyId>,
    pub(crate) platform: Option<Platform>,
    pub(crate) model: Option<Model>,
    /// The price group that the calls name.
    pub(crate) named: Option<Box<str>>,
    /// The account's own.
    user_group: Box<str>,
    pub(crate) admission: Admission,
    /// The tariff it was worked out with: version and stamp.
    tariff: (u32, u64),
    /// And with these.
    tables: Arc<GroupTables>,
    /// All prices of the model are 0.
    pub(crate) free: bool,
    /// Packed [`PriceTag`]; empty when the call names no priced model and is made in the payer's own group.
    pub(crate) price_tag: Vec<u8>,
}

impl Rules {
    pub(crate) fn new(policy: Policy, era: u64) -> Self {
        Self { policy: Arc::new(policy), era, ready: RwLock::default() }
    }

    /// The admission of a call, remembered unless it depends on the caller's address. `named`: the price group
    /// that it names.
    pub(crate) fn admit(&self, ask: &Ask<'_>, named: Option<&str>, terms: &Terms) -> Arc<Ready> {
        if self.policy.heeds_ip(ask.key) {
            return Arc::new(self.work_out(ask, named, terms));
        }
        let hash = hash(ask, named);
        if let Some(ready) = self.ready.read().unwrap_or_else(PoisonError::into_inner).get(&hash)
            && ready.fits(ask, named, terms)
        {
            return ready.clone();
        }
        let ready = Arc::new(self.work_out(ask, named, terms));
        let mut all = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= READY_MAX {
            all.clear();
        }
        all.insert(hash, ready.clone());
        ready
    }

    fn work_out(&self, ask: &Ask<'_>, named: Option<&str>, terms: &Terms) -> Ready {
        let Terms { tariff, tables } = terms;
        let admission = self.policy.admit_in(ask, named, tables);
        let groups = Groups { user: &self.policy.group, using: &admission.group };
        let priced = ask.model.and_then(|model| tariff.estimate(model.as_str(), groups, &Usage::default(), Some(0)));
        let tagged = priced.is_some() || groups.user != groups.using;
        let price_tag = if tagged { PriceTag::new(tariff.version, groups).pack() } else { Vec::new() };
        Ready {
            key: ask.key.cloned(),
            platform: ask.platform.cloned(),
            model: ask.model.cloned(),
            tariff: (tariff.version, tariff.stamp),
            tables: tables.clone(),
            free: priced.is_some_and(|estimate| estimate.free),
            price_tag,
            named: named.map(Into::into),
            user_group: self.policy.group.clone(),
            admission,
        }
    }

    /// Whether the secret with this hash is the key's, by these rules.
    fn opens(&self, key: &KeyId, sha256: &[u8; 32]) -> bool {
        self.policy.keys.get(key).is_some_and(|key| key.secret_sha256.as_ref() == Some(sha256))
    }

    /// The groups whose ratio holds for work that no reservation speaks of. It is done: a group that may not be used
    /// is charged all the same when it is named, and else the account's own.
    pub(crate) fn price_groups<'r>(
        &'r self,
        key: Option<&KeyId>,
        named: Option<&'r str>,
        model: Option<&Model>,
        tables: &'r GroupTables,
    ) -> Groups<'r> {
        let user = &*self.policy.group;
        let using = match named {
            Some(named) if named != AUTO => named,
            wish => tables.choose(self.policy.member(key), wish, model).unwrap_or(user),
        };
        Groups { user, using }
    }
}

/// What prices a call besides the rules of its account: the price list and the groups' tables.
pub(crate) struct Terms {
    pub(crate) tariff: Arc<Tariff>,
    pub(crate) tables: Arc<GroupTables>,
}

impl Ready {
    /// Whose ratio holds.
    pub(crate) fn groups(&self) -> Groups<'_> {
        Groups { user: &self.user_group, using: &self.admission.group }
    }

    fn fits(&self, ask: &Ask<'_>, named: Option<&str>, terms: &Terms) -> bool {
        self.admission.holds_at(ask.now)
            && self.tariff == (terms.tariff.version, terms.tariff.stamp)
            && Arc::ptr_eq(&self.tables, &terms.tables)
            && self.named.as_deref() == named
            && self.key.as_ref() == ask.key
            && self.platform.as_ref() == ask.platform
            && self.model.as_ref() == ask.model
    }
}

fn hash(ask: &Ask<'_>, named: Option<&str>) -> u64 {
    let parts = [ask.key.map(KeyId::as_str), ask.platform.map(Platform::as_str), ask.model.map(Model::as_str)];
    // An absent part is told from every name by a byte that no name holds.
    let seed = named.map_or(0, |named| xxh3_64_with_seed(named.as_bytes(), 0));
    parts.into_iter().fold(seed, |seed, part| xxh3_64_with_seed(part.unwrap_or("\0").as_bytes(), seed))
}

/// The caches. At most `most` policies, and as many secrets.
pub(crate) struct Cache {
    rules: Bounded<AccountId, Arc<Rules>>,
    secrets: Bounded<[u8; 32], (AccountId, KeyId)>,
    pub(crate) reads: Flights<Option<Arc<Rules>>>,
}

impl Cache {
    pub(crate) fn new(most: usize) -> Self {
        Self { rules: Bounded::new(most), secrets: Bounded::new(most), reads: Flights::new() }
    }

    /// Takes over a policy that was read from the store in `era`, unless a newer one is there; the rules
    /// now in force. The same version keeps what was worked out, in the same era.
    pub(crate) fn put(&self, policy: Policy, era: u64) -> Arc<Rules> {
        let (account, version) = (policy.account.clone(), policy.version);
        let keep = |there: &Arc<Rules>| there.era >= era && there.policy.version >= version;
        self.rules.put(&account, Arc::new(Rules::new(policy, era)), keep)
    }

    /// The account's rules, if they are of this era.
    pub(crate) fn get(&self, account: &AccountId, era: u64) -> Option<Arc<Rules>> {
        self.rules.get(account).filter(|rules| rules.era >= era)
    }

    pub(crate) fn remove(&self, account: &AccountId) {
        self.rules.remove(account);
    }
}

/// Who calls, by which rules.
pub(crate) struct Who {
    pub(crate) account: AccountId,
    pub(crate) key: Option<KeyId>,
    pub(crate) rules: Arc<Rules>,
}

impl Who {
    /// What can be spent: `balance + credit_limit - held`.
    pub(crate) fn available(&self, head: &crate::quota::counter::Head) -> i64 {
        head.balance + self.rules.policy.credit_limit - head.held
    }

    /// The question to ask the rules; the address is known to few verbs.
    pub(crate) fn ask<'a>(&'a self, platform: Option<&'a Platform>, model: Option<&'a Model>, now: Millis) -> Ask<'a> {
        Ask { key: self.key.as_ref(), platform, model, client_ip: None, now }
    }
}

pub(crate) fn no_account(account: &AccountId) -> Stop {
    Refusal::new(Code::AccountNotFound, format!("there is no account `{account}`")).into()
}

impl Engine {
    /// The price list and the groups' tables in force.
    pub(crate) fn terms(&self) -> Terms {
        Terms { tariff: self.tariffs.current(), tables: self.groups.load_full() }
    }

    /// The account's rules, from memory if they are there.
    pub(crate) async fn rules(&self, account: &AccountId) -> Result<Option<Arc<Rules>>, Unavailable> {
        self.loader.rules(account).await
    }

    /// The account's rules from the store.
    pub(crate) async fn reload(&self, account: &AccountId) -> Result<Option<Arc<Rules>>, Unavailable> {
        self.loader.reload(account).await
    }

    /// Finds the payer. `named` is the key that the call names: it must be the secret's own when
    /// a secret pays. To be asked again in every turn of a verb, for the rules may have changed.
    pub(crate) async fn who(&self, payer: &Payer, named: Option<&KeyId>) -> Step<Who> {
        let secret = match payer {
            Payer::Account(account) => {
                let rules = self.rules(account).await?.ok_or_else(|| no_account(account))?;
                return Ok(Who { account: account.clone(), key: named.cloned(), rules });
            }
            Payer::Secret(secret) => secret,
        };
        let (account, key, rules) = self.owner(&Sha256::digest(secret.as_bytes()).into()).await?;
        if named.is_some_and(|named| *named != key) {
            return Err(Refusal::invalid("key", "`api_key` belongs to another key than `key` names").into());
        }
        Ok(Who { account, key: Some(key), rules })
    }

    async fn owner(&self, sha256: &[u8; 32]) -> Step<(AccountId, KeyId, Arc<Rules>)> {
        if let Some((account, key)) = self.cache.secrets.get(sha256) {
            if let Some(rules) = self.rules(&account).await?
                && rules.opens(&key, sha256)
            {
                return Ok((account, key, rules));
            }
            self.cache.secrets.remove(sha256);
        }
        let unauthorized = || Refusal::new(Code::Unauthorized, "`api_key` is not a known secret");
        let (account, key) = self.policies.secret(sha256).await?.ok_or_else(unauthorized)?;
        // The rules in memory may be older than the secret: then the store's are asked.
        let mut rules = self.rules(&account).await?;
        if !rules.as_ref().is_some_and(|rules| rules.opens(&key, sha256)) {
            rules = self.reload(&account).await?;
        }
        let rules = rules.filter(|rules| rules.opens(&key, sha256)).ok_or_else(unauthorized)?;
        self.cache.secrets.put(sha256, (account.clone(), key.clone()), |_| false);
        Ok((account, key, rules))
    }
}
