//! What a seed decides before anything starts: the deployment, its accounts and the faults.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    dice::Dice,
    fault::{FAIL_POINTS, Fault},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
    MariaDb,
}

#[derive(Clone, Debug)]
pub struct AccountPlan {
    pub name: String,
    pub fields: Value,
    pub keys: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub backend: Backend,
    pub sidecars: usize,
    pub shards: u16,
    pub accounts: Vec<AccountPlan>,
    pub clients: usize,
    pub fsync: &'static str,
    /// A proxy stands between the sidecars and Redis.
    pub proxied: bool,
    /// What happens, and how long all goes well before it.
    pub faults: Vec<(u64, Fault)>,
    pub mutant: Option<&'static str>,
    /// How often write-back looks when there was nothing.
    pub poll_ms: u64,
    /// Accounts leave Redis when nobody uses them for so long.
    pub unload_idle_ms: Option<u64>,
}

/// Nothing happens for this long after the last fault.
pub const LAST_CALM_MS: u64 = 80;
const MUTANT_PATIENCE: Duration = Duration::from_secs(4);

impl Plan {
    /// The deployment of a seed, without faults.
    pub fn calm(seed: u64) -> Self {
        let mut dice = Dice::new(seed).fork(1);
        let accounts = 2 + dice.below(5);
        // What came later has dice of its own, so that seeds stay what they were.
        let mut later = Dice::new(seed).fork(5);
        Self {
            seed,
            backend: Backend::Sqlite,
            sidecars: 1 + dice.below(3),
            shards: dice.pick(&[1, 2, 3, 4]),
            accounts: (0..accounts).map(|number| AccountPlan::draw(number, &mut dice).rolling(&mut later)).collect(),
            clients: 2 + dice.below(2),
            fsync: dice.pick(&["everysec", "always"]),
            proxied: dice.chance(75),
            faults: Vec::new(),
            mutant: None,
            poll_ms: 20,
            unload_idle_ms: later.chance(20).then(|| later.millis(30..=200)),
        }
    }

    pub fn draw(seed: u64) -> Self {
        let mut plan = Self::calm(seed);
        plan.backend = [Backend::Sqlite, Backend::Postgres, Backend::MariaDb][(seed % 3) as usize];
        let mut dice = Dice::new(seed).fork(2);
        let count = 2 + dice.below(3);
        plan.faults = (0..count).map(|_| (dice.millis(60..=300), draw_fault(&mut dice, &plan))).collect();
        // A copy must have been taken to be restored; a replica takes over once.
        if plan.faults.iter().any(|(_, fault)| *fault == Fault::RestoreRedis) {
            plan.faults.insert(0, (dice.millis(50..=200), Fault::CopyRedis));
        }
        if plan.proxied && dice.chance(10) {
            plan.faults.push((dice.millis(60..=300), Fault::Failover(dice.millis(20..=250))));
        }
        plan
    }

    /// How long to wait for something: a mutant may never come to it.
    pub fn within(&self, patience: Duration) -> Duration {
        if self.mutant.is_some() { patience.min(MUTANT_PATIENCE) } else { patience }
    }

    pub fn fails_over(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Failover(_)))
    }
}

fn draw_fault(dice: &mut Dice, plan: &Plan) -> Fault {
    let sidecar = dice.below(plan.sidecars);
    let twice = dice.chance(40);
    match dice.below(if plan.proxied { 24 } else { 22 }) {
        0 | 1 => Fault::KillSidecar(sidecar),
        2 => Fault::KillSidecars,
        3 | 4 => Fault::KillRedis,
        5 => Fault::KillBoth,
        6 | 7 => Fault::CutBlocks { most: dice.pick(&[2, 8, 40, 200]), twice },
        8 | 9 => Fault::CutBytes { most: dice.pick(&[100, 1000, 10_000, 100_000]), twice },
        10 => Fault::TotalLoss,
        11 => Fault::RestoreRedis,
        12 => Fault::FreezeRedis(dice.millis(50..=600)),
        13 => Fault::FreezeSidecar(sidecar, dice.pick(&[200, 200, 700, 700, 3300])),
        14 => Fault::FlushScripts(dice.millis(50..=250)),
        15 if plan.backend == Backend::Sqlite || dice.chance(50) => Fault::SqlLocked(dice.millis(100..=1000)),
        15 => Fault::SqlKilled(dice.millis(0..=500)),
        16 if plan.backend == Backend::MariaDb => Fault::SqlKilled(dice.millis(0..=500)),
        16 => Fault::SqlOldCopy(dice.millis(100..=400)),
        17 => Fault::OutOfMemory(dice.millis(50..=300)),
        18 | 20 | 21 => Fault::FailPoint { sidecar, name: dice.pick(FAIL_POINTS), after: dice.below(4) },
        19 => Fault::CutInside,
        22 => Fault::LostReplies(dice.millis(50..=400)),
        _ => Fault::CutConnections,
    }
}

impl AccountPlan {
    fn draw(number: usize, dice: &mut Dice) -> Self {
        // Some have less than their clients want to spend.
        let initial = dice.pick(&[30_000, 1_000_000, 100_000_000, 100_000_000]);
        let limits = match dice.below(4) {
            0 => json!([{"platform": "*", "model": "*", "metric": "cost", "period": "day", "cap": 400_000}]),
            1 => json!([
                {"platform": "openai", "model": "*", "metric": "requests", "period": "hour", "cap": 150},
                {"platform": "*", "model": "*", "metric": "concurrency", "cap": 6},
            ]),
            _ => json!([]),
        };
        let keys = (0..dice.below(3)).map(|key| format!("k{key}")).collect();
        let fields = json!({
            "initial_balance": initial,
            "credit_limit": dice.pick(&[0, 0, 5_000]),
            "limits": limits,
        });
        Self { name: format!("a{number}"), fields, keys }
    }

    /// Some have a window that ends while the seed runs.
    fn rolling(mut self, dice: &mut Dice) -> Self {
        if dice.chance(40) {
            let limit = json!({
                "platform": dice.pick(&["*", "openai"]), "model": "*", "metric": "cost",
                "period": dice.pick(&["rolling:1", "rolling:2"]), "cap": dice.pick(&[20_000, 200_000]),
            });
            self.fields["limits"].as_array_mut().expect("a list").push(limit);
        }
        self
    }
}
