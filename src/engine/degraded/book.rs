//! What this sidecar has granted and charged without Redis, and how much more it may. Pure: one book,
//! kept in memory; its charges are in the spool.

use std::collections::HashMap;

use crate::{
    engine::ports::Cost,
    quota::{
        clock::Millis,
        fingerprint::Fingerprint,
        id::{AccountId, ReservationId},
    },
};

/// Reservations in the book at most. Grants of nothing cost no allowance, but they cost memory.
const WORKS_MAX: usize = 200_000;

/// Names a reservation in the book.
pub(crate) type Place = (AccountId, ReservationId);

/// A reserve that was granted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) held: i64,
    pub(crate) tokens: i64,
    pub(crate) prompt_cost: i64,
    pub(crate) expires_at: Millis,
}

/// What a settle or a charge was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) by_charge: bool,
    /// `None`: Redis alone knows the hold that is charged.
    pub(crate) charged: Option<i64>,
    pub(crate) returned: Option<i64>,
    pub(crate) late: bool,
    pub(crate) clamped: bool,
    /// False after `final: false`.
    pub(crate) last: bool,
}

/// One reservation, as far as it was worked on here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) grant: Option<Grant>,
    /// The prices of the grant, as they are packed; none where it was not granted here.
    pub(crate) price_tag: Option<Vec<u8>>,
    pub(crate) report: Option<Report>,
    /// Released here; what that gave back, when it is known.
    pub(crate) released: Option<Option<i64>>,
}

impl Work {
    pub(crate) fn is_live(&self) -> bool {
        self.grant.is_some() && self.released.is_none() && !self.report.is_some_and(|report| report.last)
    }

    /// Units charged so far.
    pub(crate) fn so_far(&self) -> i64 {
        self.report.and_then(|report| report.charged).unwrap_or(0)
    }

    /// What a cost comes to, as far as it can be told here: `None` where Redis alone knows the hold.
    pub(crate) fn charge_of(&self, cost: Cost) -> Option<i64> {
        match (cost, &self.grant, &self.report) {
            (Cost::Units(units), _, _) => Some(units),
            (_, _, Some(report)) if report.last => report.charged,
            (Cost::Prompt, Some(grant), _) => Some(grant.prompt_cost.max(self.so_far())),
            (Cost::Held, Some(grant), _) => Some(grant.held.max(self.so_far())),
            (Cost::Nothing, Some(_), _) => Some(self.so_far()),
            (Cost::Prompt | Cost::Held | Cost::Nothing, None, _) => None,
        }
    }

    /// Units that it takes of the allowance. What was reserved in Redis takes nothing: it was checked
    /// there.
    fn weight(&self) -> i64 {
        match (&self.grant, &self.report) {
            (_, _) if self.released.is_some() => 0,
            (Some(grant), None) => grant.held,
            (Some(grant), Some(report)) if !report.last => grant.held.max(report.charged.unwrap_or(0)),
            (Some(_), Some(report)) => report.charged.unwrap_or(0),
            (None, Some(report)) if report.by_charge => report.charged.unwrap_or(0),
            (None, _) => 0,
        }
    }
}

struct Slot {
    work: Work,
    /// What it takes of this outage's allowance; 0 for what an earlier outage left.
    weight: i64,
}

/// See the module.
pub(crate) struct Book {
    account_most: i64,
    total_most: i64,
    works: HashMap<Place, Slot>,
    spent: HashMap<AccountId, i64>,
    total: i64,
}

impl Book {
    pub(crate) fn new(account_most: i64, total_most: i64) -> Self {
        Self { account_most, total_most, works: HashMap::new(), spent: HashMap::new(), total: 0 }
    }

    /// Other bounds; what is spent counts on.
    pub(crate) fn bound(&mut self, account_most: i64, total_most: i64) {
        (self.account_most, self.total_most) = (account_most, total_most);
    }

    pub(crate) fn find(&self, place: &Place) -> Option<&Work> {
        self.works.get(place).map(|slot| &slot.work)
    }

    /// Units that the account may still spend; never below 0.
    pub(crate) fn left(&self, account: &AccountId) -> i64 {
        let of_account = self.account_most - self.spent.get(account).copied().unwrap_or(0);
        of_account.min(self.total_most - self.total).max(0)
    }

    /// Whether another reservation can be remembered.
    pub(crate) fn has_room(&self, place: &Place) -> bool {
        self.works.len() < WORKS_MAX || self.works.contains_key(place)
    }

