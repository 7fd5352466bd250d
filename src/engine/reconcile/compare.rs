//! A reading of an account, judged. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Difference, Loaded, Part, Reading,
    held::{self, Held},
};
use crate::{
    engine::ports::{Audit, Position},
    quota::{
        id::AccountId,
        limit::{CounterCode, GroupField},
        tally::{Tally, Usage},
    },
};

/// Everything in which the account's numbers differ.
pub(super) fn all(account: &AccountId, reading: &Reading) -> Vec<Difference> {
    let redis = reading.redis.as_ref().filter(|_| reading.judges(Part::Posted));
    let counted = redis.map(|loaded| Tally::of(&loaded.counters));
    let [then, now] = sums(&reading.audit, reading.to, counted.as_ref());
    let mut found = posted(account, counted.as_ref(), &reading.audit.stored, &then, &now);
    if let Some(loaded) = redis.filter(|_| reading.judges(Part::Held)) {
        found.extend(holds(account, loaded));
        found.extend(deadlines(account, loaded));
    }
    found
}

/// What the ledger added up to when Redis was read, and what it adds up to now. Which of the account's
/// entries Redis had counted by then cannot be told, so it is given the state that fits it best.
fn sums(audit: &Audit, to: Position, redis: Option<&Tally>) -> [Tally; 2] {
    let mut now = audit.ledger.tally.clone();
    let misfit = |tally: &Tally| redis.map_or(0, |redis| differing(redis, tally));
    let mut best = (misfit(&now), now.clone());
    for (at, entry) in &audit.tail {
        // Past the range nothing fits, and the difference says so.
        let _ = now.add(entry);
        if *at <= to && misfit(&now) <= best.0 {
            best = (misfit(&now), now.clone());
        }
    }
    [best.1, now]
}

fn differing(redis: &Tally, ledger: &Tally) -> usize {
    let own = [redis.balance != ledger.balance, redis.used != ledger.used, redis.requests != ledger.requests];
    let keys: BTreeSet<_> = redis.keys.keys().chain(ledger.keys.keys()).collect();
    let keys = keys.into_iter().filter(|key| key_sums(redis, key) != key_sums(ledger, key)).count();
    let windows = pairs(redis, ledger).into_values().filter(|pair| !same_usage(*pair)).count();
    own.into_iter().filter(|differs| *differs).count() + keys + windows
}

fn key_sums(tally: &Tally, key: &crate::quota::id::KeyId) -> [i64; 2] {
    tally.keys.get(key).copied().unwrap_or_default()
}

type Pairs<'a> = BTreeMap<&'a (GroupField, CounterCode), [Option<Usage>; 2]>;

fn pairs<'a>(one: &'a Tally, other: &'a Tally) -> Pairs<'a> {
    let mut pairs = Pairs::new();
    for (side, tally) in [one, other].into_iter().enumerate() {
        for (window, usage) in &tally.windows {
            pairs.entry(window).or_default()[side] = Some(*usage);
        }
    }
    pairs
}

/// Usage in the newer of the two windows is the same: a reserve begins a new one in Redis alone, with
/// nothing used, and the ledger follows with the settle.
fn same_usage(pair: [Option<Usage>; 2]) -> bool {
    let newest = newest(&pair);
    used_in(pair[0], newest) == used_in(pair[1], newest)
}

fn newest(of: &[Option<Usage>]) -> u32 {
    of.iter().flatten().map(|usage| usage.start_s).max().unwrap_or(0)
}

fn used_in(usage: Option<Usage>, start_s: u32) -> i64 {
    usage.filter(|usage| usage.start_s == start_s).map_or(0, |usage| usage.used)
}

