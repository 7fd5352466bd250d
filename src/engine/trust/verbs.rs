//! What the verbs do in trust mode.

use std::time::{Duration, Instant};

use super::{
    Aside, Moment, Work,
    work::{Question, Slot},
};
use crate::{
    engine::{
        Engine,
        denial::{Asked, conflict},
        limits::{self, Requested},
        policies::Who,
        ports::{Cost, Reply, ReserveCall, Status},
        pricing::Bill,
        reserve::{Mode, Plan, Reserve, Reserved},
        step::{Done, Step},
    },
    quota::{
        clock::Millis,
        id::ReservationId,
        policy::{Admission, Group},
        trust::Rule,
        verdict::Code,
    },
};

impl Work {
    /// What a settle costs that does not say it, and its tokens, as the work was granted.
    pub(crate) fn resolve(&self, bill: &mut Bill) {
        bill.cost = Cost::Units(match bill.cost {
            Cost::Units(units) => units,
            Cost::Prompt => self.prompt_cost,
            Cost::Held => self.amount,
            Cost::Nothing => 0,
        });
        bill.tokens = bill.tokens.or(Some(self.tokens));
    }
}

impl Engine {
    /// Now, and the era of the counters, for a script that is about to be called.
    pub(crate) fn moment(&self) -> Moment {
        Moment { sent: Instant::now(), era: self.counters.era() }
    }

    /// Keeps what Redis answered to a reserve, and begins to where that is far enough to be trusted.
    pub(crate) fn learn(&self, plan: &Plan, rule: Option<Rule>, moment: Option<Moment>, reply: &Reply) {
        let (Some(rule), Some(moment), Some(head)) = (rule, moment, &reply.head) else { return };
        let account = &plan.who.account;
        if rule.is_far(plan.who.available(head), 0, 0) && self.trust.open(account, moment.era) {
            self.trust.see(account, moment, reply);
        }
        let of = (plan.who.key.as_ref(), plan.admission().groups.as_slice());
        self.trust.see_funds(account, Some(moment), of, reply);
    }

    /// Grants the reserve without asking Redis, or answers it as before when it was granted so. `None`:
    /// Redis decides.
    pub(crate) fn reserve_trusted(
        &self,
        ask: &Reserve,
        plan: &Plan,
        rule: Option<Rule>,
        now: Millis,
    ) -> Step<Option<Done<Reserved>>> {
        let (trust, who) = (&self.trust, &plan.who);
        if !trust.is_on() {
            return Ok(None);
        }
        let Some(mut standing) = trust.standings.get_mut(&who.account) else { return Ok(None) };
        let at = Instant::now();
        trust.ended(standing.expire(at));
        let (held_for, replayed) = match (standing.slot(&ask.id), rule) {
            (Some(Slot::Known { .. }), _) | (None, None) => return Ok(None),
            (Some(Slot::Trusted(work)), _) => {
                let (first, this) = (&work.fingerprint, &plan.content.fingerprint);
                if first.difference(this).is_some() {
                    return Err(conflict(ask.id.as_str(), &plan.content.names, Some(first), this));
                }
                (work.expires_at, true)
            }
            (None, Some(rule)) => {
                let version = who.rules.policy.version;
                let (key, amount) = (who.key.as_ref(), plan.quote.amount);
                let era = self.counters.era();
                let question = Question { rule, version, key, admission: &plan.ready.admission, amount, at, era };
                if !ask.may_be_trusted(plan) || !trust.has_room() || !standing.admits(&question) {
                    return Ok(None);
                }
                let ttl_ms = ask.ttl_ms.unwrap_or(self.live().default_ttl_ms);
                let expires_at = Millis(now.0 + i64::from(ttl_ms));
                let until = at + Duration::from_millis(ttl_ms.into());
                standing.take_up(&ask.id, plan.work(expires_at, until));
                trust.begun();
                (expires_at, false)
            }
        };
        let (head, in_flight) = standing.account();
        let (balance, available) = (head.balance, who.available(head) - in_flight);
        let groups = &plan.ready.admission.groups;
        let windows = standing.windows(groups);
        drop(standing);
        let answer = Reserved {
            account: who.account.clone(),
            id: ask.id.clone(),
            held: 0,
            trusted: true,
            expires_at: held_for,
            balance: Some(balance),
            available: Some(available),
            group: plan.group(None),
            limits: limits::states(groups, &windows, &who.rules.policy.zone, now),
        };
        Ok(Some(Done { answer, replayed }))
    }

