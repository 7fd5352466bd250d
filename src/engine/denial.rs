//! From a script's status to a refusal that a client can act on: code, sentence, numbers.

use super::{
    limits::{self, Requested},
    policies::Who,
    ports::{Reply, Status, Unavailable},
    step::Stop,
    trust::Aside,
};
use crate::quota::{
    fingerprint::Fingerprint,
    policy::Group,
    verdict::{Code, Refusal},
};

/// What was asked, as far as a refusal speaks of it.
pub(crate) struct Asked<'a> {
    /// The reservation or operation.
    pub(crate) id: &'a str,
    pub(crate) who: &'a Who,
    /// The denial that the script was given to hand back.
    pub(crate) refusal: Option<&'a Refusal>,
    pub(crate) allowance: Option<i64>,
    pub(crate) groups: &'a [Group],
    /// The least that would have been enough.
    pub(crate) requested: Requested,
    /// What the call left room for.
    pub(crate) aside: Option<&'a Aside>,
}

impl<'a> Asked<'a> {
    /// For verbs that are not checked against the rules.
    pub(crate) fn plain(id: &'a str, who: &'a Who, amount: i64) -> Self {
        let requested = Requested { cost: amount, tokens: 0, calls: 0 };
        Self { id, who, refusal: None, allowance: None, groups: &[], requested, aside: None }
    }

    /// The refusal that a reply means. Statuses with a meaning of the verb's own (done, replayed,
    /// conflict, reprice, idle) are the verb's to read before.
    pub(crate) fn refused(&self, reply: &Reply) -> Stop {
        let id = self.id;
        match reply.status {
            Status::AlreadySettled => Refusal::new(Code::AlreadySettled, format!("`{id}` is settled already")).into(),
            Status::AlreadyReleased => {
                Refusal::new(Code::AlreadyReleased, format!("`{id}` is released or expired already")).into()
            }
            Status::Denied => match self.refusal {
                Some(refusal) => refusal.clone().into(),
                None => Unavailable::Corrupt("a script denied a call that the rules admit".into()).into(),
            },
            Status::InsufficientBalance => self.insufficient_balance(reply),
            Status::KeyExhausted => self.key_exhausted(reply),
            Status::LimitExceeded => self.limit_exceeded(reply),
            Status::Unknown => no_reservation(id),
            Status::RefundExceedsCharge => self.refund_exceeds_charge(reply),
            Status::OutOfRange => {
                Refusal::invalid("amount", "the balance or a counter would leave the range of ±2^52 units").into()
            }
            Status::Decreasing => self.decreasing(reply),
            Status::Done
            | Status::Replayed
            | Status::Stale
            | Status::Absent
            | Status::Generation
            | Status::Window
            | Status::Conflict
            | Status::Reprice
            | Status::Idle => Unavailable::Corrupt(format!("a script answered {:?} out of turn", reply.status)).into(),
        }
    }

    fn insufficient_balance(&self, reply: &Reply) -> Stop {
        let aside = self.aside.map_or(0, |aside| aside.account);
        let available = reply.head.map(|head| self.who.available(&head) - aside);
        let requested = self.requested.cost;
        let there = available.unwrap_or_default();
        let detail = format!("{requested} units were asked for, {there} are available");
        let refusal = Refusal::new(Code::InsufficientBalance, detail);
        Refusal { requested: Some(requested), available, ..refusal }.into()
    }

    fn key_exhausted(&self, reply: &Reply) -> Stop {
        let requested = self.requested.cost;
        let key = reply.key.unwrap_or_default();
        let aside = self.aside.map_or(0, |aside| aside.key);
        let left = self.allowance.map(|allowance| (allowance - key.used - key.held - aside).max(0));
        let detail = format!("{requested} units were asked for, the key has {} left", left.unwrap_or_default());
        let refusal = Refusal::new(Code::KeyExhausted, detail);
        Refusal { requested: Some(requested), available: left, ..refusal }.into()
    }

    fn limit_exceeded(&self, reply: &Reply) -> Stop {
        let mut states = limits::states(self.groups, &reply.windows, &self.who.rules.policy.zone, reply.now);
        if let Some(aside) = self.aside {
            aside.show(self.groups, &mut states);
        }
        let violated = limits::violated(states, self.requested);
        let detail = match violated.as_slice() {
            [] => "a limit would be exceeded".to_owned(),
            [first, more @ ..] => {
                let (metric, cap) = (first.limit.metric.as_str(), first.limit.cap.unwrap_or_default());
                let period = first.limit.period.as_text().map(|period| format!(" per {period}")).unwrap_or_default();
                let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
                format!("the limit of {cap} {metric}{period}{more} would be exceeded")
            }
        };
        let retry_after_ms = Some(limits::retry_after_ms(&violated, reply.now));
        Refusal { violated, retry_after_ms, ..Refusal::new(Code::LimitExceeded, detail) }.into()
    }

    fn refund_exceeds_charge(&self, reply: &Reply) -> Stop {
        let left = reply.record.as_ref().map_or(0, |record| record.charged - record.refunded);
        let detail = format!("{} units were to be given back, {left} of the charge are left", self.requested.cost);
        let refusal = Refusal::new(Code::RefundExceedsCharge, detail);
        Refusal { requested: Some(self.requested.cost), available: Some(left), ..refusal }.into()
    }

    /// Well-formed, but at odds with what was said before: a conflict.
    fn decreasing(&self, reply: &Reply) -> Stop {
        let (held, charged) = reply.record.as_ref().map_or((0, 0), |record| (record.held, record.charged));
        let detail = format!("`amount` never goes down: {held} units are held and {charged} charged already");
        Refusal { field: Some("amount"), ..Refusal::new(Code::Conflict, detail) }.into()
    }
}

pub(crate) fn no_reservation(id: &str) -> Stop {
    Refusal::new(Code::ReservationNotFound, format!("there is no reservation `{id}`")).into()
}

/// `conflict`, naming the field in which the calls differ. `fields` are the verb's, in the order
/// of its fingerprint.
pub(crate) fn conflict(id: &str, fields: &[&'static str], first: Option<&Fingerprint>, this: &Fingerprint) -> Stop {
    let position = first.and_then(|first| first.difference(this));
    // A verb of fewer fields whose bytes all agree: some one of them.
    match position.and_then(|position| fields.get(position).or(fields.first())) {
        Some(field) => conflict_in(id, field),
        None => conflict_in(id, "id"),
    }
}

pub(crate) fn conflict_in(id: &str, field: &'static str) -> Stop {
    let detail = match field {
        "id" => format!("`{id}` is in use by another kind of call"),
        field => format!("`{id}` was used before with another `{field}`"),
    };
    Refusal { field: Some(field), ..Refusal::new(Code::Conflict, detail) }.into()
}