/// Posted numbers: Redis must be what the ledger added up to `then`, SQL what it adds up to `now`.
fn posted(account: &AccountId, redis: Option<&Tally>, stored: &Tally, then: &Tally, now: &Tally) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |what: String, redis: Option<i64>, [sql, then, now]: [i64; 3]| {
        let (redis_wrong, sql_wrong) = (redis.is_some_and(|redis| redis != then), sql != now);
        if redis_wrong || sql_wrong {
            let expected = Some(if redis_wrong { then } else { now });
            let part = Part::Posted;
            let account = account.clone();
            found.push(Difference {
                account,
                what,
                redis,
                sql: Some(sql),
                expected,
                part,
                redis_wrong,
                sql_wrong,
                repaired: None,
            });
        }
    };
    let ledger = [stored, then, now];
    compare("balance".to_owned(), redis.map(|of| of.balance), ledger.map(|of| of.balance));
    compare("used".to_owned(), redis.map(|of| of.used), ledger.map(|of| of.used));
    compare("requests".to_owned(), redis.map(|of| of.requests), ledger.map(|of| of.requests));
    let everywhere = || redis.into_iter().chain(ledger);
    let keys: BTreeSet<_> = everywhere().flat_map(|of| of.keys.keys()).collect();
    for key in keys {
        for (at, what) in ["used", "requests"].into_iter().enumerate() {
            let of_key = |of: &Tally| key_sums(of, key)[at];
            compare(format!("key:{key}:{what}"), redis.map(of_key), ledger.map(of_key));
        }
    }
    let windows: BTreeSet<_> = everywhere().flat_map(|of| of.windows.keys()).collect();
    for window in windows {
        let usage = |of: &Tally| of.windows.get(window).copied();
        let [stored, then, now] = ledger.map(usage);
        let what = name(&window.0, window.1);
        let start_s = newest(&[redis.and_then(usage), then]);
        let counted = redis.map(|redis| used_in(usage(redis), start_s));
        let expected = used_in(then, start_s);
        // What SQL keeps must be the very row; Redis may have begun a window of its own.
        if stored == now {
            compare(what, counted, [expected; 3]);
        } else if stored.map(|of| of.used) == now.map(|of| of.used) {
            let start = |of: Option<Usage>| of.map_or(0, |of| i64::from(of.start_s));
            compare(format!("{what}:start"), None, [start(stored), start(now), start(now)]);
        } else {
            let used = |of: Option<Usage>| of.map_or(0, |of| of.used);
            compare(what, counted, [used(stored), expected, used(now)]);
        }
    }
    found
}

/// What is counted as held against the live holds.
fn holds(account: &AccountId, loaded: &Loaded) -> Vec<Difference> {
    let counted = &loaded.counters;
    let right = held::applied(counted, &Held::of(&loaded.holds));
    let (counted, right) = (held_numbers(counted), held_numbers(&right));
    let differ = right.iter().map(|(what, expected)| (what, counted.get(what).copied().unwrap_or(0), *expected));
    let differ = differ.filter(|(_, redis, expected)| redis != expected);
    differ
        .map(|(what, redis, expected)| Difference {
            account: account.clone(),
            what: what.clone(),
            redis: Some(redis),
            sql: None,
            expected: Some(expected),
            part: Part::Held,
            redis_wrong: true,
            sql_wrong: false,
            repaired: None,
        })
        .collect()
}

fn held_numbers(counters: &crate::quota::counter::AccountCounters) -> BTreeMap<String, i64> {
    let mut numbers = BTreeMap::from([("held".to_owned(), counters.head.held)]);
    numbers.extend(counters.keys.iter().map(|(key, of)| (format!("key:{key}:held"), of.held)));
    for (field, windows) in &counters.groups {
        numbers.extend(windows.iter().map(|window| (format!("{}:held", name(field, window.code)), window.held)));
    }
    numbers
}

