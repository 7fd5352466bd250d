//! Balance: an account's live numbers, and one reservation as it stands.

use std::sync::Arc;

use super::{
    Answer, Engine, Payer,
    denial::no_reservation,
    limits,
    policies::{Who, no_account},
    step::{Done, Step, verdict},
};
use crate::quota::{
    clock::Millis,
    counter::{AccountCounters, Head},
    id::{AccountId, KeyId, ReservationId},
    limit::{GroupField, Limit},
    policy::{KeyPolicy, KeyStanding, Policy},
    reservation::Record,
    verdict::LimitState,
};

#[derive(Clone, Debug)]
pub struct KeyBalance {
    pub key: KeyId,
    pub standing: KeyStanding,
    /// Units left of the allowance, holds taken off; `None` is unlimited.
    pub left: Option<i64>,
    pub used: i64,
    pub held: i64,
    pub requests: i64,
}

#[derive(Clone, Debug)]
pub struct Sheet {
    pub account: AccountId,
    pub balance: i64,
    pub held: i64,
    pub available: i64,
    pub credit_limit: i64,
    pub used: i64,
    pub requests: i64,
    pub keys: Vec<KeyBalance>,
    /// The account's and its keys' limits; an expired window reads 0.
    pub limits: Vec<LimitState>,
    pub at: Millis,
}

#[derive(Clone, Debug)]
pub struct ReservationView {
    pub account: AccountId,
    pub id: ReservationId,
    pub record: Record,
}

impl Engine {
    pub async fn balance(&self, payer: &Payer) -> Answer<Sheet> {
        let sheet = async {
            let mut who = self.who(payer, None).await?;
            let (at, counters) = self.read_loaded(&who.account).await?;
            if counters.head.version > who.rules.policy.version {
                self.reload(&who.account).await?;
                who = self.who(payer, None).await?;
            }
            Ok(Done::now(sheet(&who, at, &counters)))
        };
        self.in_time(Box::pin(sheet)).await
    }

    /// From Redis, else from the ledger.
    pub async fn reservation(&self, account: &AccountId, id: &ReservationId) -> Answer<ReservationView> {
        let view = async {
            self.rules(account).await?.ok_or_else(|| no_account(account))?;
            let mut record = self.counters.read_record(account, id).await?;
            if record.is_none() {
                record = self.ledger.record(account, id).await?;
            }
            let record = record.ok_or_else(|| no_reservation(id.as_str()))?;
            Ok(Done::now(ReservationView { account: account.clone(), id: id.clone(), record }))
        };
        verdict(view.await)
    }

    /// The account's counters, loaded first when they are not.
    pub(crate) async fn read_loaded(&self, account: &AccountId) -> Step<(Millis, AccountCounters)> {
        let mut turns = self.turns();
        loop {
            if let Some(found) = self.counters.read_account(account).await? {
                return Ok(found);
            }
            turns.again("the account is being loaded elsewhere")?;
            self.load(account).await?;
            self.rules(account).await?.ok_or_else(|| no_account(account))?;
        }
    }

    /// The account's own numbers as they are now, for the answer to a replay.
    pub(crate) async fn head(&self, account: &AccountId) -> Step<Head> {
        Ok(self.read_loaded(account).await?.1.head)
    }
}

fn sheet(who: &Who, at: Millis, counters: &AccountCounters) -> Sheet {
    let policy = &who.rules.policy;
    let mut keys: Vec<(&KeyId, &KeyPolicy)> = policy.keys.iter().collect();
    keys.sort_unstable_by_key(|(key, _)| *key);
    let mut limits = limit_states(policy, None, &policy.limits, at, counters);
    for (key, rules) in &keys {
        limits.extend(limit_states(policy, Some(key), &rules.limits, at, counters));
    }
    let head = &counters.head;
    Sheet {
        account: who.account.clone(),
        balance: head.balance,
        held: head.held,
        available: who.available(head),
        credit_limit: policy.credit_limit,
        used: head.used,
        requests: head.requests,
        keys: keys.into_iter().map(|(key, rules)| key_balance(key, rules, at, counters)).collect(),
        limits,
        at,
    }
}

pub(crate) fn key_balance(key: &KeyId, rules: &KeyPolicy, at: Millis, counters: &AccountCounters) -> KeyBalance {
    let counter = counters.keys.iter().find(|(of, _)| of == key).map(|(_, counter)| *counter).unwrap_or_default();
    KeyBalance {
        key: key.clone(),
        standing: rules.standing(at, Some(counter.used)),
        left: rules.allowance.map(|allowance| (allowance - counter.used - counter.held).max(0)),
        used: counter.used,
        held: counter.held,
        requests: counter.requests,
    }
}

pub(crate) fn limit_states<'a>(
    policy: &'a Policy,
    key: Option<&'a KeyId>,
    of: &'a [Arc<Limit>],
    at: Millis,
    counters: &'a AccountCounters,
) -> Vec<LimitState> {
    let state = |limit: &Arc<Limit>| {
        let field = GroupField::new(&limit.platform, &limit.model, key);
        let group = counters.groups.iter().find(|(of, _)| *of == field).map(|(_, windows)| windows.as_slice());
        let counter = group.unwrap_or_default().iter().find(|counter| counter.code == limit.code());
        limits::live(limit, key, counter, &policy.zone, at)
    };
    of.iter().map(state).collect()
}
