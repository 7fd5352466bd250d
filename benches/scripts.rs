//! What each script of the hot path costs Redis, by its own count (`INFO commandstats`), next to a script
//! of one HINCRBY; with thousands of live holds, with and without the append-only file.
//!
//! Verbs and reference take turns in small batches, and each round's figures are divided by the same
//! round's reference, so that a busy machine moves both. `--rounds N` makes it longer.

#[path = "../src/tests/harness/redis_server.rs"]
mod redis_server;
#[path = "harness/sample.rs"]
mod sample;
#[path = "harness/shards.rs"]
mod shards;

use std::{ops::Range, sync::Arc};

use quotad::{
    engine::ports::{ChargeCall, Cost, Counters, ExtendCall, Reply, ReserveCall, SettleCall, Status, Unavailable},
    quota::{
        fingerprint::Fingerprint,
        id::{AccountId, ReservationId},
        policy::{Admission, Policy},
        tariff::{Groups, PriceTag},
    },
    redis::Redis,
};
use redis_server::RedisServer;
use tokio::task::JoinSet;

type Answer = Result<Reply, Unavailable>;

const ACCOUNTS: u64 = 1_000;
/// Holds that live from beginning to end.
const STANDING: u64 = 5_000;
/// Calls of each verb in a round; reserve is called twice as often, for settle and release.
const CALLS: u64 = 2_048;
const ROUNDS: usize = 9;
const IN_FLIGHT: u64 = 32;
const REFERENCE: &str = "return redis.call('HINCRBY', KEYS[1], 'n', 1)";
const FILES: [(&str, &[&str]); 2] = [
    ("append-only file off", &["--appendonly", "no"]),
    ("append-only file on, everysec", &["--appendonly", "yes", "--appendfsync", "everysec"]),
];

/// The rows of the table: the reference, then the verbs in the order in which a round calls them.
const ROWS: [&str; 6] = ["one HINCRBY", "reserve", "extend", "settle", "release", "charge"];

#[derive(Clone, Copy)]
enum Verb {
    Reserve,
    Extend,
    Settle,
    Release,
    Charge,
}

/// Microseconds that a call costs.
#[derive(Clone, Copy)]
struct Usec {
    /// In the script.
    script: f64,
    /// Of the server's main thread: the script, reading, answering, and what it does for the file.
    thread: f64,
}

/// What the calls are made of.
struct Calls {
    redis: Arc<Redis>,
    accounts: Vec<AccountId>,
    policy: Policy,
    tag: Vec<u8>,
    log: Vec<u8>,
}

impl Calls {
    async fn call(&self, verb: Verb, number: u64, admission: &Admission) -> Status {
        let account = &self.accounts[(number % ACCOUNTS) as usize];
        let id = ReservationId::new(format!("r-0123456789abcdef-{number}")).expect("an id");
        let reply = match verb {
            Verb::Reserve => self.reserve(account, &id, admission).await,
            Verb::Extend => self.extend(account, &id, admission).await,
            Verb::Settle => self.settle(account, &id).await,
            Verb::Release => self.redis.release(account, &id).await,
            Verb::Charge => self.charge(account, &id, admission).await,
        };
        reply.expect("an answer").status
    }

    async fn reserve(&self, account: &AccountId, id: &ReservationId, admission: &Admission) -> Answer {
        let call = ReserveCall {
            account,
            id,
            version: self.policy.version,
            admission,
            key: Some(&sample::key()),
            amount: sample::AMOUNT,
            min_amount: sample::AMOUNT,
            tokens: sample::TOKENS,
            prompt_cost: sample::COST,
            ttl_ms: sample::TTL_MS,
            check_only: false,
            charge_on_expiry: false,
            fingerprint: Fingerprint::of("reserve", &[Some(id.as_str())]),
            price_tag: &self.tag,
        };
        self.redis.reserve(&call).await
    }

    async fn extend(&self, account: &AccountId, id: &ReservationId, admission: &Admission) -> Answer {
        let call = ExtendCall {
            account,
            id,
            version: self.policy.version,
            credit_limit: admission.credit_limit,
            allowance: admission.allowance,
            denied: false,
            groups: &admission.groups,
            amount: Some(2 * sample::AMOUNT),
            ttl_ms: Some(sample::TTL_MS),
            reprice: None,
        };
        self.redis.extend(&call).await
    }

    async fn settle(&self, account: &AccountId, id: &ReservationId) -> Answer {
        let call = SettleCall {
            account,
            id,
            cost: Cost::Units(sample::COST),
            tokens: Some(sample::TOKENS),
            last: true,
            clamped: false,
            fingerprint: Fingerprint::of("settle", &[Some(id.as_str())]),
            price_tag: Some(&self.tag),
            log: &self.log,
        };
        self.redis.settle(&call).await
    }

    async fn charge(&self, account: &AccountId, id: &ReservationId, admission: &Admission) -> Answer {
        let call = ChargeCall {
            account,
            id,
            version: self.policy.version,
            admission,
            key: Some(&sample::key()),
            amount: sample::COST,
            tokens: sample::TOKENS,
            force: false,
            unreserved: false,
            clamped: false,
            fingerprint: Fingerprint::of("charge", &[Some(id.as_str())]),
            price_tag: &self.tag,
            log: &self.log,
        };
        self.redis.charge(&call).await
    }
}

/// A server, its accounts, and what was measured: a list of rounds for each row.
struct Bench {
    title: &'static str,
    calls: Arc<Calls>,
    connection: redis::Connection,
    reference: String,
    next: u64,
    rows: [Vec<Usec>; ROWS.len()],
    _server: RedisServer,
}

