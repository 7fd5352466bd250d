//! The audit: every account must look exactly as the journal says, to the unit; in Redis (through
//! the balance call), in SQL (through reconcile), and in the ledger's sums when its file is given.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Method, body::Bytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    client::Client,
    journal::Expected,
    ledger::{Ledger, Sums},
    profile::Limit,
    wire::{self, LimitState, Sheet},
};

/// How often what does not match yet is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// One number that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    pub account: String,
    /// `balance`, `key k0 used`, `ledger used` …
    pub what: String,
    pub journal: i64,
    pub server: i64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, what, journal, server } = self;
        write!(f, "{account}: {what}: the journal has {journal}, the server {server} ({:+})", server - journal)
    }
}

/// What the audit looked at and found.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    pub accounts: usize,
    /// Numbers of the balance call.
    pub live: Vec<Mismatch>,
    /// Differences that reconcile reports between Redis and SQL, as it words them.
    pub reconcile: Vec<Value>,
    /// Sums of the ledger and posted balances; `None` when no database was given.
    pub ledger: Option<Vec<Mismatch>>,
    /// Ledger rows that were refused as duplicates; they count nothing.
    pub rejected_rows: i64,
}

impl Findings {
    #[must_use]
    pub fn clean(&self) -> bool {
        self.live.is_empty() && self.reconcile.is_empty() && self.ledger.as_ref().is_none_or(Vec::is_empty)
    }
}

/// What is compared with what.
pub struct Audit<'a> {
    pub gateway: &'a Arc<Client>,
    pub admin: &'a Client,
    pub limits: &'a [Limit],
    /// The limits as they stood before the first call.
    pub opening: &'a [LimitState],
    /// Holds end and write-back catches up until then.
    pub deadline: Duration,
}

