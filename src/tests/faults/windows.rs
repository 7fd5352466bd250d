//! I12: a window begins once and ends once, and work of an older one never counts in a newer. Said by the
//! ledger's own bytes, beside what SQL and Redis have summed up.

use std::collections::BTreeMap;

use quotad::quota::{
    counter::WindowCounter,
    entry::{Entry, WindowDelta},
    limit::{Metric, Period},
};

use super::{
    journal::Findings,
    snapshot::{Row, Shard, SqlState, Window},
};

/// Account, group field and counter code.
type Name = (String, String, i64);
/// Start of the newest window, and its usage.
type Usage = (i64, i64);

/// At rest.
pub fn check(state: &SqlState, shards: &[Shard], findings: &Findings) {
    let ledger = ledger(&state.rows, findings);
    let sql: BTreeMap<Name, Usage> = state.windows.iter().map(of_sql).collect();
    for (name, usage) in &ledger {
        if sql.get(name) != Some(usage) {
            findings.violation(format!("I12: {name:?} is {:?} in SQL and {usage:?} by its ledger", sql.get(name)));
        }
    }
    for (name, usage) in sql.iter().filter(|(name, _)| !ledger.contains_key(*name)) {
        findings.violation(format!("I12: {name:?} is {usage:?} in SQL, and no entry of the ledger knows it"));
    }
    for shard in shards {
        for ((account, field), counters) in &shard.windows {
            for counter in counters {
                let name = (account.clone(), field.clone(), i64::from(counter.code.0));
                in_redis(&name, counter, ledger.get(&name), findings);
            }
        }
    }
}

fn of_sql(window: &Window) -> (Name, Usage) {
    ((window.account.clone(), window.field.clone(), window.code), (window.start_s, window.used))
}

/// What Redis has of a window: nothing held, and the ledger's usage. It may know a newer window, which
/// reserves alone have begun; then nothing was used in that.
fn in_redis(name: &Name, counter: &WindowCounter, ledger: Option<&Usage>, findings: &Findings) {
    if counter.held != 0 {
        findings.violation(format!("I1: {name:?} holds {counter:?} when all is settled"));
    }
    let (start, used) = ledger.copied().unwrap_or_default();
    let expected = if i64::from(counter.start_s) > start { 0 } else { used };
    if i64::from(counter.start_s) < start || counter.used != expected {
        findings.violation(format!("I12: {name:?} is {counter:?} in Redis and {ledger:?} by its ledger"));
    }
}

/// The newest window of each counter: same start adds, newer start replaces, older start is dropped.
fn ledger(rows: &[Row], findings: &Findings) -> BTreeMap<Name, Usage> {
    let mut windows: BTreeMap<Name, Usage> = BTreeMap::new();
    for row in rows {
        let Ok(entry) = Entry::unpack(&row.payload) else {
            findings
                .violation(format!("I14: the payload of {}/{}-{} cannot be read", row.shard, row.generation, row.seq));
            continue;
        };
        for delta in &entry.windows {
            own_window(row, &entry, delta, findings);
            let start = i64::from(delta.start_s);
            let name = (row.account.clone(), delta.field.as_str().to_owned(), i64::from(delta.code.0));
            let window = windows.entry(name).or_insert((start, 0));
            match start.cmp(&window.0) {
                std::cmp::Ordering::Equal => window.1 += delta.used,
                std::cmp::Ordering::Greater => *window = (start, delta.used),
                std::cmp::Ordering::Less => {}
            }
        }
    }
    windows
}

/// Work counts in a window that had begun when it was reserved, late as it may be settled; days and hours
/// begin where the calendar says.
fn own_window(row: &Row, entry: &Entry, delta: &WindowDelta, findings: &Findings) {
    let place = format!("{} {}/{}-{}", row.kind, row.shard, row.generation, row.seq);
    let start = i64::from(delta.start_s);
    let made = entry.record.as_ref().filter(|_| !row.op_id.starts_with("dup:"));
    if let Some(record) = made.filter(|record| start * 1000 > record.created.0) {
        findings.violation(format!("I12: {place} counts in the window of {start}, reserved at {}", record.created.0));
    }
    let step = match delta.code.split() {
        Some((Metric::Cost | Metric::Tokens | Metric::Requests, Period::Hour)) => 3600,
        Some((Metric::Cost | Metric::Tokens | Metric::Requests, Period::Day)) => 86_400,
        _ => 1,
    };
    if start % step != 0 {
        findings.violation(format!("I12: {place} counts in a window of {step} s that begins at {start}"));
    }
}
