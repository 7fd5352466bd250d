//! The driver's dice: accounts, ids, amounts, limits. Drawn from few values, so that calls meet.

use std::sync::Arc;

use quotad::quota::{
    clock::Millis,
    fingerprint::Fingerprint,
    id::{AccountId, KeyId, OpId, ReservationId},
    limit::{GroupField, Limit, Metric, Period},
    policy::{Admission, Gauge, Group},
    reservation::State,
    verdict::{Code, Refusal},
};
use rand::RngExt;

use super::driver::Driver;

pub(super) const COUNTED: [(Metric, Period); 7] = [
    (Metric::Cost, Period::Day),
    (Metric::Cost, Period::Rolling(1)),
    (Metric::Cost, Period::Month),
    (Metric::Tokens, Period::Rolling(2)),
    (Metric::Tokens, Period::Minute),
    (Metric::Requests, Period::Hour),
    (Metric::Concurrency, Period::None),
];
pub(super) const TAGS: [&[u8]; 2] = [b"", b"\x01\0\0\0vip"];

impl Driver {
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())].clone()
    }

    /// Mostly an account that is loaded; now and then one that nobody knows.
    pub(super) fn account(&mut self) -> AccountId {
        if self.random.random_range(0..200) == 0 {
            return AccountId::new(format!("ghost:{}", self.seed)).unwrap();
        }
        self.pick(&self.accounts.clone())
    }

    pub(super) fn id(&mut self) -> ReservationId {
        ReservationId::new(format!("r-{}", self.first_id + self.random.random_range(0..12))).unwrap()
    }

    /// Mostly an id whose reservation is in the state drawn, so that the verb has something to do;
    /// else any id at all.
    pub(super) fn target(&mut self, account: &AccountId, states: &[State]) -> ReservationId {
        let state = self.pick(states);
        let any = self.id();
        if self.chance(30) {
            return any;
        }
        let ids = (0..12).map(|n| ReservationId::new(format!("r-{}", self.first_id + n)).unwrap());
        let there = |id: &ReservationId| self.model.record(account, id).is_some_and(|record| record.state == state);
        let fitting: Vec<ReservationId> = ids.filter(there).collect();
        if fitting.is_empty() { any } else { self.pick(&fitting) }
    }

    pub(super) fn op_id(&mut self) -> OpId {
        OpId::new(format!("o-{}", self.first_id + self.random.random_range(0..6))).unwrap()
    }

    pub(super) fn key(&mut self) -> Option<KeyId> {
        let keys = self.keys.clone();
        self.chance(60).then(|| self.pick(&keys))
    }

    /// The same content mostly, so that a repeated id is mostly a replay.
    pub(super) fn fingerprint(&mut self, verb: &str) -> Fingerprint {
        let content = if self.chance(85) { "same" } else { "other" };
        Fingerprint::of(verb, &[Some(content)])
    }

    /// One account meets amounts at the edge of the range; it ends full, so the others must not.
    pub(super) fn amount(&mut self, account: &AccountId) -> i64 {
        let edge = *account == self.accounts[2];
        match self.random.random_range(0..100) {
            0..8 => 0,
            8..80 => self.random.random_range(1..600),
            98 if edge => 1 << 51,
            99 if edge => 1 << 52,
            _ => self.random.random_range(600..3_000),
        }
    }

    pub(super) fn ttl_ms(&mut self) -> u32 {
        self.pick(&[1, 3, 20, 200, 1_000, 31_000, 60_000])
    }

    pub(super) fn version(&mut self, account: &AccountId) -> u32 {
        let stored = self.model.accounts.get(account).map_or(self.version, |account| account.head.version);
        match self.random.random_range(0..100) {
            0..3 => stored.saturating_sub(1),
            3..5 => stored + 1,
            _ => stored,
        }
    }

    pub(super) fn log(&mut self) -> &'static [u8] {
        self.pick(&[&b""[..], br#"{"model":"gpt-4o"}"#])
    }

    pub(super) fn gauge(&mut self, metric: Metric, period: Period) -> Gauge {
        let cap = match metric {
            Metric::Concurrency => self.pick(&[None, None, Some(1), Some(5)]),
            Metric::Requests => self.pick(&[None, None, Some(0), Some(20), Some(40), Some(1_000)]),
            Metric::Cost | Metric::Tokens => {
                self.pick(&[None, None, Some(1 << 40), Some(1 << 40), Some(0), Some(1_000), Some(4_000), Some(9_000)])
            }
        };
        let behind = if self.chance(3) { 60 } else { 0 };
        let (start_s, period_s) = match period {
            Period::None => (0, 0),
            Period::Rolling(seconds) => (0, seconds),
            Period::Minute | Period::Hour | Period::Day | Period::Week | Period::Month => (self.calendar_s - behind, 0),
        };
        let end_s = if start_s == 0 { 0 } else { start_s + 60 };
        let limit = Limit { platform: "*".into(), model: "*".into(), metric, period, cap };
        Gauge { limit: Arc::new(limit), start_s, end_s, period_s }
    }

    /// Up to three groups with some of the counters: limits come and go from call to call.
    pub(super) fn groups(&mut self, key: Option<&KeyId>, only_cost: bool) -> Vec<Group> {
        let fields = [("openai", "*", None), ("openai", "gpt-4o", None), ("openai", "*", key)];
        let mut groups = Vec::new();
        for (platform, model, owner) in fields.into_iter().take(if key.is_some() { 3 } else { 2 }) {
            let mut gauges = smallvec::SmallVec::new();
            for (metric, period) in COUNTED {
                if self.chance(30) && (!only_cost || metric == Metric::Cost) {
                    gauges.push(self.gauge(metric, period));
                }
            }
            if !gauges.is_empty() {
                groups.push(Group { field: GroupField::new(platform, model, owner), key: owner.cloned(), gauges });
            }
        }
        groups
    }

    pub(super) fn admission(&mut self, key: Option<&KeyId>) -> Admission {
        let near = self.random.random_range(0..60_000);
        let allowance = self.pick(&[None, Some(near), Some(1 << 40), Some(1 << 40)]);
        let (valid_from, valid_until) = match self.random.random_range(0..100) {
            0 => (Millis(0), Millis(1)),
            1 => (Millis(1 << 46), Millis(1 << 47)),
            _ => (Millis(0), Millis(1 << 47)),
        };
        let refused = self.chance(2);
        let groups = self.groups(key, false);
        Admission {
            refusal: refused.then(|| Refusal::new(Code::KeyDisabled, "The key is disabled.")),
            group: "default".into(),
            credit_limit: self.pick(&[0, 0, 0, 500]),
            allowance: key.and(allowance),
            groups: groups.into_iter().collect(),
            valid_from,
            valid_until,
        }
    }
}
