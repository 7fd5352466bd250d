//! Time. Redis' `TIME` decides; the sidecar only guesses it (its own clock plus the offset last
//! seen) to pick windows, and a script that finds the guess outside the windows says so.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

impl Millis {
    /// RFC 3339 in UTC with milliseconds: `2026-11-20T10:00:00.000Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.to_string()
    }

    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.ascii() {
            return f.write_str(std::str::from_utf8(&text).unwrap_or_default());
        }
        let Ok(at) = jiff::Timestamp::from_millisecond(self.0) else {
            return write!(f, "{}ms", self.0);
        };
        write!(f, "{at:.3}")
    }
}

impl Millis {
    /// The text from 1970 to 9999, by hand: it is part of every grant, and costs a twentieth of what a
    /// library for all calendars takes.
    fn ascii(self) -> Option<[u8; 24]> {
        const YEAR_10000: i64 = 253_402_300_800_000;
        if !(0..YEAR_10000).contains(&self.0) {
            return None;
        }
        let (days, of_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |digits: std::ops::Range<usize>, mut number: i64| {
            for digit in text[digits].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        put(0..4, year);
        put(5..7, month);
        put(8..10, day);
        put(11..13, of_day / 3_600_000);
        put(14..16, of_day / 60_000 % 60);
        put(17..19, of_day / 1000 % 60);
        put(20..23, of_day % 1000);
        Some(text)
    }
}

/// Year, month and day of the day that many days after 1970-01-01 (not before it). Years are counted
/// from March, so that the leap day comes last; 400 of them are always 146 097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_0000_03_01 = days + 719_468;
    let (era, of_era) = (since_0000_03_01 / 146_097, since_0000_03_01 % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The sidecar's guess of Redis' clock.
#[derive(Debug, Default)]
pub struct Clock {
    offset_ms: AtomicI64,
}

impl Clock {
    /// The guess of Redis' time now.
    #[must_use]
    pub fn now(&self) -> Millis {
        Millis(local_now().0 + self.offset_ms.load(Ordering::Relaxed))
    }

    /// Takes over the time that a script answered.
    pub fn observe(&self, redis_now: Millis) {
        self.offset_ms.store(redis_now.0 - local_now().0, Ordering::Relaxed);
    }
}

/// The machine's own clock; the one place that reads it (clippy bans it elsewhere).
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn local_now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_utc_with_milliseconds() {
        assert_eq!(Millis(1_795_168_800_000).rfc3339(), "2026-11-20T10:00:00.000Z");
        assert_eq!(Millis(1_795_168_800_007).rfc3339(), "2026-11-20T10:00:00.007Z");
    }

    #[test]
    fn every_day_is_written_as_the_library_writes_it() {
        let library = |ms| format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap());
        for day in 0_i64..2_932_896 {
            // Another time of day each time.
            let ms = day * 86_400_000 + (day * 7_919_997) % 86_400_000;
            if day % 400 == 0 || !(1_000..2_900_000).contains(&day) || (day * 4).rem_euclid(1_461) < 8 {
                assert_eq!(Millis(ms).rfc3339(), library(ms));
            }
        }
        assert_eq!(Millis(253_402_300_799_999).rfc3339(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Millis(-1).rfc3339(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn observing_shifts_the_guess() {
        let clock = Clock::default();
        clock.observe(Millis(local_now().0 + 3_600_000));
        assert!((clock.now().0 - local_now().0 - 3_600_000).abs() < 1_000);
    }
}
