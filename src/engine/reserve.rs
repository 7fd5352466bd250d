//! Reserve: hold an amount before the call.

use std::{net::IpAddr, sync::Arc};

use super::{
    Answer, Engine, Payer,
    content::{self, Content},
    denial::{Asked, conflict},
    limits::{self, Requested},
    policies::{Ready, Who},
    ports::{Reply, ReserveCall, Status},
    pricing::{Quote, denied_by, model_not_priced},
    step::{Done, Step, Stop},
    trust::Aside,
};
use crate::quota::{
    clock::Millis,
    id::{AccountId, KeyId, Model, Platform, ReservationId},
    policy::Admission,
    reservation::Record,
    tariff::PriceTag,
    verdict::{Code, LimitState, Refusal},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Strict,
    BestEffort,
    CheckOnly,
}

/// How much to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    Units(i64),
    Estimate {
        prompt_tokens: i64,
        max_tokens: Option<i64>,
    },
    /// The setting `default_hold`.
    Default,
}

/// A reserve as the wire gives it; fields are those of the protocol.
#[derive(Clone, Debug)]
pub struct Reserve {
    pub payer: Payer,
    pub key: Option<KeyId>,
    pub id: ReservationId,
    pub platform: Option<Platform>,
    pub model: Option<Model>,
    pub ask: Ask,
    /// `tokens` of the wire; an estimate brings its own.
    pub tokens: Option<i64>,
    pub ttl_ms: Option<u32>,
    pub client_ip: Option<IpAddr>,
    /// The price group that the call shall be made in, or `auto`.
    pub group: Option<Box<str>>,
    pub mode: Mode,
    pub min_amount: Option<i64>,
    pub charge_on_expiry: bool,
}

#[derive(Clone, Debug)]
pub struct Reserved {
    pub account: AccountId,
    pub id: ReservationId,
    pub held: i64,
    pub trusted: bool,
    pub expires_at: Millis,
    /// This and `available`: `None` when it was decided without Redis.
    pub balance: Option<i64>,
    pub available: Option<i64>,
    /// The price group that it is made in, when that is not the account's own or was asked for.
    pub group: Option<Box<str>>,
    /// Every limit that applied, with live numbers (for `verbose` and the RateLimit fields).
    pub limits: Vec<LimitState>,
}

/// How long a hold may live.
pub const TTL_MS: std::ops::RangeInclusive<u32> = 1_000..=86_400_000;

impl Engine {
    pub async fn reserve(&self, ask: &Reserve) -> Answer<Reserved> {
        self.or_locally(Box::pin(self.try_reserve(ask)), || Box::pin(self.reserve_locally(ask))).await
    }

    async fn try_reserve(&self, ask: &Reserve) -> Step<Done<Reserved>> {
        self.backlog.check()?;
        let mut turns = self.turns();
        let invalid = ask.invalid(self.live().max_amount);
        loop {
            let plan = self.plan_reserve(ask, turns.now, invalid.as_ref()).await?;
            let rule = self.trust.rule(&plan.who.rules.policy);
            if let Some(done) = self.reserve_trusted(ask, &plan, rule, turns.now)? {
                return Ok(done);
            }
            if rule.is_some() {
                turns.moment = Some(self.moment());
            }
            let beside = self.beside(&plan.who, plan.admission());
            let call = ReserveCall {
                account: &plan.who.account,
                id: &ask.id,
                version: plan.who.rules.policy.version,
                admission: beside.as_ref().map_or(plan.admission(), |(_, lowered)| lowered),
                key: plan.who.key.as_ref(),
                amount: plan.quote.amount,
                min_amount: ask.least(plan.quote.amount),
                tokens: plan.quote.tokens,
                prompt_cost: plan.quote.prompt_cost,
                ttl_ms: ask.ttl_ms.unwrap_or(self.live().default_ttl_ms),
                check_only: plan.check_only,
                charge_on_expiry: ask.charge_on_expiry,
                fingerprint: plan.content.fingerprint,
                price_tag: &plan.ready.price_tag,
            };
            let reply = self.counters.reserve(&call).await?;
            let moment = turns.moment;
            if self.decided(&mut turns, call.account, &reply).await? {
                self.learn(&plan, rule, moment, &reply);
                if reply.record.is_some() {
                    self.trust.know(call.account, call.id);
                }
                return reserved(&plan, &call, beside.as_ref().map(|(aside, _)| aside), &reply);
            }
        }
    }

    /// All that can be said of a reserve without its counters.
    pub(crate) async fn plan_reserve(&self, ask: &Reserve, now: Millis, invalid: Option<&Refusal>) -> Step<Plan> {
        let who = known(self.who(&ask.payer, ask.key.as_ref()).await, invalid)?;
        let terms = self.terms();
        let mut question = who.ask(ask.platform.as_ref(), ask.model.as_ref(), now);
        question.client_ip = ask.client_ip;
        let ready = who.rules.admit(&question, ask.group.as_deref(), &terms);
        let quote = self.quote(ask.ask, ask.tokens, ask.model.as_ref(), &ready, &terms.tariff)?;
        let amended = match (quote, &ask.model) {
            (None, Some(model)) => Some(denied_by(&ready, model_not_priced(model))),
            (_, _) => None,
        };
        let quote = quote.unwrap_or_default();
        let check_only = ask.mode == Mode::CheckOnly || (quote.free && !self.live().hold_free_models);
        let content = content::of_reserve(ask, who.key.as_ref());
        Ok(Plan { who, ready, amended, quote, check_only, content })
    }
}

