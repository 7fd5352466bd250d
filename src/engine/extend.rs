//! Extend: hold more, longer; or go on in another price group.

mod retry;

use smallvec::SmallVec;

use super::{
    Answer, Engine, Payer,
    denial::{Asked, no_reservation},
    limits::Requested,
    ports::{ExtendCall, Reply, Reprice, Status, Unavailable},
    pricing::model_missing,
    reserve::{bad_ttl, known, too_much},
    step::{Done, Step},
};
use crate::quota::{
    clock::Millis,
    group::AUTO,
    id::{AccountId, Model, ReservationId},
    limit::{CounterCode, GroupField, Metric, Period},
    policy::{Gauge, Group, Policy},
    reservation::{Record, WindowRefs},
    verdict::{Code, Refusal},
};

#[derive(Clone, Debug)]
pub struct Extend {
    pub payer: Payer,
    pub id: ReservationId,
    /// The new whole hold; `None` leaves it.
    pub amount: Option<i64>,
    /// From now; `None` leaves the deadline.
    pub ttl_ms: Option<u32>,
    /// The price group to go on in: the hold, unless it is said, becomes what it costs there.
    pub group: Option<Box<str>>,
    /// What is called: asked where a group serves certain models, and for an estimate; refused where the key may not.
    pub model: Option<Model>,
    /// The new whole hold in that group, exactly; with a group and without an amount.
    pub estimate: Option<Estimate>,
}

/// Tokens that the call may take.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    pub prompt_tokens: i64,
    /// `None`: as many as the model puts out.
    pub max_tokens: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct Extended {
    pub account: AccountId,
    pub id: ReservationId,
    pub held: i64,
    pub expires_at: Millis,
    /// This and `available`: `None` when it was decided without Redis.
    pub balance: Option<i64>,
    pub available: Option<i64>,
    /// The price group that the reservation is in; only where the call names one.
    pub group: Option<Box<str>>,
}

impl Engine {
    pub async fn extend(&self, ask: &Extend) -> Answer<Extended> {
        self.or_locally(Box::pin(self.try_extend(ask)), || Box::pin(self.extend_locally(ask))).await
    }

    async fn try_extend(&self, ask: &Extend) -> Step<Done<Extended>> {
        self.backlog.check()?;
        let mut turns = self.turns();
        let invalid = ask.invalid(self.live().max_amount);
        loop {
            let who = known(self.who(&ask.payer, None).await, invalid.as_ref())?;
            self.hold_trusted(&who, &ask.id).await?;
            let record = self.counters.read_record(&who.account, &ask.id).await?;
            let record = record.ok_or_else(|| no_reservation(ask.id.as_str()))?;
            let policy = &who.rules.policy;
            let asked = self.asked_of(ask, &who, &record).await?;
            let standing = standing(policy, &record, ask.model.as_ref(), turns.now);
            let refusal = [standing, asked.refusal].into_iter().flatten().min_by_key(|refusal| refusal.code);
            let groups = groups_of(policy, &record, asked.tokens.is_some());
            let aside = self.trust.aside(&who.account, record.key.as_ref(), &groups, None).unwrap_or_default();
            let mut lowered = groups.clone();
            aside.lower_caps(&mut lowered);
            let allowance = record.key.as_ref().and_then(|key| policy.keys.get(key)).and_then(|key| key.allowance);
            let call = ExtendCall {
                account: &who.account,
                id: &ask.id,
                version: policy.version,
                credit_limit: policy.credit_limit - aside.account,
                allowance: allowance.map(|allowance| (allowance - aside.key).max(0)),
                denied: refusal.is_some(),
                groups: &lowered,
                amount: asked.amount,
                ttl_ms: ask.ttl_ms,
                reprice: asked.tag.as_ref().map(|tag| Reprice {
                    from: &record.price_tag,
                    to: tag,
                    prompt_cost: asked.prompt_cost,
                    tokens: asked.tokens,
                }),
            };
            let reply = self.counters.extend(&call).await?;
            if self.decided(&mut turns, &who.account, &reply).await? {
                // Another extend came in between: what this one comes to has to be worked out again.
                let outdated = reply.status == Status::Decreasing && ask.amount.is_none();
                if reply.status == Status::Reprice || outdated {
                    turns.again("the reservation's hold and prices keep changing")?;
                    continue;
                }
                let (id, requested) = (ask.id.as_str(), Requested { cost: 0, tokens: 0, calls: 0 });
                let (who, refusal, groups, aside) = (&who, refusal.as_ref(), groups.as_slice(), Some(&aside));
                let asked = Asked { id, who, refusal, allowance, groups, requested, aside };
                let mut done = extended(asked, &call, &record, &reply)?;
                done.answer.group = ask.group.clone();
                return Ok(done);
            }
        }
    }
}

