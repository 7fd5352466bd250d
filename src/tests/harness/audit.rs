//! The auditor: reads a database as anybody with a client could, and holds the ledger to its word.
//! Dense ids, one digest chain through all generations, one effect per operation, marks at the end of
//! the ledger, account sums equal to ledger sums. Knows nothing of the library.

use std::collections::{BTreeMap, BTreeSet};

use sha1::{Digest as _, Sha1};

use super::sql_client::SqlClient;

/// The digest before the first entry of a shard.
const ZEROS: &str = "0000000000000000000000000000000000000000";

/// One ledger row.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    pub shard: i64,
    pub generation: i64,
    pub seq: i64,
    pub account: String,
    pub op_id: String,
    pub kind: String,
    pub part: i64,
    pub posted: bool,
    /// Deltas.
    pub balance: i64,
    pub used: i64,
    pub requests: i64,
    digest: String,
    payload: Vec<u8>,
}

/// A generation of a shard, with what its recovery left as an audit row.
#[derive(Clone, Debug)]
pub struct Generation {
    pub shard: i64,
    pub generation: i64,
    pub last_seq: i64,
    pub closed: bool,
    /// Why it was opened: `first`, `restarted`, `behind`, `missing`, `diverged`.
    pub cause: String,
    /// Rows done again in Redis, entries of Redis added to the ledger.
    pub redone: i64,
    pub merged: i64,
    /// `<generation>-<seq>` that was known to exist in the one before, and is lost; else empty.
    pub seen: String,
    start_digest: String,
}

/// `balance`, `used`, `requests`.
pub type Sums = [i64; 3];

/// What the database holds about money.
#[derive(Debug)]
pub struct Ledger {
    /// In the order of shard, generation, seq.
    pub rows: Vec<LedgerRow>,
    pub generations: Vec<Generation>,
    pub accounts: BTreeMap<String, Sums>,
    /// Per shard: generation, seq, digest.
    marks: BTreeMap<i64, (i64, i64, String)>,
}

impl Ledger {
    /// Reads it from `sqlite:`, `postgres:` or `mysql:`, in one transaction.
    pub fn read(url: &str) -> Self {
        let read = SqlClient::connect(url).and_then(|mut client| read(&mut client));
        read.unwrap_or_else(|error| panic!("the auditor cannot read {url}: {error}"))
    }

    /// Rows with that operation id, whatever their kind.
    pub fn of(&self, account: &str, op_id: &str) -> Vec<&LedgerRow> {
        self.rows.iter().filter(|row| row.account == account && row.op_id == op_id).collect()
    }

    /// All that is wrong, as sentences; empty when nothing is.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        self.check_chain(&mut findings);
        self.check_generations(&mut findings);
        self.check_operations(&mut findings);
        self.check_sums(&mut findings);
        findings
    }

    /// Panics with the findings.
    #[track_caller]
    pub fn check(&self) {
        let findings = self.findings();
        assert!(findings.is_empty(), "the ledger is wrong:\n{}\n{self:#?}", findings.join("\n"));
    }

    /// Ids dense within a generation, digests chained through all of them, the mark at the end.
    fn check_chain(&self, findings: &mut Vec<String>) {
        let mut ends: BTreeMap<i64, (i64, i64, &str)> = BTreeMap::new();
        for row in &self.rows {
            let place = format!("shard {} {}-{}", row.shard, row.generation, row.seq);
            let (generation, seq, digest) = ends.get(&row.shard).copied().unwrap_or((0, 0, ZEROS));
            let expected = if row.generation == generation { seq + 1 } else { 1 };
            if row.seq != expected {
                findings.push(format!("{place}: follows {generation}-{seq}: not dense"));
            }
            let chained = Sha1::new().chain_update(digest).chain_update(&row.payload).finalize();
            let chained: String = chained.iter().map(|byte| format!("{byte:02x}")).collect();
            if chained != row.digest {
                findings.push(format!("{place}: does not chain from {generation}-{seq}"));
            }
            ends.insert(row.shard, (row.generation, row.seq, &row.digest));
        }
        for (shard, (generation, seq, digest)) in &self.marks {
            let (last_generation, last_seq, last_digest) = ends.get(shard).copied().unwrap_or((0, 0, ZEROS));
            let place = format!("shard {shard}: the mark {generation}-{seq}");
            let at_end =
                (*generation, *seq) == (last_generation, last_seq) || (*generation > last_generation && *seq == 0);
            if !at_end {
                findings.push(format!("{place} is not the end of the ledger, {last_generation}-{last_seq}"));
            }
            if digest != last_digest {
                findings.push(format!("{place} has another digest than the last row"));
            }
        }
        for shard in ends.keys().filter(|shard| !self.marks.contains_key(shard)) {
            findings.push(format!("shard {shard} has rows but no mark"));
        }
    }

    /// They only grow; all but the last are closed, with as many rows as they say.
    fn check_generations(&self, findings: &mut Vec<String>) {
        let mut rows: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for row in &self.rows {
            *rows.entry((row.shard, row.generation)).or_default() += 1;
        }
        for generation in &self.generations {
            let before = |row: &&LedgerRow| row.shard == generation.shard && row.generation < generation.generation;
            let digest = self.rows.iter().rfind(before).map_or(ZEROS, |row| row.digest.as_str());
            if generation.start_digest != digest {
                findings.push(format!("{generation:?} does not begin with the digest before it, {digest}"));
            }
        }
        let known: BTreeSet<(i64, i64)> = self.generations.iter().map(|g| (g.shard, g.generation)).collect();
        for (shard, generation) in rows.keys().filter(|place| !known.contains(place)) {
            findings.push(format!("shard {shard}: rows of generation {generation}, which was never opened"));
        }
        for generation in &self.generations {
            let place = format!("shard {} generation {}", generation.shard, generation.generation);
            let Some((current, ..)) = self.marks.get(&generation.shard) else {
                findings.push(format!("{place}: the shard has no mark"));
                continue;
            };
            if generation.generation > *current {
                findings.push(format!("{place} is later than the mark's, {current}"));
            }
            if generation.closed == (generation.generation == *current) {
                findings.push(format!("{place}: closed is {}, the mark's is {current}", generation.closed));
            }
            let count = rows.get(&(generation.shard, generation.generation)).copied().unwrap_or(0);
            if generation.closed && generation.last_seq != count {
                findings.push(format!("{place} was closed at {}, but has {count} rows", generation.last_seq));
            }
        }
    }

    /// One posted row per operation; every rejected one taken back by exactly one `dup:` credit.
    fn check_operations(&self, findings: &mut Vec<String>) {
        let mut posted: BTreeSet<(&str, &str, &str, i64)> = BTreeSet::new();
        for row in self.rows.iter().filter(|row| row.posted) {
            if !posted.insert((&row.account, &row.op_id, &row.kind, row.part)) {
                findings.push(format!("{} {} {} {} is posted twice", row.account, row.op_id, row.kind, row.part));
            }
        }
        for row in self.rows.iter().filter(|row| !row.posted) {
            let undo = format!("dup:{}-{}-{}", row.generation, row.shard, row.seq);
            let undone: Vec<&LedgerRow> = self.of(&row.account, &undo);
            let place = format!("the duplicate {} {} {}", row.account, row.op_id, row.kind);
            match undone.as_slice() {
                [] if (row.balance, row.used, row.requests) == (0, 0, 0) => {}
                [] => findings.push(format!("{place} was not taken back ({undo})")),
                [one] if (one.balance, one.used, one.requests) != (-row.balance, -row.used, -row.requests) => {
                    findings.push(format!("{place} was taken back by other amounts: {one:?}"));
                }
                [_] => {}
                more => findings.push(format!("{place} was taken back {} times", more.len())),
            }
        }
    }

    fn check_sums(&self, findings: &mut Vec<String>) {
        let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
        for row in &self.rows {
            let sum = sums.entry(&row.account).or_default();
            *sum = [sum[0] + row.balance, sum[1] + row.used, sum[2] + row.requests];
        }
        for (account, stored) in &self.accounts {
            let sum = sums.remove(account.as_str()).unwrap_or_default();
            if sum != *stored {
                findings.push(format!("{account}: stored {stored:?}, the ledger sums up to {sum:?}"));
            }
        }
        for account in sums.keys() {
            findings.push(format!("{account} has ledger rows but no account"));
        }
    }
}

