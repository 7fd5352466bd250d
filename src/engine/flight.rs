//! Single flight: work for an account that several tasks want at once is done once, and all of them
//! get its result. Used for policy reads and cold loads, which cost SQL.
//!
//! The work is a task of its own: whoever asked for it may lose patience, and finds it done when it
//! asks again. It is bounded by [`FLIGHT_MAX`], so that a database that never answers is asked anew.

use std::{sync::Arc, time::Duration};

use dashmap::{DashMap, Entry};
use tokio::{sync::watch, time::timeout};

use super::ports::Unavailable;
use crate::quota::id::AccountId;

/// How long one piece of work may take: a drain of write-back (ten seconds) and a few reads.
const FLIGHT_MAX: Duration = Duration::from_secs(15);

type Landing<T> = Option<Result<T, Unavailable>>;
type UnderWay<T> = Arc<DashMap<AccountId, watch::Receiver<Landing<T>>>>;

/// The work under way, by account.
pub(crate) struct Flights<T> {
    under_way: UnderWay<T>,
    most: Duration,
}

/// The task that does the work. Dropped without landing (the work panicked, the process ends), it
/// clears the way for another.
struct Pilot<T> {
    under_way: UnderWay<T>,
    account: AccountId,
    landing: watch::Sender<Landing<T>>,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self { under_way: Arc::default(), most: FLIGHT_MAX }
    }

    /// Waits for the work, which is begun when nobody has begun it yet.
    pub(crate) async fn run<F>(&self, account: &AccountId, work: impl FnOnce() -> F) -> Result<T, Unavailable>
    where
        F: Future<Output = Result<T, Unavailable>> + Send + 'static,
    {
        let mut landing = self.board(account, work);
        let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
        landed.unwrap_or_else(|| Err(Unavailable::Store("the work for the account ended without a result".into())))
    }

    fn board<F>(&self, account: &AccountId, work: impl FnOnce() -> F) -> watch::Receiver<Landing<T>>
    where
        F: Future<Output = Result<T, Unavailable>> + Send + 'static,
    {
        match self.under_way.entry(account.clone()) {
            Entry::Occupied(flight) => flight.get().clone(),
            Entry::Vacant(start) => {
                let (landing, passenger) = watch::channel(None);
                start.insert(passenger.clone());
                let pilot = Pilot { under_way: self.under_way.clone(), account: account.clone(), landing };
                let (work, most) = (work(), self.most);
                tokio::spawn(async move {
                    let result = timeout(most, work).await;
                    pilot.land(result.unwrap_or(Err(Unavailable::Timeout)));
                });
                passenger
            }
        }
    }
}

impl<T> Pilot<T> {
    /// The entry goes first: whoever comes from now on wants work begun after this moment.
    fn land(self, result: Result<T, Unavailable>) {
        self.under_way.remove(&self.account);
        self.landing.send_replace(Some(result));
    }
}

impl<T> Drop for Pilot<T> {
    fn drop(&mut self) {
        // After a landing the entry may already be the next flight's: leave that one alone.
        self.under_way.remove_if(&self.account, |_, flight| flight.same_channel(&self.landing.subscribe()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn account() -> AccountId {
        AccountId::new("a").unwrap()
    }

    #[tokio::test]
    async fn fifty_callers_one_piece_of_work() {
        let flights = Arc::new(Flights::<u32>::new());
        let done = Arc::new(AtomicU32::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (flights, done) = (flights.clone(), done.clone());
            callers.spawn(async move {
                let work = || async move {
                    tokio::task::yield_now().await;
                    Ok(done.fetch_add(1, Ordering::Relaxed))
                };
                flights.run(&account(), work).await.unwrap()
            });
        }
        assert!(callers.join_all().await.iter().all(|result| *result == 0));
        assert!(flights.under_way.is_empty());
    }

    #[tokio::test]
    async fn work_goes_on_when_its_caller_has_gone() {
        let flights = Flights::<u32>::new();
        let id = account();
        let (finish, finished) = tokio::sync::oneshot::channel::<u32>();
        let work = || async { finished.await.map_err(|_| Unavailable::Timeout) };
        let patience = Duration::from_millis(1);
        assert!(timeout(patience, flights.run(&id, work)).await.is_err(), "the caller went away");
        let again = flights.run(&id, || async { panic!("the first work is still under way") });
        finish.send(7).unwrap();
        assert_eq!(again.await.unwrap(), 7);
        assert!(flights.under_way.is_empty());
    }

    #[tokio::test]
    async fn work_that_never_ends_makes_way() {
        let flights = Flights::<u32> { most: Duration::from_millis(5), ..Flights::new() };
        let id = account();
        assert!(matches!(flights.run(&id, std::future::pending).await, Err(Unavailable::Timeout)));
        assert_eq!(flights.run(&id, || async { Ok(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_that_panics_makes_way() {
        let flights = Flights::<u32>::new();
        let id = account();
        assert!(flights.run(&id, || async { panic!("on purpose") }).await.is_err());
        assert_eq!(flights.run(&id, || async { Ok(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_failure_is_shared() {
        let flights = Flights::<u32>::new();
        let id = account();
        let failing = || async { Err(Unavailable::Timeout) };
        let (one, two) = tokio::join!(flights.run(&id, failing), flights.run(&id, failing));
        assert!(one.is_err() && two.is_err());
    }
}
