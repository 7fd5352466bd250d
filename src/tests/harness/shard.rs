//! Everything a shard holds, read from its keys and not through the library; a copy of it on another
//! server; and what a redo must have made of such a copy.
#![allow(dead_code, reason = "each test uses another part of it")]

use std::collections::{BTreeMap, BTreeSet};

use quotad::quota::{
    counter::{AccountCounters, Head, KeyCounter, WindowCounter},
    entry::Entry,
    id::KeyId,
    limit::{CounterCode, GroupField, Metric},
    reservation::{Record, State},
};
use redis::{Connection, FromRedisValue};

/// A shard, by the names of its keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shard {
    pub accounts: BTreeMap<String, AccountCounters>,
    pub records: BTreeMap<String, Record>,
    /// Tombstones of operations, packed.
    pub operations: BTreeMap<String, Vec<u8>>,
    pub deadlines: BTreeMap<String, i64>,
    /// Ids and payloads.
    pub stream: Vec<(String, Vec<u8>)>,
    pub meta: Vec<u8>,
    /// Keys that have a time to live.
    pub mortal: BTreeSet<String>,
}

fn ask<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> T {
    redis::cmd(words[0]).arg(&words[1..]).query(connection).expect("an answer")
}

/// Every key of one server, with its time to live, on another one that has none of them.
pub fn copy(from: &mut Connection, to: &mut Connection) {
    let names: Vec<String> = ask(from, &["KEYS", "*"]);
    for name in names {
        let value: Vec<u8> = ask(from, &["DUMP", &name]);
        let ttl: i64 = ask(from, &["PTTL", &name]);
        let restore = redis::cmd("RESTORE").arg(&name).arg(ttl.max(0)).arg(value).exec(to);
        restore.expect("a key can be restored");
    }
}

fn counters(connection: &mut Connection, name: &str) -> AccountCounters {
    let fields: BTreeMap<String, Vec<u8>> = ask(connection, &["HGETALL", name]);
    let mut counters = AccountCounters::default();
    for (field, value) in fields {
        if field == "h" {
            counters.head = Head::unpack(&value).expect("a head");
        } else if let Some(key) = field.strip_prefix("k\u{1f}") {
            counters.keys.push((KeyId::new(key).unwrap(), KeyCounter::unpack(&value).expect("a key's counters")));
        } else {
            let (field, _) = GroupField::parse(&field).expect("a group");
            counters.groups.push((field, WindowCounter::unpack_all(&value).expect("window counters")));
        }
    }
    counters
}

impl Shard {
    pub fn read(connection: &mut Connection, shard: u16) -> Self {
        let mut read = Self::default();
        let tag = format!("q{{{shard}}}");
        let names: Vec<String> = ask(connection, &["KEYS", &format!("{tag}*")]);
        let (mut begins, mut queues) = (BTreeMap::new(), BTreeMap::new());
        for name in names {
            let ttl: i64 = ask(connection, &["PTTL", &name]);
            if ttl >= 0 {
                read.mortal.insert(name.clone());
            }
            match name.as_bytes()[tag.len()] {
                b'a' => drop(read.accounts.insert(name.clone(), counters(connection, &name))),
                b'r' => {
                    let record: Vec<u8> = ask(connection, &["GET", &name]);
                    read.records.insert(name, Record::unpack(&record).expect("a record"));
                }
                b'o' => drop(read.operations.insert(name.clone(), ask(connection, &["GET", &name]))),
                b'x' if name.ends_with('/') => {
                    let members: Vec<(String, i64)> = ask(connection, &["ZRANGE", &name, "0", "-1", "WITHSCORES"]);
                    begins.extend(members);
                }
                b'x' if name.contains('/') => {
                    let holds: Vec<String> = ask(connection, &["LRANGE", &name, "0", "-1"]);
                    queues.insert(name, holds);
                }
                b'x' => {
                    let members: Vec<(String, i64)> = ask(connection, &["ZRANGE", &name, "0", "-1", "WITHSCORES"]);
                    read.deadlines.extend(members);
                }
                b'l' => {
                    let entries: Vec<(String, BTreeMap<String, Vec<u8>>)> =
                        ask(connection, &["XRANGE", &name, "-", "+"]);
                    read.stream = entries.into_iter().map(|(id, mut entry)| (id, entry.remove("p").unwrap())).collect();
                }
                b'm' => read.meta = ask(connection, &["GET", &name]),
                b'n' => {}
                other => panic!("a key of kind {}", char::from(other)),
            }
        }
        let begin = |name: &String| name[tag.len() + 2..].parse::<i64>().expect("a queue's number") * 15_000;
        let places = queues.keys().map(|name| (name.clone(), begin(name))).collect();
        assert_eq!(begins, places, "every queue is listed under the time when it begins");
        for (name, holds) in &queues {
            for hold in holds {
                read.take_queued(begin(name), hold);
            }
        }
        read
    }

    /// In a queue, what has ended is of no account, and what has another deadline is elsewhere.
    fn take_queued(&mut self, begins: i64, hold: &String) {
        let live = self.records.get(hold).filter(|record| record.state == State::Held);
        if let Some(record) = live.filter(|record| (begins..begins + 15_000).contains(&record.expires.0)) {
            let known = self.deadlines.insert(hold.clone(), record.expires.0);
            assert!(known.is_none_or(|known| known == record.expires.0), "{hold} is listed under {known:?}, too");
        }
    }

    fn key_of(&self, account: &str, kind: &str, rest: &str) -> String {
        let (tag, name) = account.split_once("a/").expect("an account's key");
        format!("{tag}{kind}/{name}/{rest}")
    }