impl Audit<'_> {
    /// Compares everything, looking again until all matches or the deadline passes.
    ///
    /// # Errors
    /// A sentence when the server or the database does not answer.
    pub async fn run(&self, expected: &[Expected], ledger: Option<&Ledger>) -> Result<Findings, String> {
        let until = Instant::now() + self.deadline;
        let mut findings = Findings { accounts: expected.len(), ..Findings::default() };
        findings.live = self.live(expected, until).await?;
        findings.reconcile = self.reconcile(until).await?;
        if let Some(ledger) = ledger {
            let (mismatches, rejected) = Self::posted(expected, ledger, until).await?;
            findings.ledger = Some(mismatches);
            findings.rejected_rows = rejected;
        }
        Ok(findings)
    }

    async fn live(&self, expected: &[Expected], until: Instant) -> Result<Vec<Mismatch>, String> {
        let mut open: Vec<&Expected> = expected.iter().collect();
        loop {
            let sheets = sheets(self.gateway, open.iter().map(|one| one.account.clone()).collect()).await?;
            let mut mismatches = Vec::new();
            open.retain(|one| {
                let found = compare(one, &sheets[&one.account], self.limits, self.opening);
                mismatches.extend_from_slice(&found);
                !found.is_empty()
            });
            if mismatches.is_empty() || Instant::now() > until {
                return Ok(mismatches);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn reconcile(&self, until: Instant) -> Result<Vec<Value>, String> {
        #[derive(Deserialize)]
        struct Reconciliation {
            differences: Vec<Value>,
        }
        loop {
            let body = Some(Bytes::from_static(b"{}"));
            let reply = self.admin.call(Method::POST, "/admin/v1/reconcile", body).await.map_err(|doubt| doubt.0)?;
            if reply.status != 200 {
                return Err(format!("reconcile was answered {} {}", reply.status, reply.text()));
            }
            let differences = reply.json::<Reconciliation>()?.differences;
            if differences.is_empty() || Instant::now() > until {
                return Ok(differences);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn posted(expected: &[Expected], ledger: &Ledger, until: Instant) -> Result<(Vec<Mismatch>, i64), String> {
        loop {
            let (sums, posted, keys) = (ledger.sums().await?, ledger.posted().await?, ledger.keys().await?);
            let mut mismatches = Vec::new();
            for one in expected {
                let wanted = Sums { balance: one.balance, used: one.all.used, requests: one.all.requests };
                for (place, found) in [("ledger", &sums), ("posted", &posted)] {
                    let found = found.get(&one.account).copied().unwrap_or_default();
                    mismatches.extend(compare_sums(&one.account, place, &wanted, &found));
                }
                for (index, tally) in one.keys.iter().enumerate() {
                    let name = wire::key(index);
                    let found = keys.get(&(one.account.clone(), name.clone())).copied().unwrap_or_default();
                    let wanted = Sums { balance: 0, used: tally.used, requests: tally.requests };
                    mismatches.extend(compare_sums(&one.account, &format!("posted key {name}"), &wanted, &found));
                }
            }
            if mismatches.is_empty() || Instant::now() > until {
                return Ok((mismatches, ledger.rejected().await?));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// An account's live numbers.
///
/// # Errors
/// A sentence with the server's answer when it is not 200.
pub async fn sheet(gateway: &Client, account: &str) -> Result<Sheet, String> {
    let path = format!("/v1/accounts/{account}/balance");
    let reply = gateway.call(Method::GET, &path, None).await.map_err(|doubt| doubt.0)?;
    if reply.status != 200 {
        return Err(format!("GET {path} was answered {} {}", reply.status, reply.text()));
    }
    reply.json().map_err(|problem| format!("GET {path} was answered {problem}"))
}

async fn sheets(gateway: &Arc<Client>, accounts: Vec<String>) -> Result<HashMap<String, Sheet>, String> {
    let mut questions = JoinSet::new();
    for account in accounts {
        let gateway = Arc::clone(gateway);
        questions.spawn(async move { sheet(&gateway, &account).await.map(|sheet| (account, sheet)) });
    }
    let answers = questions.join_all().await;
    answers.into_iter().collect()
}

/// Compares one account with what it must be. Windows are compared only while they are those in
/// which the run began.
fn compare(expected: &Expected, sheet: &Sheet, limits: &[Limit], opening: &[LimitState]) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    let mut check = |what: String, journal: i64, server: i64| {
        if journal != server {
            mismatches.push(Mismatch { account: expected.account.clone(), what, journal, server });
        }
    };
    check("balance".into(), expected.balance, sheet.balance);
    check("used".into(), expected.all.used, sheet.used);
    check("held".into(), 0, sheet.held);
    check("requests".into(), expected.all.requests, sheet.requests);
    check("available".into(), sheet.balance - sheet.held, sheet.available);
    check("keys".into(), expected.keys.len() as i64, sheet.keys.len() as i64);
    for (index, tally) in expected.keys.iter().enumerate() {
        let name = wire::key(index);
        if let Some(key) = sheet.keys.iter().find(|key| key.key == name) {
            check(format!("key {name} used"), tally.used, key.used);
            check(format!("key {name} requests"), tally.requests, key.requests);
            check(format!("key {name} held"), 0, key.held);
        }
    }
    for (limit, used) in limits.iter().zip(&expected.windows) {
        let Some(state) = find(&sheet.limits, limit) else {
            check(format!("limits on {}:{}:{}", limit.platform, limit.metric.as_str(), limit.period), 1, 0);
            continue;
        };
        let name = format!("{}:{}:{}", limit.platform, limit.metric.as_str(), limit.period);
        check(format!("limit {name} held"), 0, state.held);
        if find(opening, limit).is_some_and(|then| then.resets_at.is_some() && then.resets_at == state.resets_at) {
            check(format!("limit {name} used"), *used, state.used);
        }
    }
    mismatches
}

fn find<'a>(states: &'a [LimitState], limit: &Limit) -> Option<&'a LimitState> {
    states.iter().find(|state| {
        state.key.is_none()
            && state.platform == limit.platform
            && state.model == "*"
            && state.metric == limit.metric.as_str()
            && state.period.as_deref() == Some(limit.period.as_str())
    })
}

fn compare_sums(account: &str, place: &str, wanted: &Sums, found: &Sums) -> Vec<Mismatch> {
    [
        ("balance", wanted.balance, found.balance),
        ("used", wanted.used, found.used),
        ("requests", wanted.requests, found.requests),
    ]
    .into_iter()
    .filter(|(_, journal, server)| journal != server)
    .map(|(what, journal, server)| Mismatch {
        account: account.into(),
        what: format!("{place} {what}"),
        journal,
        server,
    })
    .collect()
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
