//! Reserve and charge: the decisions in their order, then the counting.

use quotad::{
    engine::ports::{ChargeCall, Reply, ReserveCall, Status},
    quota::{
        clock::Millis,
        entry::{Entry, Kind},
        id::{AccountId, KeyId, OpId, ReservationId},
        limit::Metric,
        policy::{Admission, Group},
        reservation::{Flags, Record, State, WindowRefs},
    },
};

use super::{Account, Model, Move, counts_as_settled, gauges, metric};

/// What a call wants counted; `least` is below `amount` in best-effort mode.
struct Wanted {
    amount: i64,
    least: i64,
    tokens: i64,
}

/// The checks that counters decide, in order: balance, key, limits. The amount that fits.
fn fits(account: &Account, admission: &Admission, key: Option<&KeyId>, wanted: &Wanted) -> Result<i64, Status> {
    let mut amount = wanted.amount.min(account.available(admission.credit_limit));
    if amount < wanted.least {
        return Err(Status::InsufficientBalance);
    }
    if let (Some(_), Some(allowance)) = (key, admission.allowance) {
        let counter = account.key(key);
        amount = amount.min(allowance - counter.used - counter.held);
        if amount < wanted.least {
            return Err(Status::KeyExhausted);
        }
    }
    for (group, gauge) in gauges(&admission.groups) {
        let Some(cap) = gauge.limit.cap else { continue };
        let window = account.window(&group.field, gauge.limit.code());
        let left = cap - window.used - window.held;
        let requested = match gauge.limit.metric {
            Metric::Cost => {
                amount = amount.min(left);
                if amount < wanted.least {
                    return Err(Status::LimitExceeded);
                }
                continue;
            }
            Metric::Tokens => wanted.tokens,
            Metric::Requests | Metric::Concurrency => 1,
        };
        if requested > left {
            return Err(Status::LimitExceeded);
        }
    }
    Ok(amount)
}

/// The windows a reservation made now belongs to: those stored, which may be newer than the call's.
fn references(account: &Account, groups: &[Group]) -> smallvec::SmallVec<[WindowRefs; 2]> {
    let starts = |group: &Group| {
        let code_and_start = |gauge: &quotad::quota::policy::Gauge| {
            let code = gauge.limit.code();
            (code, account.window(&group.field, code).start_s)
        };
        group.gauges.iter().map(code_and_start).collect()
    };
    groups.iter().map(|group| WindowRefs { field: group.field.clone(), counters: starts(group) }).collect()
}

impl Model {
    /// What reserve and charge look at before anything else.
    fn first_checks(&self, account: &AccountId, version: u32, admission: &Admission, now: Millis) -> Option<Status> {
        let head = &self.accounts[account].head;
        if version < head.version {
            return Some(Status::Stale);
        }
        let open = admission.valid_from <= now && now < admission.valid_until;
        (!open).then_some(Status::Window)
    }

    /// The answer of a call with an admission: key and windows as they stand.
    fn decided(
        &self,
        status: Status,
        now: Millis,
        (account, id): (&AccountId, &ReservationId),
        key: Option<&KeyId>,
        groups: &[Group],
    ) -> Reply {
        let counters = &self.accounts[account];
        let mut reply = self.answer(status, now, account, Some(id));
        reply.key = key.map(|key| counters.key(Some(key)));
        reply.windows = counters.shown(groups, now).into_iter().collect();
        reply
    }

    pub fn reserve(&mut self, call: &ReserveCall<'_>, now: Millis) -> Reply {
        if !self.accounts.contains_key(call.account) {
            return Self::absent(now);
        }
        let status = self.reserve_status(call, now);
        self.decided(status, now, (call.account, call.id), call.key, &call.admission.groups)
    }

    fn reserve_status(&mut self, call: &ReserveCall<'_>, now: Millis) -> Status {
        if let Some(status) = self.first_checks(call.account, call.version, call.admission, now) {
            return status;
        }
        if let Some(record) = self.record(call.account, call.id) {
            return match record.state {
                State::Held if record.fingerprint == call.fingerprint => Status::Replayed,
                State::Held => Status::Conflict,
                _ if counts_as_settled(record) => Status::AlreadySettled,
                State::Settled | State::Released | State::Expired => Status::AlreadyReleased,
            };
        }
        if call.admission.refusal.is_some() {
            return Status::Denied;
        }
        let mut account = self.accounts[call.account].clone();
        account.roll(&call.admission.groups, now);
        let wanted = Wanted { amount: call.amount, least: call.min_amount, tokens: call.tokens };
        let amount = match fits(&account, call.admission, call.key, &wanted) {
            Ok(amount) => amount,
            Err(status) => return status,
        };
        let windows = references(&account, &call.admission.groups);
        let record = Record {
            state: State::Held,
            flags: Flags(if call.charge_on_expiry { Flags::CHARGE_ON_EXPIRY } else { 0 }),
            fingerprint: call.fingerprint,
            created: now,
            expires: Millis(now.0 + i64::from(call.ttl_ms)),
            held: amount,
            tokens: call.tokens,
            prompt_cost: call.prompt_cost,
            charged: 0,
            refunded: 0,
            overdraft: 0,
            parts: 0,
            key: call.key.cloned(),
            price_tag: call.price_tag.to_vec(),
            windows,
        };
        count_hold(&mut account, &record);
        account.head.version = call.version;
        account.head.now = now;
        if !account.in_range() {
            return Status::OutOfRange;
        }
        if !call.check_only {
            self.accounts.insert(call.account.clone(), account);
            self.put(call.account, call.id, record);
        }
        Status::Done
    }

