//! Release: give a hold back.

use super::{
    Answer, Engine, Payer,
    denial::Asked,
    ports::Status,
    step::{Done, Step},
};
use crate::quota::{
    id::{AccountId, ReservationId},
    reservation::State,
};

#[derive(Clone, Debug)]
pub struct Release {
    pub payer: Payer,
    pub id: ReservationId,
}

#[derive(Clone, Debug)]
pub struct Released {
    pub account: AccountId,
    pub id: ReservationId,
    /// `None` when it was decided without Redis and the hold is not known.
    pub returned: Option<i64>,
    /// This and `available`: `None` when it was decided without Redis.
    pub balance: Option<i64>,
    pub available: Option<i64>,
}

impl Engine {
    pub async fn release(&self, ask: &Release) -> Answer<Released> {
        self.or_locally(Box::pin(self.try_release(ask)), || Box::pin(self.release_locally(ask))).await
    }

    pub(crate) async fn try_release(&self, ask: &Release) -> Step<Done<Released>> {
        let mut turns = self.turns();
        loop {
            let who = self.who(&ask.payer, None).await?;
            let reply = self.counters.release(&who.account, &ask.id).await?;
            if !self.decided(&mut turns, &who.account, &reply).await? {
                continue;
            }
            let replayed = match reply.status {
                Status::Done => false,
                Status::Replayed => true,
                _ => return Err(Asked::plain(ask.id.as_str(), &who, 0).refused(&reply)),
            };
            self.trust.know(&who.account, &ask.id);
            let head = reply.head.unwrap_or_default();
            // What an expiry gave back was not given back by this call or the one it repeats.
            let released = reply.record.filter(|record| record.state == State::Released);
            let answer = Released {
                returned: Some(released.map_or(0, |record| record.rest())),
                id: ask.id.clone(),
                balance: Some(head.balance),
                available: Some(who.available(&head)),
                account: who.account,
            };
            return Ok(Done { answer, replayed });
        }
    }
}
