//! A sidecar, its Redis and its database, and the journal of what the test was told: the stage of every
//! crash test, and the audit that ends each of them.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::database::{Backend, Database};
use crate::harness::{Answer, Http, Setup, Sidecar, audit::Ledger, eventually, redis::Redis};

/// What the account `a` begins with.
pub const BEGIN: i64 = 1_000_000;
/// A call is repeated this long while it is refused as unavailable.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing is fsynced, everything is written before it is answered: the file ends where a test cuts it.
pub const WRITTEN: [&str; 2] = ["--appendfsync", "no"];

pub struct World {
    pub quotad: Sidecar,
    pub setup: Setup,
    pub redis: Redis,
    pub database: Database,
    pub journal: Journal,
}

/// What was acknowledged: balance deltas by account and operation.
#[derive(Default)]
pub struct Journal(Mutex<BTreeMap<(String, String), i64>>);

impl Journal {
    pub fn note(&self, account: &str, id: &str, delta: i64) {
        self.0.lock().unwrap().insert((account.to_owned(), id.to_owned()), delta);
    }

    /// Was acknowledged, and is known to be gone.
    pub fn strike(&self, account: &str, id: &str) {
        self.0.lock().unwrap().remove(&(account.to_owned(), id.to_owned())).expect("it was noted");
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// What is wrong with the ledger, measured by this journal: sentences.
    pub fn findings(&self, ledger: &Ledger) -> Vec<String> {
        let mut findings = Vec::new();
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        for ((account, id), delta) in self.0.lock().unwrap().iter() {
            *sums.entry(account.clone()).or_default() += delta;
            let posted: i64 = ledger.of(account, id).iter().filter(|row| row.posted).map(|row| row.balance).sum();
            if posted != *delta {
                findings.push(format!("{account} {id}: the ledger has {posted}, the journal {delta}"));
            }
        }
        for (account, sum) in &sums {
            let stored = ledger.accounts.get(account).map(|sums| sums[0]);
            if stored != Some(*sum) {
                findings.push(format!("{account}: the journal sums up to {sum}, the database has {stored:?}"));
            }
        }
        findings
    }
}

impl World {
    pub fn new(backend: Backend) -> Self {
        Self::with(backend, |setup| setup)
    }

    pub fn with(backend: Backend, change: impl FnOnce(Setup) -> Setup) -> Self {
        let redis = Redis::with(&WRITTEN);
        let url = redis.url();
        Self::on(backend, redis, &url, change)
    }

    /// With that Redis, reached at that address.
    pub fn on(backend: Backend, redis: Redis, redis_url: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let database = Database::start(backend);
        // One shard: what a test cuts off is then the end of everything.
        let setup = Setup::default().set("shards", "1").set("redis_url", redis_url);
        let setup = change(setup.set("database_url", database.url()));
        let quotad = setup.start();
        let world = Self { quotad, setup, redis, database, journal: Journal::default() };
        world.open("a");
        world
    }

    /// Creates an account and waits until its beginning is in the ledger.
    pub fn open(&self, account: &str) {
        self.quotad.account(account, json!({"initial_balance": BEGIN}));
        self.journal.note(account, "v1", BEGIN);
        self.wait_posted(account, "v1");
    }

    /// A second sidecar for the same servers, in a folder of its own.
    pub fn another(&self) -> Setup {
        let setup = Setup::default().set("shards", "1").set("redis_url", self.redis.url());
        setup.set("database_url", self.database.url())
    }

    /// Charges account `a`, as often as it takes; the answer.
    #[track_caller]
    pub fn charge(&self, id: &str, amount: i64) -> Value {
        self.charge_at(&self.quotad.gateway, id, amount)
    }

    #[track_caller]
    pub fn charge_at(&self, gateway: &Http, id: &str, amount: i64) -> Value {
        let answer = told(gateway, "/v1/charge", &json!({"account": "a", "id": id, "amount": amount})).expect(200);
        assert_eq!(answer["charged"], amount, "{answer}");
        self.journal.note("a", id, -amount);
        answer
    }

    /// Charges, and sees that it had not been done before.
    #[track_caller]
    pub fn charge_new(&self, id: &str, amount: i64) {
        let answer = self.charge(id, amount);
        assert!(answer["replayed"] != true, "{id} was known: {answer}");
    }

    /// Charges again, and sees that it was done before.
    #[track_caller]
    pub fn charge_again(&self, id: &str, amount: i64) {
        let answer = self.charge(id, amount);
        assert_eq!(answer["replayed"], true, "{id} was forgotten: {answer}");
    }

