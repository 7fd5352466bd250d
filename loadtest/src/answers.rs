//! What the answers of a call's life must say, and what repeated calls must be answered with.

use std::sync::atomic::Ordering;

use hyper::body::Bytes;

use crate::{
    client::Reply,
    life::Stage,
    meter::Verb,
    wire::{self, Answer},
    workload::{Call, Fate, Repeat},
};

impl Stage {
    pub(crate) fn check_grant(&self, call: &Call, answer: &Answer) {
        let held = if answer.trusted { 0 } else { call.hold };
        if answer.outcome != "granted" || answer.held != held {
            let said = format!("{:?} with {} held", answer.outcome, answer.held);
            self.finding(call, &format!("reserve answered {said}, the estimate is {}", call.hold));
        }
        if !answer.replayed && !answer.trusted && answer.available.is_none_or(|available| available < 0) {
            self.finding(call, &format!("reserve was granted and left {:?} available", answer.available));
        }
    }

    pub(crate) fn check_settle(&self, call: &Call, answer: &Answer, reply: &Reply) {
        if answer.charged != call.cost || answer.outcome != "settled" {
            let said = format!("{:?} with {} charged", answer.outcome, answer.charged);
            self.finding(call, &format!("settle answered {said}, the cost is {}", call.cost));
        }
        if answer.unreserved {
            self.meter.unreserved.fetch_add(1, Ordering::Relaxed);
        }
        let calm = self.gateway.retries.counts().iter().all(|(_, count)| *count == 0);
        let first_answer = reply.attempts == 1 && call.repeat != Some(Repeat::Together);
        if !calm || !first_answer {
            return;
        }
        let late = call.fate == Fate::Late;
        // What a late settle finds has been returned before, by the expiry.
        let returned = if late { answer.returned } else { (call.hold - call.cost).max(0) };
        let overdraft = answer.balance.map_or(0, |balance| (-balance).max(0));
        if answer.late != late || answer.unreserved || answer.returned != returned || answer.overdraft != overdraft {
            let said = reply.text();
            let want = format!("late {late}, unreserved false, returned {returned}, overdraft {overdraft}");
            self.finding(call, &format!("settle must answer {want}, not {said}"));
        }
    }

    pub(crate) fn check_release(&self, call: &Call, answer: &Answer, reply: &Reply) {
        let returned = answer.returned == call.hold || (reply.attempts > 1 && answer.returned == 0);
        if answer.outcome != "released" || !returned {
            let said = format!("{:?} with {} returned", answer.outcome, answer.returned);
            self.finding(call, &format!("release answered {said}, {} were held", call.hold));
        }
    }

    /// Two of the same at once: one does it, the other is its replay.
    pub(crate) fn check_twin(&self, call: &Call, verb: Verb, first: (&Answer, &Reply), second: &Reply) {
        let Some(twin) = self.read(call, verb.as_str(), second) else { return };
        let (answer, reply) = first;
        let once = answer.replayed != twin.replayed || reply.attempts + second.attempts > 2;
        if second.status != 200 || answer.charged != twin.charged || !once {
            let both = format!("{} and {}", reply.text(), second.text());
            self.finding(call, &format!("two {} at the same time must be one and its replay: {both}", verb.as_str()));
        }
    }

    pub(crate) async fn repeat_reserve(&self, call: &Call) {
        let body = wire::reserve(&self.workload, self.account(call), call);
        let Some(reply) = self.send(call, Verb::Repeat, None, "/v1/reserve", body).await else { return };
        let Some(answer) = self.read(call, "reserve", &reply) else { return };
        if reply.status != 200 || !answer.replayed || (answer.held != call.hold && !answer.trusted) {
            self.finding(call, &format!("a repeated reserve must be replayed, not {} {}", reply.status, reply.text()));
        }
    }

    pub(crate) async fn repeat_end(&self, call: &Call, verb: Verb, path: &str, body: Bytes) {
        let (amount, first): (fn(&Answer) -> i64, i64) = match verb {
            Verb::Release => (|answer| answer.returned, call.hold),
            Verb::Reserve | Verb::Settle | Verb::Repeat | Verb::Start => (|answer| answer.charged, call.cost),
        };
        if let Some(reply) = self.send(call, Verb::Repeat, None, path, body).await
            && let Some(answer) = self.read(call, verb.as_str(), &reply)
            && (reply.status != 200 || !answer.replayed || amount(&answer) != first)
        {
            let said = format!("{} {}", reply.status, reply.text());
            self.finding(
                call,
                &format!("a repeated {} must be replayed with its amount {first}, not {said}", verb.as_str()),
            );
        }
        let body = wire::reserve(&self.workload, self.account(call), call);
        let Some(reply) = self.send(call, Verb::Repeat, None, "/v1/reserve", body).await else { return };
        let code = if verb == Verb::Release { "already_released" } else { "already_settled" };
        self.expect_code(call, "a reserve after the end", &reply, code);
    }

    pub(crate) async fn conflict(&self, call: &Call) {
        let body = wire::conflicting_settle(&self.workload, self.account(call), call);
        let Some(reply) = self.send(call, Verb::Repeat, None, "/v1/settle", body).await else { return };
        self.expect_code(call, "a settle with another cost", &reply, "conflict");
    }

    pub(crate) fn read(&self, call: &Call, verb: &str, reply: &Reply) -> Option<Answer> {
        reply.json().map_err(|problem| self.finding(call, &format!("{verb} answered {problem}"))).ok()
    }

    pub(crate) fn expect(&self, call: &Call, verb: &str, reply: &Reply, status: u16) {
        if reply.status != status {
            self.unexpected(call, verb, reply);
        }
    }

    pub(crate) fn expect_code(&self, call: &Call, what: &str, reply: &Reply, code: &str) {
        let said = self.read(call, what, reply).and_then(|answer| answer.code);
        if reply.status != 409 || said.as_deref() != Some(code) {
            let said = format!("{} {}", reply.status, reply.text());
            self.finding(call, &format!("{what} must be answered 409 {code}, not {said}"));
        }
    }

    pub(crate) fn unexpected(&self, call: &Call, verb: &str, reply: &Reply) {
        self.finding(call, &format!("{verb} answered {} {}", reply.status, reply.text()));
    }

    pub(crate) fn finding(&self, call: &Call, problem: &str) {
        self.journal.finding(format!("{} {}: {problem}", self.account(call), wire::id(call)));
    }
}
