//! Tables of windows, and the proof by sampling that they tile time.

use proptest::prelude::*;

use super::*;

const PERIODS: [Period; 5] = [Period::Minute, Period::Hour, Period::Day, Period::Week, Period::Month];

fn period(word: &str) -> Period {
    Period::parse(word).unwrap()
}

fn seconds(instant: &str) -> u32 {
    u32::try_from(instant.parse::<Timestamp>().unwrap().as_second()).unwrap()
}

/// Rows of `zone period at start end`, all in UTC.
fn check(table: &str) {
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let [zone, word, at, start, end] = row.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("five columns: {row}")
        };
        let at = Millis(i64::from(seconds(at)) * 1000 + 999);
        let span = calendar(period(word), &Zone::parse(zone).unwrap(), at).unwrap();
        let show = |seconds: u32| Timestamp::from_second(seconds.into()).unwrap().to_string();
        assert_eq!((show(span.start_s), show(span.end_s)), (start.to_owned(), end.to_owned()), "{row}");
    }
}

#[test]
fn plain_days() {
    check(
        "UTC           minute 2026-11-20T10:00:59Z 2026-11-20T10:00:00Z 2026-11-20T10:01:00Z
         UTC           hour   2026-11-20T10:59:59Z 2026-11-20T10:00:00Z 2026-11-20T11:00:00Z
         UTC           day    2026-11-20T00:00:00Z 2026-11-20T00:00:00Z 2026-11-21T00:00:00Z
         UTC           day    2026-11-19T23:59:59Z 2026-11-19T00:00:00Z 2026-11-20T00:00:00Z
         UTC           week   2026-11-20T10:00:00Z 2026-11-16T00:00:00Z 2026-11-23T00:00:00Z
         UTC           week   2026-11-16T00:00:00Z 2026-11-16T00:00:00Z 2026-11-23T00:00:00Z
         UTC           week   2026-11-15T23:59:59Z 2026-11-09T00:00:00Z 2026-11-16T00:00:00Z
         UTC           month  2026-11-30T23:59:59Z 2026-11-01T00:00:00Z 2026-12-01T00:00:00Z
         UTC           month  2028-02-29T12:00:00Z 2028-02-01T00:00:00Z 2028-03-01T00:00:00Z
         UTC           month  2027-02-28T23:59:59Z 2027-02-01T00:00:00Z 2027-03-01T00:00:00Z
         UTC           month  2026-12-31T23:59:59Z 2026-12-01T00:00:00Z 2027-01-01T00:00:00Z
         UTC           week   2026-12-31T23:59:59Z 2026-12-28T00:00:00Z 2027-01-04T00:00:00Z
         Asia/Shanghai day    2026-11-20T15:59:59Z 2026-11-19T16:00:00Z 2026-11-20T16:00:00Z
         Asia/Shanghai day    2026-11-20T16:00:00Z 2026-11-20T16:00:00Z 2026-11-21T16:00:00Z
         Asia/Shanghai week   2026-11-15T16:00:00Z 2026-11-15T16:00:00Z 2026-11-22T16:00:00Z
         Asia/Shanghai month  2026-12-31T16:00:00Z 2026-12-31T16:00:00Z 2027-01-31T16:00:00Z
         Asia/Shanghai month  2026-12-31T15:59:59Z 2026-11-30T16:00:00Z 2026-12-31T16:00:00Z
         Asia/Kolkata  hour   2026-11-20T10:29:59Z 2026-11-20T09:30:00Z 2026-11-20T10:30:00Z
         Asia/Kathmandu hour  2026-11-20T10:20:00Z 2026-11-20T10:15:00Z 2026-11-20T11:15:00Z",
    );
}

