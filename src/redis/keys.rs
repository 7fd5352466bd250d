//! Names of keys. Every key of a shard carries the tag `{shard}`, so that a Redis Cluster keeps them
//! in one slot; `/` is in no id, so a name says who it belongs to. The schema is in `lua/README.md`.

use xxhash_rust::xxh3::xxh3_64;

use crate::quota::{
    entry::Kind,
    id::{AccountId, KeyId, OpId, ReservationId},
};

/// The shard of an account: XXH3 (64 bits, seed 0) of its id, modulo the number of shards.
pub(crate) fn shard_of(account: &AccountId, shards: u16) -> u16 {
    (xxh3_64(account.as_str().as_bytes()) % u64::from(shards)) as u16
}

/// `q{shard}` and what follows it. Four of these are part of every call, so no formatting machinery.
fn name(shard: u16, kind: char, parts: [&str; 2]) -> String {
    let mut digits = itoa::Buffer::new();
    let mut name = String::with_capacity(11 + parts[0].len() + parts[1].len());
    name.push_str("q{");
    name.push_str(digits.format(shard));
    name.push('}');
    name.push(kind);
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        name.push('/');
        name.push_str(part);
    }
    name
}

/// Shard meta.
pub(crate) fn meta(shard: u16) -> String {
    name(shard, 'm', [""; 2])
}

/// Deadlines of live holds, but of those in queues.
pub(crate) fn deadlines(shard: u16) -> String {
    name(shard, 'x', [""; 2])
}

/// The queues of a shard, by when their time begins.
pub(crate) fn queues(shard: u16) -> String {
    deadlines(shard) + "/"
}

/// The ledger stream.
pub(crate) fn stream(shard: u16) -> String {
    name(shard, 'l', [""; 2])
}

/// Counters of an account.
pub(crate) fn account(shard: u16, account: &AccountId) -> String {
    name(shard, 'a', [account.as_str(), ""])
}

/// A reservation, live or settled.
pub(crate) fn record(shard: u16, account: &AccountId, id: &ReservationId) -> String {
    name(shard, 'r', [account.as_str(), id.as_str()])
}

/// Account and reservation of a record's key; `None` when it is none of this shard.
pub(crate) fn split_record(shard: u16, key: &[u8]) -> Option<(AccountId, ReservationId)> {
    let key = std::str::from_utf8(key).ok()?;
    let (account, id) = key.strip_prefix(&format!("q{{{shard}}}r/"))?.split_once('/')?;
    Some((AccountId::new(account).ok()?, ReservationId::new(id).ok()?))
}

/// Pattern of the loaded accounts of a shard.
pub(crate) fn accounts(shard: u16) -> String {
    format!("q{{{shard}}}a/*")
}

/// The account of an account's key; `None` when it is none of this shard.
pub(crate) fn split_account(shard: u16, key: &[u8]) -> Option<AccountId> {
    let key = std::str::from_utf8(key).ok()?;
    AccountId::new(key.strip_prefix(&format!("q{{{shard}}}a/"))?).ok()
}

/// What the keys of an account's reservations begin with.
pub(crate) fn record_prefix(shard: u16, account: &AccountId) -> String {
    format!("q{{{shard}}}r/{account}/")
}

/// Pattern of the reservations of an account. No id holds a letter that a glob knows.
pub(crate) fn records(shard: u16, account: &AccountId) -> String {
    record_prefix(shard, account) + "*"
}

/// Tombstone of an operation that is no reservation.
pub(crate) fn operation(shard: u16, account: &AccountId, kind: Kind, op_id: &OpId) -> String {
    format!("q{{{shard}}}o/{account}/{}/{op_id}", char::from(kind as u8))
}

/// Nonce of a cold load.
pub(crate) fn load_nonce(shard: u16, account: &AccountId) -> String {
    format!("q{{{shard}}}n/{account}")
}

/// A lease of write-back or attach; no part of any shard.
pub(crate) fn lease(name: &str) -> String {
    format!("q-lease/{name}")
}

/// Pattern of all keys of a shard. Braces are literal in a glob.
pub(crate) fn all(shard: u16) -> String {
    format!("q{{{shard}}}*")
}

/// Hash field of a key's counters, empty without a key.
pub(crate) fn key_field(key: Option<&KeyId>) -> String {
    key.map_or_else(String::new, |key| ["k\u{1f}", key.as_str()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_stable() {
        // Fixed at the first initialisation of a deployment: these numbers may never change.
        let names = ["acc", "a", "user:42"].map(|name| shard_of(&AccountId::new(name).unwrap(), 64));
        assert_eq!(names, [5, 31, 42]);
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2, "the value in the specification of XXH3");
    }

    #[test]
    fn names_are_those_of_the_schema() {
        let (account, id) = (AccountId::new("a:1").unwrap(), ReservationId::new("r@1").unwrap());
        let names =
            [meta(7), deadlines(60), queues(60), stream(4095), super::account(7, &account), record(7, &account, &id)];
        assert_eq!(names, ["q{7}m", "q{60}x", "q{60}x/", "q{4095}l", "q{7}a/a:1", "q{7}r/a:1/r@1"]);
        assert_eq!(key_field(KeyId::new("k").ok().as_ref()), "k\u{1f}k");
    }

    #[test]
    fn a_record_key_reads_back() {
        let (account, id) = (AccountId::new("a:1").unwrap(), ReservationId::new("r@1").unwrap());
        let key = record(7, &account, &id);
        assert_eq!(split_record(7, key.as_bytes()), Some((account, id)));
        assert_eq!(split_record(8, key.as_bytes()), None);
    }
}
