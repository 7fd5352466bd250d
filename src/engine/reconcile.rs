//! Reconcile: an account's numbers in Redis and in SQL against the ledger, and its holds against what
//! is counted as held. Page by page, while traffic goes on; with `repair` it mends what follows from
//! the ledger or from the holds.
//!
//! Redis is read between two looks at the end of its stream. Once SQL has all up to the second one, the
//! ledger knows every state that Redis can have been in at that moment: a number that is in none of them
//! is wrong, whatever moves. Holds are in no ledger; they are compared when the account stood still.

mod compare;
mod held;
mod mend;

use std::{collections::BTreeMap, time::Duration};

use super::{
    Answer, Engine,
    policies::no_account,
    ports::{Audit, Ledgered, Listed, Position},
    step::{Done, Step, verdict},
};
use crate::quota::{
    clock::Millis,
    counter::AccountCounters,
    id::{AccountId, Actor, ReservationId},
    reservation::Record,
    verdict::Refusal,
};
use held::Held;

/// Accounts read from SQL at once.
const PAGE: u32 = 200;
/// Readings of an account whose numbers differ, or move while they are read.
const ATTEMPTS: u32 = 5;
/// Readings in which a difference must be found: the second is for what nobody thought of.
const CONFIRMATIONS: u32 = 2;
/// Pause before another reading, times its number.
const PAUSE: Duration = Duration::from_millis(20);
/// More differences than these say no more than that something is very wrong: the run ends.
const DIFFERENCES_MAX: usize = 10_000;

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Reconcile {
    /// Absent: all accounts, in the order of their names.
    pub account: Option<AccountId>,
    /// Mend what can be worked out.
    pub repair: bool,
    /// Begin after this account.
    pub cursor: Option<AccountId>,
    /// So many accounts at most; absent: all of them.
    pub limit: Option<u32>,
}

/// What kind of number differs, and so how it can be mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The ledger says what it must be.
    Posted,
    /// The live holds say what it must be.
    Held,
    /// A hold's place in the list of deadlines.
    Deadline,
}

/// One number that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub account: AccountId,
    /// `balance`, `used`, `requests`, `key:<id>:used`, `limit:<platform>:<model>:<metric>:<period>`, the
    /// same with `:held`, `:start` (of a window, in seconds), `deadline:<id>` (in ms) …
    pub what: String,
    /// Absent: Redis does not have it.
    pub redis: Option<i64>,
    /// Absent: SQL does not keep it.
    pub sql: Option<i64>,
    /// What the ledger or the holds add up to; absent: there should be none.
    pub expected: Option<i64>,
    pub part: Part,
    pub redis_wrong: bool,
    pub sql_wrong: bool,
    /// Only when a repair was asked for.
    pub repaired: Option<bool>,
}

#[derive(Clone, Debug, Default)]
pub struct Reconciliation {
    /// Accounts compared.
    pub accounts: u64,
    /// Of those, the ones whose holds moved all the time, so that nothing can be said of them.
    pub moving: u64,
    pub differences: Vec<Difference>,
    /// The cursor of the next page; absent on the last one.
    pub next: Option<AccountId>,
}

/// An account read once.
struct Reading {
    /// Redis' counters are those of a moment between these two places.
    from: Position,
    to: Position,
    redis: Option<Loaded>,
    audit: Audit,
}

/// A loaded account in Redis.
struct Loaded {
    now: Millis,
    counters: AccountCounters,
    /// Nothing was written while holds and deadlines were read.
    still: bool,
    holds: Vec<(ReservationId, Record)>,
    deadlines: Vec<(ReservationId, Millis)>,
}

impl Reading {
    /// Whether it tells anything about numbers of this kind.
    fn judges(&self, part: Part) -> bool {
        let steady = self.from.generation == self.to.generation;
        match part {
            Part::Posted => steady,
            Part::Held | Part::Deadline => steady && self.redis.as_ref().is_none_or(|loaded| loaded.still),
        }
    }
}

impl Engine {
    /// One account, a page of them, or all. What is repaired is told by the audit, with who asked for it.
    pub async fn reconcile(&self, by: &Actor, ask: &Reconcile) -> Answer<Reconciliation> {
        verdict(self.try_reconcile(by, ask).await.map(Done::now))
    }

