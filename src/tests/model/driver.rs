//! Random calls, each made to the real counters and to the model. Few accounts, keys, ids and
//! limits, so that calls meet each other: replays, conflicts, reorderings, expiries and rolling
//! windows are the rule here, not the exception.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use quotad::{
    engine::ports::{Reply, Status},
    quota::{
        clock::Millis,
        counter::{AccountCounters, Head},
        id::{AccountId, KeyId, ReservationId},
        policy::Group,
        reservation::{Record, State},
    },
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Model, compare::Differences, server::Real};

/// Balance that every account is loaded with.
pub const OPENING: i64 = 5_000;
pub struct Driver {
    pub(super) seed: u64,
    pub(super) random: StdRng,
    pub(super) real: Real,
    pub model: Model,
    pub(super) accounts: Vec<AccountId>,
    pub(super) keys: [KeyId; 2],
    /// Ids are drawn from a window that slides, so that there are always fresh ones.
    pub(super) first_id: u64,
    /// The calendar of the test: windows begin when it says so.
    pub(super) calendar_s: u32,
    /// Policy version that most calls come with.
    pub(super) version: u32,
    pub(super) operations: u64,
    recent: VecDeque<String>,
    /// How often each verb got each answer: what never happens is not tested.
    pub seen: BTreeMap<(String, String), u64>,
}

impl Driver {
    /// The driver of this number, with accounts of its own, loaded and ready.
    pub async fn new(number: u64, seed: u64, real: Real) -> Self {
        let accounts = (0..3).map(|n| AccountId::new(format!("driver-{number}:{n}")).unwrap()).collect::<Vec<_>>();
        let mut driver = Self {
            seed,
            random: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number)),
            real,
            model: Model::default(),
            accounts,
            keys: [KeyId::new("k-1").unwrap(), KeyId::new("k-2").unwrap()],
            first_id: 0,
            calendar_s: 1_000_000,
            version: 1,
            operations: 0,
            recent: VecDeque::new(),
            seen: BTreeMap::new(),
        };
        for account in driver.accounts.clone() {
            driver.load(&account).await;
        }
        driver
    }

    async fn load(&mut self, account: &AccountId) {
        let counters = Arc::clone(&self.real.counters);
        let head = Head { version: 1, balance: OPENING, ..Head::default() };
        let cold = AccountCounters { head, ..AccountCounters::default() };
        let nonce = counters.begin_load(account).await.expect("a nonce");
        let wrong = counters.hydrate(account, nonce ^ 1, &cold).await.expect("an answer");
        assert_eq!(wrong.status, Status::Idle, "a load with another nonce installs nothing");
        assert_eq!(counters.read_account(account).await.expect("an answer"), None);
        let done = counters.hydrate(account, nonce, &cold).await.expect("an answer");
        assert_eq!(done.status, Status::Done, "the first load installs the account");
        self.model.hydrate(account, &cold);
        let again = counters.hydrate(account, nonce, &cold).await.expect("an answer");
        assert_eq!(again.status, Status::Idle, "a loaded account is not loaded again");
    }

    /// One random operation.
    pub async fn step(&mut self) {
        self.operations += 1;
        if self.chance(15) {
            self.slide().await;
        }
        if self.chance(1) {
            self.calendar_s += 60;
        }
        match self.random.random_range(0..1000) {
            0..370 => self.reserve().await,
            370..540 => self.settle().await,
            540..570 => self.release().await,
            570..670 => self.extend().await,
            670..740 => self.charge().await,
            740..810 => self.refund().await,
            810..880 => self.adjust().await,
            880..888 => self.reset().await,
            888..892 => self.undo().await,
            892..895 => self.unload().await,
            895..975 => self.expire().await,
            975..985 => self.raise_version().await,
            985..990 => self.restore().await,
            _ => self.due().await,
        }
        if self.operations.is_multiple_of(50) {
            self.compare_everything().await;
        }
    }

    /// Moves the window of ids by one. A hold that falls out of it is ended, else old holds would in
    /// the end use up every balance and cap.
    async fn slide(&mut self) {
        let last = ReservationId::new(format!("r-{}", self.first_id)).unwrap();
        self.first_id += 1;
        for account in self.accounts.clone() {
            if self.model.record(&account, &last).is_some_and(|record| record.state == State::Held) {
                self.release_one(&account, &last).await;
            }
        }
    }

    pub(super) fn compare(
        &mut self,
        what: String,
        account: &AccountId,
        reply: Result<Reply, quotad::engine::ports::Unavailable>,
        groups: &[Group],
        decide: impl FnOnce(&mut Model, Millis) -> Reply,
    ) {
        let before = self.model.accounts.get(account).map(|account| account.head.now);
        let reply = reply.unwrap_or_else(|error| panic!("seed {}: {what}: {error}", self.seed));
        let expected = decide(&mut self.model, reply.now);
        let mut differences = Differences::default();
        let named: Vec<usize> = groups.iter().map(|group| group.gauges.len()).collect();
        differences.reply(&reply, &expected, &named);
        let verb = what.split([' ', '{']).next().unwrap_or_default().to_owned();
        *self.seen.entry((verb, format!("{:?}", reply.status))).or_default() += 1;
        self.recent.push_back(format!("{} {:?} at {}: {what}", self.operations, reply.status, reply.now.0));
        if self.recent.len() > 400 {
            self.recent.pop_front();
        }
        if !differences.is_empty() {
            self.fail(account, &format!("{}\nreal:  {reply:?}\nmodel: {expected:?}", differences.0));
        }
        assert!(Some(reply.now) >= before, "seed {}: time went back: {before:?} then {}", self.seed, reply.now);
    }

    pub(super) fn fail(&self, account: &AccountId, what: &str) -> ! {
        let about: Vec<&String> = self.recent.iter().filter(|line| line.contains(account.as_str())).collect();
        let story: Vec<String> = about.iter().rev().take(25).rev().map(|line| format!("  {line}")).collect();
        panic!(
            "operation {} of {account} differs (replay with QUOTAD_SEED={}):\n{what}\nlast operations:\n{}",
            self.operations,
            self.seed,
            story.join("\n")
        );
    }

    pub(super) async fn compare_record(&self, account: &AccountId, id: &ReservationId, expected: &Record) {
        let real = self.real.counters.read_record(account, id).await.expect("an answer");
        let mut differences = Differences::default();
        match real {
            Some(real) => differences.record(&format!("{id}"), &real, expected),
            None => differences.0.push_str("the record is gone"),
        }
        if !differences.is_empty() {
            self.fail(account, &differences.0);
        }
    }

    /// Every counter and every live hold of the accounts.
    pub async fn compare_everything(&mut self) {
        for account in self.accounts.clone() {
            let (now, real) =
                self.real.counters.read_account(&account).await.expect("an answer").expect("it is loaded");
            let mut differences = Differences::default();
            let expected = &self.model.accounts[&account];
            differences.account(&real, &expected.counters());
            if !differences.is_empty() {
                self.fail(&account, &differences.0);
            }
            assert!(real.head.now <= now && real.head.now >= expected.head.now, "{account}: the stored time");
            for ((owner, id), record) in &self.model.records {
                if *owner == account && record.state == State::Held {
                    self.compare_record(&account, id, record).await;
                }
            }
        }
    }
}
