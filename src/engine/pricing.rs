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
    tariff::{Groups, PriceTag, Tariff},
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
    /// The reservation's price list is gone; the newest stands in for it.
    pub(crate) repriced: bool,
    /// The prices it was computed with; `None` when it was not.
    pub(crate) price_tag: Option<Vec<u8>>,
}

/// What the reservation keeps of its price.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frozen<'a> {
    /// Its own prices, once known.
    pub(crate) tag: Option<&'a [u8]>,
    /// What its prompt was estimated to cost.
    pub(crate) prompt_cost: i64,
}

/// Why a settle has no bill yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpriced {
    /// No price list that may be asked knows the model.
    Model,
    /// The model is priced by something else than the usage names: the field that it lacks.
    Lacks(&'static str),
}

impl Unpriced {
    /// For a call whose price came in `field`.
    pub(crate) fn refusal(self, field: &'static str, model: Option<&Model>) -> Refusal {
        match (self, model) {
            (_, None) => model_missing(),
            (Unpriced::Model, Some(model)) => model_not_priced(model),
            (Unpriced::Lacks(what), Some(model)) => lacking(field, model, what),
        }
    }
}

/// `invalid_request` for a call that does not say what its model is priced by.
pub(crate) fn lacking(field: &'static str, model: &Model, what: &str) -> Refusal {
    let way = match field {
        "estimate" => "say an `amount` (POST /v1/estimate tells it)".to_owned(),
        _ => format!("name `{what}` in a usage, or say an `amount`"),
    };
    Refusal::invalid(field, format!("cannot be priced: model `{model}` is priced by `{what}`; {way}"))
}

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
            Ask::Default => Some(of(self.live().default_hold)),
            Ask::Estimate { prompt_tokens, max_tokens } => {
                let model = model.ok_or_else(model_missing)?;
                let prompt = Usage { input: prompt_tokens, ..Usage::default() };
                let Some(estimate) = tariff.estimate(model.as_str(), ready.groups(), &prompt, max_tokens) else {
                    return Ok(None);
                };
                if let Some(what) = tariff.lacks(model.as_str(), ready.groups(), &prompt) {
                    return Err(lacking("estimate", model, what).into());
                }
                let max = self.live().max_amount;
                if estimate.cost > max {
                    let sentence = format!("comes to {} units, more than max_amount ({max})", estimate.cost);
                    return Err(Refusal::invalid("estimate", sentence).into());
                }
                let (amount, tokens) = (estimate.cost, estimate.tokens);
                Some(Quote { amount, tokens, prompt_cost: estimate.prompt_cost, free: estimate.free })
            }
        })
    }

    /// The bill by the reservation's own prices; without them by the newest.
    pub(crate) async fn bill(
        &self,
        ask: &Settle,
        who: &Who,
        frozen: Frozen<'_>,
    ) -> Result<Result<Bill, Unpriced>, Unavailable> {
        let tokens = match (&ask.price, ask.log.prompt_tokens, ask.log.completion_tokens) {
            (Price::Usage(_) | Price::Text { .. }, _, _) | (_, None, None) => None,
            (Price::Units(_) | Price::Unsaid, prompt, completion) => {
                Some(prompt.unwrap_or(0).saturating_add(completion.unwrap_or(0)))
            }
        };
        let bill = Bill { cost: Cost::Units(0), tokens, clamped: false, repriced: false, price_tag: None };
        Ok(Ok(match &ask.price {
            Price::Units(units) => self.clamp(bill, *units),
            Price::Unsaid => match self.abort_charge(ask.outcome) {
                AbortCharge::Nothing => Bill { cost: Cost::Nothing, tokens: Some(tokens.unwrap_or(0)), ..bill },
                AbortCharge::Prompt => Bill { cost: Cost::Prompt, ..bill },
                AbortCharge::Estimate => Bill { cost: Cost::Held, ..bill },
            },
            Price::Usage(_) | Price::Text { .. } => {
                let (priced, price_tag) = match self.price(ask, who, frozen).await? {
                    Ok(priced) => priced,
                    Err(why) => return Ok(Err(why)),
                };
                let (tokens, price_tag, repriced) = (Some(priced.tokens), Some(price_tag), priced.stood_in);
                let bill = self.clamp(Bill { tokens, price_tag, repriced, ..bill }, priced.cost);
                let beyond = matches!(&ask.price, Price::Usage(usage) if usage.beyond);
                Bill { clamped: bill.clamped || beyond, ..bill }
            }
        }))
    }

    /// The cost of what was used, and the tag it was computed with. A tag that names no prices (the
    /// reserve named no priced model) is kept and means the newest; so do prices for other models. Its groups
    /// hold in any case.
    async fn price(
        &self,
        ask: &Settle,
        who: &Who,
        frozen: Frozen<'_>,
    ) -> Result<Result<(Priced, Vec<u8>), Unpriced>, Unavailable> {
        let Some(model) = &ask.model else { return Ok(Err(Unpriced::Model)) };
        let newest = self.tariffs.current();
        let tables = self.groups.load_full();
        let groups = who.rules.price_groups(who.key.as_ref(), ask.group.as_deref(), Some(model), &tables);
        let model = model.as_str();
        let by = |tariff: &Tariff, groups| self::priced(tariff, model, groups, &ask.price, frozen.prompt_cost);
        let Some(tag) = frozen.tag else {
            let tag = || PriceTag::new(newest.version, groups).pack();
            return Ok(by(&newest, groups).map(|priced| (priced, tag())));
        };
        let own = PriceTag::unpack(tag);
        let priced = match &own {
            Some(own) => {
                let tariff = self.tariff_of(own.version).await?;
                let stood_in = tariff.version != own.version;
                by(&tariff, own.groups()).map(|priced| Priced { stood_in, ..priced })
            }
            None => Err(Unpriced::Model),
        };
        let groups = own.as_ref().map_or(groups, PriceTag::groups);
        let priced = if priced == Err(Unpriced::Model) { by(&newest, groups) } else { priced };
        Ok(priced.map(|priced| (priced, tag.to_vec())))
    }

    /// What was really spent is charged, but an absurd number is not believed.
    fn clamp(&self, bill: Bill, cost: i64) -> Bill {
        let max = self.live().max_amount;
        Bill { cost: Cost::Units(cost.min(max)), clamped: cost > max, ..bill }
    }

    fn abort_charge(&self, outcome: Option<Outcome>) -> AbortCharge {
        let live = self.live();
        match outcome {
            Some(Outcome::Ok) => live.abort_ok,
            Some(Outcome::ClientAbort) => live.abort_client_abort,
            Some(Outcome::UpstreamError) => live.abort_upstream_error,
            Some(Outcome::Unknown) | None => live.abort_unknown,
        }
    }
}

/// What was used comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Priced {
    cost: i64,
    tokens: i64,
    /// By another list than the one that was asked for.
    stood_in: bool,
}

/// Refused when the model is not priced, the price says no usage, or the usage not what the model is priced by.
fn priced(
    tariff: &Tariff,
    model: &str,
    groups: Groups<'_>,
    price: &Price,
    prompt_cost: i64,
) -> Result<Priced, Unpriced> {
    let usage = match *price {
        Price::Usage(usage) => usage,
        Price::Text { prompt_tokens: Some(input), completion_tokens: output } => {
            Usage { input, output, ..Usage::default() }
        }
        Price::Text { prompt_tokens: None, completion_tokens } => {
            tariff.usage_after(model, groups, prompt_cost, completion_tokens).ok_or(Unpriced::Model)?
        }
        Price::Units(_) | Price::Unsaid => return Err(Unpriced::Model),
    };
    let cost = tariff.cost(model, groups, &usage).ok_or(Unpriced::Model)?;
    match tariff.lacks(model, groups, &usage) {
        Some(what) => Err(Unpriced::Lacks(what)),
        None => Ok(Priced { cost, tokens: usage.total_tokens(), stood_in: false }),
    }
}
