//! The deltas of a batch, summed per account, key and window, so that each row is written once
//! however often it occurs. Sorted, so that every poster takes row locks in the same order. Pure.

use std::collections::BTreeMap;

use crate::{
    engine::ports::StoreError,
    quota::{
        entry::{Entry, WindowDelta},
        id::KeyId,
    },
};

/// Summed deltas.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sums<'a> {
    /// Account → balance, used, requests.
    pub accounts: BTreeMap<&'a str, [i64; 3]>,
    /// Account and key → used, requests.
    pub keys: BTreeMap<(&'a str, &'a str), [i64; 2]>,
    /// Account, group field and counter code → start of the newest window, and its used.
    pub windows: BTreeMap<(&'a str, &'a str, u32), (u32, i64)>,
}

impl<'a> Sums<'a> {
    /// # Errors
    /// `Refused` when a sum leaves the range of 64 bits.
    pub fn of(entries: impl Iterator<Item = &'a Entry>) -> Result<Self, StoreError> {
        let mut sums = Self::default();
        for entry in entries {
            let account = entry.account.as_str();
            add(sums.accounts.entry(account).or_default(), [entry.balance, entry.used, entry.requests])?;
            if let Some(key) = entry.record.as_ref().and_then(|record| record.key.as_ref()) {
                add(sums.keys.entry((account, KeyId::as_str(key))).or_default(), [entry.used, entry.requests])?;
            }
            for delta in &entry.windows {
                sums.add_window(account, delta)?;
            }
        }
        Ok(sums)
    }

    /// The rule of the scripts: same start adds, newer start replaces, older start is dropped.
    fn add_window(&mut self, account: &'a str, delta: &'a WindowDelta) -> Result<(), StoreError> {
        let (start_s, used) =
            self.windows.entry((account, delta.field.as_str(), delta.code.0)).or_insert((delta.start_s, 0));
        match delta.start_s.cmp(start_s) {
            std::cmp::Ordering::Equal => *used = checked(*used, delta.used)?,
            std::cmp::Ordering::Greater => (*start_s, *used) = (delta.start_s, delta.used),
            std::cmp::Ordering::Less => {}
        }
        Ok(())
    }
}

fn add<const N: usize>(sums: &mut [i64; N], deltas: [i64; N]) -> Result<(), StoreError> {
    for (sum, delta) in sums.iter_mut().zip(deltas) {
        *sum = checked(*sum, delta)?;
    }
    Ok(())
}

fn checked(sum: i64, delta: i64) -> Result<i64, StoreError> {
    sum.checked_add(delta).ok_or_else(|| StoreError::Refused {
        field: "entries",
        detail: "the sum of the batch leaves the range of a counter".to_owned(),
    })
}
