//! The journal: what every account must look like when all is done, kept by the client that made
//! the calls. It never takes a number from the server; it books what it worked out itself once the
//! server has acknowledged the call.
//!
//! Beside that it bounds what each account can possibly have promised and spent at any moment, so
//! that a denial can be told apart from a mistake: a denial is plausible only if, with everything in
//! flight counted against the account, there might not have been enough.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use serde_json::json;

use crate::{
    profile::Metric,
    workload::{Call, Tight, Workload},
};

/// Findings kept word for word; more are only counted.
const FINDINGS_MAX: usize = 100;
/// A cap or number of requests that no run reaches.
pub const WIDE: i64 = 1_000_000_000_000_000;

/// What an account may spend: what set-up tells the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub balance: i64,
    /// Of each key; `None` is unlimited.
    pub allowance: Option<i64>,
    /// One for each of the profile's limits.
    pub caps: Vec<i64>,
}

impl Terms {
    #[must_use]
    pub fn of(workload: &Workload, account: usize) -> Self {
        let profile = &workload.profile;
        let tight = workload.tight(account);
        let poor = |kind| tight == Some(kind);
        let first_cost = profile.limits.iter().position(|limit| limit.metric == Metric::Cost);
        let cap = |index| if poor(Tight::Cap) && Some(index) == first_cost { profile.tight_amount } else { WIDE };
        Self {
            balance: if poor(Tight::Balance) { profile.tight_amount } else { profile.initial_balance },
            allowance: poor(Tight::Allowance).then_some(profile.tight_amount),
            caps: (0..profile.limits.len()).map(cap).collect(),
        }
    }
}

/// Settled cost and settled requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub used: i64,
    pub requests: i64,
}

impl Tally {
    fn add(&mut self, units: i64) {
        self.used += units;
        self.requests += 1;
    }
}

/// Upper bounds of what may be held and spent.
#[derive(Clone, Copy, Debug, Default)]
struct Exposure {
    /// Of calls that may hold something now.
    held: i64,
    /// Of all reserves ever sent.
    promised: i64,
    /// Of all settles ever sent.
    spent: i64,
}

impl Exposure {
    /// The most that can have been held and spent at any moment between `then` and now, the call
    /// that promised `own` left out.
    fn most_since(&self, then: &Exposure, own: i64) -> i64 {
        self.spent + then.held + (self.promised - then.promised) - own
    }
}

#[derive(Debug)]
struct Book {
    terms: Terms,
    all: Tally,
    keys: Vec<Tally>,
    /// By model of the profile.
    models: Vec<Tally>,
    exposure: Exposure,
    key_exposure: Vec<Exposure>,
}

/// How things stood before a reserve was sent.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    account: Exposure,
    key: Exposure,
}

/// Which kind of ceiling a denial claims was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    Balance,
    Allowance,
    Cap,
}

/// What an account must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub account: String,
    pub balance: i64,
    pub all: Tally,
    /// In the order of the keys' names `k0`, `k1` …
    pub keys: Vec<Tally>,
    /// What each of the profile's limits has counted, if all calls fell into one window.
    pub windows: Vec<i64>,
}

/// The books of all accounts, and what was found wrong on the way.
pub struct Journal {
    names: Vec<String>,
    books: Vec<Mutex<Book>>,
    findings: Mutex<Vec<String>>,
    found: AtomicU64,
    file: Option<Mutex<BufWriter<File>>>,
}

/// A line of the journal's file.
#[derive(Serialize)]
struct Line<'a> {
    account: &'a str,
    call: u64,
    event: &'a str,
    units: i64,
}

impl Journal {
    /// Opens the books of accounts `load-<run>-<n>`, and the file if a path is given.
    ///
    /// # Errors
    /// A sentence when the file cannot be made.
    pub fn open(workload: &Workload, run: &str, path: Option<&Path>) -> Result<Self, String> {
        let accounts = workload.profile.accounts as usize;
        let keys = workload.profile.keys as usize;
        let book = |account| Book {
            terms: Terms::of(workload, account),
            all: Tally::default(),
            keys: vec![Tally::default(); keys],
            models: vec![Tally::default(); workload.profile.models.len()],
            exposure: Exposure::default(),
            key_exposure: vec![Exposure::default(); keys],
        };
        let file = path
            .map(|path| {
                File::create(path).map_err(|error| format!("the journal {} cannot be made: {error}", path.display()))
            })
            .transpose()?;
        Ok(Self {
            names: (0..accounts).map(|account| format!("load-{run}-{account}")).collect(),
            books: (0..accounts).map(|account| Mutex::new(book(account))).collect(),
            findings: Mutex::new(Vec::new()),
            found: AtomicU64::new(0),
            file: file.map(|file| Mutex::new(BufWriter::new(file))),
        })
    }

    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    #[must_use]
    pub fn terms(&self, account: usize) -> Terms {
        lock(&self.books[account]).terms.clone()
    }