    #[track_caller]
    pub fn wait_posted(&self, account: &str, id: &str) {
        let mut client = self.database.client();
        let sql = format!(
            "SELECT {} FROM ledger WHERE account = '{account}' AND op_id = '{id}' AND status = 'posted'",
            client.text("op_id")
        );
        eventually(&format!("{account} {id} is posted"), PATIENCE, || !client.ask(&sql).is_empty());
    }

    pub fn is_posted(&self, account: &str, id: &str) -> bool {
        self.ledger().of(account, id).iter().any(|row| row.posted)
    }

    /// Holds an amount of account `a`, as often as it takes.
    #[track_caller]
    pub fn reserve(&self, id: &str, amount: i64) {
        let body = json!({"account": "a", "id": id, "amount": amount});
        let answer = told(&self.quotad.gateway, "/v1/reserve", &body).expect(200);
        assert_eq!(answer["held"], amount, "{answer}");
    }

    /// Settles a reservation of account `a`, as often as it takes; the answer.
    #[track_caller]
    pub fn settle(&self, id: &str, amount: i64) -> Value {
        let body = json!({"account": "a", "id": id, "amount": amount});
        let answer = told(&self.quotad.gateway, "/v1/settle", &body).expect(200);
        assert_eq!(answer["charged"], amount, "{answer}");
        self.journal.note("a", id, -amount);
        answer
    }

    /// Charges that SQL does not have yet when the sidecar is killed.
    #[track_caller]
    pub fn charge_unposted(&mut self, charges: &[(&str, i64)]) {
        self.database.take_away();
        for (id, amount) in charges {
            self.charge_new(id, *amount);
        }
        self.quotad.kill();
        self.database.bring_back();
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::read(&self.database.direct_url())
    }

    /// Entries in the stream of the one shard.
    pub fn stream_length(&self) -> i64 {
        self.redis.ask("XLEN q{0}l")
    }

    /// Kills the sidecar, and lets another one run that dies at the crash point.
    #[track_caller]
    pub fn die_at(&mut self, point: &str) {
        self.quotad.kill();
        self.run_until(&format!("{point}=panic"));
    }

    /// A sidecar with these fail points, which must end it.
    #[track_caller]
    pub fn run_until(&self, points: &str) {
        let doomed = self.setup.clone().variable("FAILPOINTS", points);
        let anywhere = ["--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let (code, said) = doomed.run("serve", &anywhere);
        assert_eq!(code, None, "{points} did not end it as a kill does:\n{said}");
    }

    /// Kills Redis, changes what it has on disk, starts it again.
    pub fn restart_redis(&mut self, change: impl FnOnce(&Redis)) {
        self.redis.kill();
        change(&self.redis);
        self.redis.start_again();
    }

    /// The sum of a metric's lines; 0 when there is none.
    pub fn metric(&self, name: &str) -> f64 {
        metric(&self.quotad, name)
    }

    /// Everything that was told is there, once, on both sides, and the ledger is in order.
    #[track_caller]
    pub fn audit(&self) {
        self.audit_through(&self.quotad);
    }

    #[track_caller]
    pub fn audit_through(&self, quotad: &Sidecar) {
        quotad.wait_ready();
        eventually("Redis and SQL agree", PATIENCE, || {
            let answer = told(&quotad.admin, "/admin/v1/reconcile", &json!({}));
            answer.expect(200)["differences"] == json!([])
        });
        let begun = Instant::now();
        let url = self.database.direct_url();
        loop {
            let ledger = Ledger::read(&url);
            let findings = [ledger.findings(), self.journal.findings(&ledger)].concat();
            if findings.is_empty() {
                break;
            }
            // A compensation may still be on its way.
            assert!(begun.elapsed() < Duration::from_secs(10), "{}\n{ledger:#?}", findings.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
        let sums: BTreeMap<String, i64> =
            self.journal.0.lock().unwrap().iter().fold(BTreeMap::new(), |mut sums, ((account, _), delta)| {
                *sums.entry(account.clone()).or_default() += delta;
                sums
            });
        for (account, sum) in sums {
            assert_eq!(quotad.money(&account)[0], sum, "balance of {account}, measured by the journal");
        }
    }
}

/// Asks until the answer is another than "unavailable", or there is one at all.
#[track_caller]
pub fn told(gateway: &Http, path: &str, body: &Value) -> Answer {
    let begun = Instant::now();
    loop {
        let last = match gateway.try_call("POST", path, &[], body.to_string().as_bytes()) {
            Ok(answer) if answer.status != 503 => return answer,
            Ok(answer) => answer.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(begun.elapsed() < PATIENCE, "{path} {body}: still {last}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn metric(quotad: &Sidecar, name: &str) -> f64 {
    let page = quotad.admin.get("/metrics");
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
