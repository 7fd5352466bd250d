//! The sidecar's own work for a call, from the parsed request to the answer as it is sent: routing, body,
//! rules, prices, the script's arguments, the connection to Redis, its answer, the answer's body and fields.
//! Redis is a real one in a process of its own, so its work is not in the figures; nor is the reading of
//! HTTP. The clock is the CPU time of the one thread that does it all: waiting for Redis costs nothing.

#[path = "harness/cases.rs"]
mod cases;
#[path = "../src/tests/harness/redis_server.rs"]
mod redis_server;
#[path = "harness/sample.rs"]
mod sample;
#[path = "harness/shards.rs"]
mod shards;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use cases::Cases;
use http_body_util::Full;
use hyper::Request;
use quotad::{
    config::{self, layers::Sources},
    engine::{
        Engine, Settings,
        codes::Codes,
        ports::{AccountPatch, Drain, KeyPatch, PolicyStore, Position, Unavailable},
    },
    http::{self, Health, Service},
    metrics::{self, Exporter},
    quota::{
        clock::Clock,
        id::{AccountId, Actor},
    },
    sql,
};
use redis_server::RedisServer;
use rustix::time::{ClockId, clock_gettime};
use tokio::{runtime::Runtime, task::JoinSet};

/// Few: making one is a transaction.
const ACCOUNTS: u64 = 16;
const MANY: u64 = 32;

/// Nothing is loaded while the figures are taken, so nothing waits for write-back.
struct Loaded;

#[async_trait]
impl Drain for Loaded {
    async fn drain(&self, _: &AccountId) -> Result<Position, Unavailable> {
        Err(Unavailable::Recovering)
    }
}

/// A sidecar without listeners.
struct Sidecar {
    service: Arc<Service>,
    exporter: Exporter,
    next: AtomicU64,
    _server: RedisServer,
    _folder: tempfile::TempDir,
}

impl Sidecar {
    async fn start() -> Self {
        let server = RedisServer::start(&["--appendonly", "no"]);
        let redis = shards::open(&server).await;
        let folder = tempfile::tempdir().expect("a folder");
        let store = sql::open(&format!("sqlite://{}/q.db", folder.path().display()), sample::zone()).await;
        let store = store.expect("a database");
        for number in 0..ACCOUNTS {
            let account = AccountId::new(account(number)).expect("an id");
            let patch = AccountPatch { limits: Some(sample::limits()), ..AccountPatch::default() };
            store.put_account(&Actor::admin(), &account, &patch).await.expect("an account");
            let key =
                store.put_key(&Actor::admin(), &account, &sample::key(), &KeyPatch::default()).await.expect("a key");
            shards::load(&redis, &account, key.expect("the account is there").0.version).await;
        }
        let settings = config::load(&Sources::default()).expect("defaults that stand").config.engine;
        let settings = Settings { time_budget: shards::PATIENCE, ..settings };
        let clock = Arc::new(Clock::default());
        let engine = Engine::new(redis, store.clone(), store.clone(), Arc::new(Loaded), clock, settings);
        let engine = Arc::new(engine);
        let exporter = metrics::install().expect("the only recorder");
        let config = http::Config { request_budget: shards::PATIENCE, ..http::Config::default() };
        let service = Service {
            config,
            codes: Arc::new(Codes::new(engine.clone(), store)),
            engine,
            health: Arc::new(Health::default()),
            exporter: Some(exporter.clone()),
        };
        Self { service: Arc::new(service), exporter, next: AtomicU64::new(0), _server: server, _folder: folder }
    }

    /// Does `what` so many times, each with a number of its own, that many at once.
    fn all(self: &Arc<Self>, runtime: &Runtime, count: u64, at_once: u64, what: What) {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for caller in 0..at_once.min(count) {
                let sidecar = self.clone();
                tasks.spawn(async move {
                    for number in (first + caller..first + count).step_by(at_once as usize) {
                        sidecar.one(what, number).await;
                    }
                });
            }
            tasks.join_all().await;
        });
        // As the sidecar does every few seconds.
        self.exporter.upkeep();
    }

    async fn one(&self, what: What, number: u64) {
        let (account, id) = (account(number % ACCOUNTS), format!("r-0123456789abcdef-{number}"));
        let body = format!(
            r#"{{"account":"{account}","key":"key-1","id":"{id}","platform":"openai","model":"gpt-4o","estimate":{{"prompt_tokens":1200,"max_tokens":800}}}}"#
        );
        self.post("/v1/reserve", body).await;
        if what == What::Pair {
            let body = format!(
                r#"{{"account":"{account}","id":"{id}","model":"gpt-4o","usage":{{"prompt_tokens":1180,"completion_tokens":310,"prompt_tokens_details":{{"cached_tokens":1024}}}}}}"#
            );
            self.post("/v1/settle", body).await;
        }
    }

    async fn post(&self, path: &'static str, body: String) {
        let request = Request::post(path).header("content-type", "application/json").header("host", "quotad");
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let response = http::bench::serve(&self.service, request).await;
        assert_eq!(response.status(), 200, "{path}: {response:?}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Reserve,
    /// Reserve, then settle.
    Pair,
}

fn account(number: u64) -> String {
    format!("account-{number:06}")
}

/// Of this thread. Not under valgrind, where rustix cannot read it.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn main() {
    // Without arguments a test runner asks for tests: there are none, and no server to start.
    if std::env::args().len() == 1 {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sidecar = Arc::new(runtime.block_on(Sidecar::start()));
    let mut cases = Cases::default();
    for (name, at_once, what) in [
        ("reserve, one at a time", 1, What::Reserve),
        ("reserve, 32 at once", MANY, What::Reserve),
        ("reserve and settle, one at a time", 1, What::Pair),
        ("reserve and settle, 32 at once", MANY, What::Pair),
    ] {
        let (sidecar, runtime) = (sidecar.clone(), &runtime);
        cases.add_repeating(name, cpu_time, move |count| sidecar.all(runtime, count, at_once, what));
    }
    cases.run();
}