fn read(client: &mut SqlClient) -> Result<Ledger, sqlx::Error> {
    for statement in client.snapshot() {
        client.try_ask(statement)?;
    }
    let payload = client.hex("payload");
    let columns = [
        "shard",
        "generation",
        "seq",
        "account",
        "op_id",
        "kind",
        "part",
        "status",
        "balance",
        "used",
        "requests",
        "digest",
        &payload,
    ];
    let rows = table(client, "ledger", &columns, "ledger.shard, ledger.generation, ledger.seq")?;
    let columns = [
        "shard",
        "generation",
        "last_seq",
        "CASE WHEN closed_at IS NULL THEN 0 ELSE 1 END",
        "cause",
        "redone",
        "merged",
        "seen",
        "start_digest",
    ];
    let generations = table(client, "generations", &columns, "generations.shard, generations.generation")?;
    let accounts = table(client, "accounts", &["account", "balance", "used", "requests"], "1")?;
    let marks = table(client, "shards", &["shard", "generation", "seq", "digest"], "1")?;
    client.try_ask("COMMIT")?;
    let generation = |row: &Vec<String>| Generation {
        shard: int(&row[0]),
        generation: int(&row[1]),
        last_seq: int(&row[2]),
        closed: int(&row[3]) == 1,
        cause: row[4].clone(),
        redone: int(&row[5]),
        merged: int(&row[6]),
        seen: row[7].clone(),
        start_digest: row[8].clone(),
    };
    Ok(Ledger {
        rows: rows.iter().map(|row| ledger_row(row)).collect(),
        generations: generations.iter().map(generation).collect(),
        accounts: accounts.iter().map(|row| (row[0].clone(), [1, 2, 3].map(|column| int(&row[column])))).collect(),
        marks: marks.iter().map(|row| (int(&row[0]), (int(&row[1]), int(&row[2]), row[3].clone()))).collect(),
    })
}

/// Types differ from database to database: everything is asked for as text, which is the same in all.
fn table(client: &mut SqlClient, name: &str, columns: &[&str], order: &str) -> Result<Vec<Vec<String>>, sqlx::Error> {
    let columns: Vec<String> = columns.iter().map(|column| client.text(column)).collect();
    client.try_ask(&format!("SELECT {} FROM {name} ORDER BY {order}", columns.join(", ")))
}

fn ledger_row(row: &[String]) -> LedgerRow {
    LedgerRow {
        shard: int(&row[0]),
        generation: int(&row[1]),
        seq: int(&row[2]),
        account: row[3].clone(),
        op_id: row[4].clone(),
        kind: row[5].clone(),
        part: int(&row[6]),
        posted: row[7] == "posted",
        balance: int(&row[8]),
        used: int(&row[9]),
        requests: int(&row[10]),
        digest: row[11].clone(),
        payload: unhex(&row[12]),
    }
}

fn int(text: &str) -> i64 {
    text.trim().parse().unwrap_or_else(|_| panic!("`{text}` is no whole number"))
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
}