/// `asked` lacks what was requested, which depends on the reservation.
fn extended(asked: Asked<'_>, call: &ExtendCall<'_>, before: &Record, reply: &Reply) -> Step<Done<Extended>> {
    let who = asked.who;
    match (reply.status, &reply.record, &reply.head) {
        (Status::Done | Status::Replayed, Some(record), Some(head)) => Ok(Done {
            answer: Extended {
                account: who.account.clone(),
                id: call.id.clone(),
                held: record.held,
                expires_at: record.expires,
                balance: Some(head.balance),
                available: Some(who.available(head)),
                group: None,
            },
            replayed: reply.status == Status::Replayed,
        }),
        (Status::Done | Status::Replayed, _, _) => {
            Err(Unavailable::Corrupt("extend was done without its record".into()).into())
        }
        (_, record, _) => {
            let now = record.as_ref().unwrap_or(before);
            let extra = call.amount.map_or(0, |amount| (amount - now.charged).max(0) - now.rest());
            let tokens = call.reprice.and_then(|it| it.tokens).map_or(0, |tokens| (tokens - now.tokens).max(0));
            Err(Asked { requested: Requested { cost: extra, tokens, ..asked.requested }, ..asked }.refused(reply))
        }
    }
}

/// Why account or key may not spend more. Address and platform were admitted when the reservation was made, which does
/// not remember them; the model may be another one by now, when the call names it.
fn standing(policy: &Policy, record: &Record, model: Option<&Model>, now: Millis) -> Option<Refusal> {
    let key = record.key.as_ref();
    let ask = crate::quota::policy::Ask { key, platform: None, model, client_ip: None, now };
    let refusal = policy.admit(&ask).refusal.filter(|refusal| refusal.code <= Code::KeyExpired);
    refusal.or_else(|| policy.refuse_model(key, model?, now))
}

/// The groups that the reservation was counted in, with today's caps on cost and, when `tokens` are held anew, on
/// those. The windows are the reservation's own: the script leaves alone what has begun anew since.
fn groups_of(policy: &Policy, record: &Record, tokens: bool) -> SmallVec<[Group; 2]> {
    record.windows.iter().filter_map(|refs| group_of(policy, record, refs, tokens)).collect()
}

fn group_of(policy: &Policy, record: &Record, refs: &WindowRefs, tokens: bool) -> Option<Group> {
    let (field, [platform, model, key]) = GroupField::parse(refs.field.as_str())?;
    let key = record.key.clone().filter(|of_record| of_record.as_str() == key);
    let limits = match &key {
        Some(key) => &policy.keys.get(key)?.limits,
        None => &policy.limits,
    };
    let start = |code: CounterCode| refs.counters.iter().find(|(counted, _)| *counted == code).map(|(_, start)| *start);
    let gauges: SmallVec<[Gauge; 3]> = limits
        .iter()
        .filter(|limit| limit.metric == Metric::Cost || tokens && limit.metric == Metric::Tokens)
        .filter(|limit| *limit.platform == *platform && *limit.model == *model)
        .filter_map(|limit| {
            let start_s = start(limit.code())?;
            let calendar =
                crate::quota::window::calendar(limit.period, &policy.zone, Millis(i64::from(start_s) * 1_000));
            let period_s = if let Period::Rolling(seconds) = limit.period { seconds } else { 0 };
            Some(Gauge { limit: limit.clone(), start_s, end_s: calendar.map_or(0, |span| span.end_s), period_s })
        })
        .collect();
    (!gauges.is_empty()).then_some(Group { field, key, gauges })
}

impl Extend {
    pub(crate) fn invalid(&self, max_amount: i64) -> Option<Refusal> {
        let nothing = || {
            let nothing = self.amount.is_none() && self.ttl_ms.is_none() && self.group.is_none();
            nothing.then(|| Refusal::invalid("amount", "or `ttl_ms` or `group` is needed"))
        };
        let retry = || match (&self.group, self.estimate) {
            (Some(group), _) if **group == *AUTO => {
                Some(Refusal::invalid("group", "must be a group: a retry names the one it goes on in"))
            }
            (None, Some(_)) => Some(Refusal::invalid("estimate", "is for a retry in another `group`")),
            (Some(_), Some(_)) if self.amount.is_some() => {
                Some(Refusal::invalid("estimate", "and `amount` exclude each other"))
            }
            (Some(_), Some(_)) if self.model.is_none() => Some(model_missing()),
            (_, _) => None,
        };
        let bounds = too_much("amount", self.amount.unwrap_or(0), max_amount).or_else(|| bad_ttl(self.ttl_ms));
        bounds.or_else(nothing).or_else(retry)
    }
}
