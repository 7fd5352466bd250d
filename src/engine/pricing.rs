//! What a call costs: before it (a quote, for the hold) and after it (a bill, for the settle).

use super::{
    AbortCharge, Engine,
    policies::{Ready, Who},
    ports::{Cost, Unavailable},
    reserve::Ask,
    settle::{Outcome, Price, Settle},
    step::Step,
};
use crate::quota::{
    id::Model,
    policy::Admission,
    tariff::{PriceTag, Tariff},
    usage::Usage,
    verdict::{Code, Refusal},
};

/// What a hold is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) amount: i64,
    pub(crate) tokens: i64,
    pub(crate) prompt_cost: i64,
    /// Nothing is to be paid, so nothing need be held.
    pub(crate) free: bool,
}

/// What a settle charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bill {
    pub(crate) cost: Cost,
    /// `None`: as reserved.
    pub(crate) tokens: Option<i64>,
    pub(crate) clamped: bool,
    /// The prices it was computed with; `None` when it was not.
    pub(crate) price_tag: Option<Vec<u8>>,
}

/// Why a settle has no bill yet.
pub(crate) struct NotPriced;

pub(crate) fn model_not_priced(model: &Model) -> Refusal {
    Refusal::new(Code::ModelNotPriced, format!("the price list has no price for model `{model}`"))
}

pub(crate) fn model_missing() -> Refusal {
    Refusal::invalid("model", "is needed to price the call")
}

/// The admission with a denial of the engine's own, which yields to those of the rules.
pub(crate) fn denied_by(ready: &Ready, refusal: Refusal) -> Admission {
    let mut admission = ready.admission.clone();
    admission.refusal.get_or_insert(refusal);
    admission
}

impl Engine {
    /// `None`: the estimate cannot be priced.
    pub(crate) fn quote(
        &self,
        ask: Ask,
        tokens: Option<i64>,
        model: Option<&Model>,
        ready: &Ready,
        tariff: &Tariff,
    ) -> Step<Option<Quote>> {
        let of = |amount| Quote { amount, tokens: tokens.unwrap_or(0), prompt_cost: 0, free: false };
        Ok(match ask {
            Ask::Units(units) => Some(of(units)),
            Ask::Default if ready.free => Some(Quote { free: true, ..of(0) }),
            Ask::Default => Some(of(self.settings.default_hold)),
            Ask::Estimate { prompt_tokens, max_tokens } => {
                let model = model.ok_or_else(model_missing)?;
                let group = &ready.admission.group;
                let Some(estimate) = tariff.estimate(model.as_str(), group, prompt_tokens, max_tokens) else {
                    return Ok(None);
                };
                let max = self.settings.max_amount;
                if estimate.cost > max {
                    let sentence = format!("comes to {} units, more than max_amount ({max})", estimate.cost);
                    return Err(Refusal::invalid("estimate", sentence).into());
                }
                let (amount, tokens) = (estimate.cost, estimate.tokens);
                Some(Quote { amount, tokens, prompt_cost: estimate.prompt_cost, free: estimate.free })
            }
        })
    }

    /// The bill by the prices of `tag`, the reservation's own; without one by the newest.
    pub(crate) async fn bill(
        &self,
        ask: &Settle,
        who: &Who,
        tag: Option<&[u8]>,
    ) -> Result<Result<Bill, NotPriced>, Unavailable> {
        let tokens = match (&ask.price, ask.log.prompt_tokens, ask.log.completion_tokens) {
            (Price::Usage(usage), _, _) => Some(usage.total_tokens()),
            (Price::Units(_) | Price::Unsaid, None, None) => None,
            (Price::Units(_) | Price::Unsaid, prompt, completion) => {
                Some(prompt.unwrap_or(0).saturating_add(completion.unwrap_or(0)))
            }
        };
        let bill = Bill { cost: Cost::Units(0), tokens, clamped: false, price_tag: None };
        Ok(Ok(match &ask.price {
            Price::Units(units) => self.clamp(bill, *units),
            Price::Unsaid => match self.abort_charge(ask.outcome) {
                AbortCharge::Nothing => Bill { cost: Cost::Nothing, tokens: Some(tokens.unwrap_or(0)), ..bill },
                AbortCharge::Prompt => Bill { cost: Cost::Prompt, ..bill },
                AbortCharge::Estimate => Bill { cost: Cost::Held, ..bill },
            },
            Price::Usage(usage) => {
                let Some((cost, price_tag)) = self.price(ask.model.as_ref(), usage, who, tag).await? else {
                    return Ok(Err(NotPriced));
                };
                self.clamp(Bill { price_tag: Some(price_tag), ..bill }, cost)
            }
        }))
    }

    /// The cost of a usage and the tag it was computed with. A tag that names no prices (the
    /// reserve named no priced model) is kept and means the newest; so do prices for other models.
    async fn price(
        &self,
        model: Option<&Model>,
        usage: &Usage,
        who: &Who,
        tag: Option<&[u8]>,
    ) -> Result<Option<(i64, Vec<u8>)>, Unavailable> {
        let Some(model) = model.map(Model::as_str) else { return Ok(None) };
        let newest = self.tariffs.current();
        let group = who.rules.price_group(who.key.as_ref());
        let by_newest = || newest.cost(model, group, usage);
        let Some(tag) = tag else {
            let price_tag = PriceTag { version: newest.version, group: group.into() };
            return Ok(by_newest().map(|cost| (cost, price_tag.pack())));
        };
        let frozen = match PriceTag::unpack(tag) {
            Some(frozen) => self.tariff(frozen.version).await?.cost(model, &frozen.group, usage),
            None => None,
        };
        Ok(frozen.or_else(by_newest).map(|cost| (cost, tag.to_vec())))
    }

    /// What was really spent is charged, but an absurd number is not believed.
    fn clamp(&self, bill: Bill, cost: i64) -> Bill {
        let max = self.settings.max_amount;
        Bill { cost: Cost::Units(cost.min(max)), clamped: cost > max, ..bill }
    }

    fn abort_charge(&self, outcome: Option<Outcome>) -> AbortCharge {
        let policy = &self.settings.abort;
        match outcome {
            Some(Outcome::Ok) => policy.ok,
            Some(Outcome::ClientAbort) => policy.client_abort,
            Some(Outcome::UpstreamError) => policy.upstream_error,
            Some(Outcome::Unknown) | None => policy.unknown,
        }
    }
}
