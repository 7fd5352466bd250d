//! Single flight: work for an account that several tasks want at once is done by one of them, and
//! the others get its result. Used for policy reads and cold loads, which cost SQL.

use dashmap::{DashMap, Entry};
use tokio::sync::watch;

use super::ports::Unavailable;
use crate::quota::id::AccountId;

type Landing<T> = Option<Result<T, Unavailable>>;

/// The work under way, by account. Holds no more entries than there are tasks waiting.
pub(crate) struct Flights<T> {
    under_way: DashMap<AccountId, watch::Receiver<Landing<T>>>,
}

/// The task that does the work. Dropped without landing (its caller went away), it lets one of the
/// waiting tasks take over.
struct Pilot<'a, T> {
    flights: &'a Flights<T>,
    account: &'a AccountId,
    landing: watch::Sender<Landing<T>>,
}

enum Seat<'a, T> {
    Pilot(Pilot<'a, T>),
    Passenger(watch::Receiver<Landing<T>>),
}

impl<T: Clone> Flights<T> {
    pub(crate) fn new() -> Self {
        Self { under_way: DashMap::new() }
    }

    /// Does the work, or waits for whoever does it already.
    pub(crate) async fn run<F>(&self, account: &AccountId, work: impl FnOnce() -> F) -> Result<T, Unavailable>
    where
        F: Future<Output = Result<T, Unavailable>>,
    {
        loop {
            match self.board(account) {
                Seat::Pilot(pilot) => {
                    let result = work().await;
                    pilot.land(result.clone());
                    return result;
                }
                Seat::Passenger(mut landing) => {
                    if let Ok(landed) = landing.wait_for(Option::is_some).await
                        && let Some(result) = landed.clone()
                    {
                        return result;
                    }
                }
            }
        }
    }

    fn board<'a>(&'a self, account: &'a AccountId) -> Seat<'a, T> {
        match self.under_way.entry(account.clone()) {
            Entry::Occupied(flight) => Seat::Passenger(flight.get().clone()),
            Entry::Vacant(start) => {
                let (landing, passengers) = watch::channel(None);
                start.insert(passengers);
                Seat::Pilot(Pilot { flights: self, account, landing })
            }
        }
    }
}

impl<T> Pilot<'_, T> {
    /// The entry goes first: whoever comes from now on wants work begun after this moment.
    fn land(self, result: Result<T, Unavailable>) {
        self.flights.under_way.remove(self.account);
        self.landing.send_replace(Some(result));
    }
}

impl<T> Drop for Pilot<'_, T> {
    fn drop(&mut self) {
        // After a landing the entry may already be the next flight's: leave that one alone.
        self.flights.under_way.remove_if(self.account, |_, flight| flight.same_channel(&self.landing.subscribe()));
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
                let work = || async {
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
    async fn a_pilot_that_goes_away_is_replaced() {
        let flights = Flights::<u32>::new();
        let id = account();
        {
            let mut gone = Box::pin(flights.run(&id, std::future::pending));
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(gone.as_mut().poll(cx).is_pending())).await);
            assert_eq!(flights.under_way.len(), 1);
        }
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
