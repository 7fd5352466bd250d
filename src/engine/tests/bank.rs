//! Scripts that grant, hold and charge from a balance, for the tests of trust.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, Ordering},
};

use super::{
    account, done,
    fake::{Fake, Seen, World, record, reply, with_record},
    reservation, reserve,
};
use crate::{
    engine::{
        Engine, Settings,
        ports::{Reply, Status},
        reserve::{Ask, Reserve, Reserved},
    },
    quota::{
        counter::{Head, KeyCounter, WindowCounter, WindowCounters},
        policy::Gauge,
        reservation::{Flags, Record, State},
    },
};

/// A threshold of 10 000 units for four sidecars: 2 500 for this one.
pub fn trusting() -> Settings {
    super::with(|values| values.trust_threshold = Some(10_000))
}

/// Scripts that grant, hold and charge everything, from a balance; the windows say `used` and `held`.
pub struct Bank {
    pub head: Mutex<Head>,
    pub key_used: AtomicI64,
    pub window_used: AtomicI64,
}

impl Bank {
    fn answer(&self, world: &World, seen: &Seen) -> Reply {
        let mut head = self.head.lock().unwrap();
        head.version = world.policies[&account()].version;
        let mut left = record(State::Held);
        match seen.verb {
            "reserve" if seen.version < head.version => return Reply { head: Some(*head), ..reply(Status::Stale) },
            "reserve" if seen.refusal.is_some() => return Reply { head: Some(*head), ..reply(Status::Denied) },
            "reserve" if head.balance + seen.credit_limit - head.held < seen.amount => {
                return Reply { head: Some(*head), ..reply(Status::InsufficientBalance) };
            }
            "reserve" => {
                head.held += seen.amount;
                left = Record { held: seen.amount, fingerprint: seen.fingerprint, ..left };
            }
            "charge" => {
                head.balance -= seen.amount;
                let flags = Flags(Flags::UNRESERVED);
                left = Record { state: State::Settled, flags, held: 0, charged: seen.amount, ..left };
            }
            "settle" => left = Record { state: State::Settled, charged: 1, ..left },
            "release" => left = Record { state: State::Released, held: 0, ..left },
            _ => {}
        }
        let key =
            seen.key.as_ref().map(|_| KeyCounter { used: self.key_used.load(Ordering::Relaxed), held: 0, requests: 0 });
        let used = self.window_used.load(Ordering::Relaxed);
        let windows = seen.groups.iter().map(|group| -> WindowCounters {
            let counter =
                |gauge: &Gauge| WindowCounter { code: gauge.limit.code(), start_s: gauge.start_s, used, held: 0 };
            group.gauges.iter().map(counter).collect()
        });
        Reply { head: Some(*head), key, windows: windows.collect(), ..with_record(Status::Done, left) }
    }
}

pub fn bank(settings: Settings, balance: i64) -> (Arc<Bank>, Arc<Fake>, Arc<Engine>) {
    let head = Mutex::new(Head { version: 1, balance, ..Head::default() });
    let bank = Arc::new(Bank { head, key_used: AtomicI64::new(0), window_used: AtomicI64::new(0) });
    let scripts = bank.clone();
    let (fake, engine) = Fake::with(settings, move |world, seen| scripts.answer(world, seen));
    (bank, fake, engine)
}

pub fn named(id: &str, amount: i64) -> Reserve {
    Reserve { id: reservation(id), ..reserve(Ask::Units(amount)) }
}

pub async fn ask(engine: &Engine, ask: &Reserve) -> (Reserved, bool) {
    done(engine.reserve(ask).await.unwrap())
}

/// The first call brings the numbers that the next ones are trusted by.
pub async fn warmed(settings: Settings, balance: i64) -> (Arc<Bank>, Arc<Fake>, Arc<Engine>) {
    let (bank, fake, engine) = bank(settings, balance);
    assert!(!ask(&engine, &named("warm", 0)).await.0.trusted);
    (bank, fake, engine)
}
