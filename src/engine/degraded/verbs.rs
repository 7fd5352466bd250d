//! The verbs without Redis. The rules that need no counter hold as ever; a repeated call is answered
//! as before, and the same id with other content is a conflict.

use super::{
    Local,
    book::{Grant, Place, Report, Work},
    record::Spooled,
};
use crate::{
    engine::{
        Engine,
        charge::Charge,
        content,
        denial::{conflict, conflict_in},
        extend::{Extend, Extended},
        policies::Who,
        ports::{Cost, Unavailable},
        pricing::{Frozen, Unpriced, denied_by, model_not_priced},
        release::{Release, Released},
        reserve::{Reserve, Reserved, known},
        settle::{Price, Settle, Settled},
        step::{Done, Step, Stop},
    },
    metrics,
    quota::{
        clock::Millis,
        id::ReservationId,
        verdict::{Code, Refusal},
    },
};

/// "Redis would have to say": the outage is told.
fn untold() -> Stop {
    Unavailable::Recovering.into()
}

fn already(code: Code, id: &ReservationId) -> Stop {
    let sentence = match code {
        Code::AlreadySettled => format!("`{id}` is settled already"),
        _ => format!("`{id}` is released already"),
    };
    Refusal::new(code, sentence).into()
}

impl Local {
    /// Keeps an operation for Redis, and what it was answered; neither when it cannot be kept.
    async fn keep(&self, place: &Place, record: &Spooled, work: Work) -> Step<()> {
        let before = {
            let mut book = self.book();
            if !book.has_room(place) {
                return Err(untold());
            }
            let before = book.find(place).cloned();
            book.put(place.clone(), work);
            before
        };
        // A caller that goes away must leave the book as it was, too.
        let mut kept = Kept { local: self, place, before, done: false };
        let spool = self.spool.as_ref().ok_or_else(untold)?;
        let line = serde_json::to_vec(record).map_err(|error| Unavailable::Corrupt(error.to_string()))?;
        if let Err(reason) = spool.append(line).await {
            tracing::error!(%reason, "an operation could not be kept while Redis is away");
            return Err(untold());
        }
        kept.done = true;
        metrics::spooled(spool.entries());
        self.touch();
        Ok(())
    }
}

/// Undoes the book's entry unless the operation was kept.
struct Kept<'a> {
    local: &'a Local,
    place: &'a Place,
    before: Option<Work>,
    done: bool,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.local.book().restore(self.place.clone(), self.before.take());
        }
    }
}

impl Engine {
    pub(crate) async fn reserve_locally(&self, ask: &Reserve) -> Step<Done<Reserved>> {
        let now = self.clock.now();
        let plan = self.plan_reserve(ask, now, ask.invalid(self.live().max_amount).as_ref()).await?;
        self.allowed(&plan.who)?;
        let place = (plan.who.account.clone(), ask.id.clone());
        let _turn = self.local.turn(&place).await;
        let mut book = self.local.book();
        let answer = |held, expires_at| Reserved {
            account: place.0.clone(),
            id: ask.id.clone(),
            held,
            trusted: false,
            expires_at,
            balance: None,
            available: None,
            group: plan.group(None),
            limits: Vec::new(),
        };
        if let Some(work) = book.find(&place) {
            let grant = before(work, &ask.id)?;
            if grant.fingerprint.difference(&plan.content.fingerprint).is_some() {
                let fields = &plan.content.names;
                return Err(conflict(ask.id.as_str(), fields, Some(&grant.fingerprint), &plan.content.fingerprint));
            }
            return Ok(Done { answer: answer(grant.held, grant.expires_at), replayed: true });
        }
        if let Some(refusal) = &plan.admission().refusal {
            return Err(refusal.clone().into());
        }
        let held = plan.quote.amount.min(book.left(&place.0));
        if held < ask.least(plan.quote.amount) || !book.has_room(&place) {
            return Err(untold());
        }
        if plan.check_only {
            return Ok(Done::now(answer(0, now)));
        }
        let expires_at = Millis(now.0 + i64::from(ask.ttl_ms.unwrap_or(self.live().default_ttl_ms)));
        let (tokens, prompt_cost) = (plan.quote.tokens, plan.quote.prompt_cost);
        let grant = Grant { fingerprint: plan.content.fingerprint, held, tokens, prompt_cost, expires_at };
        let price_tag = Some(plan.ready.price_tag.clone());
        book.put(place.clone(), Work { grant: Some(grant), price_tag, ..Work::default() });
        drop(book);
        self.local.touch();
        metrics::degraded_grant();
        Ok(Done::now(answer(held, expires_at)))
    }

