//! Ports that answer what a test tells them to, and remember what they were asked.

mod counters;
mod onboarding;
mod store;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use smallvec::SmallVec;

use super::{account, settings};
use crate::{
    engine::{
        Engine, Settings,
        ports::{
            Cost, OpRecord, Position, Posted, Provisioned, Reply, Status, StoredSettings, Transferred, Unavailable,
        },
    },
    quota::{
        change::Change,
        clock::{Clock, Millis, local_now},
        counter::{AccountCounters, Head},
        defaults::{Defaults, Layer},
        entry::{Entry, Kind},
        fingerprint::Fingerprint,
        id::{AccountId, KeyId, ReservationId},
        policy::{Group, Policy},
        reservation::{Flags, Record, State},
        tally::Tally,
        verdict::Code,
    },
};

/// A port call, as far as tests look at it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub verb: &'static str,
    pub id: String,
    pub version: u32,
    pub amount: i64,
    pub min_amount: i64,
    pub tokens: Option<i64>,
    pub prompt_cost: i64,
    pub cost: Option<Cost>,
    pub key: Option<KeyId>,
    pub refusal: Option<Code>,
    pub groups: Vec<Group>,
    pub windows_from: Millis,
    pub credit_limit: i64,
    pub allowance: Option<i64>,
    pub price_tag: Option<Vec<u8>>,
    pub fingerprint: Fingerprint,
    pub force: bool,
    pub unreserved: bool,
    pub check_only: bool,
    pub clamped: bool,
    pub kind: Option<Kind>,
    pub log: String,
}

type Script = Box<dyn Fn(&World, &Seen) -> Reply + Send + Sync>;

/// What the ports hold; tests set it before and look at it after.
#[derive(Default)]
pub struct World {
    pub seen: Vec<Seen>,
    pub policies: HashMap<AccountId, Policy>,
    pub secrets: HashMap<[u8; 32], (AccountId, KeyId)>,
    pub posted: Option<Posted>,
    pub counters: Option<AccountCounters>,
    pub record: Option<Record>,
    pub ledger_record: Option<Record>,
    pub ledger_down: bool,
    pub restored: Option<Record>,
    pub operation: Option<Entry>,
    /// Every script answers so.
    pub outage: Option<Unavailable>,
    /// The database takes questions and never answers, until this is false again.
    pub store_hangs: bool,
    pub due: Vec<(AccountId, ReservationId)>,
    /// What the ledger adds up to, when that is not what is posted.
    pub tally: Option<Tally>,
    pub tail: Vec<(Position, Entry)>,
    /// What the next drains answer.
    pub tops: Vec<Position>,
    pub holds: Vec<(ReservationId, Record)>,
    pub unlisted: Vec<(ReservationId, Record)>,
    pub deadlines: Vec<(ReservationId, Millis)>,
    /// Pages of loaded accounts, of shard 1.
    pub loaded: Vec<Vec<(AccountId, Millis)>>,
    pub tariffs: Vec<Vec<u8>>,
    pub settings: StoredSettings,
    /// Rows of the audit that the engine asked for.
    pub changes: Vec<Change>,
    pub defaults: BTreeMap<Layer, Defaults>,
    /// How the next provisioning and the next transfer end in the store.
    pub provisioned: Option<Provisioned>,
    pub transferred: Option<Transferred>,
    pub era: u64,
}

pub struct Fake {
    pub state: Mutex<World>,
    script: Script,
}

impl World {
    /// How often a port was called.
    pub fn count(&self, verb: &str) -> usize {
        self.seen.iter().filter(|seen| seen.verb == verb).count()
    }

    pub fn of(&self, verb: &str) -> Vec<Seen> {
        self.seen.iter().filter(|seen| seen.verb == verb).cloned().collect()
    }
}

impl Fake {
    /// An engine over ports whose scripts answer by `script`, which sees the call among all calls
    /// so far (itself included). The account `a` exists with policy version 1.
    pub fn new(script: impl Fn(&World, &Seen) -> Reply + Send + Sync + 'static) -> (Arc<Self>, Arc<Engine>) {
        Self::with(settings(), script)
    }

    pub fn with(
        settings: Settings,
        script: impl Fn(&World, &Seen) -> Reply + Send + Sync + 'static,
    ) -> (Arc<Self>, Arc<Engine>) {
        let mut state = World { posted: Some(Posted::default()), ..World::default() };
        state.policies.insert(account(), super::policy(1));
        let fake = Arc::new(Self { state: Mutex::new(state), script: Box::new(script) });
        let clock = Arc::new(Clock::default());
        let engine = Engine::new(fake.clone(), fake.clone(), fake.clone(), fake.clone(), clock, settings);
        (fake, Arc::new(engine))
    }

    pub fn set(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.state.lock().unwrap());
    }

    pub fn seen(&self, verb: &str) -> Vec<Seen> {
        self.state.lock().unwrap().of(verb)
    }

    fn note(&self, verb: &'static str, id: &str) {
        self.set(|state| state.seen.push(Seen { verb, id: id.to_owned(), ..Seen::default() }));
    }

    /// Ends when the database answers.
    async fn store(&self) {
        while self.state.lock().unwrap().store_hangs {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Yields, so that concurrent calls really overlap.
    async fn answer(&self, seen: Seen) -> Result<Reply, Unavailable> {
        tokio::task::yield_now().await;
        let mut state = self.state.lock().unwrap();
        state.seen.push(seen.clone());
        if let Some(unavailable) = &state.outage {
            return Err(unavailable.clone());
        }
        Ok((self.script)(&state, &seen))
    }
}

/// A reply with a head of 1 000 000 units and nothing else.
pub fn reply(status: Status) -> Reply {
    let head = Head { version: 1, balance: 1_000_000, ..Head::default() };
    Reply { status, now: local_now(), head: Some(head), key: None, record: None, op: None, windows: SmallVec::new() }
}

pub fn record(state: State) -> Record {
    Record {
        state,
        flags: Flags::default(),
        fingerprint: Fingerprint::default(),
        created: Millis(1),
        expires: Millis(2),
        held: 120,
        tokens: 0,
        prompt_cost: 0,
        charged: 0,
        refunded: 0,
        overdraft: 0,
        parts: 0,
        key: None,
        price_tag: Vec::new(),
        windows: SmallVec::new(),
    }
}

pub fn with_record(status: Status, record: Record) -> Reply {
    Reply { record: Some(record), ..reply(status) }
}

pub fn granted() -> Reply {
    with_record(Status::Done, record(State::Held))
}

/// To a call while the account is loaded on the way: absent at first, then granted.
pub fn loading(world: &World, verb: &str) -> Reply {
    match verb {
        "hydrate" | "adjust" | "raise" => reply(Status::Done),
        _ if world.counters.is_none() => Reply { head: None, ..reply(Status::Absent) },
        _ => granted(),
    }
}

pub fn with_op(status: Status, amount: i64, fingerprint: Fingerprint) -> Reply {
    Reply { op: Some(OpRecord { amount, balance: 0, at: Millis(1), fingerprint }), ..reply(status) }
}
