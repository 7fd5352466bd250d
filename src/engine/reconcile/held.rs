//! What live holds add up to, and counters put right after that or after the ledger. Pure.

use std::collections::BTreeMap;

use crate::quota::{
    counter::{AccountCounters, KeyCounter, WindowCounter, WindowCounters},
    id::{KeyId, ReservationId},
    limit::{CounterCode, GroupField, Metric},
    reservation::Record,
    tally::{Tally, Usage},
};

/// The sums over an account's live holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    units: i64,
    keys: BTreeMap<KeyId, i64>,
    /// Per counter and start of its window.
    windows: BTreeMap<(GroupField, CounterCode, u32), i64>,
}

impl Held {
    pub(super) fn of(holds: &[(ReservationId, Record)]) -> Self {
        let mut held = Self::default();
        for (_, hold) in holds {
            held.units += hold.rest();
            if let Some(key) = &hold.key {
                *held.keys.entry(key.clone()).or_default() += hold.rest();
            }
            for group in &hold.windows {
                for (code, start_s) in &group.counters {
                    let amount = match code.split() {
                        Some((Metric::Cost, _)) => hold.rest(),
                        Some((Metric::Tokens, _)) => hold.tokens,
                        Some((Metric::Requests | Metric::Concurrency, _)) => 1,
                        None => 0,
                    };
                    *held.windows.entry((group.field.clone(), *code, *start_s)).or_default() += amount;
                }
            }
        }
        held
    }
}

/// The counters with what is held put right. A window counts the holds that were made in it.
pub(super) fn applied(counters: &AccountCounters, held: &Held) -> AccountCounters {
    let mut right = counters.clone();
    right.head.held = held.units;
    for (key, counter) in &mut right.keys {
        counter.held = held.keys.get(key).copied().unwrap_or(0);
    }
    for (key, units) in &held.keys {
        if *units != 0 && right.keys.iter().all(|(known, _)| known != key) {
            right.keys.push((key.clone(), KeyCounter { held: *units, ..KeyCounter::default() }));
        }
    }
    for (field, windows) in &mut right.groups {
        for window in windows {
            let name = (field.clone(), window.code, window.start_s);
            window.held = held.windows.get(&name).copied().unwrap_or(0);
        }
    }
    right
}

/// The counters with what is posted put right.
pub(super) fn posted(counters: &AccountCounters, tally: &Tally) -> AccountCounters {
    let mut right = counters.clone();
    (right.head.balance, right.head.used, right.head.requests) = (tally.balance, tally.used, tally.requests);
    for (key, counter) in &mut right.keys {
        [counter.used, counter.requests] = tally.keys.get(key).copied().unwrap_or_default();
    }
    for (key, [used, requests]) in &tally.keys {
        if right.keys.iter().all(|(known, _)| known != key) {
            right.keys.push((key.clone(), KeyCounter { used: *used, held: 0, requests: *requests }));
        }
    }
    let known = counters.groups.iter().flat_map(|(field, windows)| windows.iter().map(move |one| (field, one.code)));
    let known: Vec<_> = known.collect();
    for (field, windows) in &mut right.groups {
        for window in windows {
            put_right(window, tally.windows.get(&(field.clone(), window.code)).copied());
        }
    }
    for ((field, code), usage) in &tally.windows {
        if known.contains(&(field, *code)) {
            continue;
        }
        let window = WindowCounter { code: *code, start_s: usage.start_s, used: usage.used, held: 0 };
        match right.groups.iter_mut().find(|(of, _)| of == field) {
            Some((_, windows)) => windows.push(window),
            None => right.groups.push((field.clone(), WindowCounters::from_slice(&[window]))),
        }
    }
    right
}

/// A window that Redis began by itself has nothing used; one that the ledger knows a newer one of is
/// over, and so are its holds.
fn put_right(window: &mut WindowCounter, usage: Option<Usage>) {
    let usage = usage.unwrap_or_default();
    if usage.start_s > window.start_s && usage.used != 0 {
        (window.start_s, window.used, window.held) = (usage.start_s, usage.used, 0);
    } else {
        window.used = if usage.start_s == window.start_s { usage.used } else { 0 };
    }
}
