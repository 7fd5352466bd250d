//! Answering without Redis. A gateway's call never waits longer than its time budget; where that ends
//! in an outage, an account that allows it is answered here: reserves within a bounded allowance (in
//! memory, like every hold soft state), settles, charges and releases by way of the spool, from where
//! `replay` brings them to Redis under their own ids.
//!
//! The hot path pays one timer: everything here begins where a call has failed already.

mod book;
mod record;
mod replay;
mod verbs;

use std::{
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{
    Answer, Engine,
    policies::Who,
    ports::{Cost, Spool, Unavailable},
    settings::Values,
    step::{Done, Step, Stop, verdict},
};
use crate::{
    metrics,
    quota::{
        id::{AccountId, ReservationId},
        policy::OnUnavailable,
    },
};
use book::{Book, Place};

/// Operations of the same reservation take turns in one of so many lanes.
const LANES: usize = 256;

/// A verb without Redis: made only when it is needed.
type Locally<'a, T> = Pin<Box<dyn Future<Output = Step<Done<T>>> + Send + 'a>>;

/// The state of answering without Redis.
pub(crate) struct Local {
    /// `None`: nothing is answered without Redis.
    pub(crate) spool: Option<Arc<dyn Spool>>,
    book: Mutex<Book>,
    lanes: Box<[tokio::sync::Mutex<()>]>,
    hasher: RandomState,
    /// Something was answered here in this outage.
    active: AtomicBool,
    /// When something was last.
    touched: Mutex<Instant>,
}

impl Local {
    pub(crate) fn new(values: &Values) -> Self {
        Self {
            spool: None,
            book: Mutex::new(Book::new(values.unavailable_allowance, values.unavailable_total)),
            lanes: (0..LANES).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: RandomState::new(),
            active: AtomicBool::new(false),
            touched: Mutex::new(Instant::now()),
        }
    }

    /// What may be spent here in an outage from now on.
    pub(crate) fn bound(&self, account_most: i64, total_most: i64) {
        self.book().bound(account_most, total_most);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps others away from the reservation: what it was answered is decided by one call at a time.
    async fn turn(&self, place: &Place) -> tokio::sync::MutexGuard<'_, ()> {
        let lane = self.hasher.hash_one(place) % LANES as u64;
        self.lanes[lane as usize].lock().await
    }

    /// Something is answered here.
    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if !self.active.swap(true, Ordering::AcqRel) {
            metrics::degraded(true);
            tracing::warn!("Redis cannot decide: accounts that allow it are answered without it");
        }
    }

    /// What was done here for a reservation that Redis does not know (yet): what a cost comes to, and
    /// the tokens.
    pub(crate) fn bill_of(&self, account: &AccountId, id: &ReservationId, cost: Cost) -> (Option<i64>, Option<i64>) {
        match self.book().find(&(account.clone(), id.clone())) {
            Some(work) => (work.charge_of(cost), work.grant.map(|grant| grant.tokens)),
            None => (None, None),
        }
    }
}

impl Engine {
    /// How long a verb may take as a whole. Longer than a single call to Redis, whose own end by the
    /// clock is told apart from others and counted.
    fn patience(&self) -> Duration {
        self.settings.time_budget + self.settings.time_budget / 5 + Duration::from_millis(5)
    }

    /// A verb is answered by then: in time, or else without Redis.
    #[must_use]
    pub fn verb_budget(&self) -> Duration {
        2 * self.patience()
    }

    /// The verb's answer, or that there is none in time. Verbs come boxed, because futures of some KiB
    /// would else be copied from frame to frame: a third of what a reserve cost.
    pub(crate) async fn in_time<T>(&self, verb: impl Future<Output = Step<Done<T>>>) -> Answer<T> {
        verdict(self.bounded(verb).await)
    }

    async fn bounded<T>(&self, verb: impl Future<Output = Step<Done<T>>>) -> Step<Done<T>> {
        timeout(self.patience(), verb).await.unwrap_or_else(|_| Err(Unavailable::Timeout.into()))
    }

    /// The verb's answer in time; else, in an outage, the one that can be given without Redis.
    pub(crate) async fn or_locally<'a, T>(
        &self,
        verb: impl Future<Output = Step<Done<T>>>,
        locally: impl FnOnce() -> Locally<'a, T>,
    ) -> Answer<T> {
        let step = self.bounded(verb).await;
        match &step {
            Err(Stop::Unavailable(cause)) if cause.is_outage() && self.local.spool.is_some() => {}
            Ok(_) | Err(_) => return verdict(step),
        }
        match timeout(self.patience(), locally()).await {
            // What cannot be told here either is told as Redis' outage, which it is.
            Ok(Err(Stop::Unavailable(_))) => verdict(step),
            Err(_) => {
                tracing::warn!("the disk or the database is too slow for a call to be answered without Redis");
                verdict(step)
            }
            Ok(answered) => verdict(answered),
        }
    }

    /// Whether this account is answered without Redis.
    fn allowed(&self, who: &Who) -> Step<()> {
        match who.rules.policy.on_unavailable.unwrap_or(self.live().on_unavailable) {
            OnUnavailable::Allow => Ok(()),
            OnUnavailable::Deny => Err(Unavailable::Recovering.into()),
        }
    }
}
