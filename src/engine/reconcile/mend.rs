//! Repair: each step puts one side right after what it must follow from, and only while nothing has
//! changed since that was read. The ledger itself is never touched.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Difference, Loaded, PAUSE, Part, Reading,
    compare::{self, DEADLINE},
    held::{self, Held},
};
use crate::{
    engine::{
        Engine,
        ports::{ExtendCall, Ledgered, MendCall, Status},
        step::Step,
    },
    metrics,
    quota::{
        change::{Change, Subject},
        counter::AccountCounters,
        id::{AccountId, Actor, ReservationId},
    },
};

/// Attempts at numbers that traffic moves between reading and writing them.
const ATTEMPTS: u32 = 20;

/// Numbers that one row of the audit tells; how many more there were is told too.
const TOLD_MAX: usize = 1_000;

/// What was repaired of an account, for the audit: each number as it was on both sides, and as it is.
pub(super) fn told(by: &Actor, account: &AccountId, differences: &[Difference]) -> Option<Change> {
    let repaired: Vec<&Difference> = differences.iter().filter(|one| one.repaired == Some(true)).collect();
    if repaired.is_empty() {
        return None;
    }
    let (mut before, mut after) = (Map::new(), Map::new());
    for one in repaired.iter().take(TOLD_MAX) {
        before.insert(one.what.clone(), json!({"redis": one.redis, "sql": one.sql}));
        after.insert(one.what.clone(), one.expected.into());
    }
    if repaired.len() > TOLD_MAX {
        after.insert("more".to_owned(), (repaired.len() - TOLD_MAX).into());
    }
    let [before, after] = [before, after].map(Value::Object);
    Some(Change::new(by, "repair", Subject::account(account), before, after))
}

impl Engine {
    /// Mends what it can and marks it.
    pub(super) async fn mend(&self, account: &AccountId, differences: &mut [Difference]) -> Step<()> {
        if differences.iter().any(|one| one.sql_wrong) {
            self.mend_sql(account).await?;
        }
        let mut left = differences.to_vec();
        let mut known = Ledgered::default();
        for attempt in 1..=ATTEMPTS {
            let Some(reading) = self.read(account, &mut known).await? else { break };
            let now = compare::all(account, &reading);
            let still = |one: &Difference| now.iter().any(|now| now.what == one.what) || !reading.judges(one.part);
            left.retain(still);
            if left.is_empty() {
                break;
            }
            self.mend_redis(account, &reading, &now).await?;
            tokio::time::sleep(PAUSE.min(PAUSE * attempt / 4)).await;
        }
        for one in differences {
            one.repaired = Some(left.iter().all(|other| other.what != one.what));
        }
        Ok(())
    }

    async fn mend_sql(&self, account: &AccountId) -> Step<()> {
        let Some([before, after]) = self.ledger.mend_sums(account, Ledgered::default()).await? else { return Ok(()) };
        if before != after {
            tracing::warn!(%account, ?before, ?after, "sums in the database were mended after the ledger");
            metrics::repaired("sql");
        }
        Ok(())
    }

    async fn mend_redis(&self, account: &AccountId, reading: &Reading, now: &[Difference]) -> Step<()> {
        let Some(loaded) = &reading.redis else { return Ok(()) };
        let wrong = |part| reading.judges(part) && now.iter().any(|one| one.part == part && one.redis_wrong);
        if wrong(Part::Deadline) {
            let ids = now.iter().filter_map(|one| one.what.strip_prefix(DEADLINE));
            for id in ids.filter_map(|id| ReservationId::new(id).ok()) {
                self.mend_deadline(account, loaded, &id).await?;
            }
        }
        // Only when no entry of the account lies between the two looks is it known which state this is.
        let exact = reading.audit.tail.iter().all(|(at, _)| *at > reading.to);
        if wrong(Part::Posted) && exact {
            let right = held::posted(&loaded.counters, &reading.audit.ledger.tally);
            self.mend_counters(account, &loaded.counters, &right, "counters").await?;
        } else if wrong(Part::Held) {
            let right = held::applied(&loaded.counters, &Held::of(&loaded.holds));
            self.mend_counters(account, &loaded.counters, &right, "held").await?;
        }
        Ok(())
    }

    async fn mend_counters(
        &self,
        account: &AccountId,
        before: &AccountCounters,
        after: &AccountCounters,
        what: &'static str,
    ) -> Step<()> {
        let seen: BTreeMap<_, _> = before.fields().into_iter().collect();
        // The head goes along unchanged: every write of the account changes it.
        let changed =
            after.fields().into_iter().filter(|(field, value)| field == b"h" || seen.get(field) != Some(value));
        let fields: Vec<_> = changed
            .map(|(field, value)| {
                let was = seen.get(&field).cloned().unwrap_or_default();
                (field, was, value)
            })
            .collect();
        let reply = self.counters.mend(&MendCall { account, fields: &fields }).await?;
        if reply.status == Status::Done {
            tracing::warn!(%account, what, ?before, ?after, "counters in Redis were mended");
            metrics::repaired(what);
        }
        Ok(())
    }

    /// A hold gets its place in the list back; one that is due, or a place without a hold, is what the
    /// sweep's own script is for.
    async fn mend_deadline(&self, account: &AccountId, loaded: &Loaded, id: &ReservationId) -> Step<()> {
        let hold = loaded.holds.iter().find(|(known, _)| known == id).map(|(_, hold)| hold);
        let left_ms = hold.map_or(0, |hold| hold.expires.0 - loaded.now.0);
        let reply = match u32::try_from(left_ms) {
            Ok(left_ms) if left_ms > 0 => {
                let call = ExtendCall {
                    account,
                    id,
                    version: loaded.counters.head.version,
                    credit_limit: 0,
                    allowance: None,
                    denied: false,
                    groups: &[],
                    amount: None,
                    ttl_ms: Some(left_ms),
                    reprice: None,
                };
                self.counters.extend(&call).await?
            }
            _ => self.counters.expire(account, id).await?,
        };
        let deadline = hold.map(|hold| hold.expires.to_string());
        tracing::warn!(%account, %id, deadline, status = ?reply.status, "a hold's deadline was mended");
        metrics::repaired("deadline");
        Ok(())
    }
}