    async fn try_reconcile(&self, by: &Actor, ask: &Reconcile) -> Step<Reconciliation> {
        let mut found = Reconciliation::default();
        let mender = ask.repair.then_some(by);
        if let Some(account) = &ask.account {
            if ask.cursor.is_some() || ask.limit.is_some() {
                return Err(Refusal::invalid("account", "one account is one page: leave out cursor and limit").into());
            }
            self.reload(account).await?.ok_or_else(|| no_account(account))?;
            self.reconcile_one(account, mender, &mut found).await?;
            return Ok(found);
        }
        let mut cursor = ask.cursor.clone();
        let mut left = ask.limit.map_or(u64::MAX, u64::from);
        loop {
            // One more than wanted tells whether there is a next page.
            let wanted = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE);
            let page = self.policies.list_accounts(cursor.as_ref(), wanted + 1).await?;
            let more = page.len() > wanted as usize;
            for policy in page.into_iter().take(wanted as usize) {
                self.reconcile_one(&policy.account, mender, &mut found).await?;
                cursor = Some(policy.account);
                left -= 1;
                if found.differences.len() >= DIFFERENCES_MAX {
                    tracing::error!(accounts = found.accounts, "reconcile ended early: too many differences");
                    found.next = cursor;
                    return Ok(found);
                }
            }
            if !more || left == 0 {
                found.next = cursor.filter(|_| more);
                return Ok(found);
            }
        }
    }

    async fn reconcile_one(&self, account: &AccountId, mender: Option<&Actor>, found: &mut Reconciliation) -> Step<()> {
        let (mut differences, moving) = self.differences(account).await?;
        found.accounts += 1;
        found.moving += u64::from(moving);
        if let Some(by) = mender.filter(|_| !differences.is_empty()) {
            self.mend(account, &mut differences).await?;
            if let Some(change) = mend::told(by, account, &differences) {
                self.policies.record_change(&change).await?;
            }
        }
        found.differences.append(&mut differences);
        Ok(())
    }

    /// What differs in more than one reading, and whether the account never stood still.
    async fn differences(&self, account: &AccountId) -> Step<(Vec<Difference>, bool)> {
        let mut known = Ledgered::default();
        let mut suspects: BTreeMap<String, (u32, Difference)> = BTreeMap::new();
        let mut moving = true;
        for attempt in 1..=ATTEMPTS {
            let Some(reading) = self.read(account, &mut known).await? else { break };
            let mut now: BTreeMap<String, Difference> =
                compare::all(account, &reading).into_iter().map(|one| (one.what.clone(), one)).collect();
            suspects.retain(|what, (_, one)| now.contains_key(what) || !reading.judges(one.part));
            for (what, (times, one)) in &mut suspects {
                if let Some(again) = now.remove(what) {
                    (*times, *one) = (*times + 1, again);
                }
            }
            suspects.extend(now.into_iter().map(|(what, one)| (what, (1, one))));
            moving &= !reading.judges(Part::Held);
            if !moving && suspects.values().all(|(times, _)| *times >= CONFIRMATIONS) {
                break;
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
        let confirmed = suspects.into_values().filter(|(times, _)| *times >= CONFIRMATIONS);
        Ok((confirmed.map(|(_, one)| one).collect(), moving))
    }

    /// `known` grows by what the ledger is found to hold, so that another reading has less to add up.
    async fn read(&self, account: &AccountId, known: &mut Ledgered) -> Step<Option<Reading>> {
        let from = self.drain.drain(account).await?;
        let redis = self.read_redis(account).await?;
        let to = self.drain.drain(account).await?;
        let Some(audit) = self.ledger.audit(account, std::mem::take(known), from).await? else { return Ok(None) };
        *known = audit.ledger.clone();
        Ok(Some(Reading { from, to, redis, audit }))
    }

    async fn read_redis(&self, account: &AccountId) -> Step<Option<Loaded>> {
        let Some((now, counters)) = self.counters.read_account(account).await? else { return Ok(None) };
        let Listed { mut holds, deadlines } = self.counters.listed(account).await?;
        let mut still = self.stands(account, &counters).await?;
        if still && held::applied(&counters, &Held::of(&holds)) != counters {
            holds.extend(self.counters.unlisted(account).await?);
            still = self.stands(account, &counters).await?;
        }
        Ok(Some(Loaded { now, counters, still, holds, deadlines }))
    }

    async fn stands(&self, account: &AccountId, counters: &AccountCounters) -> Step<bool> {
        let again = self.counters.read_account(account).await?;
        Ok(again.is_some_and(|(_, again)| again == *counters))
    }
}
