//! What an account's ledger adds up to. SQL keeps these sums beside the ledger and Redis counts with
//! them; worked out from the entries alone they show which of the two is right.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{
    counter::{AccountCounters, WindowCounter},
    entry::{Entry, WindowDelta},
    id::KeyId,
    limit::{CounterCode, GroupField},
};

/// A window's start in seconds, and what was used in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub start_s: u32,
    pub used: i64,
}

/// The posted numbers of an account: all that is not held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub balance: i64,
    pub used: i64,
    pub requests: i64,
    /// Used and requests per key.
    pub keys: BTreeMap<KeyId, [i64; 2]>,
    /// The newest window of each counter.
    pub windows: BTreeMap<(GroupField, CounterCode), Usage>,
}

/// A sum left the range of 64 bits: no ledger of ours does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sum of the ledger leaves the range of a counter")]
pub struct Overflow;

impl Tally {
    /// The posted part of counters.
    #[must_use]
    pub fn of(counters: &AccountCounters) -> Self {
        let head = &counters.head;
        let usage = |window: &WindowCounter| Usage { start_s: window.start_s, used: window.used };
        Self {
            balance: head.balance,
            used: head.used,
            requests: head.requests,
            keys: counters.keys.iter().map(|(key, of)| (key.clone(), [of.used, of.requests])).collect(),
            windows: counters
                .groups
                .iter()
                .flat_map(|(field, windows)| windows.iter().map(|of| ((field.clone(), of.code), usage(of))))
                .collect(),
        }
    }

    /// Adds one entry; entries come in the ledger's order.
    ///
    /// # Errors
    /// [`Overflow`]; the tally is of no use after it.
    pub fn add(&mut self, entry: &Entry) -> Result<(), Overflow> {
        for (sum, delta) in
            [(&mut self.balance, entry.balance), (&mut self.used, entry.used), (&mut self.requests, entry.requests)]
        {
            *sum = sum.checked_add(delta).ok_or(Overflow)?;
        }
        if let Some(key) = entry.record.as_ref().and_then(|record| record.key.as_ref()) {
            let sums = self.keys.entry(key.clone()).or_default();
            for (sum, delta) in sums.iter_mut().zip([entry.used, entry.requests]) {
                *sum = sum.checked_add(delta).ok_or(Overflow)?;
            }
        }
        entry.windows.iter().try_for_each(|delta| self.add_window(delta))
    }

    /// The rule of the scripts: same start adds, newer start replaces, older start is dropped.
    fn add_window(&mut self, delta: &WindowDelta) -> Result<(), Overflow> {
        let first = Usage { start_s: delta.start_s, used: 0 };
        let window = self.windows.entry((delta.field.clone(), delta.code)).or_insert(first);
        match delta.start_s.cmp(&window.start_s) {
            Ordering::Equal => window.used = window.used.checked_add(delta.used).ok_or(Overflow)?,
            Ordering::Greater => *window = Usage { start_s: delta.start_s, used: delta.used },
            Ordering::Less => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{
        clock::Millis,
        entry::Kind,
        id::{AccountId, OpId},
        limit::{Metric, Period},
    };

    fn entry(balance: i64, windows: &[(u32, i64)]) -> Entry {
        let code = CounterCode::new(Metric::Cost, Period::Day);
        let field = || GroupField::new("openai", "*", None);
        Entry {
            kind: Kind::Settle,
            at: Millis(1),
            balance,
            used: -balance,
            requests: 1,
            tokens: 0,
            account: AccountId::new("a").unwrap(),
            op_id: OpId::new("r").unwrap(),
            record: None,
            windows: windows
                .iter()
                .map(|&(start_s, used)| WindowDelta { field: field(), code, start_s, used })
                .collect(),
            log: Vec::new(),
        }
    }

    #[test]
    fn entries_add_up_and_the_newest_window_counts() {
        let mut tally = Tally::default();
        for one in [entry(-5, &[(100, 5)]), entry(-2, &[(200, 2)]), entry(-1, &[(100, 1)]), entry(-3, &[(200, 3)])] {
            tally.add(&one).unwrap();
        }
        assert_eq!((tally.balance, tally.used, tally.requests), (-11, 11, 4));
        assert_eq!(tally.windows.values().collect::<Vec<_>>(), [&Usage { start_s: 200, used: 5 }]);
        tally.balance = i64::MIN;
        assert_eq!(tally.add(&entry(-1, &[])), Err(Overflow));
    }
}
