//! Deciding again. A script that cannot decide says why: the rules were old, the windows were
//! others, the account was not loaded. Each verb then repairs that and asks anew, a bounded number
//! of times.
//!
//! Every verb is a loop: find the payer and its rules, call its script, and hand the reply to
//! [`Engine::decided`]. Only a decided reply is interpreted.

use super::{
    Engine,
    ports::{Reply, Status, Unavailable},
    trust::Moment,
};
use crate::quota::{clock::Millis, id::AccountId};

/// Script calls per verb. Two or three are usual after a change; more means that something changes
/// faster than it is read.
const TURNS_MAX: u32 = 8;

/// The guess of Redis' clock is corrected from here on. Below it, the difference is the way of the reply.
const CLOCK_SLACK_MS: i64 = 10;

/// The turns of one call.
pub(crate) struct Turns {
    left: u32,
    /// When the call takes place, as far as windows go.
    pub(crate) now: Millis,
    /// When the script was called, at the earliest; `None` while no account is trusted.
    pub(crate) moment: Option<Moment>,
}

impl Turns {
    /// Takes one turn; `why` is what the next one hopes to repair.
    pub(crate) fn again(&mut self, why: &str) -> Result<(), Unavailable> {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return Ok(());
        }
        tracing::warn!(turns = TURNS_MAX, "a call was given up: {why}");
        Err(Unavailable::Store(format!("gave up after {TURNS_MAX} turns: {why}")))
    }
}

impl Engine {
    pub(crate) fn turns(&self) -> Turns {
        let moment = self.trust.is_on().then(|| self.moment());
        Turns { left: TURNS_MAX, now: self.clock.now(), moment }
    }

    /// Whether the script decided. If not, what kept it from deciding has been repaired and the
    /// caller asks again with `turns.now` and the rules as they are now.
    pub(crate) async fn decided(
        &self,
        turns: &mut Turns,
        account: &AccountId,
        reply: &Reply,
    ) -> Result<bool, Unavailable> {
        self.follow_clock(reply.now);
        if let Some(moment) = turns.moment {
            self.trust.see(account, moment, reply);
            turns.moment = Some(self.moment());
        }
        match reply.status {
            Status::Stale => {
                turns.again("the database's rules are older than those Redis has seen")?;
                let rules = self.reload(account).await?;
                let seen = reply.head.map_or(0, |head| head.version);
                if rules.is_some_and(|rules| rules.policy.version < seen) {
                    self.overtake(account, seen).await?;
                }
            }
            Status::Absent => {
                turns.again("the account is being loaded elsewhere")?;
                self.load(account).await?;
            }
            Status::Window => {
                turns.again("Redis' clock lies outside every window")?;
                self.clock.observe(reply.now);
                turns.now = reply.now;
                return Ok(false);
            }
            Status::Generation => return Err(Unavailable::Recovering),
            Status::Done
            | Status::Replayed
            | Status::Conflict
            | Status::AlreadySettled
            | Status::AlreadyReleased
            | Status::Denied
            | Status::InsufficientBalance
            | Status::KeyExhausted
            | Status::LimitExceeded
            | Status::Unknown
            | Status::Reprice
            | Status::RefundExceedsCharge
            | Status::OutOfRange
            | Status::Decreasing
            | Status::Idle => return Ok(true),
        }
        turns.now = self.clock.now();
        Ok(false)
    }

    fn follow_clock(&self, redis_now: Millis) {
        if (redis_now.0 - self.clock.now().0).abs() > CLOCK_SLACK_MS {
            self.clock.observe(redis_now);
        }
    }
}
