//! One account, as trust sees it on this sidecar: the newest numbers of each thing that its calls spend
//! from, what trusted work in flight will take of them, and that work by its id. Plain data under the
//! lock of [`super::Trust`]; time is handed in.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::{
    aside::Aside,
    fund::{Fund, Moment},
    work::{Question, Slot, Work},
};
use crate::{
    engine::ports::Reply,
    quota::{
        counter::{Head, KeyCounter, WindowCounters},
        id::{KeyId, ReservationId},
        limit::{GroupField, Metric},
        policy::{Gauge, Group},
    },
};

/// Ids of an account that are remembered to be known to Redis: what repeats one of them is decided there.
const KNOWN_MAX: usize = 1_000;
/// Keys, and groups of limits, of one account whose numbers are kept.
const FUNDS_MAX: usize = 1_024;
/// An account that nobody reserved for is forgotten after so long.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) struct Standing {
    era: u64,
    account: Fund<Head>,
    keys: HashMap<KeyId, Fund<KeyCounter>, RandomState>,
    groups: HashMap<GroupField, Fund<WindowCounters>, RandomState>,
    ids: HashMap<ReservationId, Slot, RandomState>,
    /// The known ones of `ids`, oldest first.
    known: VecDeque<ReservationId>,
    /// When each work in `ids` ends by its time.
    ends: BTreeSet<(Instant, ReservationId)>,
    asked_at: Instant,
}

impl Standing {
    pub(crate) fn new(era: u64, at: Instant) -> Self {
        Self {
            era,
            account: Fund::default(),
            keys: HashMap::default(),
            groups: HashMap::default(),
            ids: HashMap::default(),
            known: VecDeque::new(),
            ends: BTreeSet::new(),
            asked_at: at,
        }
    }

    pub(crate) fn slot(&self, id: &ReservationId) -> Option<&Slot> {
        self.ids.get(id)
    }

    /// The account's own numbers, and what trusted work in flight will take of them.
    pub(crate) fn account(&self) -> (&Head, i64) {
        (&self.account.numbers, self.account.in_flight)
    }

    /// The newest numbers of a call's limits, the trusted work in flight added to what is held.
    pub(crate) fn windows(&self, groups: &[Group]) -> SmallVec<[WindowCounters; 2]> {
        groups.iter().map(|group| self.groups.get(&group.field).map_or_else(Default::default, with_in_flight)).collect()
    }

    /// Another server may have taken over: what was seen of the one before counts no more.
    fn enter(&mut self, era: u64) {
        if era > self.era {
            self.era = era;
            self.account.forget();
            self.keys.values_mut().for_each(Fund::forget);
            self.groups.values_mut().for_each(Fund::forget);
        }
    }

    /// Takes over the account's numbers from any script's answer.
    pub(crate) fn see(&mut self, moment: Moment, received: Instant, reply: &Reply) {
        self.enter(moment.era);
        if let Some(head) = &reply.head
            && moment.era == self.era
        {
            self.account.see(head, moment.sent, received, reply.now);
        }
    }

    /// Takes over the numbers of the key and the groups that a script was called for.
    pub(crate) fn see_funds(
        &mut self,
        moment: Moment,
        received: Instant,
        (key, groups): (Option<&KeyId>, &[Group]),
        reply: &Reply,
    ) {
        self.enter(moment.era);
        if moment.era != self.era {
            return;
        }
        if let (Some(key), Some(counter)) = (key, &reply.key)
            && let Some(fund) = room(&mut self.keys, key)
        {
            fund.see(counter, moment.sent, received, reply.now);
        }
        for (group, windows) in groups.iter().zip(&reply.windows) {
            if let Some(fund) = room(&mut self.groups, &group.field) {
                fund.see(windows, moment.sent, received, reply.now);
            }
        }
    }

    /// Whether the call may go unheld: everything that it spends from was seen lately, and is far above
    /// what it and all trusted work in flight here can take.
    pub(crate) fn admits(&mut self, ask: &Question<'_>) -> bool {
        self.enter(ask.era);
        self.asked_at = ask.at;
        let (rule, amount, of) = (ask.rule, ask.amount, &self.account);
        let head = &of.numbers;
        if !of.is_fresh(ask.at) || head.version != ask.version || !rule.has_share(of.in_flight, amount) {
            return false;
        }
        let left = head.balance + ask.admission.credit_limit - head.held;
        rule.is_far(left, of.in_flight, amount) && self.key_is_far(ask) && self.limits_are_far(ask)
    }

    fn key_is_far(&self, ask: &Question<'_>) -> bool {
        let (Some(key), Some(allowance)) = (ask.key, ask.admission.allowance) else { return true };
        self.keys.get(key).is_some_and(|fund| {
            let left = allowance - fund.numbers.used - fund.numbers.held;
            fund.is_fresh(ask.at) && ask.rule.is_far(left, fund.in_flight, ask.amount)
        })
    }