impl Bench {
    async fn new(title: &'static str, options: &[&str]) -> Self {
        let server = RedisServer::start(options);
        let redis = shards::open(&server).await;
        let account = |number| AccountId::new(format!("account-{number:06}")).expect("an id");
        let accounts: Vec<_> = (0..ACCOUNTS).map(account).collect();
        let policy = sample::policy(accounts[0].clone());
        for account in &accounts {
            shards::load(&redis, account, policy.version).await;
        }
        let tag = PriceTag::new(1, Groups::own(&policy.group)).pack();
        let calls = Arc::new(Calls { redis, accounts, policy, tag, log: sample::log() });
        let mut connection = server.connect();
        let reference = redis::cmd("SCRIPT").arg("LOAD").arg(REFERENCE).query(&mut connection).expect("a script");
        let bench =
            Self { title, calls, connection, reference, next: STANDING, rows: Default::default(), _server: server };
        bench.all(Verb::Reserve, 0..STANDING).await;
        bench
    }

    /// A batch of everything, each beside the others of its round.
    async fn round(&mut self) {
        let first = self.next..self.next + CALLS;
        let second = first.end..first.end + CALLS;
        let third = second.end..second.end + CALLS;
        self.next = third.end;
        let before = self.reading();
        for _ in 0..CALLS / IN_FLIGHT {
            let mut pipeline = redis::pipe();
            (0..IN_FLIGHT).for_each(|_| {
                pipeline.cmd("EVALSHA").arg(&self.reference).arg(1).arg("reference").ignore();
            });
            pipeline.query::<()>(&mut self.connection).expect("an answer");
        }
        self.note(0, CALLS, before);
        for (row, verb, calls) in [
            (1, Verb::Reserve, first.start..second.end),
            (2, Verb::Extend, first.clone()),
            (3, Verb::Settle, first),
            (4, Verb::Release, second),
            (5, Verb::Charge, third),
        ] {
            let (before, count) = (self.reading(), calls.end - calls.start);
            self.all(verb, calls).await;
            self.note(row, count, before);
        }
    }

    async fn all(&self, verb: Verb, calls: Range<u64>) {
        // Once per batch, as the engine remembers it per call; windows end.
        let admission = Arc::new(sample::admission(&self.calls.policy, sample::now()));
        let mut tasks = JoinSet::new();
        for caller in 0..IN_FLIGHT {
            let (calls, admission, mine) = (self.calls.clone(), admission.clone(), calls.clone());
            tasks.spawn(async move {
                for number in mine.skip(caller as usize).step_by(IN_FLIGHT as usize) {
                    assert_eq!(calls.call(verb, number, &admission).await, Status::Done);
                }
            });
        }
        tasks.join_all().await;
    }

    fn note(&mut self, row: usize, calls: u64, before: [f64; 3]) {
        let after = self.reading();
        let [counted, script, thread] = [0, 1, 2].map(|place| after[place] - before[place]);
        assert_eq!(counted, calls as f64, "{}: others called scripts too", ROWS[row]);
        self.rows[row].push(Usec { script: script / counted, thread: thread / counted });
    }

    /// Script calls so far, microseconds in them, microseconds of the main thread.
    fn reading(&mut self) -> [f64; 3] {
        let mut info = |section: &str| -> String {
            redis::cmd("INFO").arg(section).query(&mut self.connection).expect("an answer")
        };
        let (stats, cpu) = (info("commandstats"), info("cpu"));
        let number = |text: &str, before: &str| -> f64 {
            let rest = text.split_once(before).map_or("", |(_, rest)| rest);
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            rest[..end].parse().unwrap_or(0.0)
        };
        let scripts = stats.split_once("cmdstat_evalsha:").map_or("", |(_, rest)| rest);
        let thread = ["used_cpu_sys_main_thread:", "used_cpu_user_main_thread:"].map(|field| number(&cpu, field));
        [number(scripts, "calls="), number(scripts, "usec="), 1e6 * (thread[0] + thread[1])]
    }

    fn print(&self) {
        println!("\n{}: {ACCOUNTS} accounts, {STANDING} live holds at least, key and three windows", self.title);
        println!("{:<12}{:>10}{:>10}{:>18}{:>14}{:>10}", "script", "µs", "×", "× least – most", "µs of Redis", "×");
        let reference = &self.rows[0];
        for (name, row) in ROWS.iter().zip(&self.rows) {
            let times = |of: fn(&Usec) -> f64| row.iter().zip(reference).map(|(it, unit)| of(it) / of(unit)).collect();
            let (script, thread): (Vec<f64>, Vec<f64>) = (times(|usec| usec.script), times(|usec| usec.thread));
            let [least, middle, most] = spread(&script);
            println!(
                "{name:<12}{:>10.2}{middle:>10.2}{:>18}{:>14.2}{:>10.2}",
                spread(&row.iter().map(|usec| usec.script).collect::<Vec<_>>())[1],
                format!("{least:.2} – {most:.2}"),
                spread(&row.iter().map(|usec| usec.thread).collect::<Vec<_>>())[1],
                spread(&thread)[1],
            );
        }
    }
}

/// Least, median and most.
fn spread(figures: &[f64]) -> [f64; 3] {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
}

async fn measure(rounds: usize) {
    let mut benches = Vec::new();
    for (title, options) in FILES {
        benches.push(Bench::new(title, options).await);
    }
    for _ in 0..rounds {
        for bench in &mut benches {
            bench.round().await;
        }
    }
    println!("medians of {rounds} rounds; µs of Redis: its main thread, all that a call costs it");
    benches.iter().for_each(Bench::print);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // Only as a benchmark: test runners start every target, to ask it for its tests.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let rounds = arguments.iter().skip_while(|argument| *argument != "--rounds").nth(1);
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(rounds));
}