    /// Before a reserve is sent.
    pub fn promise(&self, call: &Call) -> Promise {
        let book = &mut *lock(&self.books[call.account]);
        let before = Promise { account: book.exposure, key: book.key_exposure[call.key] };
        for exposure in [&mut book.exposure, &mut book.key_exposure[call.key]] {
            exposure.held += call.hold;
            exposure.promised += call.hold;
        }
        before
    }

    /// The reserve was granted.
    pub fn granted(&self, call: &Call) {
        self.write(call, "reserve", call.hold);
    }

    /// The reserve was denied. `certain` is false when an earlier attempt may yet be granted behind
    /// our back; then what it would hold stays counted. Answers a sentence when the denial cannot be
    /// right.
    pub fn denied(&self, call: &Call, promise: &Promise, ceiling: Ceiling, certain: bool) -> Result<(), String> {
        self.write(call, "denied", call.hold);
        let book = &mut *lock(&self.books[call.account]);
        let most = book.exposure.most_since(&promise.account, call.hold);
        let key_most = book.key_exposure[call.key].most_since(&promise.key, call.hold);
        if certain {
            book.exposure.held -= call.hold;
            book.key_exposure[call.key].held -= call.hold;
        }
        let (what, ceiling, most) = match ceiling {
            Ceiling::Balance => ("balance", book.terms.balance, most),
            Ceiling::Allowance => ("key's allowance", book.terms.allowance.unwrap_or(i64::MAX), key_most),
            Ceiling::Cap => ("lowest cap", book.terms.caps.iter().copied().min().unwrap_or(i64::MAX), most),
        };
        if ceiling.saturating_sub(most) < call.hold {
            return Ok(());
        }
        Err(format!(
            "{} call {}: denied {} units although of the {what} of {ceiling} at most {most} can have been used or held",
            self.names[call.account], call.index, call.hold
        ))
    }

    /// Before the settle is sent.
    pub fn charging(&self, call: &Call) {
        let book = &mut *lock(&self.books[call.account]);
        book.exposure.spent += call.cost;
        book.key_exposure[call.key].spent += call.cost;
    }

    /// The settle was acknowledged: the cost is booked.
    pub fn charged(&self, call: &Call) {
        self.write(call, "settle", call.cost);
        let book = &mut *lock(&self.books[call.account]);
        book.all.add(call.cost);
        book.keys[call.key].add(call.cost);
        book.models[call.model].add(call.cost);
        book.exposure.held -= call.hold;
        book.key_exposure[call.key].held -= call.hold;
    }

    /// The release was acknowledged (or the hold found expired): nothing is held, nothing was charged.
    pub fn released(&self, call: &Call) {
        self.write(call, "release", 0);
        let book = &mut *lock(&self.books[call.account]);
        book.exposure.held -= call.hold;
        book.key_exposure[call.key].held -= call.hold;
    }

    /// The call is left to expire. It stays counted as held: nobody tells us when it ends.
    pub fn lost(&self, call: &Call) {
        self.write(call, "lost", call.hold);
    }

    /// Notes something that must not happen.
    pub fn finding(&self, sentence: String) {
        self.found.fetch_add(1, Ordering::Relaxed);
        let mut findings = lock(&self.findings);
        if findings.len() < FINDINGS_MAX {
            findings.push(sentence);
        }
    }

    /// What was found, and how much more there was.
    #[must_use]
    pub fn findings(&self) -> (Vec<String>, u64) {
        let findings = lock(&self.findings).clone();
        let more = self.found.load(Ordering::Relaxed) - findings.len() as u64;
        (findings, more)
    }

    /// What every account must look like now.
    #[must_use]
    pub fn expected(&self, workload: &Workload) -> Vec<Expected> {
        let profile = &workload.profile;
        let window = |book: &Book, limit: &crate::profile::Limit| -> i64 {
            let counted = |(model, tally): (&crate::profile::Model, &Tally)| {
                let falls_under = limit.platform == "*" || limit.platform == model.platform;
                match limit.metric {
                    _ if !falls_under => 0,
                    Metric::Cost => tally.used,
                    Metric::Requests => tally.requests,
                }
            };
            profile.models.iter().zip(&book.models).map(counted).sum()
        };
        let expected = |(name, book): (&String, &Mutex<Book>)| {
            let book = lock(book);
            Expected {
                account: name.clone(),
                balance: book.terms.balance - book.all.used,
                all: book.all,
                keys: book.keys.clone(),
                windows: profile.limits.iter().map(|limit| window(&book, limit)).collect(),
            }
        };
        self.names.iter().zip(&self.books).map(expected).collect()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// A sentence when it could not be written.
    pub fn close(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        lock(file).flush().map_err(|error| format!("the journal's file could not be written: {error}"))
    }

    fn write(&self, call: &Call, event: &str, units: i64) {
        let Some(file) = &self.file else { return };
        let line = Line { account: &self.names[call.account], call: call.index, event, units };
        // A full disk must not stop the run; it is reported when the file is closed.
        let _ = writeln!(lock(file), "{}", json!(line));
    }
}

/// A panic elsewhere does not make the numbers wrong: every change is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
