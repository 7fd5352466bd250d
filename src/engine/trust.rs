//! Trust mode: work of accounts that are far from any bound is granted here, without asking Redis, and
//! charged like all other work. The rule and why it overdraws nothing: [`crate::quota::trust`].
//!
//! Numbers come from the replies that pass by anyway (`see`, `see_funds`); whoever is trusted enough lives on
//! the replies to its own charges, and asks Redis once a second when there are none. What is in flight is
//! in memory alone: a sidecar that is killed forgets it, and its work is settled as unreserved.

mod aside;
#[cfg(test)]
mod bound_tests;
#[cfg(test)]
mod ends_tests;
mod fund;
mod standing;
mod verbs;
mod work;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use dashmap::{DashMap, Entry};
use foldhash::quality::RandomState;

use super::{ports::Reply, settings::Live};
use crate::{
    metrics,
    quota::{
        id::{AccountId, KeyId, ReservationId},
        policy::{Group, Policy},
        trust::Rule,
    },
};
pub(crate) use aside::Aside;
pub(crate) use fund::Moment;
use standing::Standing;
use work::Slot;
pub(crate) use work::Work;

/// Accounts that are trusted at the same time; others are held for.
const ACCOUNTS_MAX: usize = 100_000;
/// Trusted works in flight, some 300 bytes each; what comes on top is held.
const WORKS_MAX: usize = 1_000_000;

/// What is known of trusted accounts. An account is locked for some hundred nanoseconds, and never
/// across an await.
pub(crate) struct Trust {
    live: Arc<Live>,
    sidecars: u32,
    standings: DashMap<AccountId, Standing, RandomState>,
    accounts: AtomicUsize,
    works: AtomicUsize,
}

impl Trust {
    pub(crate) fn new(live: Arc<Live>, sidecars: u32) -> Self {
        Self {
            live,
            sidecars,
            standings: DashMap::default(),
            accounts: AtomicUsize::new(0),
            works: AtomicUsize::new(0),
        }
    }

    pub(crate) fn rule(&self, policy: &Policy) -> Option<Rule> {
        Rule::of(policy, self.live.now().trust_threshold, self.sidecars)
    }

    /// Whether any account is trusted: all that calls of others pay.
    pub(crate) fn is_on(&self) -> bool {
        self.accounts.load(Ordering::Relaxed) > 0
    }

    /// Keeps numbers of the account from now on; whether that is new.
    pub(crate) fn open(&self, account: &AccountId, era: u64) -> bool {
        if self.standings.contains_key(account) || self.accounts.load(Ordering::Relaxed) >= ACCOUNTS_MAX {
            return false;
        }
        match self.standings.entry(account.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(room) => {
                room.insert(Standing::new(era, Instant::now()));
                self.accounts.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }

    /// The account's own numbers, from any script's answer.
    pub(crate) fn see(&self, account: &AccountId, moment: Moment, reply: &Reply) {
        if let Some(mut standing) = self.standings.get_mut(account) {
            standing.see(moment, Instant::now(), reply);
        }
    }

    /// The numbers of the key and the groups that a script was called for.
    pub(crate) fn see_funds(
        &self,
        account: &AccountId,
        moment: Option<Moment>,
        of: (Option<&KeyId>, &[Group]),
        reply: &Reply,
    ) {
        if let Some(moment) = moment
            && let Some(mut standing) = self.standings.get_mut(account)
        {
            standing.see_funds(moment, Instant::now(), of, reply);
        }
    }

    /// The trusted work of that id, while it is in flight.
    pub(crate) fn find(&self, account: &AccountId, id: &ReservationId) -> Option<Work> {
        if !self.is_on() {
            return None;
        }
        let standing = self.standings.get(account)?;
        match standing.slot(id)? {
            Slot::Trusted(work) => Some(work.clone()),
            Slot::Known { .. } => None,
        }
    }

    /// Redis has a record of the id: work in flight ends. To be called when the numbers of the reply that
    /// shows it have been seen, so that they and the work never miss in the sum together. Whether
    /// the id was granted in trust.
    pub(crate) fn know(&self, account: &AccountId, id: &ReservationId) -> bool {
        if !self.is_on() {
            return false;
        }
        let Some(mut standing) = self.standings.get_mut(account) else { return false };
        let (was_trusted, was_in_flight) = standing.know(id);
        if was_in_flight {
            self.ended(1);
        }
        was_trusted
    }

    /// What trusted work in flight will take of what a call spends from, the work `without` left out.
    pub(crate) fn aside(
        &self,
        account: &AccountId,
        key: Option<&KeyId>,
        groups: &[Group],
        without: Option<&ReservationId>,
    ) -> Option<Aside> {
        if !self.is_on() {
            return None;
        }
        self.standings.get(account)?.aside(key, groups, without)
    }

    /// Ends the works whose time is over, and forgets accounts that nobody asks for.
    pub(crate) fn sweep(&self, at: Instant) {
        if !self.is_on() {
            return;
        }
        self.standings.retain(|_, standing| {
            self.ended(standing.expire(at));
            standing.tidy(at);
            let keep = !standing.is_idle(at);
            if !keep {
                self.accounts.fetch_sub(1, Ordering::Relaxed);
            }
            keep
        });
    }

    fn has_room(&self) -> bool {
        self.works.load(Ordering::Relaxed) < WORKS_MAX
    }

    fn begun(&self) {
        self.works.fetch_add(1, Ordering::Relaxed);
        metrics::trusted_grant();
    }

    fn ended(&self, works: usize) {
        if works > 0 {
            self.works.fetch_sub(works, Ordering::Relaxed);
            metrics::trusted_ended(works);
        }
    }
}
