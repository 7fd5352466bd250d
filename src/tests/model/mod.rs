//! The counters once more, written from the rules in the plainest way that works: maps of integers,
//! nothing packed, nothing concurrent. The random-operation test gives every call to the real
//! counters and, with the time they answered, to this model, and compares.
//!
//! It shares floor 0 (records, entries, fingerprints) with the library and nothing else.

pub mod adjust;
pub mod audit;
pub mod compare;
pub mod draw;
pub mod driver;
pub mod hold;
pub mod reserve;
pub mod server;
pub mod settle;
pub mod verbs;

use std::collections::{BTreeMap, HashMap};

use quotad::{
    engine::ports::{OpRecord, Reply, Status},
    quota::{
        amount::COUNTER_MAX,
        clock::Millis,
        counter::{AccountCounters, Head, KeyCounter, WindowCounter, WindowCounters},
        entry::{Entry, Kind, WindowDelta},
        id::{AccountId, KeyId, OpId, ReservationId},
        limit::{CounterCode, GroupField, Metric},
        policy::{Gauge, Group},
        reservation::{Flags, Record, State},
    },
};

/// One window counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub start_s: u32,
    pub used: i64,
    pub held: i64,
}

/// All counters of one account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub head: Head,
    pub keys: BTreeMap<KeyId, KeyCounter>,
    pub windows: BTreeMap<(GroupField, CounterCode), Window>,
}

/// Everything the scripts decide over, for any number of accounts.
#[derive(Debug, Default)]
pub struct Model {
    pub accounts: BTreeMap<AccountId, Account>,
    pub records: BTreeMap<(AccountId, ReservationId), Record>,
    pub operations: HashMap<(AccountId, Kind, OpId), OpRecord>,
    /// What the ledger must hold, in order, per account.
    pub ledger: BTreeMap<AccountId, Vec<Entry>>,
}

/// What a settlement, an expiry or a refund moves, as seen from the counters of one record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Move {
    /// Units charged more (or, below 0, less).
    pub charged: i64,
    /// Units no longer held.
    pub unheld: i64,
    pub tokens: i64,
    pub requests: i64,
    /// The hold ends: its tokens, request and place in the concurrency go back.
    pub ends_hold: bool,
}

pub fn metric(code: CounterCode) -> Metric {
    code.split().expect("the test makes its own codes").0
}

impl Window {
    /// Adds to the usage, which never falls below 0: what is given back may have been taken off by a
    /// reset before. The change that was made.
    pub fn add(&mut self, used: i64) -> i64 {
        let before = self.used;
        self.used = (before + used).max(0);
        self.used - before
    }

    /// The roll rule: what the counter is in the window that is open now.
    pub fn rolled(self, gauge: &Gauge, now: Millis) -> Self {
        let now_s = u32::try_from(now.seconds()).expect("before 2106");
        if gauge.period_s > 0 {
            if self.start_s == 0 {
                return Self { start_s: now_s, ..self };
            }
            if now_s >= self.start_s + gauge.period_s {
                let steps = (now_s - self.start_s) / gauge.period_s;
                return Self { start_s: self.start_s + steps * gauge.period_s, used: 0, held: 0 };
            }
            return self;
        }
        if self.start_s < gauge.start_s { Self { start_s: gauge.start_s, used: 0, held: 0 } } else { self }
    }
}

impl Account {
    pub fn available(&self, credit_limit: i64) -> i64 {
        self.head.balance + credit_limit - self.head.held
    }

    pub fn key(&self, key: Option<&KeyId>) -> KeyCounter {
        key.and_then(|key| self.keys.get(key).copied()).unwrap_or_default()
    }

    pub fn window(&self, field: &GroupField, code: CounterCode) -> Window {
        self.windows.get(&(field.clone(), code)).copied().unwrap_or_default()
    }

    /// Rolls every counter of the groups to the call's windows.
    pub fn roll(&mut self, groups: &[Group], now: Millis) {
        for (group, gauge) in gauges(groups) {
            let code = gauge.limit.code();
            let rolled = self.window(&group.field, code).rolled(gauge, now);
            self.windows.insert((group.field.clone(), code), rolled);
        }
    }

