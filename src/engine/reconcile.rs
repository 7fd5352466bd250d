//! Reconcile: compares Redis with SQL and reports every difference.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Answer, Engine,
    policies::no_account,
    step::{Done, Step, verdict},
};
use crate::quota::{
    counter::{AccountCounters, WindowCounter},
    id::AccountId,
    limit::{CounterCode, GroupField},
};

/// Accounts read from SQL at once.
const PAGE: u32 = 200;
/// Comparisons of an account whose numbers move while they are compared.
const ATTEMPTS: u32 = 5;
/// Pause before another comparison, times its number.
const PAUSE: Duration = Duration::from_millis(20);
/// More differences than these say no more than that something is very wrong: the run ends.
const DIFFERENCES_MAX: usize = 10_000;

/// One number that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub account: AccountId,
    /// `balance`, `used`, `requests`, `key:<id>:used`, `limit:<platform>:<model>:<metric>:<period>` …
    pub what: String,
    pub redis: i64,
    pub sql: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Reconciliation {
    /// Accounts compared.
    pub accounts: u64,
    pub differences: Vec<Difference>,
}

impl Engine {
    /// One account, or all.
    pub async fn reconcile(&self, account: Option<&AccountId>) -> Answer<Reconciliation> {
        verdict(self.try_reconcile(account).await.map(Done::now))
    }

    async fn try_reconcile(&self, account: Option<&AccountId>) -> Step<Reconciliation> {
        let mut found = Reconciliation::default();
        if let Some(account) = account {
            self.reload(account).await?.ok_or_else(|| no_account(account))?;
            found.accounts = 1;
            found.differences = self.differences(account).await?;
            return Ok(found);
        }
        let mut cursor: Option<AccountId> = None;
        loop {
            let page = self.policies.list_accounts(cursor.as_ref(), PAGE).await?;
            for policy in &page {
                found.accounts += 1;
                found.differences.extend(self.differences(&policy.account).await?);
                if found.differences.len() >= DIFFERENCES_MAX {
                    tracing::error!(accounts = found.accounts, "reconcile ended early: too many differences");
                    return Ok(found);
                }
            }
            match page.into_iter().next_back() {
                Some(last) => cursor = Some(last.account),
                None => return Ok(found),
            }
        }
    }

    /// What differs in every one of several comparisons: traffic goes on meanwhile, and what it
    /// moves between the readings is no difference.
    async fn differences(&self, account: &AccountId) -> Step<Vec<Difference>> {
        let mut lasting: Option<Vec<Difference>> = None;
        for attempt in 1..=ATTEMPTS {
            let now = self.compare(account).await?;
            let still = match lasting {
                None => now,
                Some(before) => {
                    now.into_iter().filter(|one| before.iter().any(|other| other.what == one.what)).collect()
                }
            };
            if still.is_empty() {
                return Ok(still);
            }
            lasting = Some(still);
            tokio::time::sleep(PAUSE * attempt).await;
        }
        Ok(lasting.unwrap_or_default())
    }

    /// Compares SQL with Redis as it was before and after SQL was read: a number that agrees with
    /// either is no difference. An account that Redis does not have agrees.
    async fn compare(&self, account: &AccountId) -> Step<Vec<Difference>> {
        let Some((_, before)) = self.counters.read_account(account).await? else { return Ok(Vec::new()) };
        self.drain.drain(account).await?;
        let posted = self.policies.posted(account).await?.unwrap_or_default().counters;
        let Some((_, after)) = self.counters.read_account(account).await? else { return Ok(Vec::new()) };
        let then = compare_counters(account, &before, &posted);
        let mut now = compare_counters(account, &after, &posted);
        now.retain(|one| then.iter().any(|other| other.what == one.what));
        Ok(now)
    }
}

/// Every posted number; `held` is not one.
fn compare_counters(account: &AccountId, redis: &AccountCounters, sql: &AccountCounters) -> Vec<Difference> {
    let mut pairs: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (counters, of_redis) in [(redis, true), (sql, false)] {
        let mut note = |what: String, value: i64| {
            let pair = pairs.entry(what).or_default();
            if of_redis { pair.0 = value } else { pair.1 = value }
        };
        note("balance".to_owned(), counters.head.balance);
        note("used".to_owned(), counters.head.used);
        note("requests".to_owned(), counters.head.requests);
        for (key, counter) in &counters.keys {
            note(format!("key:{key}:used"), counter.used);
            note(format!("key:{key}:requests"), counter.requests);
        }
    }
    for (what, used) in compare_windows(redis, sql) {
        pairs.insert(what, used);
    }
    let differ = pairs.into_iter().filter(|(_, (redis, sql))| redis != sql);
    differ.map(|(what, (redis, sql))| Difference { account: account.clone(), what, redis, sql }).collect()
}

/// Usage per window, of the newer of the two windows: a reserve begins a new one in Redis alone,
/// with nothing used, and SQL follows with the settle.
fn compare_windows(redis: &AccountCounters, sql: &AccountCounters) -> Vec<(String, (i64, i64))> {
    let mut pairs: BTreeMap<(&GroupField, CounterCode), [Option<&WindowCounter>; 2]> = BTreeMap::new();
    for (side, counters) in [redis, sql].into_iter().enumerate() {
        for (field, windows) in &counters.groups {
            for window in windows {
                pairs.entry((field, window.code)).or_default()[side] = Some(window);
            }
        }
    }
    let used = |pair: [Option<&WindowCounter>; 2]| {
        let newest = pair.iter().flatten().map(|window| window.start_s).max().unwrap_or(0);
        pair.map(|window| window.filter(|window| window.start_s == newest).map_or(0, |window| window.used))
    };
    pairs.into_iter().map(|((field, code), pair)| (name(field, code), used(pair).into())).collect()
}

/// `limit:<platform>:<model>:<metric>:<period>`, behind `key:<id>:` for a key's.
fn name(field: &GroupField, code: CounterCode) -> String {
    let (Some((_, [platform, model, key])), Some((metric, period))) = (GroupField::parse(field.as_str()), code.split())
    else {
        return format!("limit:{}:{}", field.as_str(), code.0);
    };
    let key = if key.is_empty() { String::new() } else { format!("key:{key}:") };
    let period = period.as_text().unwrap_or_else(|| "none".to_owned());
    format!("{key}limit:{platform}:{model}:{}:{period}", metric.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{
        counter::Head,
        limit::{Metric, Period},
    };

    #[test]
    fn windows_compare_by_the_newer_one() {
        let account = AccountId::new("a").unwrap();
        let field = GroupField::new("openai", "*", None);
        let code = CounterCode::new(Metric::Cost, Period::Day);
        let counters = |start_s, used, held| AccountCounters {
            head: Head { held, ..Head::default() },
            keys: Vec::new(),
            groups: vec![(field.clone(), [WindowCounter { code, start_s, used, held }].into_iter().collect())],
        };
        let differ = |redis, sql| compare_counters(&account, &redis, &sql);
        assert_eq!(differ(counters(100, 7, 5), counters(100, 7, 0)), []);
        assert_eq!(differ(counters(200, 0, 5), counters(100, 7, 0)), []);
        assert_eq!(differ(counters(0, 0, 5), AccountCounters::default()), []);
        let what = "limit:openai:*:cost:day".to_owned();
        let difference = Difference { account: account.clone(), what, redis: 3, sql: 0 };
        assert_eq!(differ(counters(200, 3, 0), counters(100, 7, 0)), [difference]);
    }
}
