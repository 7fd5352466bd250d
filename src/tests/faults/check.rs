//! The invariants, over what the stores hold and what the clients were told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha1::{Digest, Sha1};

use super::{
    journal::{Call, Findings, Story, Verb},
    snapshot::{Row, Shard, SqlState},
};

const NO_DIGEST: &str = "0000000000000000000000000000000000000000";

/// The ledger by operation, with what compensates a row that was rejected.
pub struct Ledger<'a> {
    rows: HashMap<&'a str, HashMap<&'a str, Vec<&'a Row>>>,
}

impl<'a> Ledger<'a> {
    pub fn new(state: &'a SqlState) -> Self {
        let mut rows: HashMap<_, HashMap<_, Vec<&Row>>> = HashMap::new();
        for row in &state.rows {
            rows.entry(row.account.as_str()).or_default().entry(row.op_id.as_str()).or_default().push(row);
        }
        Self { rows }
    }

    fn of(&self, account: &str, id: &str) -> &[&'a Row] {
        self.rows.get(account).and_then(|rows| rows.get(id)).map_or(&[], Vec::as_slice)
    }

    /// What an operation did to the balance after all.
    fn net(&self, account: &str, id: &str) -> i64 {
        let rows = self.of(account, id).iter();
        rows.map(|row| row.balance + if row.status == "rejected" { self.undone(row) } else { 0 }).sum()
    }

    fn undone(&self, row: &Row) -> i64 {
        self.of(&row.account, &compensation(row)).iter().map(|row| row.balance).sum()
    }

    /// Rejected rows that nothing has taken out again.
    pub fn uncompensated(state: &SqlState) -> Vec<Row> {
        let ledger = Ledger::new(state);
        let rejected = state.rows.iter().filter(|row| row.status == "rejected" && row.balance != 0);
        rejected.filter(|row| ledger.of(&row.account, &compensation(row)).is_empty()).cloned().collect()
    }

    /// Whether a call that was done is in it.
    pub fn has(&self, story: &Story, call: &Call) -> bool {
        let rows = self.of(&story.account, &call.id);
        let kind = |kind: &str| rows.iter().any(|row| row.kind == kind);
        match call.verb {
            // Unreserved, it is charged all the same.
            Verb::Settle => kind("settle"),
            Verb::Charge => kind("charge"),
            Verb::Partial => kind("settle") || -self.net(&story.account, &call.id) >= call.amount,
            Verb::Refund => kind("refund"),
            Verb::Credit => kind("credit"),
            Verb::Debit => kind("debit"),
            Verb::Reserve | Verb::Extend | Verb::Release => true,
        }
    }
}

fn compensation(row: &Row) -> String {
    format!("dup:{}-{}-{}", row.generation, row.shard, row.seq)
}

