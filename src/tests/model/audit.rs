//! After the last operation: everything the ledger, the counters and the records say must agree,
//! computed from what Redis holds and not from the model alone.

use std::collections::BTreeMap;

use quotad::{
    engine::ports::Position,
    quota::{entry::Entry, id::AccountId, reservation::State},
};
use sha1::{Digest, Sha1};

use super::{
    Model,
    compare::Differences,
    server::{GENERATION, Real},
};

/// Reads a shard's whole stream and checks that ids are dense and the digests are a chain.
async fn read_shard(real: &Real, shard: u16) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut digest = "0".repeat(40);
    let meta = real.stream.meta(shard).await.expect("the shard is read").expect("the shard is open");
    loop {
        let from = Position { generation: GENERATION, seq: entries.len() as u64 + 1 };
        let batch = real.stream.read(shard, from, 1000).await.expect("the stream is read");
        if batch.is_empty() {
            break;
        }
        for raw in batch {
            let seq = entries.len() as u64 + 1;
            assert_eq!(raw.at, Position { generation: GENERATION, seq }, "ids of shard {shard} are dense");
            let mut hash = Sha1::new();
            hash.update(digest.as_bytes());
            hash.update(&raw.payload);
            digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(raw.digest, digest.as_bytes(), "digest of entry {seq} of shard {shard}");
            entries.push(Entry::unpack(&raw.payload).expect("an entry that Rust can read"));
        }
    }
    assert_eq!(meta.top.seq, entries.len() as u64, "shard {shard} knows its last entry");
    assert_eq!(meta.digest, digest.as_bytes(), "shard {shard} knows its last digest");
    assert!(entries.is_sorted_by_key(|entry| entry.at), "time never goes back in shard {shard}");
    entries
}

/// Every entry in Redis, per account, in order.
pub async fn read_ledger(real: &Real) -> BTreeMap<AccountId, Vec<Entry>> {
    let mut ledger: BTreeMap<AccountId, Vec<Entry>> = BTreeMap::new();
    for shard in 0..real.counters.shards() {
        for entry in read_shard(real, shard).await {
            assert_eq!(real.counters.shard_of(&entry.account), shard, "{} belongs to its shard", entry.account);
            ledger.entry(entry.account.clone()).or_default().push(entry);
        }
    }
    ledger
}

/// The invariants of one driver's accounts. `opening` is what each was loaded with.
pub async fn audit(real: &Real, model: &Model, ledger: &BTreeMap<AccountId, Vec<Entry>>, opening: i64) {
    for (account, counters) in &model.accounts {
        let entries = ledger.get(account).map_or(&[][..], Vec::as_slice);
        let expected = model.ledger.get(account).map_or(&[][..], Vec::as_slice);
        for (index, (entry, expected)) in entries.iter().zip(expected).enumerate() {
            let mut differences = Differences::default();
            differences.entry(entry, expected);
            assert!(differences.is_empty(), "ledger of {account}, entry {index}:\n{}", differences.0);
        }
        assert_eq!(entries.len(), expected.len(), "number of ledger entries of {account}");
        let sum = |of: fn(&Entry) -> i64| entries.iter().map(of).sum::<i64>();
        let (_, real_counters) =
            real.counters.read_account(account).await.expect("the account is read").expect("it is loaded");
        let head = real_counters.head;
        assert_eq!(head.balance, opening + sum(|entry| entry.balance), "balance of {account} is its ledger's sum");
        assert_eq!(head.used, sum(|entry| entry.used), "usage of {account} is its ledger's sum");
        assert_eq!(head.requests, sum(|entry| entry.requests), "requests of {account} are its ledger's sum");
        let mut held = 0;
        for (_, id) in model.records.keys().filter(|(owner, _)| owner == account) {
            let record = real.counters.read_record(account, id).await.expect("the record is read");
            let record = record.expect("tombstones outlive the test");
            assert!(record.refunded <= record.charged, "{account} {id}: refunded more than charged");
            if record.state == State::Held {
                held += record.rest();
            }
        }
        assert_eq!(head.held, held, "held of {account} is the sum of its live holds");
        assert_eq!(head.held, counters.head.held);
    }
}
