//! A retry in another price group: what the hold comes to there, and the tag it is settled by. The price list stays the
//! reservation's own; only the group changes.

use super::Extend;
use crate::{
    engine::{
        Engine,
        policies::Who,
        pricing::{lacking, model_missing, model_not_priced},
        step::Step,
    },
    quota::{
        reservation::Record,
        tariff::{Estimate, Groups, PriceTag, Tariff},
        usage::Usage,
        verdict::{Code, Refusal},
    },
};

/// What an extend asks of the hold.
pub(super) struct Asked {
    /// The new whole hold; `None` leaves it.
    pub(super) amount: Option<i64>,
    pub(super) prompt_cost: i64,
    /// Tokens of another estimate.
    pub(super) tokens: Option<i64>,
    /// The tag of another estimate, or of other prices; `None`: the record's stay.
    pub(super) tag: Option<Vec<u8>>,
    /// Why it may not be. The script hands it back when nothing of its own goes before.
    pub(super) refusal: Option<Refusal>,
}

impl Engine {
    pub(super) async fn asked_of(&self, ask: &Extend, who: &Who, record: &Record) -> Step<Asked> {
        let plain =
            Asked { amount: ask.amount, prompt_cost: record.prompt_cost, tokens: None, tag: None, refusal: None };
        let Some(named) = ask.group.as_deref() else { return Ok(plain) };
        let newest = self.tariffs.current();
        let present = PriceTag::unpack(&record.price_tag).unwrap_or_else(|| {
            let tables = self.groups.load();
            PriceTag::new(newest.version, who.rules.price_groups(record.key.as_ref(), None, None, &tables))
        });
        let moved = *named != *present.using;
        if moved && let Some(refusal) = self.refuse_retry(ask, who, record, named) {
            return Ok(Asked { refusal: Some(refusal), ..plain });
        }
        let tariff = self.tariff_of(present.version).await?;
        let (from, to) = (present.groups(), Groups { user: &present.user, using: named });
        let mut tokens = None;
        let (amount, prompt_cost) = if ask.estimate.is_some() {
            let model = ask.model.as_ref().ok_or_else(model_missing)?;
            match ask.estimated(&tariff, to).or_else(|| ask.estimated(&newest, to)) {
                Some(Err(what)) => return Err(lacking("estimate", model, what).into()),
                Some(Ok(estimate)) => {
                    tokens = Some(estimate.tokens);
                    (Some(estimate.cost), estimate.prompt_cost)
                }
                None => return Ok(Asked { refusal: Some(model_not_priced(model)), ..plain }),
            }
        } else if moved {
            moved_hold(ask, record, &tariff, from, to)?
        } else {
            (ask.amount, record.prompt_cost)
        };
        let max = self.live().max_amount;
        if let Some(amount) = amount.filter(|amount| *amount > max) {
            let field = if ask.estimate.is_some() { "estimate" } else { "group" };
            let sentence = format!("comes to {amount} units, more than max_amount ({max})");
            return Err(Refusal::invalid(field, sentence).into());
        }
        // In a cheaper group as much stays held: a hold never goes down. An amount that was said is taken at its word.
        let amount = ask.amount.or(amount.map(|amount| amount.max(record.held)));
        // Another estimate is another prompt, also in the group that it is in.
        let anew = moved || ask.estimate.is_some();
        let tag = anew.then(|| PriceTag::new(tariff.version, to).pack());
        Ok(Asked { amount, prompt_cost, tokens, tag, refusal: None })
    }

    fn refuse_retry(&self, ask: &Extend, who: &Who, record: &Record, named: &str) -> Option<Refusal> {
        let (policy, key) = (&who.rules.policy, record.key.as_ref());
        if let Some(key) = key.filter(|key| policy.keys.get(*key).is_some_and(|rules| !rules.cross_group_retry)) {
            let detail = format!("The key {key} does not allow a retry in another group.");
            return Some(Refusal::new(Code::GroupNotAllowed, detail));
        }
        self.groups.load().retry(policy.member(key), named, ask.model.as_ref()).err()
    }
}

/// The hold, unless the call says one, and the prompt cost, multiplied with the new ratio instead of the old one. Where
/// all was free nobody knows the prompt's part of an amount that is said now: it is all of it, for the upstream has
/// read the prompt, and an abort must not be free. Who knows better says the estimate.
fn moved_hold(
    ask: &Extend,
    record: &Record,
    tariff: &Tariff,
    from: Groups<'_>,
    to: Groups<'_>,
) -> Result<(Option<i64>, i64), Refusal> {
    let (from, to) = (tariff.ratio(from), tariff.ratio(to));
    let nothing = || Refusal::invalid("amount", "or `estimate` is needed: the present group costs nothing");
    let amount = ask.amount.or(to.instead_of(from, record.held)).ok_or_else(nothing)?;
    Ok((Some(amount), to.instead_of(from, record.prompt_cost).unwrap_or(amount)))
}

impl Extend {
    /// What the estimate comes to, or what its model is priced by instead; `None` when the model is not priced.
    fn estimated(&self, tariff: &Tariff, groups: Groups<'_>) -> Option<Result<Estimate, &'static str>> {
        let (estimate, model) = (self.estimate?, self.model.as_ref()?);
        let prompt = Usage { input: estimate.prompt_tokens, ..Usage::default() };
        let priced = tariff.estimate(model.as_str(), groups, &prompt, estimate.max_tokens)?;
        Some(tariff.lacks(model.as_str(), groups, &prompt).map_or(Ok(priced), Err))
    }
}
