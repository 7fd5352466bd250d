//! Settle: final, partial, late, and what it answers in every other state.

use quotad::{
    engine::ports::{Cost, Reply, SettleCall, Status},
    quota::{
        clock::Millis,
        entry::{Entry, Kind},
        id::OpId,
        reservation::{Flags, Record, State},
    },
};

use super::{Model, Move, charged_on_expiry};

impl Model {
    pub fn settle(&mut self, call: &SettleCall<'_>, now: Millis) -> Reply {
        if !self.accounts.contains_key(call.account) {
            return Self::absent(now);
        }
        let status = self.settle_status(call, now);
        self.answer(status, now, call.account, Some(call.id))
    }

    fn settle_status(&mut self, call: &SettleCall<'_>, now: Millis) -> Status {
        let Some(record) = self.record(call.account, call.id).cloned() else {
            return Status::Unknown;
        };
        match record.state {
            State::Settled if record.flags.has(Flags::BY_CHARGE) => return Status::AlreadySettled,
            State::Settled if record.fingerprint == call.fingerprint => return Status::Replayed,
            State::Settled => return Status::Conflict,
            State::Released => return Status::AlreadyReleased,
            State::Held | State::Expired => {}
        }
        if call.price_tag.is_some_and(|tag| tag != record.price_tag) {
            return Status::Reprice;
        }
        let cost = match call.cost {
            Cost::Units(units) => units,
            Cost::Prompt => record.prompt_cost,
            Cost::Held => record.held,
            Cost::Nothing => 0,
        };
        let unsaid = !matches!(call.cost, Cost::Units(_));
        let cost = if unsaid && record.state == State::Held { cost.max(record.charged) } else { cost };
        if call.last { self.settle_last(call, record, cost, now) } else { self.settle_part(call, record, cost, now) }
    }

    fn settle_last(&mut self, call: &SettleCall<'_>, before: Record, cost: i64, now: Millis) -> Status {
        // An expiry that charged is replaced by the truth; everything else only ever adds.
        let replaces = charged_on_expiry(&before) || (before.state == State::Expired && before.charged > 0);
        if cost < before.charged && !replaces {
            return Status::Decreasing;
        }
        // What was refunded cannot be taken back again by a lower cost.
        if cost < before.refunded {
            return Status::Decreasing;
        }
        let counted = charged_on_expiry(&before);
        let tokens = call.tokens.unwrap_or(before.tokens);
        let step = Move {
            charged: cost - before.charged,
            unheld: if before.state == State::Held { before.rest() } else { 0 },
            tokens: if counted { tokens - before.tokens } else { tokens },
            requests: if counted { 0 } else { 1 },
            ends_hold: before.state == State::Held,
        };
        let mut after = before.clone();
        after.state = State::Settled;
        after.fingerprint = call.fingerprint;
        after.charged = cost;
        after.tokens = tokens;
        self.finish(call, &before, after, step, now)
    }

    fn settle_part(&mut self, call: &SettleCall<'_>, before: Record, cost: i64, now: Millis) -> Status {
        if cost < before.charged {
            return Status::Decreasing;
        }
        if cost == before.charged {
            return Status::Replayed;
        }
        let charged = cost - before.charged;
        let unheld = if before.state == State::Held { charged.min(before.rest()) } else { 0 };
        let mut after = before.clone();
        after.charged = cost;
        after.parts += 1;
        self.finish(call, &before, after, Move { charged, unheld, ..Move::default() }, now)
    }

    /// Counts the move, keeps the record, posts the entry.
    fn finish(&mut self, call: &SettleCall<'_>, before: &Record, mut after: Record, step: Move, now: Millis) -> Status {
        let mut account = self.accounts[call.account].clone();
        let windows = account.apply(before, step);
        account.head.now = now;
        if !account.in_range() {
            return Status::OutOfRange;
        }
        if now >= before.expires {
            after.flags.0 |= Flags::LATE;
        }
        if call.clamped {
            after.flags.0 |= Flags::CLAMPED;
        }
        after.overdraft = (-account.head.balance).max(0);
        self.accounts.insert(call.account.clone(), account);
        self.put(call.account, call.id, after.clone());
        self.post(Entry {
            kind: if call.last { Kind::Settle } else { Kind::Partial },
            at: now,
            balance: -step.charged,
            used: step.charged,
            requests: step.requests,
            tokens: step.tokens,
            account: call.account.clone(),
            op_id: OpId::new(call.id.as_str()).expect("an id is an id"),
            record: Some(after),
            windows,
            log: call.log.to_vec(),
        });
        Status::Done
    }
}
