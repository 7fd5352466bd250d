//! Release, expire and extend: what happens to a hold that is not settled.

use quotad::{
    engine::ports::{ExtendCall, Reply, Status},
    quota::{
        clock::Millis,
        entry::{Entry, Kind},
        fingerprint::Fingerprint,
        id::{AccountId, OpId, ReservationId},
        limit::Metric,
        reservation::{Flags, Record, State},
    },
};

use super::{Account, Model, Move, counts_as_settled, gauges, metric, references};

impl Model {
    pub fn release(&mut self, account: &AccountId, id: &ReservationId, now: Millis) -> Reply {
        if !self.accounts.contains_key(account) {
            return Self::absent(now);
        }
        let status = match self.record(account, id).cloned() {
            None => {
                self.put(account, id, tombstone(now));
                Status::Done
            }
            Some(record) => match record.state {
                State::Held => {
                    self.give_back(account, id, &record, State::Released, now);
                    Status::Done
                }
                State::Settled => Status::AlreadySettled,
                State::Expired if counts_as_settled(&record) => Status::AlreadySettled,
                State::Released | State::Expired => Status::Replayed,
            },
        };
        self.answer(status, now, account, Some(id))
    }

    fn give_back(&mut self, account: &AccountId, id: &ReservationId, record: &Record, state: State, now: Millis) {
        let step = Move { unheld: record.rest(), ends_hold: true, ..Move::default() };
        let counters = self.accounts.get_mut(account).expect("checked by the caller");
        counters.apply(record, step);
        counters.head.now = now;
        self.put(account, id, Record { state, ..record.clone() });
    }

    pub fn expire(&mut self, account: &AccountId, id: &ReservationId, now: Millis) -> Reply {
        if !self.accounts.contains_key(account) {
            return Self::absent(now);
        }
        let due = self.record(account, id).filter(|record| record.state == State::Held && now >= record.expires);
        let status = match due.cloned() {
            None => Status::Idle,
            Some(record) if record.flags.has(Flags::CHARGE_ON_EXPIRY) => self.charge_hold(account, id, &record, now),
            Some(record) => {
                self.give_back(account, id, &record, State::Expired, now);
                Status::Done
            }
        };
        self.answer(status, now, account, Some(id))
    }

    fn charge_hold(&mut self, account: &AccountId, id: &ReservationId, before: &Record, now: Millis) -> Status {
        let rest = before.rest();
        let step = Move { charged: rest, unheld: rest, tokens: before.tokens, requests: 1, ends_hold: true };
        let mut counters = self.accounts[account].clone();
        let windows = counters.apply(before, step);
        counters.head.now = now;
        if !counters.in_range() {
            return Status::OutOfRange;
        }
        let overdraft = (-counters.head.balance).max(0);
        let record = Record { state: State::Expired, charged: before.charged + rest, overdraft, ..before.clone() };
        self.accounts.insert(account.clone(), counters);
        self.put(account, id, record.clone());
        self.post(Entry {
            kind: Kind::Expire,
            at: now,
            balance: -rest,
            used: rest,
            requests: 1,
            tokens: before.tokens,
            account: account.clone(),
            op_id: OpId::new(id.as_str()).expect("an id is an id"),
            record: Some(record),
            windows,
            log: Vec::new(),
        });
        Status::Done
    }

    pub fn extend(&mut self, call: &ExtendCall<'_>, now: Millis) -> Reply {
        if !self.accounts.contains_key(call.account) {
            return Self::absent(now);
        }
        let status = self.extend_status(call, now);
        self.answer(status, now, call.account, Some(call.id))
    }