    pub(crate) async fn settle_locally(&self, ask: &Settle) -> Step<Done<Settled>> {
        let who = known(self.who(&ask.payer, ask.key.as_ref()).await, ask.invalid().as_ref())?;
        self.allowed(&who)?;
        let place = (who.account.clone(), ask.id.clone());
        let _turn = self.local.turn(&place).await;
        let work = self.local.book().find(&place).cloned().unwrap_or_default();
        let content = content::of_settle(ask, who.key.as_ref());
        if work.released.is_some() {
            return Err(already(Code::AlreadyReleased, &ask.id));
        }
        if let Some(report) = work.report {
            let same = report.fingerprint.difference(&content.fingerprint).is_none();
            match (same, report.last) {
                (true, _) => return Ok(Done { answer: told(&place, &report), replayed: true }),
                (false, true) if report.by_charge => return Err(already(Code::AlreadySettled, &ask.id)),
                (false, true) => {
                    let (first, this) = (Some(&report.fingerprint), &content.fingerprint);
                    return Err(conflict(ask.id.as_str(), &content.names, first, this));
                }
                (false, false) => {}
            }
        }
        let trusted = self.trust.find(&place.0, &place.1);
        let tag = trusted.as_ref().map(|work| work.ready.price_tag.as_slice()).or(work.price_tag.as_deref());
        let prompt_cost = match (&trusted, work.grant) {
            (Some(work), _) => Some(work.prompt_cost),
            (None, grant) => grant.map(|grant| grant.prompt_cost),
        };
        if prompt_cost.is_none() && matches!(ask.price, Price::Text { prompt_tokens: None, .. }) {
            // What the prompt was estimated at is in the record, which Redis has.
            return Err(untold());
        }
        let frozen = Frozen { tag, prompt_cost: prompt_cost.unwrap_or(0) };
        // A model without a price today may have one in the reservation, which Redis knows.
        let mut bill = match self.bill(ask, &who, frozen).await? {
            Ok(bill) => bill,
            Err(why @ Unpriced::Lacks(_)) => return Err(why.refusal(ask.price.field(), ask.model.as_ref()).into()),
            Err(Unpriced::Model) => return Err(untold()),
        };
        if let Some(work) = &trusted {
            work.resolve(&mut bill);
        }
        if matches!(bill.cost, Cost::Units(units) if units < work.so_far()) {
            return Err(conflict_in(ask.id.as_str(), "amount"));
        }
        // `None`: the hold is in Redis, and what it says is charged when Redis is back.
        let charged = work.charge_of(bill.cost);
        if let Some(units) = charged {
            bill.cost = Cost::Units(units);
        }
        bill.tokens = bill.tokens.or(work.grant.map(|grant| grant.tokens));
        let rest = |grant: Grant| (grant.held - charged.unwrap_or(0)).max(0);
        bill.price_tag = bill.price_tag.or_else(|| tag.map(<[u8]>::to_vec));
        let report = Report {
            fingerprint: content.fingerprint,
            by_charge: false,
            charged,
            returned: if ask.last { work.grant.map(rest) } else { Some(0) },
            late: work.grant.is_some_and(|grant| grant.expires_at <= self.clock.now()),
            clamped: bill.clamped,
            last: ask.last,
        };
        let record = Spooled::settle(ask, &who.account, who.key.as_ref(), &bill);
        self.local.keep(&place, &record, Work { report: Some(report), ..work }).await?;
        Ok(Done::now(told(&place, &report)))
    }

    pub(crate) async fn charge_locally(&self, ask: &Charge) -> Step<Done<Settled>> {
        let settle = &ask.settle;
        let invalid = ask.invalid(self.live().max_amount);
        let who = known(self.who(&settle.payer, settle.key.as_ref()).await, invalid.as_ref())?;
        self.allowed(&who)?;
        let place = (who.account.clone(), settle.id.clone());
        let _turn = self.local.turn(&place).await;
        let content = content::of_charge(ask, who.key.as_ref());
        let work = self.local.book().find(&place).cloned();
        match work.as_ref().map(|work| work.report) {
            Some(Some(report)) if report.by_charge => {
                if report.fingerprint.difference(&content.fingerprint).is_none() {
                    return Ok(Done { answer: told(&place, &report), replayed: true });
                }
                let (first, this) = (Some(&report.fingerprint), &content.fingerprint);
                return Err(conflict(settle.id.as_str(), &content.names, first, this));
            }
            Some(_) => return Err(conflict_in(settle.id.as_str(), "id")),
            None => {}
        }
        let amount = self.charge_amount(ask, &who).await?;
        if !ask.force && amount.amount > self.local.book().left(&place.0) {
            return Err(untold());
        }
        let (fingerprint, charged) = (content.fingerprint, Some(amount.amount));
        let (returned, late, clamped) = (Some(0), false, false);
        let report = Report { fingerprint, by_charge: true, charged, returned, late, clamped, last: true };
        let record = Spooled::charge(ask, &who.account, who.key.as_ref(), &amount);
        self.local.keep(&place, &record, Work { report: Some(report), ..Work::default() }).await?;
        Ok(Done::now(told(&place, &report)))
    }

