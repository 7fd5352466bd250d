//! What a run ends with: a table for people and a JSON file for programs.

use std::{collections::BTreeMap, fmt::Write, path::Path, time::Duration};

use serde::Serialize;

use crate::{
    audit,
    client::Retries,
    kill::Kills,
    lag::Lag,
    meter::{Meter, Percentiles, Verb},
    profile::Profile,
};

/// Mismatches printed one by one; the JSON file has all.
const PRINTED_MAX: usize = 20;

/// The result of a run. The JSON file is this, field by field.
#[derive(Debug, Serialize)]
pub struct Report {
    pub run: String,
    pub profile: String,
    /// `open` or `closed`.
    pub mode: &'static str,
    pub seed: u64,
    pub accounts: u32,
    pub connections: u32,
    pub elapsed_s: f64,
    /// Calls whose life is over, and how many of them per second.
    pub calls: u64,
    pub calls_per_s: f64,
    /// HTTP requests answered, and how many per second.
    pub requests: u64,
    pub requests_per_s: f64,
    /// By verb, in microseconds; measured from when the request was due.
    pub latency: BTreeMap<&'static str, Percentiles>,
    /// By code.
    pub denials: BTreeMap<&'static str, u64>,
    /// By reason.
    pub retries: BTreeMap<&'static str, u64>,
    /// Settles that found no reservation.
    pub unreserved: u64,
    /// How far SQL was behind at worst.
    pub lag: Lag,
    /// What was killed during the run.
    pub kills: Option<Kills>,
    /// Script calls in the server's Redis during the run, when asked for.
    pub redis: Option<BTreeMap<String, crate::resp::CommandStat>>,
    /// Answers that must not happen.
    pub findings: Vec<String>,
    pub findings_not_listed: u64,
    pub audit: audit::Findings,
    pub ok: bool,
}

impl Report {
    /// A report with nothing measured yet.
    #[must_use]
    pub fn about(run: &str, name: &str, seed: u64, profile: &Profile) -> Self {
        Self {
            run: run.into(),
            profile: name.into(),
            mode: "open",
            seed,
            accounts: profile.accounts,
            connections: profile.connections,
            elapsed_s: 0.0,
            calls: 0,
            calls_per_s: 0.0,
            requests: 0,
            requests_per_s: 0.0,
            latency: BTreeMap::new(),
            denials: BTreeMap::new(),
            retries: BTreeMap::new(),
            unreserved: 0,
            lag: Lag::default(),
            kills: None,
            redis: None,
            findings: Vec::new(),
            findings_not_listed: 0,
            audit: audit::Findings::default(),
            ok: false,
        }
    }

    /// Fills in what the meter and the client counted.
    pub fn measure(&mut self, meter: &Meter, retries: &Retries, elapsed: Duration) {
        let verbs = Verb::ALL.iter().filter_map(|verb| Some((verb.as_str(), meter.percentiles(*verb)?)));
        self.latency = verbs.collect();
        let answered = |(verb, percentiles): (&&str, &Percentiles)| {
            if *verb == Verb::Start.as_str() { 0 } else { percentiles.count }
        };
        self.requests = self.latency.iter().map(answered).sum();
        self.calls = meter.calls.load(std::sync::atomic::Ordering::Relaxed);
        self.elapsed_s = elapsed.as_secs_f64();
        let per_second = |count: u64| count as f64 / elapsed.as_secs_f64().max(1e-9);
        self.calls_per_s = per_second(self.calls);
        self.requests_per_s = per_second(self.requests);
        self.denials = meter.denials();
        self.retries = retries.counts().into_iter().collect();
        self.unreserved = meter.unreserved.load(std::sync::atomic::Ordering::Relaxed);
    }