    fn extend_status(&mut self, call: &ExtendCall<'_>, now: Millis) -> Status {
        if call.version < self.accounts[call.account].head.version {
            return Status::Stale;
        }
        let Some(before) = self.record(call.account, call.id).cloned() else {
            return Status::Unknown;
        };
        if counts_as_settled(&before) {
            return Status::AlreadySettled;
        }
        if before.state != State::Held || now >= before.expires {
            return Status::AlreadyReleased;
        }
        if call.reprice.is_some_and(|reprice| reprice.from != before.price_tag) {
            return Status::Reprice;
        }
        let held = call.amount.unwrap_or(before.held);
        if held < before.held {
            return Status::Decreasing;
        }
        // A clash with what stands comes before any denial, as everywhere.
        if call.denied {
            return Status::Denied;
        }
        let mut after = Record { held, ..before.clone() };
        if let Some(reprice) = call.reprice {
            after.price_tag = reprice.to.to_vec();
            after.prompt_cost = reprice.prompt_cost;
            after.tokens = after.tokens.max(reprice.tokens.unwrap_or(0));
        }
        if let Some(ttl_ms) = call.ttl_ms {
            after.expires = Millis(now.0 + i64::from(ttl_ms));
        }
        let extra = after.rest() - before.rest();
        let mut account = self.accounts[call.account].clone();
        // Only more time and nothing more to hold: there is nothing to check.
        let extra = Extra { cost: extra, tokens: after.tokens - before.tokens };
        if let Some(status) = extra_denied(&account, call, &before, extra, now) {
            return status;
        }
        hold_more(&mut account, &before, extra);
        account.head.version = call.version;
        account.head.now = now;
        if !account.in_range() {
            return Status::OutOfRange;
        }
        self.accounts.insert(call.account.clone(), account);
        self.put(call.account, call.id, after);
        Status::Done
    }
}

/// A release that comes before its reserve leaves this behind.
fn tombstone(now: Millis) -> Record {
    Record {
        state: State::Released,
        flags: Flags(0),
        fingerprint: Fingerprint::default(),
        created: now,
        expires: now,
        held: 0,
        tokens: 0,
        prompt_cost: 0,
        charged: 0,
        refunded: 0,
        overdraft: 0,
        parts: 0,
        key: None,
        price_tag: Vec::new(),
        windows: smallvec::SmallVec::new(),
    }
}

/// What comes on top of a hold.
#[derive(Clone, Copy)]
struct Extra {
    cost: i64,
    tokens: i64,
}

impl Extra {
    fn of(self, of: Metric) -> i64 {
        match of {
            Metric::Cost => self.cost,
            Metric::Tokens => self.tokens,
            Metric::Requests | Metric::Concurrency => 0,
        }
    }
}

/// The checks of a reserve over what comes on top of a hold; where nothing does, there are none.
fn extra_denied(account: &Account, call: &ExtendCall<'_>, record: &Record, more: Extra, now: Millis) -> Option<Status> {
    let extra = more.cost;
    if extra > 0 && extra > account.available(call.credit_limit) {
        return Some(Status::InsufficientBalance);
    }
    if let (Some(key), Some(allowance)) = (&record.key, call.allowance) {
        let counter = account.key(Some(key));
        if extra > 0 && counter.used + counter.held + extra > allowance {
            return Some(Status::KeyExhausted);
        }
    }
    for (group, gauge) in gauges(call.groups).filter(|(_, gauge)| more.of(gauge.limit.metric) > 0) {
        let code = gauge.limit.code();
        let window = account.window(&group.field, code).rolled(gauge, now);
        let still_open =
            references(record).any(|(field, c, start)| *field == group.field && c == code && start == window.start_s);
        let extra = more.of(gauge.limit.metric);
        let full = gauge.limit.cap.is_some_and(|cap| window.used + window.held + extra > cap);
        if still_open && full {
            return Some(Status::LimitExceeded);
        }
    }
    None
}

/// Every counter the record belongs to holds the extra, whether its limit still exists or not:
/// the settle takes it off all of them.
fn hold_more(account: &mut Account, record: &Record, extra: Extra) {
    account.head.held += extra.cost;
    if let Some(key) = &record.key {
        account.keys.entry(key.clone()).or_default().held += extra.cost;
    }
    for (field, code, start_s) in references(record) {
        if let Some(window) = account.windows.get_mut(&(field.clone(), code))
            && window.start_s == start_s
        {
            window.held += extra.of(metric(code));
        }
    }
}