    /// A cap on tokens, requests or calls at once counts what each call does, which trusted ones do not show
    /// until they end: under one, nothing is trusted.
    fn limits_are_far(&self, ask: &Question<'_>) -> bool {
        ask.admission.groups.iter().all(|group| {
            let Some(fund) = self.groups.get(&group.field) else { return false };
            let is_far = |gauge: &Gauge| match gauge.limit.cap {
                None => true,
                Some(_) if gauge.limit.metric != Metric::Cost => false,
                Some(cap) => {
                    let counter = fund.numbers.iter().find(|counter| counter.code == gauge.limit.code());
                    // Of an earlier calendar window, or none: asking Redis begins the present one.
                    let counter = counter.filter(|counter| gauge.end_s == 0 || counter.start_s == gauge.start_s);
                    counter.is_some_and(|counter| {
                        ask.rule.is_far(cap - counter.used - counter.held, fund.in_flight, ask.amount)
                    })
                }
            };
            fund.is_fresh(ask.at) && group.gauges.iter().all(is_far)
        })
    }

    /// Takes up work that was admitted.
    pub(crate) fn take_up(&mut self, id: &ReservationId, work: Work) {
        self.weigh(&work, 1);
        self.ends.insert((work.until, id.clone()));
        self.ids.insert(id.clone(), Slot::Trusted(work));
    }

    /// Adds a work to what is in flight (`sign` 1), or takes it off (-1).
    fn weigh(&mut self, work: &Work, sign: i64) {
        let (ready, amount) = (&work.ready, sign * work.amount);
        self.account.in_flight += amount;
        if let Some(key) = &ready.key
            && let Some(fund) = self.keys.get_mut(key)
            && ready.admission.allowance.is_some()
        {
            fund.in_flight += amount;
        }
        for group in &ready.admission.groups {
            if let Some(fund) = self.groups.get_mut(&group.field) {
                fund.in_flight += amount;
            }
        }
    }

    /// Redis knows the id: it is decided there from now on. Whether it was granted in trust, and whether it
    /// was in flight until now.
    pub(crate) fn know(&mut self, id: &ReservationId) -> (bool, bool) {
        let before = self.ids.remove(id);
        let (was_trusted, was_in_flight) = match &before {
            Some(Slot::Trusted(work)) => {
                self.weigh(work, -1);
                self.ends.remove(&(work.until, id.clone()));
                (true, true)
            }
            Some(Slot::Known { was_trusted }) => (*was_trusted, false),
            None => (false, false),
        };
        if !matches!(before, Some(Slot::Known { .. })) {
            self.known.push_back(id.clone());
        }
        self.ids.insert(id.clone(), Slot::Known { was_trusted });
        if self.known.len() > KNOWN_MAX
            && let Some(oldest) = self.known.pop_front()
        {
            self.ids.remove(&oldest);
        }
        (was_trusted, was_in_flight)
    }

    /// Ends the work whose time is over: how many.
    pub(crate) fn expire(&mut self, at: Instant) -> usize {
        let mut over = 0;
        while self.ends.first().is_some_and(|(until, _)| *until <= at) {
            if let Some((_, id)) = self.ends.pop_first()
                && let Some(Slot::Trusted(work)) = self.ids.remove(&id)
            {
                self.weigh(&work, -1);
                over += 1;
            }
        }
        over
    }

    #[cfg(test)]
    pub(super) fn ends(&self) -> usize {
        self.ends.len()
    }

    /// Makes room for other keys and groups.
    pub(crate) fn tidy(&mut self, at: Instant) {
        if self.keys.len().max(self.groups.len()) > FUNDS_MAX / 2 {
            self.keys.retain(|_, fund| !fund.is_idle(at));
            self.groups.retain(|_, fund| !fund.is_idle(at));
        }
    }

    pub(crate) fn is_idle(&self, at: Instant) -> bool {
        self.ids.len() == self.known.len() && at.saturating_duration_since(self.asked_at) > IDLE
    }

    /// What trusted work in flight will take of what a call spends from, one work left out; `None` when that
    /// is nothing.
    pub(crate) fn aside(
        &self,
        key: Option<&KeyId>,
        groups: &[Group],
        without: Option<&ReservationId>,
    ) -> Option<Aside> {
        if self.account.in_flight == 0 {
            return None;
        }
        let of_group = |group: &Group| self.groups.get(&group.field).map_or(0, |fund| fund.in_flight);
        let mut aside = Aside {
            account: self.account.in_flight,
            key: key.and_then(|key| self.keys.get(key)).map_or(0, |fund| fund.in_flight),
            groups: groups.iter().map(of_group).collect(),
        };
        if let Some(Slot::Trusted(work)) = without.and_then(|id| self.ids.get(id)) {
            aside.leave_out(work, groups);
        }
        Some(aside)
    }
}

/// The entry of a name; a new one only while there is room.
fn room<'a, K, T>(funds: &'a mut HashMap<K, Fund<T>, RandomState>, name: &K) -> Option<&'a mut Fund<T>>
where
    K: Clone + Eq + std::hash::Hash,
    Fund<T>: Default,
{
    if !funds.contains_key(name) {
        if funds.len() >= FUNDS_MAX {
            return None;
        }
        funds.insert(name.clone(), Fund::default());
    }
    funds.get_mut(name)
}

fn with_in_flight(fund: &Fund<WindowCounters>) -> WindowCounters {
    let mut windows = fund.numbers.clone();
    for counter in &mut windows {
        if counter.code.split().is_some_and(|(metric, _)| metric == Metric::Cost) {
            counter.held += fund.in_flight;
        }
    }
    windows
}