/// A reserve before its counters are asked.
pub(crate) struct Plan {
    pub(crate) who: Who,
    pub(crate) ready: Arc<Ready>,
    /// The admission with a denial of the engine's own.
    amended: Option<Admission>,
    pub(crate) quote: Quote,
    pub(crate) check_only: bool,
    pub(crate) content: Content<11>,
}

impl Plan {
    /// The price group to tell of; a record, which may be an earlier call's, knows better.
    pub(crate) fn group(&self, record: Option<&Record>) -> Option<Box<str>> {
        let groups = self.ready.groups();
        let of_record = record.and_then(|record| PriceTag::unpack(&record.price_tag)).map(|tag| tag.using);
        let told = self.ready.named.is_some() || of_record.as_deref().unwrap_or(groups.using) != groups.user;
        told.then(|| of_record.unwrap_or_else(|| groups.using.into()))
    }

    pub(crate) fn admission(&self) -> &Admission {
        self.amended.as_ref().unwrap_or(&self.ready.admission)
    }
}

fn reserved(plan: &Plan, call: &ReserveCall<'_>, aside: Option<&Aside>, reply: &Reply) -> Step<Done<Reserved>> {
    let (who, content, admission) = (&plan.who, &plan.content, plan.admission());
    let groups = admission.groups.as_slice();
    let replayed = match reply.status {
        Status::Done => false,
        Status::Replayed => true,
        Status::Conflict => {
            let first = reply.record.as_ref().map(|record| &record.fingerprint);
            return Err(conflict(call.id.as_str(), &content.names, first, &content.fingerprint));
        }
        _ => {
            let asked = Asked {
                id: call.id.as_str(),
                who,
                refusal: admission.refusal.as_ref(),
                allowance: admission.allowance,
                groups,
                requested: Requested { cost: call.min_amount, tokens: call.tokens, calls: 1 },
                aside,
            };
            return Err(asked.refused(reply));
        }
    };
    let head = reply.head.unwrap_or_default();
    // A check that was granted leaves no record; a replay of a hold has one, whatever is asked now.
    let record = reply.record.as_ref().filter(|_| replayed || !call.check_only);
    let mut limits = limits::states(groups, &reply.windows, &who.rules.policy.zone, reply.now);
    if let Some(aside) = aside {
        aside.show(groups, &mut limits);
    }
    let answer = Reserved {
        account: who.account.clone(),
        id: call.id.clone(),
        held: record.map_or(0, |record| record.held),
        trusted: false,
        expires_at: record.map_or(reply.now, |record| record.expires),
        balance: Some(head.balance),
        available: Some(who.available(&head)),
        group: plan.group(record),
        limits,
    };
    Ok(Done { answer, replayed })
}

impl Reserve {
    /// What is wrong with the call whoever makes it.
    pub(crate) fn invalid(&self, max_amount: i64) -> Option<Refusal> {
        let units = if let Ask::Units(units) = self.ask { units } else { 0 };
        too_much("amount", units, max_amount).or_else(|| bad_ttl(self.ttl_ms)).or_else(|| {
            match (self.mode, self.min_amount, self.ask) {
                (Mode::BestEffort, Some(least), Ask::Units(units)) if least > units => {
                    Some(Refusal::invalid("min_amount", "is above `amount`"))
                }
                (Mode::Strict | Mode::CheckOnly, Some(_), _) => {
                    Some(Refusal::invalid("min_amount", "is for the mode best_effort"))
                }
                (_, _, _) => None,
            }
        })
    }

    /// The least to hold; something, where nobody says how much.
    pub(crate) fn least(&self, amount: i64) -> i64 {
        match self.mode {
            Mode::Strict | Mode::CheckOnly => amount,
            Mode::BestEffort => self.min_amount.unwrap_or(1).min(amount),
        }
    }
}

/// `invalid_request` for an amount above the setting `max_amount`.
pub(crate) fn too_much(field: &'static str, amount: i64, max_amount: i64) -> Option<Refusal> {
    let sentence = || format!("must not be above max_amount ({max_amount} units)");
    (amount > max_amount).then(|| Refusal::invalid(field, sentence()))
}

pub(crate) fn bad_ttl(ttl_ms: Option<u32>) -> Option<Refusal> {
    let good = ttl_ms.is_none_or(|ttl_ms| TTL_MS.contains(&ttl_ms));
    (!good).then(|| Refusal::invalid("ttl_ms", "must be from 1000 to 86400000"))
}

/// The payer, or the first thing wrong in the order of [`Code`]: who cannot show who it is hears
/// that before anything about its call.
pub(crate) fn known(who: Step<Who>, invalid: Option<&Refusal>) -> Step<Who> {
    match (who, invalid) {
        (who, None) => who,
        (Err(Stop::Refused(refusal)), Some(_)) if refusal.code < Code::InvalidRequest => Err(Stop::Refused(refusal)),
        (_, Some(refusal)) => Err(refusal.clone().into()),
    }
}
