//! Charge: reserve and settle in one step, for work whose cost is known.

use std::net::IpAddr;

use super::{
    Answer, Engine,
    content::{self, Content},
    denial::{Asked, conflict, conflict_in},
    limits::Requested,
    policies::{Ready, Terms, Who},
    ports::{ChargeCall, Cost, Reply, Status},
    pricing::{Frozen, Quote, Unpriced, denied_by, model_missing, model_not_priced},
    reserve::{self, known, too_much},
    settle::{Price, Settle, Settled},
    step::{Done, Step},
    trust::Aside,
};
use crate::quota::{
    policy::Admission,
    reservation::{Flags, State},
    verdict::Refusal,
};

#[derive(Clone, Debug)]
pub struct Charge {
    /// Payer, id, price, key, platform, model and log. `last` is true.
    pub settle: Settle,
    /// An `estimate` stands for the price when neither amount nor usage is given.
    pub estimate: Option<reserve::Ask>,
    pub tokens: Option<i64>,
    pub client_ip: Option<IpAddr>,
    /// Also when it overdraws or exceeds a limit.
    pub force: bool,
}

impl Engine {
    pub async fn charge(&self, ask: &Charge) -> Answer<Settled> {
        self.or_locally(Box::pin(self.try_charge(ask, None)), || Box::pin(self.charge_locally(ask))).await
    }

    /// `fixed` is the price when it was charged before (a replay of the spool): then no rule, balance or
    /// limit refuses it any more.
    pub(crate) async fn try_charge(&self, ask: &Charge, fixed: Option<Quote>) -> Step<Done<Settled>> {
        if !ask.force && fixed.is_none() {
            self.backlog.check()?;
        }
        let mut turns = self.turns();
        let invalid = ask.invalid(self.live().max_amount);
        let settle = &ask.settle;
        loop {
            let who = known(self.who(&settle.payer, settle.key.as_ref()).await, invalid.as_ref())?;
            if self.trust.find(&who.account, &settle.id).is_some() {
                return Err(conflict_in(settle.id.as_str(), "id"));
            }
            let terms = self.terms();
            let mut question = who.ask(settle.platform.as_ref(), settle.model.as_ref(), turns.now);
            question.client_ip = ask.client_ip;
            let ready = who.rules.admit(&question, settle.group.as_deref(), &terms);
            let quote = match fixed {
                Some(quote) => Some(quote),
                None => self.quote_charge(ask, &who, &ready, &terms).await?,
            };
            let amended = match (quote, &settle.model) {
                (None, Some(model)) => Some(denied_by(&ready, model_not_priced(model))),
                (_, _) if fixed.is_some() => Some(Admission { refusal: None, ..ready.admission.clone() }),
                (_, _) => None,
            };
            let quote = quote.unwrap_or_default();
            let content = content::of_charge(ask, who.key.as_ref());
            let admission = amended.as_ref().unwrap_or(&ready.admission);
            let beside = self.beside(&who, admission);
            let log = self.log_of(settle, &who, false);
            let call = ChargeCall {
                account: &who.account,
                id: &settle.id,
                version: who.rules.policy.version,
                admission: beside.as_ref().map_or(admission, |(_, lowered)| lowered),
                key: who.key.as_ref(),
                amount: quote.amount,
                tokens: quote.tokens,
                force: ask.force || fixed.is_some(),
                unreserved: false,
                clamped: false,
                fingerprint: content.fingerprint,
                price_tag: &ready.price_tag,
                log: &log,
            };
            let reply = self.counters.charge(&call).await?;
            if self.decided(&mut turns, &who.account, &reply).await? {
                if reply.record.is_some() {
                    self.trust.know(call.account, call.id);
                }
                return charged(&who, &call, (admission, beside.as_ref().map(|(aside, _)| aside)), &content, &reply);
            }
        }
    }

    /// What to charge; `None`: the usage or estimate cannot be priced.
    pub(crate) async fn quote_charge(
        &self,
        ask: &Charge,
        who: &Who,
        ready: &Ready,
        terms: &Terms,
    ) -> Step<Option<Quote>> {
        let settle = &ask.settle;
        let quote = match (&settle.price, ask.estimate) {
            (Price::Unsaid, Some(estimate)) => {
                self.quote(estimate, ask.tokens, settle.model.as_ref(), ready, &terms.tariff)?
            }
            (_, _) => {
                let bill = match self.bill(settle, who, Frozen::default()).await? {
                    Ok(bill) => bill,
                    Err(Unpriced::Model) => return Ok(None),
                    Err(why @ Unpriced::Lacks(_)) => {
                        return Err(why.refusal(settle.price.field(), settle.model.as_ref()).into());
                    }
                };
                if bill.clamped {
                    let max = self.live().max_amount;
                    let sentence =
                        format!("has a number that cannot be, or comes to more than max_amount ({max} units)");
                    return Err(Refusal::invalid("usage", sentence).into());
                }
                let amount = match bill.cost {
                    Cost::Units(amount) => amount,
                    Cost::Nothing => 0,
                    Cost::Prompt | Cost::Held => return Ok(None),
                };
                Some(Quote { amount, tokens: bill.tokens.unwrap_or(0), prompt_cost: 0, free: false })
            }
        };
        Ok(quote.map(|quote| Quote { tokens: ask.tokens.unwrap_or(quote.tokens), ..quote }))
    }
}

fn charged(
    who: &Who,
    call: &ChargeCall<'_>,
    (admission, aside): (&Admission, Option<&Aside>),
    content: &Content<9>,
    reply: &Reply,
) -> Step<Done<Settled>> {
    let id = call.id.as_str();
    match (reply.status, &reply.record) {
        (Status::Done | Status::Replayed, _) => {
            let replayed = reply.status == Status::Replayed;
            Ok(Done { answer: Settled::new(who, call.id, reply)?, replayed })
        }
        // Held by a reserve: not another charge, another verb.
        (Status::Conflict, Some(record)) if record.state == State::Held || !record.flags.has(Flags::BY_CHARGE) => {
            Err(conflict_in(id, "id"))
        }
        (Status::Conflict, record) => {
            let first = record.as_ref().map(|record| &record.fingerprint);
            Err(conflict(id, &content.names, first, &content.fingerprint))
        }
        (_, _) => {
            let asked = Asked {
                id,
                who,
                refusal: admission.refusal.as_ref(),
                allowance: admission.allowance,
                groups: &admission.groups,
                requested: Requested { cost: call.amount, tokens: call.tokens, calls: 1 },
                aside,
            };
            Err(asked.refused(reply))
        }
    }
}

impl Charge {
    pub(crate) fn invalid(&self, max_amount: i64) -> Option<Refusal> {
        match (self.settle.price, self.estimate) {
            (Price::Units(units), _) | (Price::Unsaid, Some(reserve::Ask::Units(units))) => {
                too_much("amount", units, max_amount)
            }
            (Price::Usage(_) | Price::Text { .. }, _) | (Price::Unsaid, Some(reserve::Ask::Estimate { .. })) => {
                self.settle.model.is_none().then(model_missing)
            }
            (Price::Unsaid, Some(reserve::Ask::Default)) => None,
            (Price::Unsaid, None) => Some(Refusal::invalid("amount", "or `usage` or `estimate` is needed")),
        }
    }
}