    pub fn charge(&mut self, call: &ChargeCall<'_>, now: Millis) -> Reply {
        if !self.accounts.contains_key(call.account) {
            return Self::absent(now);
        }
        let status = self.charge_status(call, now);
        self.decided(status, now, (call.account, call.id), call.key, &call.admission.groups)
    }

    fn charge_status(&mut self, call: &ChargeCall<'_>, now: Millis) -> Status {
        if let Some(status) = self.first_checks(call.account, call.version, call.admission, now) {
            return status;
        }
        if let Some(record) = self.record(call.account, call.id) {
            return charge_again(record, call);
        }
        if call.admission.refusal.is_some() && !call.unreserved {
            return Status::Denied;
        }
        let mut account = self.accounts[call.account].clone();
        account.roll(&call.admission.groups, now);
        if !call.force && !call.unreserved {
            let wanted = Wanted { amount: call.amount, least: call.amount, tokens: call.tokens };
            if let Err(status) = fits(&account, call.admission, call.key, &wanted) {
                return status;
            }
        }
        let verb = if call.unreserved { Flags::UNRESERVED } else { Flags::BY_CHARGE };
        let mut record = Record {
            state: State::Settled,
            flags: Flags(verb | if call.clamped { Flags::CLAMPED } else { 0 }),
            fingerprint: call.fingerprint,
            created: now,
            expires: now,
            held: call.amount,
            tokens: call.tokens,
            prompt_cost: 0,
            charged: call.amount,
            refunded: 0,
            overdraft: 0,
            parts: 0,
            key: call.key.cloned(),
            price_tag: call.price_tag.to_vec(),
            windows: references(&account, &call.admission.groups),
        };
        let step = Move { charged: call.amount, tokens: call.tokens, requests: 1, ..Move::default() };
        let windows = account.apply(&record, step);
        account.head.version = call.version;
        account.head.now = now;
        if !account.in_range() {
            return Status::OutOfRange;
        }
        record.overdraft = (-account.head.balance).max(0);
        self.accounts.insert(call.account.clone(), account);
        self.put(call.account, call.id, record.clone());
        self.post(Entry {
            kind: if call.unreserved { Kind::Settle } else { Kind::Charge },
            at: now,
            balance: -call.amount,
            used: call.amount,
            requests: 1,
            tokens: call.tokens,
            account: call.account.clone(),
            op_id: OpId::new(call.id.as_str()).expect("an id is an id"),
            record: Some(record),
            windows,
            log: call.log.to_vec(),
        });
        Status::Done
    }
}

/// A charge (or an unreserved settle) for an id that exists.
fn charge_again(record: &Record, call: &ChargeCall<'_>) -> Status {
    let same = record.fingerprint == call.fingerprint;
    if call.unreserved {
        return match record.state {
            // Somebody reserved meanwhile: the caller settles what it finds.
            State::Held | State::Expired => Status::Idle,
            State::Settled if same => Status::Replayed,
            State::Settled => Status::AlreadySettled,
            State::Released => Status::AlreadyReleased,
        };
    }
    match record.state {
        State::Settled if record.flags.has(Flags::BY_CHARGE) && same => Status::Replayed,
        State::Settled if record.flags.has(Flags::BY_CHARGE) => Status::Conflict,
        State::Held => Status::Conflict,
        _ if counts_as_settled(record) => Status::AlreadySettled,
        State::Settled | State::Released | State::Expired => Status::AlreadyReleased,
    }
}

/// Adds a new hold to head, key and windows.
fn count_hold(account: &mut Account, record: &Record) {
    account.head.held += record.held;
    if let Some(key) = &record.key {
        account.keys.entry(key.clone()).or_default().held += record.held;
    }
    for (field, code, _) in super::references(record) {
        let window = account.windows.get_mut(&(field.clone(), code)).expect("rolled before");
        window.held += match metric(code) {
            Metric::Cost => record.held,
            Metric::Tokens => record.tokens,
            Metric::Requests | Metric::Concurrency => 1,
        };
    }
}