    /// The groups as an answer shows them: the call's gauges first, then what else is stored.
    pub fn shown(&self, groups: &[Group], now: Millis) -> Vec<WindowCounters> {
        let mut rolled = self.clone();
        rolled.roll(groups, now);
        let show = |code: CounterCode, window: Window| WindowCounter {
            code,
            start_s: window.start_s,
            used: window.used,
            held: window.held,
        };
        groups
            .iter()
            .map(|group| {
                let codes: Vec<CounterCode> = group.gauges.iter().map(|gauge| gauge.limit.code()).collect();
                let named = codes.iter().map(|code| show(*code, rolled.window(&group.field, *code)));
                let others = rolled
                    .windows
                    .iter()
                    .filter(|((field, code), _)| *field == group.field && !codes.contains(code))
                    .map(|((_, code), window)| show(*code, *window));
                named.chain(others).collect()
            })
            .collect()
    }

    /// Every stored number is a whole number within ±2^52.
    pub fn in_range(&self) -> bool {
        let ok = |value: i64| value.abs() <= COUNTER_MAX;
        let Head { balance, held, used, requests, .. } = self.head;
        [balance, held, used, requests].into_iter().all(ok)
            && self.keys.values().all(|key| ok(key.used) && ok(key.held) && ok(key.requests))
            && self.windows.values().all(|window| ok(window.used) && ok(window.held))
    }

    /// Whether nothing at all is held.
    pub fn is_free(&self) -> bool {
        let held = self.keys.values().map(|key| key.held).chain(self.windows.values().map(|window| window.held));
        held.chain([self.head.held]).all(|held| held == 0)
    }

    /// Applies a move to head, key and those windows that are still the record's; what the windows'
    /// usage changed by is the ledger's business, so it is answered.
    pub fn apply(&mut self, record: &Record, step: Move) -> Vec<WindowDelta> {
        self.head.balance -= step.charged;
        self.head.used += step.charged;
        self.head.held -= step.unheld;
        self.head.requests += step.requests;
        if let Some(key) = &record.key {
            let key = self.keys.entry(key.clone()).or_default();
            key.used += step.charged;
            key.held -= step.unheld;
            key.requests += step.requests;
        }
        let mut deltas = Vec::new();
        for (field, code, start_s) in references(record) {
            let used = match metric(code) {
                Metric::Cost => step.charged,
                Metric::Tokens => step.tokens,
                Metric::Requests => step.requests,
                Metric::Concurrency => 0,
            };
            let unheld = match metric(code) {
                Metric::Cost => step.unheld,
                Metric::Tokens if step.ends_hold => record.tokens,
                Metric::Requests | Metric::Concurrency if step.ends_hold => 1,
                Metric::Tokens | Metric::Requests | Metric::Concurrency => 0,
            };
            let there = self.windows.get(&(field.clone(), code)).map(|window| window.start_s);
            if used > 0 && there.is_none_or(|there| there < start_s) {
                // Lost or unloaded after the reserve began it.
                self.windows.insert((field.clone(), code), Window { start_s, used, held: 0 });
                deltas.push(WindowDelta { field: field.clone(), code, start_s, used });
            } else if let Some(window) = self.windows.get_mut(&(field.clone(), code))
                && window.start_s == start_s
            {
                let used = window.add(used);
                window.held -= unheld;
                deltas.push(WindowDelta { field: field.clone(), code, start_s, used });
            }
        }
        deltas
    }

    pub fn counters(&self) -> AccountCounters {
        let mut groups: BTreeMap<GroupField, WindowCounters> = BTreeMap::new();
        for ((field, code), window) in &self.windows {
            let counter = WindowCounter { code: *code, start_s: window.start_s, used: window.used, held: window.held };
            groups.entry(field.clone()).or_default().push(counter);
        }
        AccountCounters {
            head: self.head,
            keys: self.keys.iter().map(|(key, counter)| (key.clone(), *counter)).collect(),
            groups: groups.into_iter().collect(),
        }
    }
}

