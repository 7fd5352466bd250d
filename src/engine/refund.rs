//! Refund: give back part of what a settled reservation was charged.

use super::{
    Answer, Engine, Payer,
    content::{self, Content},
    denial::{Asked, conflict, conflict_in, no_reservation},
    policies::Who,
    ports::{RefundCall, Reply, Status, Unavailable},
    reserve::{known, too_much},
    settle::log_blob,
    step::{Done, Step},
};
use crate::quota::{
    entry::{Entry, Kind, LogFields},
    id::{AccountId, OpId, ReservationId},
};

#[derive(Clone, Debug)]
pub struct Refund {
    pub payer: Payer,
    pub op_id: OpId,
    pub of: ReservationId,
    pub amount: i64,
    pub reason: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Refunded {
    pub account: AccountId,
    pub op_id: OpId,
    pub of: ReservationId,
    pub refunded: i64,
    pub balance: i64,
    pub available: i64,
}

impl Engine {
    pub async fn refund(&self, ask: &Refund) -> Answer<Refunded> {
        self.in_time(Box::pin(self.try_refund(ask))).await
    }

    async fn try_refund(&self, ask: &Refund) -> Step<Done<Refunded>> {
        let invalid = too_much("amount", ask.amount, self.live().max_amount);
        let mut who = known(self.who(&ask.payer, None).await, invalid.as_ref())?;
        // Tombstones in Redis are for minutes, the ledger is for ever.
        if let Some(entry) = self.ledger.operation(&who.account, Kind::Refund, &ask.op_id).await? {
            return self.refunded_before(ask, &who, &entry).await;
        }
        let content = content::of_operation("refund", ["of", "amount"], [ask.of.as_str(), &ask.amount.to_string()]);
        let of = Some(ask.of.as_str().to_owned());
        let log = log_blob(&LogFields { of, note: ask.reason.clone(), ..LogFields::default() });
        let mut turns = self.turns();
        let mut restored = false;
        loop {
            let call = RefundCall {
                account: &who.account,
                op_id: &ask.op_id,
                of: &ask.of,
                amount: ask.amount,
                fingerprint: content.fingerprint,
                log: &log,
            };
            let reply = self.counters.refund(&call).await?;
            if !self.decided(&mut turns, &who.account, &reply).await? {
                who = self.who(&ask.payer, None).await?;
            } else if reply.status == Status::Unknown && !restored {
                turns.again("the settled reservation could not be put back")?;
                self.drain.drain(&who.account).await?;
                if !self.put_back(&who.account, &ask.of).await? {
                    return Err(no_reservation(ask.of.as_str()));
                }
                restored = true;
            } else {
                return refunded(&who, ask, &content, &reply);
            }
        }
    }

    /// Puts a reservation back into Redis, whose tombstone is gone; false when the ledger does not
    /// know it either.
    pub(crate) async fn put_back(&self, account: &AccountId, id: &ReservationId) -> Result<bool, Unavailable> {
        let Some(record) = self.ledger.record(account, id).await? else { return Ok(false) };
        self.counters.restore_record(account, id, &record.without_hold()).await?;
        Ok(true)
    }

    async fn refunded_before(&self, ask: &Refund, who: &Who, entry: &Entry) -> Step<Done<Refunded>> {
        let log: LogFields = serde_json::from_slice(&entry.log).unwrap_or_default();
        if log.of.is_some_and(|of| of != ask.of.as_str()) {
            return Err(conflict_in(ask.op_id.as_str(), "of"));
        }
        if entry.balance != ask.amount {
            return Err(conflict_in(ask.op_id.as_str(), "amount"));
        }
        let head = self.head(&who.account).await?;
        let answer = Refunded {
            account: who.account.clone(),
            op_id: ask.op_id.clone(),
            of: ask.of.clone(),
            refunded: entry.balance,
            balance: head.balance,
            available: who.available(&head),
        };
        Ok(Done { answer, replayed: true })
    }
}

fn refunded(who: &Who, ask: &Refund, content: &Content<2>, reply: &Reply) -> Step<Done<Refunded>> {
    let op_id = ask.op_id.as_str();
    let replayed = match reply.status {
        Status::Done => false,
        Status::Replayed => true,
        Status::Conflict => {
            let first = reply.op.as_ref().map(|op| &op.fingerprint);
            return Err(conflict(op_id, &content.names, first, &content.fingerprint));
        }
        _ => return Err(Asked::plain(ask.of.as_str(), who, ask.amount).refused(reply)),
    };
    let head = reply.head.unwrap_or_default();
    let answer = Refunded {
        account: who.account.clone(),
        op_id: ask.op_id.clone(),
        of: ask.of.clone(),
        refunded: reply.op.map_or(ask.amount, |op| op.amount),
        balance: head.balance,
        available: who.available(&head),
    };
    Ok(Done { answer, replayed })
}
