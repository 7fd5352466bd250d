//! Windows: where the span of a calendar period begins and ends in an account's time zone.
//!
//! Windows of one period tile time: each instant lies in exactly one, and one ends where the next
//! begins, also on the days when clocks are set. Two rules make that so:
//!
//! - **day, week, month** begin at the first instant whose local date is the boundary's or later.
//!   A day whose midnight is skipped begins when the clock has jumped; a day whose midnight is
//!   passed twice begins the first time, and what the clock then repeats of the evening before
//!   belongs to it. Such days are 23 or 25 hours long, a date that a zone skips is no day at all.
//! - **minute, hour** follow the wall clock of the offset in force, and end early when the clock is
//!   set. The hour 02–03 that Berlin passes twice in autumn is two windows; Lord Howe, which moves
//!   by half an hour, has one of 30 minutes then.

use jiff::{
    Timestamp, ToSpan,
    civil::Date,
    tz::{AmbiguousOffset, TimeZone},
};

use super::{clock::Millis, limit::Period};

/// An IANA time zone; compares by name.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone, Box<str>);

/// Why a text is no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no IANA time zone, such as Europe/Berlin or UTC")]
pub struct BadZone(pub String);

/// A window `[start_s, end_s)` in seconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start_s: u32,
    pub end_s: u32,
}

impl Zone {
    /// Reads a name in any case and keeps the database's spelling of it.
    ///
    /// # Errors
    /// [`BadZone`] when the bundled database does not know the name.
    pub fn parse(name: &str) -> Result<Self, BadZone> {
        let zone = TimeZone::get(name).map_err(|_| BadZone(name.to_owned()))?;
        match zone.iana_name() {
            // `Etc/Unknown` and `Factory` are the database's words for "none".
            Some(canonical) if !zone.is_unknown() && canonical != "Factory" => {
                let canonical = canonical.into();
                Ok(Self(zone, canonical))
            }
            _ => Err(BadZone(name.to_owned())),
        }
    }

    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC, "UTC".into())
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.1
    }

    /// Seconds that local time is ahead of UTC.
    fn offset_s(&self, at_s: i64) -> i64 {
        self.0.to_offset(timestamp(at_s)).seconds().into()
    }

    fn date(&self, at_s: i64) -> Date {
        let at = timestamp(at_s);
        self.0.to_offset(at).to_datetime(at).date()
    }

    /// The first instant whose local date is `date` or later.
    fn first_instant(&self, date: Date) -> i64 {
        let midnight = date.at(0, 0, 0, 0);
        let at = |offset: jiff::tz::Offset| offset.to_timestamp(midnight).map_or(i64::MAX, Timestamp::as_second);
        match self.0.to_ambiguous_timestamp(midnight).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            // Passed twice: the first time is the one before the clock is set back.
            AmbiguousOffset::Fold { before, .. } => at(before),
            // Skipped: the instant at which the clock jumps, which is later than midnight by the
            // offset after it.
            AmbiguousOffset::Gap { before, after } => {
                let jump = self.0.following(timestamp(at(after))).next();
                jump.map_or_else(|| at(before), |transition| transition.timestamp().as_second())
            }
        }
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Eq for Zone {}

/// The window of a calendar period that is open at `at`; `None` for rolling periods and
/// concurrency, whose windows live in Redis.
#[must_use]
pub fn calendar(period: Period, zone: &Zone, at: Millis) -> Option<Span> {
    let at_s = at.seconds().clamp(0, u32::MAX.into());
    let (start_s, end_s) = match period {
        Period::Minute => of_clock(60, zone, at_s),
        Period::Hour => of_clock(3600, zone, at_s),
        Period::Day => of_dates(zone, at_s, |date| date, |date| date.saturating_add(1.day())),
        Period::Week => of_dates(zone, at_s, monday, |date| date.saturating_add(1.week())),
        Period::Month => of_dates(zone, at_s, Date::first_of_month, |date| date.saturating_add(1.month())),
        Period::None | Period::Rolling(_) => return None,
    };
    // Only windows that reach beyond 1970 or 2106 are cut.
    let cut = |seconds: i64| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
    Some(Span { start_s: cut(start_s), end_s: cut(end_s) })
}

/// Windows between dates: `floor` finds the boundary of a date, `step` the one after a boundary.
fn of_dates(zone: &Zone, at_s: i64, floor: fn(Date) -> Date, step: fn(Date) -> Date) -> (i64, i64) {
    let mut date = floor(zone.date(at_s));
    let mut end_s = zone.first_instant(step(date));
    // A clock that was set back over the boundary shows the old date again in the new window.
    while end_s <= at_s {
        date = step(date);
        end_s = zone.first_instant(step(date));
    }
    (zone.first_instant(date), end_s)
}

/// Windows of `length_s` of the local clock, cut where the clock is set.
fn of_clock(length_s: i64, zone: &Zone, at_s: i64) -> (i64, i64) {
    let offset_s = zone.offset_s(at_s);
    let mut start_s = (at_s + offset_s).div_euclid(length_s) * length_s - offset_s;
    let mut end_s = start_s + length_s;
    if zone.offset_s(start_s) != offset_s {
        let set = zone.0.preceding(timestamp(at_s + 1)).map(|transition| transition.timestamp().as_second());
        start_s = set.into_iter().find(|set_s| zone.offset_s(set_s - 1) != offset_s).unwrap_or(start_s);
    }
    if zone.offset_s(end_s - 1) != offset_s {
        let set = zone.0.following(timestamp(at_s)).map(|transition| transition.timestamp().as_second());
        end_s = set.into_iter().find(|set_s| zone.offset_s(*set_s) != offset_s).unwrap_or(end_s);
    }
    (start_s, end_s)
}

fn monday(date: Date) -> Date {
    date.saturating_sub(i64::from(date.weekday().to_monday_zero_offset()).days())
}

/// All instants here lie within a few weeks of 1970 to 2106, far inside jiff's range.
fn timestamp(at_s: i64) -> Timestamp {
    Timestamp::from_second(at_s).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