/// The counters a record belongs to, flat.
pub fn references(record: &Record) -> impl Iterator<Item = (&GroupField, CounterCode, u32)> {
    record.windows.iter().flat_map(|group| group.counters.iter().map(|(code, start)| (&group.field, *code, *start)))
}

pub fn gauges(groups: &[Group]) -> impl Iterator<Item = (&Group, &Gauge)> {
    groups.iter().flat_map(|group| group.gauges.iter().map(move |gauge| (group, gauge)))
}

/// Whether an expired reservation charged its hold when it expired, rather than giving it back.
pub fn charged_on_expiry(record: &Record) -> bool {
    record.state == State::Expired && record.flags.has(Flags::CHARGE_ON_EXPIRY)
}

/// Whether a resolved reservation counts as charged (refundable, and settled for a repeated reserve).
pub fn counts_as_settled(record: &Record) -> bool {
    match record.state {
        State::Settled => true,
        State::Expired => record.charged > 0 || charged_on_expiry(record),
        State::Held | State::Released => false,
    }
}

impl Model {
    pub fn record(&self, account: &AccountId, id: &ReservationId) -> Option<&Record> {
        self.records.get(&(account.clone(), id.clone()))
    }

    pub fn put(&mut self, account: &AccountId, id: &ReservationId, record: Record) {
        self.records.insert((account.clone(), id.clone()), record);
    }

    /// Appends what the ledger must hold; `at` is the time of the reply.
    pub fn post(&mut self, entry: Entry) {
        self.ledger.entry(entry.account.clone()).or_default().push(entry);
    }

    /// An answer without windows: the account as it stands, the record where there is one.
    pub fn answer(&self, status: Status, now: Millis, account: &AccountId, id: Option<&ReservationId>) -> Reply {
        let counters = self.accounts.get(account);
        let record = id.and_then(|id| self.record(account, id)).cloned();
        let key = record.as_ref().and_then(|record| record.key.clone());
        Reply {
            status,
            now,
            head: counters.map(|account| account.head),
            key: counters.and_then(|account| key.as_ref().map(|key| account.key(Some(key)))),
            record,
            op: None,
            windows: smallvec::SmallVec::new(),
        }
    }

    /// An account that is not loaded: nothing but the time.
    pub fn absent(now: Millis) -> Reply {
        Reply {
            status: Status::Absent,
            now,
            head: None,
            key: None,
            record: None,
            op: None,
            windows: smallvec::SmallVec::new(),
        }
    }

    /// What SQL has of an account that was first loaded with this balance: the sums of its ledger.
    pub fn posted(&self, id: &AccountId, opening: i64) -> AccountCounters {
        let mut account = Account::default();
        account.head.balance = opening;
        account.head.version = self.accounts[id].head.version;
        for entry in self.ledger.get(id).into_iter().flatten() {
            account.head.balance += entry.balance;
            account.head.used += entry.used;
            account.head.requests += entry.requests;
            if let Some(key) = entry.record.as_ref().and_then(|record| record.key.clone()) {
                let key = account.keys.entry(key).or_default();
                key.used += entry.used;
                key.requests += entry.requests;
            }
            for delta in entry.windows.iter().filter(|delta| delta.used != 0) {
                let window = account.windows.entry((delta.field.clone(), delta.code)).or_default();
                if window.start_s < delta.start_s {
                    *window = Window { start_s: delta.start_s, ..Window::default() };
                }
                if window.start_s == delta.start_s {
                    window.used += delta.used;
                }
            }
        }
        account.counters()
    }

    /// Installs what a cold load brings.
    pub fn hydrate(&mut self, id: &AccountId, counters: &AccountCounters) {
        let mut account = Account { head: counters.head, ..Account::default() };
        account.keys.extend(counters.keys.iter().cloned());
        for (field, windows) in &counters.groups {
            for counter in windows {
                let window = Window { start_s: counter.start_s, used: counter.used, held: counter.held };
                account.windows.insert((field.clone(), counter.code), window);
            }
        }
        self.accounts.insert(id.clone(), account);
    }
}