    /// The account's hold of every counter is the sum of its live holds; deadlines are theirs alone.
    pub fn check_holds(&self) {
        let live: BTreeMap<&String, &Record> = self.records.iter().filter(|(_, r)| r.state == State::Held).collect();
        let deadlines = live.iter().map(|(name, record)| ((*name).clone(), record.expires.0)).collect();
        assert_eq!(self.deadlines, deadlines, "deadlines are those of the live holds");
        for (name, record) in &self.records {
            assert_eq!(self.mortal.contains(name), record.state != State::Held, "{name} {:?}", record.state);
        }
        for (account, counters) in &self.accounts {
            let prefix = self.key_of(account, "r", "");
            let mine: Vec<&Record> =
                live.iter().filter(|(name, _)| name.starts_with(&prefix)).map(|(_, record)| *record).collect();
            assert_eq!(counters.head.held, mine.iter().map(|record| record.rest()).sum::<i64>(), "held of {account}");
            for (key, counter) in &counters.keys {
                let of_key = mine.iter().filter(|record| record.key.as_ref() == Some(key));
                assert_eq!(counter.held, of_key.map(|record| record.rest()).sum::<i64>(), "held of {account} {key}");
            }
            for (field, windows) in &counters.groups {
                for window in windows {
                    let held: i64 = mine.iter().map(|record| held_in(record, field, window)).sum();
                    assert_eq!(window.held, held, "held of {account} {field:?} {window:?}");
                }
            }
        }
    }

    /// What this shard must be like after the entries of `original`'s stream that it lacked were redone:
    /// it was `before`, a copy of `original` from when its stream was shorter.
    pub fn check_redone(&self, before: &Self, original: &Self) {
        assert!(self.stream == original.stream, "the same entries");
        let place = |meta: &[u8]| [&meta[1..5], &meta[11..]].concat();
        assert_eq!((self.meta[0], place(&self.meta)), (b'R', place(&original.meta)), "the place, and still fenced");
        assert_eq!(self.accounts.keys().collect::<Vec<_>>(), original.accounts.keys().collect::<Vec<_>>());
        for (name, redone) in &self.accounts {
            check_usage(name, redone, &original.accounts[name]);
        }
        let mut records = before.records.clone();
        for (_, payload) in &original.stream[before.stream.len()..] {
            let entry = Entry::unpack(payload).expect("an entry");
            let Some(id) = entry.reservation() else { continue };
            let account = self.accounts.keys().find(|name| name.ends_with(&format!("a/{}", entry.account)));
            let name = self.key_of(account.expect("accounts of entries are loaded here"), "r", id.as_str());
            let record = entry.record.expect("a reservation has one");
            let held = records.get(&name).is_some_and(|old| old.state == State::Held && old.created == record.created);
            records.insert(name, if held { record } else { record.without_hold() });
        }
        assert_eq!(self.records.keys().collect::<Vec<_>>(), records.keys().collect::<Vec<_>>());
        for (name, record) in &self.records {
            assert_eq!(record, &records[name], "{name}");
        }
        let numbers = |operation: &Vec<u8>| (operation[..7].to_vec(), operation[14..27].to_vec());
        assert_eq!(self.operations.keys().collect::<Vec<_>>(), original.operations.keys().collect::<Vec<_>>());
        for (name, operation) in &self.operations {
            let done = &original.operations[name];
            assert_eq!(numbers(operation), numbers(done), "{name}: amount, what a refund left, time");
        }
        assert!(self.operations.keys().all(|name| self.mortal.contains(name)));
        self.check_holds();
    }
}

/// What a live hold holds of a window counter.
fn held_in(record: &Record, field: &GroupField, window: &WindowCounter) -> i64 {
    let refs = record.windows.iter().filter(|group| group.field == *field).flat_map(|group| &group.counters);
    let there = refs.filter(|(code, start)| *code == window.code && *start == window.start_s).count() as i64;
    let each = match window.code.split().expect("a code").0 {
        Metric::Cost => record.rest(),
        Metric::Tokens => record.tokens,
        Metric::Requests | Metric::Concurrency => 1,
    };
    there * each
}

/// All that the ledger knows of an account is the same. What only a reserve did is not in the ledger: of
/// two windows with different starts the newer one was begun by a reserve, and nothing was used in it.
fn check_usage(name: &str, redone: &AccountCounters, original: &AccountCounters) {
    let head = |counters: &AccountCounters| [counters.head.balance, counters.head.used, counters.head.requests];
    assert_eq!(head(redone), head(original), "balance, used and requests of {name}");
    let keys = |counters: &AccountCounters| -> BTreeMap<KeyId, [i64; 2]> {
        let used = counters.keys.iter().map(|(key, counter)| (key.clone(), [counter.used, counter.requests]));
        used.filter(|(_, used)| *used != [0, 0]).collect()
    };
    assert_eq!(keys(redone), keys(original), "keys of {name}");
    let windows = |counters: &AccountCounters| -> BTreeMap<(GroupField, CounterCode), WindowCounter> {
        let all = counters.groups.iter().flat_map(|(field, windows)| windows.iter().map(move |w| (field, w)));
        all.map(|(field, window)| ((field.clone(), window.code), *window)).collect()
    };
    let (redone, original) = (windows(redone), windows(original));
    for place in redone.keys().chain(original.keys()) {
        let [here, there] = [&redone, &original].map(|windows| windows.get(place).map(|w| (w.start_s, w.used)));
        let (here, there) = (here.unwrap_or_default(), there.unwrap_or_default());
        if here.0 == there.0 {
            assert_eq!(here.1, there.1, "{name} {place:?}");
        } else {
            assert_eq!(here.max(there).1, 0, "{name} {place:?}: {here:?} {there:?}: the newer one was used");
        }
    }
}