#[test]
fn days_on_which_clocks_are_set() {
    check(
        "Europe/Berlin    day   2026-03-29T12:00:00Z 2026-03-28T23:00:00Z 2026-03-29T22:00:00Z
         Europe/Berlin    day   2026-10-25T12:00:00Z 2026-10-24T22:00:00Z 2026-10-25T23:00:00Z
         Europe/Berlin    week  2026-10-25T22:59:59Z 2026-10-18T22:00:00Z 2026-10-25T23:00:00Z
         Europe/Berlin    month 2026-03-31T21:59:59Z 2026-02-28T23:00:00Z 2026-03-31T22:00:00Z
         Europe/Berlin    hour  2026-10-25T00:30:00Z 2026-10-25T00:00:00Z 2026-10-25T01:00:00Z
         Europe/Berlin    hour  2026-10-25T01:30:00Z 2026-10-25T01:00:00Z 2026-10-25T02:00:00Z
         Europe/Berlin    hour  2026-03-29T00:59:59Z 2026-03-29T00:00:00Z 2026-03-29T01:00:00Z
         Europe/Berlin    hour  2026-03-29T01:00:00Z 2026-03-29T01:00:00Z 2026-03-29T02:00:00Z
         America/New_York day   2026-03-08T12:00:00Z 2026-03-08T05:00:00Z 2026-03-09T04:00:00Z
         America/New_York day   2026-11-01T12:00:00Z 2026-11-01T04:00:00Z 2026-11-02T05:00:00Z
         America/New_York hour  2026-11-01T06:30:00Z 2026-11-01T06:00:00Z 2026-11-01T07:00:00Z
         Australia/Lord_Howe hour 2026-04-04T14:59:59Z 2026-04-04T14:00:00Z 2026-04-04T15:00:00Z
         Australia/Lord_Howe hour 2026-04-04T15:00:00Z 2026-04-04T15:00:00Z 2026-04-04T15:30:00Z
         Australia/Lord_Howe hour 2026-04-04T15:30:00Z 2026-04-04T15:30:00Z 2026-04-04T16:30:00Z
         Australia/Lord_Howe hour 2026-10-03T15:29:59Z 2026-10-03T14:30:00Z 2026-10-03T15:30:00Z
         Australia/Lord_Howe hour 2026-10-03T15:30:00Z 2026-10-03T15:30:00Z 2026-10-03T16:00:00Z",
    );
}

/// Midnights that do not exist, exist twice, and a date that a zone skipped.
#[test]
fn strange_midnights() {
    check(
        "America/Sao_Paulo day   2018-11-04T02:59:59Z 2018-11-03T03:00:00Z 2018-11-04T03:00:00Z
         America/Sao_Paulo day   2018-11-04T03:00:00Z 2018-11-04T03:00:00Z 2018-11-05T02:00:00Z
         America/Sao_Paulo day   2018-02-18T02:30:00Z 2018-02-17T02:00:00Z 2018-02-18T03:00:00Z
         Africa/Cairo      day   2026-04-24T09:00:00Z 2026-04-23T22:00:00Z 2026-04-24T21:00:00Z
         Asia/Beirut       week  2026-03-29T09:00:00Z 2026-03-22T22:00:00Z 2026-03-29T21:00:00Z
         America/St_Johns  day   2010-11-07T02:30:59Z 2010-11-07T02:30:00Z 2010-11-08T03:30:00Z
         America/St_Johns  day   2010-11-07T02:31:00Z 2010-11-07T02:30:00Z 2010-11-08T03:30:00Z
         America/St_Johns  hour  2010-11-07T02:30:30Z 2010-11-07T02:30:00Z 2010-11-07T02:31:00Z
         America/St_Johns  hour  2010-11-07T02:31:00Z 2010-11-07T02:31:00Z 2010-11-07T03:30:00Z
         Pacific/Apia      day   2011-12-30T09:59:59Z 2011-12-29T10:00:00Z 2011-12-30T10:00:00Z
         Pacific/Apia      day   2011-12-30T10:00:00Z 2011-12-30T10:00:00Z 2011-12-31T10:00:00Z",
    );
}

