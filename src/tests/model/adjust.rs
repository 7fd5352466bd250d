//! Refund, credit, debit, close and reset: changes that are no reservation's life.

use quotad::{
    engine::ports::{AdjustCall, OpRecord, RefundCall, Reply, ResetCall, Status, UndoCall},
    quota::{
        clock::Millis,
        entry::{Entry, Kind, WindowDelta},
        fingerprint::Fingerprint,
        id::{AccountId, OpId},
        limit::Metric,
    },
};

use super::{Model, counts_as_settled, metric, references};

impl Model {
    fn repeated(
        &self,
        account: &AccountId,
        kind: Kind,
        op_id: &OpId,
        fingerprint: &Fingerprint,
    ) -> Option<(Status, OpRecord)> {
        let op = self.operations.get(&(account.clone(), kind, op_id.clone()))?;
        let same = op.fingerprint == *fingerprint;
        Some((if same { Status::Replayed } else { Status::Conflict }, *op))
    }

    fn remember(&mut self, account: &AccountId, kind: Kind, op_id: &OpId, op: OpRecord) {
        self.operations.insert((account.clone(), kind, op_id.clone()), op);
    }

    pub fn refund(&mut self, call: &RefundCall<'_>, now: Millis) -> Reply {
        if !self.accounts.contains_key(call.account) {
            return Self::absent(now);
        }
        if let Some((status, op)) = self.repeated(call.account, Kind::Refund, call.op_id, &call.fingerprint) {
            return Reply { op: Some(op), ..self.answer(status, now, call.account, Some(call.of)) };
        }
        let (status, op) = self.refund_status(call, now);
        Reply { op, ..self.answer(status, now, call.account, Some(call.of)) }
    }

    fn refund_status(&mut self, call: &RefundCall<'_>, now: Millis) -> (Status, Option<OpRecord>) {
        let Some(mut record) = self.record(call.account, call.of).cloned() else {
            return (Status::Unknown, None);
        };
        if !counts_as_settled(&record) || record.refunded + call.amount > record.charged {
            return (Status::RefundExceedsCharge, None);
        }
        let mut account = self.accounts[call.account].clone();
        account.head.balance += call.amount;
        account.head.used -= call.amount;
        account.head.now = now;
        if let Some(key) = &record.key {
            account.keys.entry(key.clone()).or_default().used -= call.amount;
        }
        let mut windows = Vec::new();
        for (field, code, start_s) in references(&record).filter(|(_, code, _)| metric(*code) == Metric::Cost) {
            if let Some(window) = account.windows.get_mut(&(field.clone(), code))
                && window.start_s == start_s
            {
                let used = window.add(-call.amount);
                windows.push(WindowDelta { field: field.clone(), code, start_s, used });
            }
        }
        if !account.in_range() {
            return (Status::OutOfRange, None);
        }
        record.refunded += call.amount;
        let balance = account.head.balance;
        let op = OpRecord { amount: call.amount, balance, at: now, fingerprint: call.fingerprint };
        self.accounts.insert(call.account.clone(), account);
        self.put(call.account, call.of, record.clone());
        self.remember(call.account, Kind::Refund, call.op_id, op);
        self.post(Entry {
            kind: Kind::Refund,
            at: now,
            balance: call.amount,
            used: -call.amount,
            requests: 0,
            tokens: 0,
            account: call.account.clone(),
            op_id: call.op_id.clone(),
            record: Some(record),
            windows,
            log: call.log.to_vec(),
        });
        (Status::Done, Some(op))
    }

    pub fn adjust(&mut self, call: &AdjustCall<'_>, now: Millis) -> Reply {
        if !self.accounts.contains_key(call.account) {
            return Self::absent(now);
        }
        let (status, op) = match self.repeated(call.account, call.kind, call.op_id, &call.fingerprint) {
            Some((status, op)) => (status, Some(op)),
            None => self.adjust_status(call, now),
        };
        Reply { op, ..self.answer(status, now, call.account, None) }
    }

    fn adjust_status(&mut self, call: &AdjustCall<'_>, now: Millis) -> (Status, Option<OpRecord>) {
        let mut account = self.accounts[call.account].clone();
        let head = &mut account.head;
        let delta = match call.kind {
            Kind::Debit if !call.force && call.amount > head.balance - head.held => {
                return (Status::InsufficientBalance, None);
            }
            Kind::Debit => -call.amount,
            Kind::Close if head.held != 0 => return (Status::Idle, None),
            Kind::Close => -head.balance,
            _ => call.amount,
        };
        head.balance += delta;
        head.now = now;
        if !account.in_range() {
            return (Status::OutOfRange, None);
        }
        let balance = account.head.balance;
        let amount = if call.kind == Kind::Close { -delta } else { call.amount };
        let op = OpRecord { amount, balance, at: now, fingerprint: call.fingerprint };
        self.accounts.insert(call.account.clone(), account);
        self.remember(call.account, call.kind, call.op_id, op);
        self.post(Entry {
            kind: call.kind,
            at: now,
            balance: delta,
            used: 0,
            requests: 0,
            tokens: 0,
            account: call.account.clone(),
            op_id: call.op_id.clone(),
            record: None,
            windows: Vec::new(),
            log: call.log.to_vec(),
        });
        (Status::Done, Some(op))
    }