    /// What a charge costs, unless the rules refuse it.
    async fn charge_amount(&self, ask: &Charge, who: &Who) -> Step<crate::engine::pricing::Quote> {
        let settle = &ask.settle;
        let terms = self.terms();
        let mut question = who.ask(settle.platform.as_ref(), settle.model.as_ref(), self.clock.now());
        question.client_ip = ask.client_ip;
        let ready = who.rules.admit(&question, settle.group.as_deref(), &terms);
        let quote = self.quote_charge(ask, who, &ready, &terms).await?;
        let refusal = match (quote, &settle.model) {
            (None, Some(model)) => denied_by(&ready, model_not_priced(model)).refusal,
            (_, _) => ready.admission.refusal.clone(),
        };
        match refusal {
            Some(refusal) => Err(refusal.into()),
            None => Ok(quote.unwrap_or_default()),
        }
    }

    pub(crate) async fn release_locally(&self, ask: &Release) -> Step<Done<Released>> {
        let who = self.who(&ask.payer, None).await?;
        self.allowed(&who)?;
        let place = (who.account.clone(), ask.id.clone());
        let _turn = self.local.turn(&place).await;
        let work = self.local.book().find(&place).cloned().unwrap_or_default();
        let answer = |returned| Released {
            account: place.0.clone(),
            id: ask.id.clone(),
            returned,
            balance: None,
            available: None,
        };
        if let Some(returned) = work.released {
            return Ok(Done { answer: answer(returned), replayed: true });
        }
        if work.report.is_some_and(|report| report.last) {
            return Err(already(Code::AlreadySettled, &ask.id));
        }
        let returned = work.grant.map(|grant| (grant.held - work.so_far()).max(0));
        let record = Spooled::release(&who.account, &ask.id);
        self.local.keep(&place, &record, Work { released: Some(returned), ..work }).await?;
        Ok(Done::now(answer(returned)))
    }

    /// Of what was granted here alone: another hold's limits and balance are Redis' to check.
    pub(crate) async fn extend_locally(&self, ask: &Extend) -> Step<Done<Extended>> {
        let who = known(self.who(&ask.payer, None).await, ask.invalid(self.live().max_amount).as_ref())?;
        self.allowed(&who)?;
        let place = (who.account.clone(), ask.id.clone());
        let _turn = self.local.turn(&place).await;
        let now = self.clock.now();
        // What a hold comes to in another group is worked out from the record, which Redis has.
        if ask.group.is_some() {
            return Err(untold());
        }
        let mut book = self.local.book();
        let work = book.find(&place).cloned().ok_or_else(untold)?;
        let grant = before(&work, &ask.id)?;
        let held = ask.amount.unwrap_or(grant.held);
        if held < grant.held {
            return Err(conflict_in(ask.id.as_str(), "amount"));
        }
        if held - grant.held > book.left(&place.0) {
            return Err(untold());
        }
        let expires_at = ask.ttl_ms.map_or(grant.expires_at, |ttl_ms| Millis(now.0 + i64::from(ttl_ms)));
        let grant = Grant { held, expires_at, ..grant };
        book.put(place.clone(), Work { grant: Some(grant), ..work });
        drop(book);
        self.local.touch();
        let (account, id) = place;
        let answer = Extended { account, id, held, expires_at, balance: None, available: None, group: None };
        Ok(Done::now(answer))
    }
}

/// The grant of a reservation that goes on; why not, when it does not.
fn before(work: &Work, id: &ReservationId) -> Step<Grant> {
    match (work.released, work.report, work.grant) {
        (Some(_), _, _) => Err(already(Code::AlreadyReleased, id)),
        (None, Some(report), _) if report.last => Err(already(Code::AlreadySettled, id)),
        (None, _, Some(grant)) => Ok(grant),
        // Settled in part here, reserved in Redis.
        (None, _, None) => Err(untold()),
    }
}

fn told(place: &Place, report: &Report) -> Settled {
    Settled {
        account: place.0.clone(),
        id: place.1.clone(),
        charged: report.charged,
        returned: report.returned,
        overdraft: 0,
        late: report.late,
        unreserved: false,
        clamped: report.clamped,
        last: report.last,
        balance: None,
        available: None,
    }
}
