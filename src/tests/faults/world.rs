//! The processes of a seed: sidecars, Redis, the database, proxies between them. All of them end with
//! the value, whatever happens: first those that dial, then what they dial, last the seed's address and
//! folder, so that nobody can reach what belongs to another seed. In this order stand the fields.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    client::Addresses,
    http::Http,
    journal::Findings,
    loopback::Loopback,
    patience::Patience,
    plan::Plan,
    proxy::Proxy,
    redis_server::RedisServer,
    sidecar::{ADMIN_TOKEN, Sidecar},
    sql::{Servers, Sql},
};

/// How long the deployment may take to serve again after a fault is over.
const READY: Duration = Duration::from_secs(30);
/// One look at a sidecar.
const LOOK: Duration = Duration::from_secs(2);

pub struct World {
    pub plan: Plan,
    pub findings: Arc<Findings>,
    pub addresses: Addresses,
    pub sidecars: Vec<Sidecar>,
    /// A replica, and the proxy on its link.
    pub replica: Option<(RedisServer, Proxy)>,
    pub redis: RedisServer,
    /// Between the sidecars and Redis.
    pub proxy: Option<Proxy>,
    pub sql: Sql,
    pub runtime: tokio::runtime::Runtime,
    /// Whatever listens on a port does it here.
    _loopback: Loopback,
    folder: TempDir,
}

/// Memory where there is some: what a disk does when it is slow is another test's concern.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn folder(name: &str) -> TempDir {
    tempfile::Builder::new().prefix(&format!("faults-{name}-")).tempdir_in(scratch()).expect("a scratch folder")
}

fn start_redis(plan: &Plan, name: &str, more: &[&str]) -> RedisServer {
    let mut options = vec!["--appendonly", "yes", "--appendfsync", plan.fsync, "--auto-aof-rewrite-percentage", "0"];
    options.extend(["--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0", "--hz", "100"]);
    options.extend(more);
    RedisServer::start_in(folder(name), &options)
}

impl World {
    /// Starts everything but the sidecars' work: see [`World::wait_ready`].
    pub fn start(plan: Plan, findings: Arc<Findings>, servers: &Arc<Servers>) -> Self {
        let folder = folder(&plan.seed.to_string());
        let redis = start_redis(&plan, "redis", &[]);
        let proxy = plan.proxied.then(|| Proxy::in_folder(folder.path(), redis.socket()));
        let loopback = Loopback::claim();
        let replica = plan.fails_over().then(|| {
            let link = Proxy::on(&loopback, redis.socket());
            let (ip, port) = (link.address().ip().to_string(), link.address().port().to_string());
            (start_redis(&plan, "replica", &["--replicaof", &ip, &port]), link)
        });
        let sql = Sql::create(plan.backend, folder.path(), servers);
        let mut settings = vec![
            ("redis_url", proxy.as_ref().map_or_else(|| redis.url(), Proxy::url)),
            ("database_url", sql.url()),
            ("shards", plan.shards.to_string()),
            ("time_budget_ms", "400".to_owned()),
            ("writeback_poll_ms", plan.poll_ms.to_string()),
            ("sweep_interval_ms", "20".to_owned()),
            ("log_level", "info,quotad::writeback=debug".to_owned()),
        ];
        settings.extend(plan.mutant.map(|mutant| ("mutant", mutant.to_owned())));
        settings.extend(plan.unload_idle_ms.map(|idle| ("unload_idle_ms", idle.to_string())));
        let listen = loopback.any_port();
        let sidecar = |number| Sidecar::new(number, folder.path().join(format!("sidecar-{number}")), listen, &settings);
        let mut sidecars: Vec<Sidecar> = (0..plan.sidecars).map(sidecar).collect();
        sidecars.iter_mut().for_each(|sidecar| sidecar.start(None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let _loopback = loopback;
        Self { plan, findings, addresses, sidecars, replica, redis, proxy, sql, runtime, _loopback, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts what has died and tells the clients where to call.
    pub fn refresh(&mut self) {
        for sidecar in &mut self.sidecars {
            if !sidecar.runs() {
                sidecar.start(None);
            }
        }
        let known: Vec<_> = self.sidecars.iter_mut().filter_map(Sidecar::address).collect();
        *self.addresses.lock().expect("addresses") = known;
    }

    /// How long to wait for something.
    pub fn patience(&self, within: Duration) -> Patience {
        self.sql.patience(self.plan.within(within))
    }

    /// Until every account is served by one sidecar at least; `all`: by every one.
    pub fn wait_ready(&mut self, all: bool) {
        self.wait(all, true);
    }

    fn wait(&mut self, all: bool, accounts: bool) {
        let (begun, mut patience) = (Instant::now(), self.patience(READY));
        loop {
            self.refresh();
            let addresses = self.addresses.lock().expect("addresses").clone();
            let asked =
                addresses.iter().map(|(gateway, _)| self.serves(&Http::new(*gateway, None).within(LOOK), accounts));
            let refusals: Vec<String> = asked.filter_map(Result::err).collect();
            let ready = addresses.len() - refusals.len();
            if ready >= if all { self.sidecars.len() } else { 1 } {
                return;
            }
            if patience.is_over() {
                let sentence =
                    format!("{ready} sidecars are ready {:?} after the fault: {refusals:?}", begun.elapsed());
                self.findings.violation(sentence);
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether one sidecar serves every account, or what it says instead.
    fn serves(&self, gateway: &Http, accounts: bool) -> Result<(), String> {
        let accounts = self
            .plan
            .accounts
            .iter()
            .filter(|_| accounts)
            .map(|account| format!("/v1/accounts/{}/balance", account.name));
        for path in std::iter::once("/readyz".to_owned()).chain(accounts) {
            let answer = gateway.try_call("GET", &path, &[], b"").map_err(|error| format!("{path}: {error}"))?;
            if answer.status != 200 {
                return Err(format!("{path}: {answer}"));
            }
        }
        Ok(())
    }

    /// Creates accounts and keys, before any fault.
    pub fn open_accounts(&mut self) {
        self.wait(false, false);
        let Some((_, admin)) = self.addresses.lock().expect("addresses").first().copied() else { return };
        let admin = Http::new(admin, Some(ADMIN_TOKEN));
        let put = |path: String, body: &serde_json::Value| {
            // A busy machine may need a second attempt; the call may be repeated.
            (0..20).any(|_| {
                let done = admin.try_call("PUT", &path, &[], body.to_string().as_bytes());
                done.is_ok_and(|answer| answer.status < 300) || {
                    std::thread::sleep(Duration::from_millis(50));
                    false
                }
            })
        };
        for account in &self.plan.accounts {
            let path = format!("/admin/v1/accounts/{}", account.name);
            assert!(put(path.clone(), &account.fields), "{} cannot be made", account.name);
            for key in &account.keys {
                assert!(put(format!("{path}/keys/{key}"), &serde_json::json!({})), "key {key} cannot be made");
            }
        }
    }

    pub fn said(&self, lines: usize) -> String {
        self.sidecars.iter().map(|sidecar| sidecar.said(lines)).collect()
    }
}