/// Every live hold must be in the list of deadlines with its own, and nothing else.
fn deadlines(account: &AccountId, loaded: &Loaded) -> Vec<Difference> {
    let mut pairs: BTreeMap<&str, [Option<i64>; 2]> = BTreeMap::new();
    for (id, at) in &loaded.deadlines {
        pairs.entry(id.as_str()).or_default()[0] = Some(at.0);
    }
    for (id, hold) in &loaded.holds {
        pairs.entry(id.as_str()).or_default()[1] = Some(hold.expires.0);
    }
    let differ = pairs.into_iter().filter(|(_, [listed, due])| listed != due);
    differ
        .map(|(id, [redis, expected])| Difference {
            account: account.clone(),
            what: format!("{DEADLINE}{id}"),
            redis,
            sql: None,
            expected,
            part: Part::Deadline,
            redis_wrong: true,
            sql_wrong: false,
            repaired: None,
        })
        .collect()
}

/// Before the id of a reservation.
pub(super) const DEADLINE: &str = "deadline:";

/// `limit:<platform>:<model>:<metric>:<period>`, behind `key:<id>:` for a key's.
fn name(field: &GroupField, code: CounterCode) -> String {
    let (Some((_, [platform, model, key])), Some((metric, period))) = (GroupField::parse(field.as_str()), code.split())
    else {
        return format!("limit:{}:{}", field.as_str(), code.0);
    };
    let key = if key.is_empty() { String::new() } else { format!("key:{key}:") };
    let period = period.as_text().unwrap_or("none".into());
    format!("{key}limit:{platform}:{model}:{}:{period}", metric.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::limit::{Metric, Period};

    fn tally(balance: i64, window: Option<(u32, i64)>) -> Tally {
        let window = window.map(|(start_s, used)| {
            let name = (GroupField::new("openai", "*", None), CounterCode::new(Metric::Cost, Period::Day));
            (name, Usage { start_s, used })
        });
        Tally { balance, windows: window.into_iter().collect(), ..Tally::default() }
    }

    type Line = (String, Option<i64>, Option<i64>, Option<i64>);

    fn differ(redis: &Tally, sql: &Tally, ledger: &Tally) -> Vec<Line> {
        let found = posted(&AccountId::new("a").unwrap(), Some(redis), sql, ledger, ledger);
        found.into_iter().map(|one| (one.what, one.redis, one.sql, one.expected)).collect()
    }

    #[test]
    fn windows_compare_by_the_newer_one() {
        let day = "limit:openai:*:cost:day".to_owned();
        let old = tally(0, Some((100, 7)));
        assert_eq!(differ(&old, &old, &old), []);
        assert_eq!(differ(&tally(0, Some((200, 0))), &old, &old), [], "begun in Redis alone");
        assert_eq!(differ(&tally(0, Some((0, 0))), &tally(0, None), &tally(0, None)), []);
        let ahead = tally(0, Some((200, 3)));
        assert_eq!(differ(&ahead, &old, &old), [(day.clone(), Some(3), Some(0), Some(0))]);
        assert_eq!(differ(&tally(0, None), &ahead, &ahead), [(day.clone(), Some(0), Some(3), Some(3))]);
        assert_eq!(differ(&old, &tally(0, Some((100, 8))), &old), [(day.clone(), Some(7), Some(8), Some(7))]);
        let elsewhen = tally(0, Some((50, 7)));
        assert_eq!(differ(&old, &elsewhen, &old), [(format!("{day}:start"), None, Some(50), Some(100))]);
    }

    #[test]
    fn either_side_may_be_wrong() {
        let right = tally(100, None);
        let wrong = tally(90, None);
        for (redis, sql, whose) in
            [(&wrong, &right, (true, false)), (&right, &wrong, (false, true)), (&wrong, &wrong, (true, true))]
        {
            let found = posted(&AccountId::new("a").unwrap(), Some(redis), sql, &right, &right);
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].redis_wrong, found[0].sql_wrong), whose);
            assert_eq!((found[0].redis, found[0].sql), (Some(redis.balance), Some(sql.balance)));
            assert_eq!(found[0].expected, Some(100));
        }
        assert_eq!(posted(&AccountId::new("a").unwrap(), None, &right, &wrong, &right), [], "not loaded, hence right");
    }
}