    /// Everything the entry moved moves back; usage as far as it is there, in windows that are still open.
    pub fn undo(&mut self, call: &UndoCall<'_>, now: Millis) -> Reply {
        let entry = call.entry;
        let kind = if entry.balance < 0 { Kind::Credit } else { Kind::Debit };
        if !self.accounts.contains_key(&entry.account) {
            return Self::absent(now);
        }
        if let Some((status, op)) = self.repeated(&entry.account, kind, call.op_id, &call.fingerprint) {
            return Reply { op: Some(op), ..self.answer(status, now, &entry.account, None) };
        }
        let mut account = self.accounts[&entry.account].clone();
        account.head.balance -= entry.balance;
        account.head.used -= entry.used;
        account.head.requests -= entry.requests;
        account.head.now = now;
        let record = entry.record.clone().filter(|record| record.key.is_some());
        let key = record.as_ref().and_then(|record| record.key.clone());
        if let Some(key) = &key {
            let key = account.keys.entry(key.clone()).or_default();
            key.used -= entry.used;
            key.requests -= entry.requests;
        }
        let mut windows = Vec::new();
        for delta in &entry.windows {
            if let Some(window) = account.windows.get_mut(&(delta.field.clone(), delta.code))
                && window.start_s == delta.start_s
            {
                windows.push(WindowDelta { used: window.add(-delta.used), ..delta.clone() });
            }
        }
        if !account.in_range() {
            return self.answer(Status::OutOfRange, now, &entry.account, None);
        }
        let (balance, counter) = (account.head.balance, account.key(key.as_ref()));
        let op = OpRecord { amount: entry.balance.abs(), balance, at: now, fingerprint: call.fingerprint };
        self.accounts.insert(entry.account.clone(), account);
        self.remember(&entry.account, kind, call.op_id, op);
        self.post(Entry {
            kind,
            at: now,
            balance: -entry.balance,
            used: -entry.used,
            requests: -entry.requests,
            tokens: -entry.tokens,
            account: entry.account.clone(),
            op_id: call.op_id.clone(),
            record,
            windows,
            log: call.log.to_vec(),
        });
        let key = key.map(|_| counter);
        Reply { op: Some(op), key, ..self.answer(Status::Done, now, &entry.account, None) }
    }

    /// A reset has no content but its id (the same id again is the same reset) and no amount.
    pub fn reset(&mut self, call: &ResetCall<'_>, now: Millis) -> Reply {
        let fingerprint = Fingerprint::default();
        if !self.accounts.contains_key(call.account) {
            return Self::absent(now);
        }
        let (status, op) = match self.repeated(call.account, Kind::Reset, call.op_id, &fingerprint) {
            Some((status, op)) => (status, op),
            None => (Status::Done, self.reset_now(call, now)),
        };
        Reply { op: Some(op), ..self.answer(status, now, call.account, None) }
    }

    fn reset_now(&mut self, call: &ResetCall<'_>, now: Millis) -> OpRecord {
        let account = self.accounts.get_mut(call.account).expect("checked by the caller");
        account.head.now = now;
        let balance = account.head.balance;
        let mut windows = Vec::new();
        for code in call.codes {
            if let Some(window) = account.windows.get_mut(&(call.field.clone(), *code)) {
                let (field, start_s) = (call.field.clone(), window.start_s);
                windows.push(WindowDelta { field, code: *code, start_s, used: -window.used });
                window.used = 0;
            }
        }
        let op = OpRecord { amount: 0, balance, at: now, fingerprint: Fingerprint::default() };
        self.remember(call.account, Kind::Reset, call.op_id, op);
        self.post(Entry {
            kind: Kind::Reset,
            at: now,
            balance: 0,
            used: 0,
            requests: 0,
            tokens: 0,
            account: call.account.clone(),
            op_id: call.op_id.clone(),
            record: None,
            windows,
            log: call.log.to_vec(),
        });
        op
    }

    pub fn raise_version(&mut self, account: &AccountId, version: u32, now: Millis) -> Reply {
        let Some(counters) = self.accounts.get_mut(account) else {
            return Self::absent(now);
        };
        counters.head.version = counters.head.version.max(version);
        self.answer(Status::Done, now, account, None)
    }
}
