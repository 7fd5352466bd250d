//! Settles that Redis has no hold for: of trusted work, and of work that nobody reserved.

use super::Settle;
use crate::{
    engine::{
        Engine,
        content::Content,
        decide::Turns,
        policies::Who,
        ports::{ChargeCall, Cost, Reply, Unavailable},
        pricing::{Bill, Frozen},
        step::Step,
        trust::Work,
    },
    quota::policy,
};

/// What a settle knows of its reservation.
pub(super) struct Found {
    /// Its own prices, once known.
    pub(super) tag: Option<Vec<u8>>,
    /// What its prompt was estimated to cost, once known; 0 when there was no estimate.
    pub(super) prompt_cost: Option<i64>,
    /// Whether Redis has it, as far as anybody knows.
    pub(super) reserved: bool,
    /// Whether the ledger was asked for it.
    pub(super) looked: bool,
    /// Granted here, and held nowhere.
    pub(super) trusted: Option<Work>,
}

impl Found {
    pub(super) fn frozen(&self) -> Frozen<'_> {
        Frozen { tag: self.tag.as_deref(), prompt_cost: self.prompt_cost.unwrap_or(0) }
    }
}

impl Engine {
    /// What a settle begins with. Trusted work is charged at once: Redis has no record of it, unless it was
    /// reserved through another sidecar as well. A partial settle needs something to stay held.
    pub(super) async fn found(&self, ask: &Settle, who: &Who) -> Step<Found> {
        let trusted = self.trust.find(&who.account, &ask.id);
        let nothing = Found { tag: None, prompt_cost: None, reserved: true, looked: false, trusted: None };
        match trusted {
            None => Ok(nothing),
            Some(_) if !ask.last => {
                self.hold_trusted(who, &ask.id).await?;
                Ok(nothing)
            }
            Some(work) => {
                let tag = Some(work.ready.price_tag.clone());
                let prompt_cost = Some(work.prompt_cost);
                Ok(Found { tag, prompt_cost, reserved: false, looked: true, trusted: Some(work) })
            }
        }
    }

    /// Charges what Redis has no hold for.
    pub(super) async fn charge_unreserved(
        &self,
        ask: &Settle,
        who: &Who,
        bill: &mut Bill,
        content: &Content<7>,
        log: &[u8],
        (turns, trusted): (&Turns, Option<&Work>),
    ) -> Result<Reply, Unavailable> {
        // Trusted work was granted to a key, platform and model; other work is what the settle says.
        let (key, platform, model) = match trusted {
            Some(Work { ready, .. }) => (&ready.key, &ready.platform, &ready.model),
            None => (&who.key, &ask.platform, &ask.model),
        };
        let (key, platform, model) = (key.as_ref(), platform.as_ref(), model.as_ref());
        let question = policy::Ask { key, platform, model, client_ip: None, now: turns.now };
        let of_work = trusted.map(|work| work.ready.price_tag.as_slice());
        let named = trusted.map_or(ask.group.as_deref(), |work| Some(work.ready.groups().using));
        let ready = who.rules.admit(&question, named, &self.terms());
        let (granted, tokens) = self.local.bill_of(&who.account, &ask.id, bill.cost);
        if let Some(work) = trusted {
            work.resolve(bill);
        }
        let call = ChargeCall {
            account: &who.account,
            id: &ask.id,
            version: who.rules.policy.version,
            admission: &ready.admission,
            // Also a key the rules do not know (any more): what it used is counted.
            key,
            amount: match bill.cost {
                Cost::Units(units) => units,
                // Nothing was estimated, nothing was held; unless it was granted here, without Redis.
                Cost::Prompt | Cost::Held | Cost::Nothing => granted.unwrap_or(0),
            },
            tokens: bill.tokens.or(tokens).unwrap_or(0),
            force: true,
            unreserved: true,
            clamped: bill.clamped,
            fingerprint: content.fingerprint,
            price_tag: bill.price_tag.as_deref().unwrap_or(of_work.unwrap_or(&ready.price_tag)),
            log,
        };
        let reply = self.counters.charge(&call).await?;
        self.trust.see_funds(&who.account, turns.moment, (key, &ready.admission.groups), &reply);
        Ok(reply)
    }
}