/// I7, I8, I9: dense ids, one chain of digests through all generations, the mark at its end.
pub fn ledger(state: &SqlState, findings: &Findings, may_be_merged: bool) {
    let (mut last, mut digest, mut at) = ((-1, 0, 0), NO_DIGEST.to_owned(), 0);
    for row in &state.rows {
        let place = format!("{}/{}-{}", row.shard, row.generation, row.seq);
        if row.shard != last.0 {
            (last, digest, at) = ((row.shard, row.generation, 0), NO_DIGEST.to_owned(), 0);
        }
        let expected = if row.generation == last.1 { last.2 + 1 } else { 1 };
        if row.seq != expected {
            findings.violation(format!("I7: {place} is not {expected} in its generation"));
        }
        let chained = hex(&Sha1::new().chain_update(&digest).chain_update(&row.payload).finalize());
        if chained != row.digest {
            findings.violation(format!("I7: the digest of {place} does not follow from the one before"));
        }
        if row.at < at && !may_be_merged {
            findings.violation(format!("I13: {place} is at {} after {at}", row.at));
        }
        (last, digest, at) = ((row.shard, row.generation, row.seq), row.digest.clone(), row.at);
    }
    for mark in &state.marks {
        let last = state.rows.iter().rev().find(|row| row.shard == mark.shard);
        let digest = last.map_or(NO_DIGEST, |row| row.digest.as_str());
        let at_end = match last {
            Some(row) if row.generation == mark.generation => row.seq == mark.seq,
            Some(row) => row.generation < mark.generation && mark.seq == 0,
            None => mark.seq == 0,
        };
        if !at_end || mark.digest != digest {
            findings.violation(format!("I9: {mark:?} is not at the end of its ledger, {:?}", last.map(|row| row.seq)));
        }
    }
    for generation in state.generations.iter().filter(|generation| generation.closed_at.is_some()) {
        let of = |row: &&Row| row.shard == generation.shard && row.generation == generation.generation;
        let last = state.rows.iter().rev().find(of).map_or(0, |row| row.seq);
        if last != generation.last_seq {
            findings.violation(format!("I8: {generation:?} was closed, and its ledger ends at {last}"));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// I1, I2, I10 at rest: Redis and SQL say the same, nothing is held.
pub fn stores(state: &SqlState, shards: &[Shard], findings: &Findings) {
    let mut sums: BTreeMap<&str, (i64, i64, i64)> = BTreeMap::new();
    for row in &state.rows {
        let sum = sums.entry(&row.account).or_default();
        *sum = (sum.0 + row.balance, sum.1 + row.used, sum.2 + row.requests);
    }
    for account in &state.accounts {
        let name = account.account.as_str();
        let (sum, has) =
            (sums.get(name).copied().unwrap_or_default(), (account.balance, account.used, account.requests));
        if sum != has {
            findings.violation(format!("I1: {name} has {has:?} in SQL, and its ledger makes {sum:?}"));
        }
        let head = shards.iter().find_map(|shard| shard.heads.get(name));
        if let Some(head) = head
            && (head.balance, head.used, head.requests) != has
        {
            findings.violation(format!("I2: {name} has {has:?} in SQL and {head:?} in Redis"));
        }
        if head.is_some_and(|head| head.held != 0) {
            findings.violation(format!("I1: {name} holds {head:?} when all is settled"));
        }
    }
    for shard in shards {
        findings_of(shard.wrong_holds(), findings);
        for ((account, key), counter) in &shard.keys {
            if counter.held != 0 {
                findings.violation(format!("I1: key {key} of {account} holds {counter:?} when all is settled"));
            }
        }
        let Some(mark) = state.marks.iter().find(|mark| mark.shard == i64::from(shard.shard)) else { continue };
        let id = format!("{}-{}", mark.generation, mark.seq);
        if mark.seq > 0 && !shard.stream.contains(&id) {
            findings.violation(format!("I10: the stream of shard {} has no overlap entry {id}", shard.shard));
        }
    }
}

/// I15: what was denied left nothing behind, neither a row of the ledger nor a memory in Redis.
pub fn denied(state: &SqlState, stories: &[Story], shards: &[Shard], findings: &Findings) {
    let ledger = Ledger::new(state);
    for story in stories {
        let Some(call) = story.calls.first().filter(|call| call.denied()) else { continue };
        let name = match call.verb {
            Verb::Debit => format!("{}/d/{}", story.account, call.id),
            _ => format!("{}/{}", story.account, call.id),
        };
        let remembered = shards.iter().any(|shard| shard.known.contains(&name));
        if remembered || !ledger.of(&story.account, &call.id).is_empty() {
            findings.violation(format!("I15: denied, but not without a trace: {story}"));
        }
    }
}

pub fn findings_of(sentences: Vec<String>, findings: &Findings) {
    sentences.into_iter().for_each(|sentence| findings.violation(sentence));
}

/// I6: calls that were acknowledged and are not in the ledger. Each must have been acknowledged before
/// something that may lose it, and a generation of its shard must have been closed since.
pub fn lost<'s>(state: &SqlState, stories: &'s [Story], findings: &Findings) -> Vec<&'s Call> {
    let ledger = Ledger::new(state);
    let mut lost = Vec::new();
    for story in stories {
        for call in story.calls.iter().filter(|call| call.done() && call.moves_money() && !ledger.has(story, call)) {
            lost.push(call);
            let at = call.asked_at();
            if !findings.lost_since(at) {
                findings.violation(format!("I6: {:?} {} was acknowledged and is lost: {story}", call.verb, call.id));
                continue;
            }
            let shard = state.rows.iter().find(|row| row.account == story.account).map(|row| row.shard);
            let reported = state.generations.iter().any(|generation| {
                Some(generation.shard) == shard
                    && generation.closed_at.is_some_and(|closed| closed >= call.sent.unwrap_or(at))
            });
            if !reported {
                findings
                    .violation(format!("I6: {:?} {} is lost, and no range is reported: {story}", call.verb, call.id));
            }
        }
    }
    lost
}

/// I4, I5, I17 and the money: what every story did to its account is what its client was told.
pub fn stories(state: &SqlState, stories: &[Story], findings: &Findings) {
    let ledger = Ledger::new(state);
    let mut known = BTreeSet::new();
    for story in stories {
        known.insert((story.account.as_str(), story.id.as_str()));
        let said = |sentence: String| {
            findings.violation(format!("{sentence}\n  {story}\n  ledger: {:?}", brief(&ledger, story)))
        };
        let rows = ledger.of(&story.account, &story.id);
        let ends = rows.iter().filter(|row| row.status == "posted" && matches!(row.kind.as_str(), "settle" | "charge"));
        if ends.count() > 1 {
            said("I4: resolved more than once".into());
        }
        let (did, allowed) = (ledger.net(&story.account, &story.id), allowed(story, findings));
        if !allowed.contains(&did) {
            said(format!("I5: the balance moved by {did}, and by what the client was told it is {allowed:?}"));
        }
        if let Some(refund) = story.call(Verb::Refund) {
            known.insert((story.account.as_str(), refund.id.as_str()));
            let back = ledger.net(&story.account, &refund.id);
            if !operation(refund, refund.amount, findings).contains(&back) {
                said(format!("I5: {back} came back"));
            }
            if back > -did {
                said(format!("I17: {back} came back of {}", -did));
            }
        }
        early(story, rows, findings);
    }
    for row in &state.rows {
        let own = row.kind == "initial" || row.op_id.starts_with("dup:");
        if !own && !known.contains(&(row.account.as_str(), row.op_id.as_str())) {
            findings.violation(format!("nobody asked for {row:?}"));
        }
    }
}

fn brief(ledger: &Ledger<'_>, story: &Story) -> Vec<String> {
    let refund = story.call(Verb::Refund).map(|call| call.id.as_str());
    let rows = [Some(story.id.as_str()), refund].into_iter().flatten().flat_map(|id| ledger.of(&story.account, id));
    rows.map(|row| {
        let undone = if row.status == "rejected" { ledger.undone(row) } else { 0 };
        format!(
            "{} {} {}/{}-{} at {} by {} undone {undone}",
            row.kind, row.status, row.shard, row.generation, row.seq, row.at, row.balance
        )
    })
    .collect()
}

/// I11: nothing ends before its deadline.
fn early(story: &Story, rows: &[&Row], findings: &Findings) {
    let Some(reserve) = story.call(Verb::Reserve) else { return };
    let (Some(sent), Some(ttl)) = (reserve.sent, reserve.body["ttl_ms"].as_i64()) else { return };
    let settle = story.call(Verb::Settle).and_then(|call| call.reply.as_ref());
    let late = settle.is_some_and(|reply| reply.body["late"] == true && reply.at < sent + ttl);
    if late || rows.iter().any(|row| row.kind == "expire" && row.at < sent + ttl) {
        findings.violation(format!("I11: ended before its deadline: {story}"));
    }
}

/// What a credit, debit or refund may have done.
fn operation(call: &Call, amount: i64, findings: &Findings) -> BTreeSet<i64> {
    match &call.reply {
        Some(reply) if reply.status == 200 && !findings.lost_since(reply.asked) => BTreeSet::from([amount]),
        Some(_) if call.done() || call.ambiguous() || call.sent.is_some_and(|at| findings.lost_since(at)) => {
            BTreeSet::from([0, amount])
        }
        Some(_) => BTreeSet::from([0]),
        None if call.sent.is_some() => BTreeSet::from([0, amount]),
        None => BTreeSet::from([0]),
    }
}

/// What a story may have done to the balance, its refund apart.
fn allowed(story: &Story, findings: &Findings) -> BTreeSet<i64> {
    match story.last_money() {
        Some(call) if call.verb == Verb::Credit => return operation(call, call.amount, findings),
        Some(call) if matches!(call.verb, Verb::Debit | Verb::Charge) => {
            return operation(call, -call.amount, findings);
        }
        Some(call) if call.done() && !findings.lost_since(call.asked_at()) => return BTreeSet::from([-call.amount]),
        Some(_) | None => {}
    }
    let lossy = story.began().is_some_and(|at| findings.lost_since(at));
    let done = |verb: Verb| story.calls.iter().filter(move |call| call.verb == verb && call.done());
    let partial = done(Verb::Partial).map(|call| call.amount).max().unwrap_or(0);
    let held = story.calls.iter().filter(|call| matches!(call.verb, Verb::Reserve | Verb::Extend));
    if !lossy {
        let reserve = story.call(Verb::Reserve);
        let expired = story.charge_on_expiry && reserve.is_some_and(Call::done);
        let mut amounts = BTreeSet::from([if expired { -reserve.map_or(0, |call| call.amount) } else { -partial }]);
        if story.charge_on_expiry && reserve.is_some_and(Call::ambiguous) {
            amounts.extend(reserve.map(|call| -call.amount));
        }
        return amounts;
    }
    let mut amounts = BTreeSet::from([0]);
    amounts.extend(
        story.calls.iter().filter(|call| matches!(call.verb, Verb::Partial | Verb::Settle)).map(|call| -call.amount),
    );
    if story.charge_on_expiry {
        amounts.extend(held.map(|call| -call.amount));
    }
    amounts
}
