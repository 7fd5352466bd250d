//! What the spool keeps: an operation as it was asked, with the price it was answered. No secrets: the
//! payer is the account, and the key that the secret belonged to.

use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        Payer,
        charge::Charge,
        ports::Cost,
        pricing::{Bill, Quote},
        release::Release,
        reserve,
        settle::{Outcome, Price, Settle},
    },
    quota::{
        entry::LogFields,
        id::{AccountId, KeyId, Model, Platform, ReservationId},
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verb {
    Settle,
    Charge,
    Release,
}

/// A line of the spool. Fields may be added, with a default; none may change its meaning, because a
/// newer build replays what an older one has written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Spooled {
    pub(super) verb: Verb,
    pub(super) account: AccountId,
    pub(super) id: ReservationId,
    key: Option<KeyId>,
    platform: Option<Platform>,
    model: Option<Model>,
    #[serde(default)]
    group: Option<Box<str>>,
    price: Price,
    last: bool,
    outcome: Option<Outcome>,
    log: LogFields,
    /// What it costs, as the gateway was told.
    cost: Cost,
    tokens: Option<i64>,
    clamped: bool,
    /// The prices it was computed with, should no reservation know better.
    #[serde(default)]
    price_tag: Option<Vec<u8>>,
    /// Of a charge alone.
    estimate: Option<reserve::Ask>,
    asked_tokens: Option<i64>,
    client_ip: Option<std::net::IpAddr>,
    force: bool,
}

impl Spooled {
    pub(super) fn settle(ask: &Settle, account: &AccountId, key: Option<&KeyId>, bill: &Bill) -> Self {
        Self {
            verb: Verb::Settle,
            account: account.clone(),
            id: ask.id.clone(),
            key: key.cloned(),
            platform: ask.platform.clone(),
            model: ask.model.clone(),
            group: ask.group.clone(),
            price: ask.price,
            last: ask.last,
            outcome: ask.outcome,
            log: ask.log.clone(),
            cost: bill.cost,
            tokens: bill.tokens,
            clamped: bill.clamped,
            price_tag: bill.price_tag.clone(),
            estimate: None,
            asked_tokens: None,
            client_ip: None,
            force: false,
        }
    }

    pub(super) fn charge(ask: &Charge, account: &AccountId, key: Option<&KeyId>, quote: &Quote) -> Self {
        let (cost, tokens) = (Cost::Units(quote.amount), Some(quote.tokens));
        let bill = Bill { cost, tokens, clamped: false, repriced: false, price_tag: None };
        Self {
            verb: Verb::Charge,
            estimate: ask.estimate,
            asked_tokens: ask.tokens,
            client_ip: ask.client_ip,
            force: ask.force,
            ..Self::settle(&ask.settle, account, key, &bill)
        }
    }

    pub(super) fn release(account: &AccountId, id: &ReservationId) -> Self {
        Self {
            verb: Verb::Release,
            account: account.clone(),
            id: id.clone(),
            key: None,
            platform: None,
            model: None,
            group: None,
            price: Price::Unsaid,
            last: true,
            outcome: None,
            log: LogFields::default(),
            cost: Cost::Nothing,
            tokens: None,
            clamped: false,
            price_tag: None,
            estimate: None,
            asked_tokens: None,
            client_ip: None,
            force: false,
        }
    }

    /// The settle as it was asked (of a charge: its part of one).
    pub(super) fn as_settle(&self) -> Settle {
        Settle {
            payer: Payer::Account(self.account.clone()),
            id: self.id.clone(),
            price: self.price,
            last: self.last,
            outcome: self.outcome,
            key: self.key.clone(),
            platform: self.platform.clone(),
            model: self.model.clone(),
            group: self.group.clone(),
            log: self.log.clone(),
        }
    }

    pub(super) fn as_charge(&self) -> Charge {
        Charge {
            settle: self.as_settle(),
            estimate: self.estimate,
            tokens: self.asked_tokens,
            client_ip: self.client_ip,
            force: self.force,
        }
    }

    pub(super) fn as_release(&self) -> Release {
        Release { payer: Payer::Account(self.account.clone()), id: self.id.clone() }
    }

    pub(super) fn bill(&self) -> Bill {
        let price_tag = self.price_tag.clone();
        Bill { cost: self.cost, tokens: self.tokens, clamped: self.clamped, repriced: false, price_tag }
    }

    pub(super) fn quote(&self) -> Quote {
        let amount = if let Cost::Units(units) = self.cost { units } else { 0 };
        Quote { amount, tokens: self.tokens.unwrap_or(0), prompt_cost: 0, free: false }
    }
}
