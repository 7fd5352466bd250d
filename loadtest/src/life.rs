//! The life of one call: reserve, the upstream's work, and what fate has for it. Every answer is
//! checked on the way (`answers`), and the journal booked.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{Method, body::Bytes};
use tokio::{
    sync::Semaphore,
    time::{sleep, sleep_until},
};

use crate::{
    client::{Client, Reply},
    denial,
    journal::Journal,
    meter::{Meter, Verb},
    schedule::Due,
    wire,
    workload::{Call, Fate, Repeat, Workload},
};

/// Holds that wait for their expiry before they are settled.
const LATE_MAX: u32 = 100_000;
/// Calls that nobody answered are told one by one up to here.
const COMPLAINTS_MAX: u64 = 10;
/// Sure to be after the deadline, which began before the answer to the reserve.
const LATE_BY: Duration = Duration::from_millis(50);

/// A step nobody answered: it is repeated before the audit.
#[derive(Debug)]
struct Doubt {
    call: Call,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A reserve that may or may not have been granted: it is given back.
    GiveBack,
    /// The call's own last step.
    Last,
}

/// What all calls of a run share.
pub struct Stage {
    pub workload: Workload,
    pub journal: Journal,
    pub gateway: Client,
    pub meter: Meter,
    doubts: Mutex<Vec<Doubt>>,
    late: Arc<Semaphore>,
    complaints: AtomicU64,
}

impl Stage {
    #[must_use]
    pub fn new(workload: Workload, journal: Journal, gateway: Client, meter: Meter) -> Self {
        let late = Arc::new(Semaphore::new(LATE_MAX as usize));
        Self { workload, journal, gateway, meter, doubts: Mutex::default(), late, complaints: AtomicU64::new(0) }
    }

    /// Lives the call. Its reserve was due at `due`.
    pub async fn live(self: &Arc<Self>, call: Call, due: Due) {
        if self.reserve(&call, due).await {
            let answered = Instant::now();
            if call.repeat == Some(Repeat::Reserve) {
                self.repeat_reserve(&call).await;
            }
            match call.fate {
                Fate::Lost => self.journal.lost(&call),
                Fate::Late => return self.settle_late(call, answered).await,
                Fate::Settle | Fate::Release | Fate::ClientAbort | Fate::UpstreamError => {
                    let due = self.work(&call, answered).await;
                    self.end(&call, due).await;
                }
            }
        }
        self.meter.done();
    }

    /// Waits until every late settle has been sent.
    pub async fn drain(&self) {
        // The semaphore is never closed.
        let _ = self.late.acquire_many(LATE_MAX).await;
    }

    /// Repeats what nobody answered until somebody does.
    ///
    /// # Errors
    /// How many steps remain in doubt: no audit can be exact.
    pub async fn resolve(&self) -> Result<(), String> {
        let doubts = std::mem::take(&mut *self.doubts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = doubts.len();
        for doubt in doubts {
            let account = self.account(&doubt.call);
            match doubt.step {
                Step::Last => self.end(&doubt.call, Due::at(Instant::now())).await,
                Step::GiveBack => {
                    let body = wire::release(account, &doubt.call);
                    if let Some(reply) = self.send(&doubt.call, Verb::Release, None, "/v1/release", body).await {
                        self.expect(&doubt.call, "release", &reply, 200);
                        self.journal.released(&doubt.call);
                    } else {
                        self.doubt(&doubt.call, Step::GiveBack);
                    }
                }
            }
            if !self.doubts.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return Err(format!("{left} calls were never answered; the audit cannot be exact"));
            }
            left -= 1;
        }
        Ok(())
    }

