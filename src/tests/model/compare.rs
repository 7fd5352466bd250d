//! Where the real answer and the model's part ways, in words. Strict wherever the rules say what
//! must be; the few places where they leave a choice are named here and nowhere else.

use std::fmt::{Debug, Write};

use quotad::{
    engine::ports::{Reply, Status},
    quota::{
        clock::Millis,
        counter::{AccountCounters, Head, KeyCounter, WindowCounter, WindowCounters},
        entry::Entry,
        id::KeyId,
        limit::GroupField,
        reservation::{Flags, Record, State, WindowRefs},
    },
};

/// Collects what differs.
#[derive(Default)]
pub struct Differences(pub String);

impl Differences {
    fn check<T: PartialEq + Debug>(&mut self, what: &str, real: &T, model: &T) {
        if real != model {
            let _ = writeln!(self.0, "  {what}: real {real:?}, model {model:?}");
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares two answers. `gauges` says how many counters of each group the call named.
    pub fn reply(&mut self, real: &Reply, model: &Reply, gauges: &[usize]) {
        self.check("status", &real.status, &model.status);
        if !self.is_empty() {
            return;
        }
        self.head("head", real.head, model.head);
        // An answer may leave the key out where it decides nothing (a refund's replay has no call to
        // name it); what it shows must be right.
        let shows_key = match real.status {
            Status::Done | Status::KeyExhausted => true,
            Status::Replayed => model.op.is_none(),
            _ => false,
        };
        if real.key.is_some() || shows_key {
            self.check("key", &real.key.unwrap_or_default(), &model.key.unwrap_or_default());
        }
        let shows_record = matches!(
            real.status,
            Status::Done
                | Status::Replayed
                | Status::Conflict
                | Status::AlreadySettled
                | Status::AlreadyReleased
                | Status::Reprice
        );
        match (&real.record, &model.record) {
            (Some(real), Some(model)) => self.record("record", real, model),
            (None, Some(_)) if !shows_record || model.op.is_some() => {}
            (real, model) => self.check("record", real, model),
        }
        if real.op.is_some() || matches!(real.status, Status::Done | Status::Replayed | Status::Conflict) {
            self.check("op", &real.op, &model.op);
        }
        let shows_windows = matches!(real.status, Status::Done | Status::LimitExceeded);
        if !gauges.is_empty() && (shows_windows || !real.windows.is_empty()) {
            self.check("number of groups", &real.windows.len(), &model.windows.len());
            for (index, (real, model)) in real.windows.iter().zip(&model.windows).enumerate() {
                self.group(&format!("group {index}"), real, model, gauges[index]);
            }
        }
    }

    /// The stored time is compared by the caller (it never goes back); all else here.
    fn head(&mut self, what: &str, real: Option<Head>, model: Option<Head>) {
        let timeless = |head: Option<Head>| head.map(|head| Head { now: Millis(0), ..head });
        self.check(what, &timeless(real), &timeless(model));
    }

    fn group(&mut self, what: &str, real: &WindowCounters, model: &WindowCounters, named: usize) {
        self.check(&format!("{what}, the call's counters"), &real.get(..named), &model.get(..named));
        let rest = |counters: &WindowCounters| sorted(counters.get(named..).unwrap_or_default());
        self.check(&format!("{what}, other counters"), &rest(real), &rest(model));
    }

    /// Free by the rules: the fingerprint of a release or expiry, the deadline of what never was
    /// held, the hold of a charge, and whether a hold that lives on after a late partial settle is
    /// already called late.
    pub fn record(&mut self, what: &str, real: &Record, model: &Record) {
        let canonical = |record: &Record| {
            let mut record = record.clone();
            if matches!(record.state, State::Released | State::Expired) {
                record.fingerprint = model.fingerprint;
            }
            if record.state != State::Settled {
                record.flags.0 &= !Flags::LATE;
            }
            if record.flags.has(Flags::BY_CHARGE) || record.flags.has(Flags::UNRESERVED) {
                record.expires = record.created;
                record.held = 0;
            }
            if record.state == State::Released && record.held == 0 {
                record.expires = record.created;
            }
            record.windows = record.windows.iter().map(sorted_references).collect();
            record.windows.sort_by(|a, b| a.field.cmp(&b.field));
            record
        };
        self.check(what, &canonical(real), &canonical(model));
    }

    /// All counters of an account; keys that never counted anything may be there or not.
    pub fn account(&mut self, real: &AccountCounters, model: &AccountCounters) {
        self.head("head", Some(real.head), Some(model.head));
        let keys = |counters: &AccountCounters| {
            let counted = |(_, counter): &&(KeyId, KeyCounter)| *counter != KeyCounter::default();
            let mut keys: Vec<_> = counters.keys.iter().filter(counted).cloned().collect();
            keys.sort_by(|a, b| a.0.cmp(&b.0));
            keys
        };
        self.check("keys", &keys(real), &keys(model));
        let groups = |counters: &AccountCounters| {
            let mut groups: Vec<(GroupField, Vec<WindowCounter>)> =
                counters.groups.iter().map(|(field, windows)| (field.clone(), sorted(windows))).collect();
            groups.retain(|(_, windows)| !windows.is_empty());
            groups.sort_by(|a, b| a.0.cmp(&b.0));
            groups
        };
        self.check("windows", &groups(real), &groups(model));
        let negative = real.head.held < 0
            || real.keys.iter().any(|(_, key)| key.held < 0)
            || real.groups.iter().flat_map(|(_, windows)| windows).any(|window| window.held < 0);
        self.check("something held below 0", &negative, &false);
    }

    /// An entry of the stream. Window deltas of 0 may be there or not.
    pub fn entry(&mut self, real: &Entry, model: &Entry) {
        let plain = |entry: &Entry| Entry { record: None, windows: Vec::new(), ..entry.clone() };
        self.check("entry", &plain(real), &plain(model));
        match (&real.record, &model.record) {
            (Some(real), Some(model)) => self.record("record in the entry", real, model),
            (real, model) => self.check("record in the entry", real, model),
        }
        let deltas = |entry: &Entry| {
            let counted = entry.windows.iter().filter(|delta| delta.used != 0);
            let mut deltas: Vec<_> =
                counted.map(|delta| (delta.field.clone(), delta.code, delta.start_s, delta.used)).collect();
            deltas.sort();
            deltas
        };
        self.check("windows in the entry", &deltas(real), &deltas(model));
    }
}

/// By code, without counters that never counted anything: they may be stored or not.
fn sorted(windows: &[WindowCounter]) -> Vec<WindowCounter> {
    let mut windows = windows.to_vec();
    windows.retain(|window| (window.start_s, window.used, window.held) != (0, 0, 0));
    windows.sort_by_key(|window| window.code);
    windows
}

fn sorted_references(group: &WindowRefs) -> WindowRefs {
    let mut group = group.clone();
    group.counters.sort();
    group
}
