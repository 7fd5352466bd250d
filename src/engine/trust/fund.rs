//! The newest numbers of one thing that calls spend from (an account, a key, a group of limits), and the
//! trusted work in flight that will take from it.

use std::time::{Duration, Instant};

use crate::quota::{
    clock::Millis,
    counter::{Head, KeyCounter, WindowCounters},
};

/// Numbers older than this are not trusted (rules, "Trust"). They are dated by when their call was sent,
/// so that they are never older than they seem.
const FRESH: Duration = Duration::from_secs(1);

/// When a script was called, and in which era of the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) sent: Instant,
    pub(crate) era: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    sent: Instant,
    received: Instant,
    /// Redis' time.
    now: Millis,
}

#[derive(Debug, Default)]
pub(crate) struct Fund<T> {
    pub(crate) numbers: T,
    /// `None`: there are no numbers that count.
    seen: Option<Seen>,
    /// Units.
    pub(crate) in_flight: i64,
}

/// What a script answered of a fund.
pub(crate) trait Numbers: Clone {
    /// Takes over what `other` has less of: for numbers of which nobody can tell whether they are newer.
    fn lower_to(&mut self, other: &Self);
}

impl<T: Numbers> Fund<T> {
    /// Takes over numbers if they are newer: by Redis' clock, or because they were asked for after the others
    /// had come. Replies overtake each other, and a millisecond holds many scripts; others lower what is left.
    pub(crate) fn see(&mut self, numbers: &T, sent: Instant, received: Instant, now: Millis) {
        match &mut self.seen {
            Some(seen) if now <= seen.now && sent <= seen.received => self.numbers.lower_to(numbers),
            seen => {
                let sent = seen.map_or(sent, |seen| seen.sent.max(sent));
                *seen = Some(Seen { sent, received, now });
                self.numbers.clone_from(numbers);
            }
        }
    }

    pub(crate) fn is_fresh(&self, at: Instant) -> bool {
        self.seen.is_some_and(|seen| at.saturating_duration_since(seen.sent) <= FRESH)
    }
}

impl<T> Fund<T> {
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    /// Nothing would be lost with it.
    pub(crate) fn is_idle(&self, at: Instant) -> bool {
        self.in_flight == 0 && self.seen.is_none_or(|seen| at.saturating_duration_since(seen.sent) > FRESH)
    }
}

impl Numbers for Head {
    fn lower_to(&mut self, other: &Self) {
        if other.balance - other.held < self.balance - self.held {
            (self.balance, self.held) = (other.balance, other.held);
        }
        self.version = self.version.max(other.version);
    }
}

impl Numbers for KeyCounter {
    fn lower_to(&mut self, other: &Self) {
        if other.used + other.held > self.used + self.held {
            (self.used, self.held) = (other.used, other.held);
        }
    }
}

impl Numbers for WindowCounters {
    fn lower_to(&mut self, other: &Self) {
        for counter in self {
            let same = other.iter().find(|of| of.code == counter.code && of.start_s == counter.start_s);
            if let Some(of) = same.filter(|of| of.used + of.held > counter.used + counter.held) {
                (counter.used, counter.held) = (of.used, of.held);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: u32, balance: i64) -> Head {
        Head { version, balance, ..Head::default() }
    }

    fn fund() -> (Fund<Head>, impl Fn(u64) -> Instant) {
        let begun = Instant::now();
        (Fund::default(), move |ms| begun + Duration::from_millis(ms))
    }

    #[test]
    fn the_newest_numbers_win_whatever_the_order_of_the_replies() {
        let (mut fund, at) = fund();
        fund.see(&head(1, 100), at(0), at(10), Millis(5));
        fund.see(&head(1, 120), at(1), at(11), Millis(7));
        assert_eq!(fund.numbers.balance, 120, "later in Redis");
        fund.see(&head(1, 500), at(2), at(12), Millis(6));
        assert_eq!(fund.numbers.balance, 120, "overtaken");
        fund.see(&head(1, 500), at(2), at(12), Millis(7));
        assert_eq!(fund.numbers.balance, 120, "in the same millisecond: the smaller");
        fund.see(&head(1, 90), at(2), at(12), Millis(7));
        assert_eq!(fund.numbers.balance, 90);
        fund.see(&head(2, 80), at(2), at(12), Millis(4));
        assert_eq!((fund.numbers.balance, fund.numbers.version), (80, 2), "an older one can only lower");
        // Redis' clock stood still or went back, but this one was asked for after the others had come.
        fund.see(&head(2, 300), at(13), at(14), Millis(3));
        assert_eq!(fund.numbers.balance, 300);
    }

    #[test]
    fn numbers_age_from_when_they_were_asked_for() {
        let (mut fund, at) = fund();
        assert!(!fund.is_fresh(at(0)));
        fund.see(&head(1, 100), at(0), at(900), Millis(5));
        assert!(fund.is_fresh(at(1_000)) && !fund.is_fresh(at(1_001)));
        fund.see(&head(1, 100), at(50), at(901), Millis(5));
        assert!(!fund.is_fresh(at(1_001)), "it may be the older one");
        fund.see(&head(1, 100), at(50), at(901), Millis(6));
        assert!(fund.is_fresh(at(1_050)));
        fund.forget();
        assert!(!fund.is_fresh(at(901)));
        fund.see(&head(1, 7), at(60), at(905), Millis(1));
        assert_eq!(fund.numbers.balance, 7, "nothing of what was forgotten counts");
    }
}
