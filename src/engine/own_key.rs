//! A key as its owner sees it, who has nothing but its secret. Also of a key that may not spend (any more).

use super::{
    Answer, Engine, Payer,
    balance::{KeyBalance, key_balance, limit_states},
    step::Done,
};
use crate::quota::{
    clock::Millis,
    id::KeyId,
    policy::{KeyPolicy, KeyStanding},
    tariff::{Groups, Ratio},
    verdict::{Code, LimitState, Refusal},
};

#[derive(Clone, Debug)]
pub struct OwnKey {
    pub key: KeyId,
    pub rules: KeyPolicy,
    pub standing: KeyStanding,
    pub balance: KeyBalance,
    /// Its own limits, not its account's; an expired window reads 0.
    pub limits: Vec<LimitState>,
    /// The price group of calls that name none, or `auto`.
    pub group: Box<str>,
    /// What its calls can be made in.
    pub groups: Vec<GroupChoice>,
    /// Scale of all amounts.
    pub units_per_usd: i64,
    pub at: Millis,
}

/// A price group that a key may use.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupChoice {
    pub group: Box<str>,
    pub description: Box<str>,
    /// What prices are multiplied with in it.
    pub ratio: Ratio,
}

impl Engine {
    /// Refused (`unauthorized`) for a secret that nobody knows; for nothing else.
    pub async fn own_key(&self, secret: &str) -> Answer<OwnKey> {
        let payer = Payer::Secret(secret.into());
        let found = async {
            let mut who = self.who(&payer, None).await?;
            let (at, counters) = self.read_loaded(&who.account).await?;
            if counters.head.version > who.rules.policy.version {
                self.reload(&who.account).await?;
                who = self.who(&payer, None).await?;
            }
            let policy = &who.rules.policy;
            let gone = || Refusal::new(Code::Unauthorized, "the key of this secret is gone");
            let key = who.key.as_ref().ok_or_else(gone)?;
            let rules = policy.keys.get(key).ok_or_else(gone)?;
            let balance = key_balance(key, rules, at, &counters);
            let (tariff, tables) = (self.tariffs.current(), self.groups.load_full());
            let member = policy.member(Some(key));
            let choice = |(group, about): (&str, &str)| GroupChoice {
                group: group.into(),
                description: about.into(),
                ratio: tariff.ratio(Groups { user: &policy.group, using: group }),
            };
            Ok(Done::now(OwnKey {
                key: key.clone(),
                rules: rules.clone(),
                standing: balance.standing,
                balance,
                limits: limit_states(policy, Some(key), &rules.limits, at, &counters),
                group: member.of_key.unwrap_or(member.own).into(),
                groups: tables.choices(member, rules.cross_group_retry).into_iter().map(choice).collect(),
                units_per_usd: tariff.units_per_usd(),
                at,
            }))
        };
        self.in_time(Box::pin(found)).await
    }
}