/// No zone has skipped from before midnight to after it since 1970; Toronto did in 1919.
#[test]
fn a_day_begins_when_the_clock_jumps_over_its_midnight() {
    let toronto = Zone::parse("America/Toronto").unwrap();
    let jump: Timestamp = "1919-03-31T04:30:00Z".parse().unwrap();
    assert_eq!(toronto.first_instant(jiff::civil::date(1919, 3, 31)), jump.as_second());
}

#[test]
fn rolling_and_concurrency_have_no_calendar() {
    for period in [Period::None, Period::Rolling(60)] {
        assert_eq!(calendar(period, &Zone::utc(), Millis(1_795_168_800_000)), None);
    }
}

#[test]
fn the_ends_of_the_range_are_cut() {
    let first = calendar(Period::Week, &Zone::utc(), Millis(0)).unwrap();
    assert_eq!(first, Span { start_s: 0, end_s: 4 * 86_400 });
    let last = calendar(Period::Month, &Zone::utc(), Millis(i64::MAX)).unwrap();
    assert_eq!(last.end_s, u32::MAX);
    assert!(last.start_s < last.end_s);
}

#[test]
fn zones_keep_the_spelling_of_the_database() {
    for (given, kept) in
        [("europe/berlin", "Europe/Berlin"), ("UTC", "UTC"), ("utc", "UTC"), ("ASIA/SHANGHAI", "Asia/Shanghai")]
    {
        let zone = Zone::parse(given).unwrap();
        assert_eq!(zone.name(), kept);
        assert_eq!(Zone::parse(kept).unwrap(), zone);
    }
    for bad in
        ["", "Berlin", "Europe/Berlin ", "UTC+1", "+01:00", "EST5EDT4", "../etc/passwd", "Etc/Unknown", "Factory"]
    {
        assert_eq!(Zone::parse(bad), Err(BadZone(bad.to_owned())), "{bad}");
    }
}

const ZONES: [&str; 14] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Shanghai",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Africa/Cairo",
    "Asia/Beirut",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Tehran",
    "Antarctica/Troll",
];

/// A window contains the instant, and the windows before and after it touch it.
fn tiles(zone: &Zone, period: Period, at: Millis) {
    let span = calendar(period, zone, at).unwrap();
    let case = || format!("{} {period:?} {at} {span:?}", zone.name());
    assert!(i64::from(span.start_s) <= at.seconds() && at.seconds() < i64::from(span.end_s), "{}", case());
    for inside in [i64::from(span.start_s) * 1000, i64::from(span.end_s) * 1000 - 1] {
        assert_eq!(calendar(period, zone, Millis(inside)), Some(span), "{}", case());
    }
    let next = calendar(period, zone, Millis(i64::from(span.end_s) * 1000)).unwrap();
    assert_eq!(next.start_s, span.end_s, "{}", case());
    let previous = calendar(period, zone, Millis(i64::from(span.start_s) * 1000 - 1)).unwrap();
    assert_eq!(previous.end_s, span.start_s, "{}", case());
}

proptest! {
    #[test]
    fn windows_tile_time(zone in 0..ZONES.len(), at in 3_000_000_000_i64..4_100_000_000_000) {
        let zone = Zone::parse(ZONES[zone]).unwrap();
        for period in PERIODS {
            tiles(&zone, period, Millis(at));
        }
    }
}

/// The same around every time a clock is set, where random instants seldom fall.
#[test]
fn windows_tile_time_where_clocks_are_set() {
    for name in ZONES {
        let zone = Zone::parse(name).unwrap();
        let set = zone.0.following(timestamp(90 * 86_400)).take_while(|set| set.timestamp() < timestamp(2_000_000_000));
        for set in set {
            let set_s = set.timestamp().as_second();
            for near_s in [-3600, -1800, -61, -1, 0, 1, 59, 1799, 1800, 3599, 3600, 7200] {
                for period in PERIODS {
                    tiles(&zone, period, Millis((set_s + near_s) * 1000));
                }
            }
        }
    }
}