    /// Puts in what was found wrong; `ok` when it is nothing.
    pub fn conclude(&mut self, findings: (Vec<String>, u64), audit: audit::Findings) {
        (self.findings, self.findings_not_listed) = findings;
        self.ok = self.findings.is_empty() && audit.clean();
        self.audit = audit;
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text).expect("a String takes what is written");
        text
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nrun {} · profile {} · {} loop · seed {} · {} accounts · {} connections",
            self.run, self.profile, self.mode, self.seed, self.accounts, self.connections
        )?;
        writeln!(
            out,
            "{} calls in {:.1} s ({:.0}/s) · {} requests ({:.0}/s)\n",
            self.calls, self.elapsed_s, self.calls_per_s, self.requests, self.requests_per_s
        )?;
        writeln!(out, "{:<10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "count", "p50", "p90", "p99", "p99.9", "max")?;
        for verb in Verb::ALL {
            if let Some(of) = self.latency.get(verb.as_str()) {
                write!(out, "{:<10}{:>10}", verb.as_str(), of.count)?;
                for value in [of.p50_us, of.p90_us, of.p99_us, of.p99_9_us, of.max_us] {
                    write!(out, "{:>10}", micros(value))?;
                }
                writeln!(out)?;
            }
        }
        writeln!(out)?;
        writeln!(out, "denials    {}", counts(self.denials.iter().map(|(name, count)| (*name, *count))))?;
        writeln!(out, "retries    {}", counts(self.retries.iter().map(|(name, count)| (*name, *count))))?;
        if self.unreserved > 0 {
            writeln!(out, "unreserved {} settles found no reservation", self.unreserved)?;
        }
        writeln!(out, "write-back at most {:.2} s and {:.0} entries behind", self.lag.seconds, self.lag.entries)?;
        if let Some(kills) = &self.kills {
            let (median, worst) = kills.median_and_worst().unwrap_or_default();
            writeln!(
                out,
                "kills      {} of {}, every {} s; the next good answer after {median} ms (median), {worst} ms (worst)",
                kills.answered_after_ms.len(),
                kills.victim,
                kills.every_s
            )?;
        }
        if let Some(redis) = &self.redis {
            for (command, stat) in redis {
                writeln!(out, "redis      {command}: {} calls, {:.2} µs each", stat.calls, stat.usec_per_call)?;
            }
        }
        self.write_verdict(out)
    }

    fn write_verdict(&self, out: &mut String) -> std::fmt::Result {
        let audit = &self.audit;
        for finding in self.findings.iter().take(PRINTED_MAX) {
            writeln!(out, "FINDING    {finding}")?;
        }
        let ledger = audit.ledger.iter().flatten();
        for mismatch in audit.live.iter().chain(ledger).take(PRINTED_MAX) {
            writeln!(out, "MISMATCH   {mismatch}")?;
        }
        for difference in audit.reconcile.iter().take(PRINTED_MAX) {
            writeln!(out, "RECONCILE  {difference}")?;
        }
        let sql = match (&audit.ledger, audit.rejected_rows) {
            (None, _) => "ledger sums not asked for".to_owned(),
            (Some(mismatches), 0) => format!("{} wrong ledger sums", mismatches.len()),
            (Some(mismatches), rejected) => format!("{} wrong ledger sums, {rejected} rejected rows", mismatches.len()),
        };
        writeln!(
            out,
            "audit      {}: {} accounts, {} wrong answers, {} wrong live numbers, {} differences in reconcile, {sql}",
            if self.ok { "exact to the unit" } else { "FAILED" },
            audit.accounts,
            self.findings.len() as u64 + self.findings_not_listed,
            audit.live.len(),
            audit.reconcile.len(),
        )
    }

    /// Writes the JSON form.
    ///
    /// # Errors
    /// A sentence when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }
}

fn counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let words: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

fn micros(value: u64) -> String {
    match value {
        0..10_000 => format!("{value} µs"),
        10_000..10_000_000 => format!("{:.1} ms", value as f64 / 1e3),
        _ => format!("{:.1} s", value as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Findings, Mismatch};

    fn report() -> Report {
        Report::about("t", "conv", 1, &Profile::load("conv").unwrap())
    }

    #[test]
    fn what_was_measured_is_in_table_and_json() {
        let meter = Meter::new().unwrap();
        meter.record(Verb::Reserve, Duration::from_micros(250));
        meter.record(Verb::Settle, Duration::from_millis(25));
        meter.record(Verb::Start, Duration::from_micros(3));
        meter.denied("key_exhausted");
        meter.done();
        let mut report = report();
        report.measure(&meter, &Retries::default(), Duration::from_secs(2));
        report.conclude((Vec::new(), 0), Findings { accounts: 2, ..Findings::default() });
        assert!(report.ok);
        assert_eq!((report.requests, report.calls), (2, 1));
        let table = report.table();
        for part in ["250 µs", "25.0 ms", "1 key_exhausted", "exact to the unit", "retries    none"] {
            assert!(table.contains(part), "{part} in {table}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["latency"]["reserve"]["count"], 1);
        assert_eq!(json["requests_per_s"], 1.0);
    }

    #[test]
    fn a_mismatch_is_printed_with_both_numbers_and_fails() {
        let mismatch = Mismatch { account: "load-t-3".into(), what: "balance".into(), journal: 70, server: 71 };
        let mut wrong = report();
        wrong.conclude((Vec::new(), 0), Findings { live: vec![mismatch], ..Findings::default() });
        assert!(!wrong.ok);
        assert!(wrong.table().contains("load-t-3: balance: the journal has 70, the server 71 (+1)"));
        assert!(wrong.table().contains("FAILED"));
        let mut wrong = report();
        wrong.conclude((vec!["settle answered nonsense".into()], 0), Findings::default());
        assert!(!wrong.ok && wrong.table().contains("FINDING    settle answered nonsense"));
    }
}
