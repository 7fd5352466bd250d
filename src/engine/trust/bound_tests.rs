//! The bound, on standings that share a balance: replies overtake each other, several scripts fall in one
//! millisecond, sidecars grant on numbers that are up to a second old; and at no moment is there less
//! money than trusted work in flight.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use smallvec::SmallVec;

use super::{
    fund::Moment,
    standing::Standing,
    work::{Question, Slot, Work},
};
use crate::{
    engine::{
        policies::{Ready, Rules, Terms},
        ports::{Reply, Status},
    },
    quota::{
        clock::Millis,
        counter::Head,
        fingerprint::Fingerprint,
        id::{AccountId, ReservationId},
        policy::{AccountStatus, Ask, Policy, Trust},
        tariff::Tariff,
        trust::Rule,
        window::Zone,
    },
};

const THRESHOLD: i64 = 1_000;

fn policy() -> Policy {
    Policy {
        account: AccountId::new("a").unwrap(),
        version: 1,
        status: AccountStatus::Enabled,
        group: "default".into(),
        credit_limit: 0,
        zone: Zone::utc(),
        trust: Trust::Above(THRESHOLD),
        on_unavailable: None,
        limits: Vec::new(),
        keys: std::collections::HashMap::new(),
        name: None,
        contact: None,
    }
}

static READY: LazyLock<Arc<Ready>> = LazyLock::new(|| {
    let terms = Terms { tariff: Arc::new(Tariff::builtin()), tables: Arc::default() };
    let ask = Ask { key: None, platform: None, model: None, client_ip: None, now: Millis(1) };
    Rules::new(policy(), 0).admit(&ask, None, &terms)
});

pub(super) fn work(amount: i64, until: Instant) -> Work {
    Work {
        fingerprint: Fingerprint::default(),
        amount,
        tokens: 0,
        prompt_cost: 0,
        ready: READY.clone(),
        expires_at: Millis(0),
        until,
    }
}

/// A script on its way: to Redis while it has no reply, back from there when it has one.
struct Call {
    sidecar: usize,
    sent: Instant,
    /// The trusted work that it charges, and for how much.
    charges: Option<(ReservationId, i64)>,
    reply: Option<Reply>,
}

struct World {
    random: StdRng,
    begun: Instant,
    ms: u64,
    balance: i64,
    rule: Rule,
    standings: Vec<Standing>,
    /// Works in flight whose charge was not sent, by sidecar.
    works: Vec<Vec<(ReservationId, i64)>>,
    calls: Vec<Call>,
    ids: u64,
    granted: u64,
}

impl World {
    fn new(seed: u64, sidecars: u32, balance: i64) -> Self {
        let begun = Instant::now();
        Self {
            random: StdRng::seed_from_u64(seed),
            begun,
            ms: 0,
            balance,
            rule: Rule::of(&policy(), None, sidecars).unwrap(),
            standings: (0..sidecars).map(|_| Standing::new(0, begun)).collect(),
            works: (0..sidecars).map(|_| Vec::new()).collect(),
            calls: Vec::new(),
            ids: 0,
            granted: 0,
        }
    }

    fn at(&self) -> Instant {
        self.begun + Duration::from_millis(self.ms)
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn reserve(&mut self, sidecar: usize) {
        let (at, amount) = (self.at(), self.random.random_range(0..120));
        let admission = &READY.admission;
        let question = Question { rule: self.rule, version: 1, key: None, admission, amount, at, era: 0 };
        if !self.standings[sidecar].admits(&question) {
            // Redis is asked; what it holds is given back there at once.
            self.calls.push(Call { sidecar, sent: at, charges: None, reply: None });
            return;
        }
        self.ids += 1;
        self.granted += 1;
        let id = ReservationId::new(self.ids.to_string()).unwrap();
        self.standings[sidecar].take_up(&id, work(amount, at + Duration::from_secs(3_600)));
        self.works[sidecar].push((id, amount));
    }

    fn settle(&mut self, sidecar: usize) {
        if self.works[sidecar].is_empty() {
            return;
        }
        let which = self.below(self.works[sidecar].len());
        let (id, amount) = self.works[sidecar].swap_remove(which);
        let cost = if self.below(3) == 0 { self.random.random_range(0..=amount) } else { amount };
        self.calls.push(Call { sidecar, sent: self.at(), charges: Some((id, cost)), reply: None });
    }

    /// Redis runs one of the scripts, or a sidecar gets one of the replies.
    fn proceed(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let which = self.below(self.calls.len());
        let (at, now) = (self.at(), Millis(self.ms as i64));
        let call = &mut self.calls[which];
        if call.reply.is_none() {
            self.balance -= call.charges.as_ref().map_or(0, |(_, cost)| *cost);
            let head = Some(Head { version: 1, balance: self.balance, ..Head::default() });
            let (record, op, windows) = (None, None, SmallVec::new());
            call.reply = Some(Reply { status: Status::Done, now, head, key: None, record, op, windows });
            return;
        }
        let call = self.calls.swap_remove(which);
        let standing = &mut self.standings[call.sidecar];
        standing.see(Moment { sent: call.sent, era: 0 }, at, &call.reply.unwrap());
        if let Some((id, _)) = call.charges {
            assert!(matches!(standing.slot(&id), Some(Slot::Trusted(_))));
            standing.know(&id);
        }
    }

    fn step(&mut self) {
        let sidecar = self.below(self.standings.len());
        match self.below(1_000) {
            0..300 => self.reserve(sidecar),
            300..560 => self.settle(sidecar),
            560..960 => self.proceed(),
            960..996 => self.ms += self.random.random_range(0..3),
            _ => self.ms += self.random.random_range(0..700),
        }
    }

    fn check(&self) {
        let in_flight: Vec<i64> = self.standings.iter().map(|standing| standing.account().1).collect();
        let share = THRESHOLD / self.standings.len() as i64;
        assert!(in_flight.iter().all(|units| (0..=share).contains(units)), "{in_flight:?} of {share}");
        // What was charged already, and whose reply is on its way, is counted twice.
        let charged = self.calls.iter().filter(|call| call.reply.is_some()).filter_map(|call| call.charges.as_ref());
        let twice: i64 = charged.map(|(_, cost)| cost).sum();
        let in_flight: i64 = in_flight.iter().sum();
        assert!(self.balance + twice >= in_flight, "{} left, {in_flight} in flight", self.balance);
        assert!(self.balance >= 0);
    }
}

#[test]
fn trusted_work_in_flight_is_never_more_than_there_is() {
    let (mut granted, mut drained) = (0, 0);
    for seed in 0..150 {
        let mut world = World::new(seed, 1 + (seed % 5) as u32, 1_000 + (seed as i64 % 7) * 1_500);
        for step in 0..2_500 {
            world.step();
            world.check();
            // Money comes in now and then.
            if seed % 3 == 0 && step % 500 == 499 {
                world.balance += 700;
            }
        }
        granted += world.granted;
        drained += u64::from(world.balance <= THRESHOLD + THRESHOLD / 2);
    }
    assert!(granted > 10_000 && drained > 30, "{granted} granted, {drained} drained");
}