    /// True when the hold was granted.
    async fn reserve(&self, call: &Call, due: Due) -> bool {
        let promise = self.journal.promise(call);
        let body = wire::reserve(&self.workload, self.account(call), call);
        let Some(reply) = self.send(call, Verb::Reserve, Some(due), "/v1/reserve", body).await else {
            self.doubt(call, Step::GiveBack);
            return false;
        };
        let Some(answer) = self.read(call, "reserve", &reply) else { return false };
        let certain = reply.attempts == 1;
        match reply.status.as_u16() {
            200 => {
                self.check_grant(call, &answer);
                self.journal.granted(call);
                true
            }
            402 | 403 | 429 => {
                if !certain {
                    self.doubt(call, Step::GiveBack);
                }
                let judged = denial::judge(call, &answer).and_then(|denial| {
                    self.meter.denied(denial.code);
                    self.journal.denied(call, &promise, denial.ceiling, certain)
                });
                if let Err(problem) = judged {
                    self.finding(call, &problem);
                }
                false
            }
            // Granted to an earlier attempt whose answer was lost, and expired since.
            409 if !certain && answer.code.as_deref() == Some("already_released") => {
                self.journal.released(call);
                false
            }
            _ => {
                self.unexpected(call, "reserve", &reply);
                self.doubt(call, Step::GiveBack);
                false
            }
        }
    }

    /// The upstream's work; the instant the last step is due.
    async fn work(&self, call: &Call, answered: Instant) -> Due {
        if call.work.is_zero() {
            return Due::at(Instant::now());
        }
        let planned = answered + call.work;
        sleep_until(planned.into()).await;
        Due::after_wait(planned, Instant::now())
    }

    /// Settles when the hold has expired, without keeping the caller.
    async fn settle_late(self: &Arc<Self>, call: Call, answered: Instant) {
        let Ok(permit) = Arc::clone(&self.late).acquire_owned().await else { return };
        let stage = Arc::clone(self);
        let ttl = Duration::from_millis(self.workload.profile.lost_ttl_ms);
        // Joined by `drain`, through the permit.
        tokio::spawn(async move {
            sleep((ttl + LATE_BY).saturating_sub(answered.elapsed())).await;
            stage.end(&call, Due::at(Instant::now())).await;
            stage.meter.done();
            drop(permit);
        });
    }

    /// The call's last step (settle or release), and its repetition if it has one.
    async fn end(&self, call: &Call, due: Due) {
        let (path, body) = wire::last_step(&self.workload, self.account(call), call);
        let verb = if call.fate == Fate::Release { Verb::Release } else { Verb::Settle };
        if verb == Verb::Settle {
            self.journal.charging(call);
        }
        let first = self.send(call, verb, Some(due), path, body.clone());
        let (first, second) = if call.repeat == Some(Repeat::Together) {
            tokio::join!(first, self.send(call, Verb::Repeat, None, path, body.clone()))
        } else {
            (first.await, None)
        };
        let Some(first) = first else {
            self.doubt(call, Step::Last);
            return;
        };
        let Some(answer) = self.read(call, verb.as_str(), &first) else { return };
        if first.status != 200 {
            self.unexpected(call, verb.as_str(), &first);
            return;
        }
        if verb == Verb::Settle {
            self.check_settle(call, &answer, &first);
            self.journal.charged(call);
        } else {
            self.check_release(call, &answer, &first);
            self.journal.released(call);
        }
        if let Some(second) = second {
            self.check_twin(call, verb, (&answer, &first), &second);
        }
        match call.repeat {
            Some(Repeat::Settle) => self.repeat_end(call, verb, path, body).await,
            Some(Repeat::Conflict) => self.conflict(call).await,
            Some(Repeat::Reserve | Repeat::Together) | None => {}
        }
    }

    /// Sends a call and measures it; `None` when nobody answered. Without `due` it is due now.
    pub(crate) async fn send(
        &self,
        call: &Call,
        verb: Verb,
        due: Option<Due>,
        path: &str,
        body: Bytes,
    ) -> Option<Reply> {
        let due = due.unwrap_or_else(|| Due::at(Instant::now()));
        match self.gateway.call(Method::POST, path, Some(body)).await {
            Ok(reply) => {
                self.meter.record(verb, due.latency(Instant::now()));
                Some(reply)
            }
            Err(in_doubt) => {
                // A call sent again on purpose proves nothing when it is not answered, and changes nothing.
                if verb != Verb::Repeat && self.complaints.fetch_add(1, Ordering::Relaxed) < COMPLAINTS_MAX {
                    eprintln!("{} {}: {}", self.account(call), wire::id(call), in_doubt.0);
                }
                None
            }
        }
    }

    fn doubt(&self, call: &Call, step: Step) {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).push(Doubt { call: call.clone(), step });
    }

    pub(crate) fn account(&self, call: &Call) -> &str {
        &self.journal.names()[call.account]
    }
}