    /// Remembers a reservation as it stands now.
    pub(crate) fn put(&mut self, place: Place, work: Work) {
        let weight = work.weight();
        let before = self.works.get(&place).map_or(0, |slot| slot.weight);
        *self.spent.entry(place.0.clone()).or_default() += weight - before;
        self.total += weight - before;
        self.works.insert(place, Slot { work, weight });
    }

    /// Takes back what was put and never took place.
    pub(crate) fn restore(&mut self, place: Place, before: Option<Work>) {
        match before {
            Some(work) => self.put(place, work),
            None => {
                if let Some(slot) = self.works.remove(&place) {
                    *self.spent.entry(place.0).or_default() -= slot.weight;
                    self.total -= slot.weight;
                }
            }
        }
    }

    /// The outage is over: the allowance is whole again. Live grants are remembered until their
    /// deadline, because their settle may still need them.
    pub(crate) fn close(&mut self, now: Millis) {
        self.works.retain(|_, slot| slot.work.is_live() && slot.work.grant.is_some_and(|grant| grant.expires_at > now));
        for slot in self.works.values_mut() {
            slot.weight = 0;
        }
        self.spent.clear();
        self.total = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(account: &str, id: &str) -> Place {
        (AccountId::new(account).unwrap(), ReservationId::new(id).unwrap())
    }

    fn grant(held: i64) -> Work {
        let grant =
            Grant { fingerprint: Fingerprint::default(), held, tokens: 0, prompt_cost: 0, expires_at: Millis(100) };
        Work { grant: Some(grant), ..Work::default() }
    }

    fn report(charged: i64, last: bool, by_charge: bool) -> Option<Report> {
        let fingerprint = Fingerprint::default();
        Some(Report {
            fingerprint,
            by_charge,
            charged: Some(charged),
            returned: None,
            late: false,
            clamped: false,
            last,
        })
    }

    #[test]
    fn an_account_and_all_together_have_an_allowance() {
        let mut book = Book::new(100, 150);
        let (a, b) = (place("a", "1"), place("b", "1"));
        assert_eq!(book.left(&a.0), 100);
        book.put(a.clone(), grant(70));
        assert_eq!((book.left(&a.0), book.left(&b.0)), (30, 80));
        // Released: all of it is there again. Settled: what was charged stays taken.
        book.put(a.clone(), Work { released: Some(Some(70)), ..grant(70) });
        assert_eq!((book.left(&a.0), book.left(&b.0)), (100, 100));
        book.put(b.clone(), Work { report: report(20, false, false), ..grant(70) });
        assert_eq!(book.left(&b.0), 30, "a partial settle leaves the rest held");
        book.put(b.clone(), Work { report: report(20, true, false), ..grant(70) });
        assert_eq!((book.left(&b.0), book.left(&a.0)), (80, 100));
        book.put(b.clone(), Work { report: report(200, true, false), ..grant(70) });
        assert_eq!((book.left(&b.0), book.left(&a.0)), (0, 0), "the truth may be more than was held");
    }

    #[test]
    fn what_redis_had_granted_takes_nothing_but_a_charge_does() {
        let mut book = Book::new(100, 100);
        book.put(place("a", "1"), Work { report: report(60, true, false), ..Work::default() });
        assert_eq!(book.left(&place("a", "1").0), 100);
        book.put(place("a", "2"), Work { report: report(60, true, true), ..Work::default() });
        assert_eq!(book.left(&place("a", "1").0), 40);
    }

    #[test]
    fn what_did_not_take_place_is_taken_back() {
        let mut book = Book::new(100, 100);
        let a = place("a", "1");
        book.put(a.clone(), grant(70));
        book.restore(a.clone(), None);
        assert_eq!((book.left(&a.0), book.find(&a)), (100, None));
        book.put(a.clone(), grant(70));
        book.put(a.clone(), Work { released: Some(Some(70)), ..grant(70) });
        book.restore(a.clone(), Some(grant(70)));
        assert_eq!((book.left(&a.0), book.find(&a)), (30, Some(&grant(70))));
    }

    #[test]
    fn a_new_outage_begins_with_the_whole_allowance() {
        let mut book = Book::new(100, 100);
        book.put(place("a", "live"), grant(40));
        book.put(place("a", "done"), Work { report: report(40, true, false), ..grant(40) });
        book.close(Millis(50));
        assert_eq!(book.left(&place("a", "x").0), 100);
        assert_eq!(book.find(&place("a", "done")), None);
        book.put(place("a", "live"), Work { released: Some(Some(40)), ..grant(40) });
        assert_eq!(book.left(&place("a", "x").0), 100, "what an earlier outage took is not given back to this one");
        book.put(place("a", "live"), grant(40));
        book.close(Millis(100));
        assert_eq!(book.find(&place("a", "live")), None, "its deadline has passed");
    }
}
