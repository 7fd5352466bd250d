//! What the clients asked and what they were told: the oracle. A story is the life of one reservation
//! (or of one credit or debit) with everything that belongs to it; its calls come one after the other.

use std::{fmt, sync::Mutex};

use quotad::quota::clock::local_now;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Reserve,
    Extend,
    Partial,
    Settle,
    Release,
    Charge,
    Refund,
    Credit,
    Debit,
}

/// A known answer, and when it came (milliseconds since 1970).
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
    /// When the attempt was sent that was answered. It was done after that; the answer may have been long under way.
    pub asked: i64,
    pub at: i64,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub verb: Verb,
    /// Of the reservation or of the operation.
    pub id: String,
    pub amount: i64,
    pub path: String,
    pub body: Value,
    /// When it was first sent.
    pub sent: Option<i64>,
    /// How often, unknown outcomes included.
    pub tries: u32,
    pub reply: Option<Reply>,
}

impl Call {
    pub fn done(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.status == 200)
    }

    pub fn refused(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.status != 200)
    }

    /// Denied at the first attempt: no other one can have been carried out.
    pub fn denied(&self) -> bool {
        self.tries == 1 && self.reply.as_ref().is_some_and(|reply| matches!(reply.status, 402 | 403 | 429))
    }

    /// Refused, but an earlier attempt may have been on its way: it may have been done afterwards.
    pub fn ambiguous(&self) -> bool {
        self.refused() && self.tries > 1
    }

    pub fn asked_at(&self) -> i64 {
        self.reply.as_ref().map_or(0, |reply| reply.asked)
    }

    /// Whether it writes a ledger row of its own when it is done.
    pub fn moves_money(&self) -> bool {
        !matches!(self.verb, Verb::Reserve | Verb::Extend | Verb::Release)
    }
}

#[derive(Clone, Debug)]
pub struct Story {
    pub account: String,
    /// Reservation id, or the op id of a credit or debit.
    pub id: String,
    pub calls: Vec<Call>,
    /// Those before it were answered.
    pub next: usize,
    /// The hold is charged when nobody settles it.
    pub charge_on_expiry: bool,
    /// The next call waits until the end of the run, so that the hold expires before.
    pub late: bool,
}

impl Story {
    pub fn finished(&self) -> bool {
        self.next >= self.calls.len()
    }

    pub fn began(&self) -> Option<i64> {
        self.calls.first().and_then(|call| call.sent)
    }

    pub fn call(&self, verb: Verb) -> Option<&Call> {
        self.calls.iter().find(|call| call.verb == verb)
    }

    /// The call that ends it with money: settle or charge, credit or debit.
    pub fn last_money(&self) -> Option<&Call> {
        self.calls.iter().find(|call| matches!(call.verb, Verb::Settle | Verb::Charge | Verb::Credit | Verb::Debit))
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}:", self.account, self.id, if self.charge_on_expiry { " (charge on expiry)" } else { "" })?;
        for call in &self.calls {
            write!(f, "\n    {:?} {} {} sent {:?} tries {}", call.verb, call.id, call.amount, call.sent, call.tries)?;
            if let Some(reply) = &call.reply {
                write!(f, " -> {} at {}: {}", reply.status, reply.at, reply.body)?;
            }
        }
        Ok(())
    }
}

/// Now, on the clock that Redis has too.
pub fn now() -> i64 {
    local_now().0
}

/// What went wrong, and what happened when; shared by all threads of a seed.
#[derive(Debug, Default)]
pub struct Findings {
    violations: Mutex<Vec<String>>,
    /// Faults: beginning, end (when it is over), whether Redis may have forgotten something, name.
    faults: Mutex<Vec<Happened>>,
}

#[derive(Clone, Debug)]
pub struct Happened {
    pub began: i64,
    pub ended: Option<i64>,
    pub loses: bool,
    pub what: String,
}

impl Findings {
    pub fn violation(&self, sentence: String) {
        self.violations.lock().expect("findings").push(sentence);
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().expect("findings").clone()
    }

    pub fn any(&self) -> bool {
        !self.violations.lock().expect("findings").is_empty()
    }

    /// Must be told before the fault is done.
    pub fn fault(&self, loses: bool, what: String) {
        let happened = Happened { began: now(), ended: None, loses, what };
        self.faults.lock().expect("findings").push(happened);
    }

    pub fn fault_over(&self) {
        if let Some(last) = self.faults.lock().expect("findings").last_mut() {
            last.ended = Some(now());
        }
    }

    pub fn faults(&self) -> Vec<Happened> {
        self.faults.lock().expect("findings").clone()
    }

    /// Whether Redis may have forgotten something that was acknowledged at that time.
    pub fn lost_since(&self, at: i64) -> bool {
        let faults = self.faults.lock().expect("findings");
        faults.iter().any(|fault| fault.loses && fault.ended.is_none_or(|ended| ended >= at))
    }
}