    /// The admission as Redis is asked with it: trusted work in flight here is left room for.
    pub(crate) fn beside(&self, who: &Who, admission: &Admission) -> Option<(Aside, Admission)> {
        let aside = self.trust.aside(&who.account, who.key.as_ref(), &admission.groups, None)?;
        let lowered = aside.lower(admission);
        Some((aside, lowered))
    }

    /// Turns trusted work into a hold, under its id and for the rest of its time, for verbs that need one:
    /// it is granted or denied like any other. Nothing is done when there is no such work.
    pub(crate) async fn hold_trusted(&self, who: &Who, id: &ReservationId) -> Step<()> {
        let mut turns = self.turns();
        let Some(work) = self.trust.find(&who.account, id) else { return Ok(()) };
        loop {
            let Some(rules) = self.rules(&who.account).await? else { return Ok(()) };
            let key = work.ready.key.clone();
            let who = Who { account: who.account.clone(), key, rules };
            let admission = self.of_work(&who, &work, turns.now);
            let aside = self.trust.aside(&who.account, who.key.as_ref(), &admission.groups, Some(id));
            let lowered = aside.as_ref().map(|aside| aside.lower(&admission));
            let left = work.until.saturating_duration_since(Instant::now()).as_millis();
            let call = ReserveCall {
                account: &who.account,
                id,
                version: who.rules.policy.version,
                admission: lowered.as_ref().unwrap_or(&admission),
                key: who.key.as_ref(),
                amount: work.amount,
                min_amount: work.amount,
                tokens: work.tokens,
                prompt_cost: work.prompt_cost,
                ttl_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
                check_only: false,
                charge_on_expiry: false,
                fingerprint: work.fingerprint,
                price_tag: &work.ready.price_tag,
            };
            let reply = self.counters.reserve(&call).await?;
            if !self.decided(&mut turns, &who.account, &reply).await? {
                continue;
            }
            return match reply.status {
                // However it is known: the verb that comes next will tell.
                Status::Done
                | Status::Replayed
                | Status::Conflict
                | Status::AlreadySettled
                | Status::AlreadyReleased => {
                    self.trust.know(&who.account, id);
                    Ok(())
                }
                _ => {
                    let groups: &[Group] = &admission.groups;
                    let requested = Requested { cost: work.amount, tokens: work.tokens, calls: 1 };
                    let (refusal, allowance) = (admission.refusal.as_ref(), admission.allowance);
                    let aside = aside.as_ref();
                    Err(Asked { id: id.as_str(), who: &who, refusal, allowance, groups, requested, aside }
                        .refused(&reply))
                }
            };
        }
    }

    /// Today's admission of trusted work. Address, model and platform were admitted when it was granted.
    pub(crate) fn of_work(&self, who: &Who, work: &Work, now: Millis) -> Admission {
        let ready = &work.ready;
        let question = who.ask(ready.platform.as_ref(), ready.model.as_ref(), now);
        let named = Some(ready.groups().using);
        let mut admission = who.rules.admit(&question, named, &self.terms()).admission.clone();
        admission.refusal = admission.refusal.filter(|refusal| refusal.code <= Code::KeyExpired);
        admission
    }
}

impl Reserve {
    /// Trust is for plain reserves that the rules admit.
    fn may_be_trusted(&self, plan: &Plan) -> bool {
        self.mode == Mode::Strict && !self.charge_on_expiry && !plan.check_only && plan.admission().refusal.is_none()
    }
}

impl Plan {
    fn work(&self, expires_at: Millis, until: Instant) -> Work {
        Work {
            fingerprint: self.content.fingerprint,
            amount: self.quote.amount,
            tokens: self.quote.tokens,
            prompt_cost: self.quote.prompt_cost,
            ready: self.ready.clone(),
            expires_at,
            until,
        }
    }
}
