//! What SQL owes to Redis: credits, and versions of policies. Whoever writes one brings it at once, so that its call
//! answers when it is in force; what a crash left behind is brought by the next look of any sidecar.
//!
//! A version may be raised any number of times, so its row goes when Redis has answered.
//!
//! The row of a credit is closed when the *ledger* has its credit, not when Redis said so: a Redis that lost its
//! last second gets it again. It is never credited twice: while Redis remembers the operation it answers
//! "replayed", and before a later attempt everything in the stream is posted and the ledger is asked.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Answer, Engine,
    adjust::{Adjusted, Credit},
    again::again,
    ports::{Closed, Due, Outbox, Owed, Raise, StoreError, Unavailable},
    step::Stop,
};
use crate::{
    metrics,
    quota::{
        clock::{Millis, local_now},
        id::Actor,
        verdict::{Code, Verdict},
    },
};

/// From the writing of a row to the first look: by then its writer has brought it and write-back has
/// posted it, unless something died.
pub const FIRST_LOOK_MS: i64 = 2_000;
/// Between two looks for rows that are due.
const PAUSE: Duration = Duration::from_millis(500);
/// Rows of one page.
const PAGE: u32 = 100;
/// Between two looks at a row: doubled each time, from the first to the last.
const AGAIN_MS: i64 = 1_000;
const AGAIN_MS_MAX: i64 = 300_000;

/// How often a credit may have been brought before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Its row was written by this very call.
    First,
    Later,
}

impl Engine {
    /// Brings an owed credit to Redis: when this answers `Done` it can be spent on every sidecar.
    /// Any number of calls credit it once.
    pub async fn give(&self, owed: &Owed, attempt: Attempt) -> Answer<Adjusted> {
        if attempt == Attempt::Later {
            // Redis may have done it and forgotten its name: then it is in the ledger after this.
            self.drain.drain(&owed.account).await?;
        }
        let credit = Credit {
            account: owed.account.clone(),
            op_id: owed.op_id.clone(),
            amount: owed.amount,
            kind: owed.kind,
            note: owed.note.clone(),
        };
        // Whoever caused it has a row of its own; the account gets what is owed to it.
        self.credit(&Actor::account(&owed.account), &credit).await
    }
}

/// Looks after the outbox; one per sidecar.
pub struct Courier {
    engine: Arc<Engine>,
    outbox: Arc<dyn Outbox>,
}

impl Courier {
    #[must_use]
    pub fn new(engine: Arc<Engine>, outbox: Arc<dyn Outbox>) -> Self {
        Self { engine, outbox }
    }

    /// Looks again and again until `stop` turns true or its sender is gone.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        again(PAUSE, stop, "the outbox cannot be looked at", || self.look()).await;
    }

    /// Looks at every row that is due: raises versions, closes what is posted, brings the rest.
    ///
    /// # Errors
    /// When the database does not answer. What was brought is brought.
    pub async fn look(&self) -> Result<(), StoreError> {
        let raised = self.raise().await;
        self.pay().await.and(raised)
    }

    /// Rows that Redis does not take stay for the next look, and keep none behind them waiting.
    async fn raise(&self) -> Result<(), StoreError> {
        let mut cursor = None;
        loop {
            // The clock that the rows were written by.
            let page = self.outbox.raises(local_now(), cursor.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            cursor = Some(last.account.clone());
            let mut raised = Vec::new();
            let mut away = false;
            for Raise { account, version } in &page {
                match self.engine.catch_up(account, *version).await {
                    Ok(()) => raised.push(Raise { account: account.clone(), version: *version }),
                    Err(Stop::Unavailable(
                        reason @ (Unavailable::Connection(_) | Unavailable::Timeout | Unavailable::Overloaded),
                    )) => {
                        tracing::debug!(%account, %reason, "a version of rules waits for Redis");
                        away = true;
                        break;
                    }
                    // Of this account or its shard alone.
                    Err(Stop::Unavailable(Unavailable::Recovering)) => {}
                    Err(Stop::Unavailable(reason)) => {
                        tracing::warn!(%account, %reason, "a version of rules cannot be raised; trying again");
                    }
                    Err(Stop::Refused(refusal)) => {
                        tracing::warn!(%account, refusal = refusal.detail, "a version of rules cannot be raised");
                    }
                }
            }
            if !raised.is_empty() {
                self.outbox.raised(&raised).await?;
            }
            if away || page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn pay(&self) -> Result<(), StoreError> {
        loop {
            let now = self.engine.clock.now();
            let due = self.outbox.due(now, PAGE).await?;
            let last = due.len() < PAGE as usize;
            let (posted, owed): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|due| due.posted);
            if !posted.is_empty() {
                self.outbox.done(&posted, Closed::Credited, now).await?;
            }
            for due in &owed {
                self.bring(due, now).await?;
            }
            if last {
                metrics::credits_owed(self.outbox.late(now).await?);
                return Ok(());
            }
        }
    }

    async fn bring(&self, due: &Due, now: Millis) -> Result<(), StoreError> {
        let until = Millis(now.0 + again_ms(due.attempts));
        if !self.outbox.postpone(due, until).await? {
            return Ok(());
        }
        let Owed { account, op_id, .. } = &due.owed;
        match self.engine.give(&due.owed, Attempt::Later).await {
            Ok(Verdict::Done { replayed, .. }) => {
                if !replayed {
                    tracing::warn!(%account, %op_id, "credited what a sidecar or Redis left undone");
                }
            }
            Ok(Verdict::Refused(refusal)) => {
                metrics::credit_refused();
                tracing::error!(%account, %op_id, amount = due.owed.amount, refusal = refusal.detail,
                    "a credit that is owed was refused");
                if matches!(refusal.code, Code::AccountNotFound | Code::Conflict) {
                    self.outbox.done(std::slice::from_ref(due), Closed::Refused(refusal.code), now).await?;
                }
            }
            Err(reason) => tracing::warn!(%account, %op_id, %reason, "a credit that is owed waits"),
        }
        Ok(())
    }
}

/// The pause after a look that found a row unposted, when there were `attempts` such looks before.
fn again_ms(attempts: u32) -> i64 {
    AGAIN_MS.checked_shl(attempts.min(20)).map_or(AGAIN_MS_MAX, |ms| ms.min(AGAIN_MS_MAX))
}
