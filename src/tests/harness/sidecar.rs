//! One running `quotad`.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Answer, Http, eventually, process};

pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";
/// Numbers the files that commands write to.
static RUNS: AtomicU32 = AtomicU32::new(0);
/// What a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);

/// How to start a sidecar.
#[derive(Clone)]
pub struct Setup {
    env: Vec<(String, String)>,
    folder: Arc<tempfile::TempDir>,
    gateway_token: Option<String>,
}

impl Default for Setup {
    /// A new data directory, the embedded Redis, and settings that keep tests quick (few shards to
    /// open, frequent sweeps) and steady (a busy machine is no outage).
    fn default() -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a data directory"));
        let setup = Self { env: Vec::new(), folder, gateway_token: None };
        let setup = setup.set("time_budget_ms", "5000");
        setup.set("shards", "4").set("sweep_interval_ms", "20").set("log_level", "debug")
    }
}

impl Setup {
    /// A setting by its name in the configuration file.
    #[must_use]
    pub fn set(mut self, setting: &str, value: impl Into<String>) -> Self {
        let name = format!("QUOTAD_{}", setting.to_ascii_uppercase());
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// An environment variable that is no setting, e.g. `FAILPOINTS`.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn gateway_token(mut self, token: &str) -> Self {
        self.gateway_token = Some(token.to_owned());
        self.set("gateway_token", token)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotad"));
        command.arg(verb).env_clear().envs(self.env.iter().cloned());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("QUOTAD_DATA", self.data());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs to the end: exit code and everything it said. For what must refuse to start.
    pub fn run(&self, verb: &str, arguments: &[&str]) -> (Option<i32>, String) {
        // Into a file: a pipe that nobody reads would stop it.
        let log = self.folder.path().join(format!("run-{}.log", RUNS.fetch_add(1, Ordering::Relaxed)));
        let file = File::create(&log).expect("a log file");
        let mut child = self
            .command(verb)
            .args(arguments)
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("quotad can be started");
        let begun = Instant::now();
        while child.try_wait().expect("a child can be asked").is_none() {
            if begun.elapsed() > START {
                let _ = child.kill();
                for pid in process::redis_servers_in(&self.data()) {
                    process::send("KILL", pid);
                }
                panic!("quotad {verb} {arguments:?} did not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let status = child.wait().expect("it has ended");
        (status.code(), std::fs::read_to_string(&log).unwrap_or_default())
    }

    /// Starts the bare process on any ports, for tests that end it before it listens.
    pub fn spawn(&self) -> Child {
        self.command("serve")
            .args(["--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("quotad can be started")
    }

    /// Starts a sidecar and waits until it is ready.
    pub fn start(&self) -> Sidecar {
        let sidecar = self.start_without_waiting();
        sidecar.wait_ready();
        sidecar
    }

    /// Starts a sidecar; listening, but perhaps not ready.
    pub fn start_without_waiting(&self) -> Sidecar {
        // A port that was free a moment ago may be taken by the time quotad binds it.
        for _ in 0..5 {
            if let Some(sidecar) = self.try_start() {
                return sidecar;
            }
        }
        panic!("quotad found no free port in five attempts");
    }

    fn try_start(&self) -> Option<Sidecar> {
        let [gateway, admin] = free_addresses();
        let log = self.folder.path().join(format!("quotad-{}.log", gateway.port()));
        let file = File::create(&log).expect("a log file");
        let child = self
            .command("serve")
            .args(["--gateway-listen", &gateway.to_string(), "--admin-listen", &admin.to_string()])
            .env("QUOTAD_ADMIN_TOKEN", ADMIN_TOKEN)
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("quotad can be started");
        let mut sidecar = Sidecar {
            setup: self.clone(),
            child,
            log,
            replaced: false,
            gateway: Http::new(gateway, self.gateway_token.as_deref()),
            admin: Http::new(admin, Some(ADMIN_TOKEN)),
        };
        let begun = Instant::now();
        loop {
            let listening = sidecar.gateway.connect().is_ok() && sidecar.admin.connect().is_ok();
            if listening && sidecar.gateway.try_call("GET", "/healthz", &[], b"").is_ok() {
                return Some(sidecar);
            }
            if let Some(status) = sidecar.child.try_wait().expect("a child can be asked") {
                let said = sidecar.said();
                assert!(said.contains("cannot be listened on"), "quotad ended with {status}:\n{said}");
                return None;
            }
            assert!(begun.elapsed() < START, "quotad does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Two ports that are free now.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound port"))
}

/// A running sidecar; stopped, with its Redis, when dropped.
pub struct Sidecar {
    setup: Setup,
    child: Child,
    log: PathBuf,
    /// Another one runs on the same directory now: its Redis must live.
    replaced: bool,
    pub gateway: Http,
    pub admin: Http,
}

impl Sidecar {
    /// With the default setup.
    pub fn start() -> Self {
        Setup::default().start()
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn data(&self) -> PathBuf {
        self.setup.data()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn ready(&self) -> bool {
        self.gateway.try_call("GET", "/readyz", &[], b"").is_ok_and(|answer| answer.status == 200)
    }

    #[track_caller]
    pub fn wait_ready(&self) {
        eventually("quotad is ready", START, || self.ready());
    }

    /// SIGKILL. Its Redis is on its own then, as after a crash.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        process::send("TERM", self.child.id());
        self.wait_end(Duration::from_secs(15))
    }

    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let mut ended = None;
        eventually("quotad ends", within, || {
            ended = self.child.try_wait().expect("a child can be asked");
            ended.is_some()
        });
        ended.expect("it has ended")
    }

    /// Its private redis-server.
    pub fn embedded_redis(&self) -> Option<u32> {
        process::redis_servers_in(&self.setup.data()).first().copied()
    }

    /// Starts again on the same directory, with new ports.
    pub fn start_again(&mut self) {
        let next = self.setup.start();
        let mut old = std::mem::replace(self, next);
        old.replaced = true;
    }

    /// Creates an account, with fields of `PUT /admin/v1/accounts/{a}`.
    #[track_caller]
    pub fn account(&self, account: &str, fields: Value) -> Value {
        self.admin.put(&format!("/admin/v1/accounts/{account}"), &fields).expect(201)
    }

    /// Creates a key and answers it.
    #[track_caller]
    pub fn key(&self, account: &str, key: &str, fields: Value) -> Value {
        self.admin.put(&format!("/admin/v1/accounts/{account}/keys/{key}"), &fields).expect(201)
    }

    #[track_caller]
    pub fn balance(&self, account: &str) -> Value {
        self.gateway.get(&format!("/v1/accounts/{account}/balance")).expect(200)
    }

    /// `balance`, `held` and `available`.
    #[track_caller]
    pub fn money(&self, account: &str) -> [i64; 3] {
        let sheet = self.balance(account);
        ["balance", "held", "available"].map(|field| sheet[field].as_i64().expect("a whole number"))
    }

    pub fn reserve(&self, body: Value) -> Answer {
        self.gateway.post("/v1/reserve", &body)
    }

    pub fn settle(&self, body: Value) -> Answer {
        self.gateway.post("/v1/settle", &body)
    }

    /// A reservation as it stands.
    #[track_caller]
    pub fn reservation(&self, account: &str, id: &str) -> Value {
        self.admin.get(&format!("/admin/v1/reservations/{account}/{id}")).expect(200)
    }

    #[track_caller]
    pub fn wait_state(&self, account: &str, id: &str, state: &str) {
        let what = format!("{account} {id} is {state}");
        eventually(&what, Duration::from_secs(10), || self.reservation(account, id)["state"] == state);
    }

    /// Redis and SQL agree about every account once write-back has caught up.
    #[track_caller]
    pub fn assert_reconciled(&self) {
        let mut last = Value::Null;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            last = self.admin.post("/admin/v1/reconcile", &json!({})).expect(200);
            if last["differences"] == json!([]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("Redis and SQL differ: {last}");
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let from = said.char_indices().rev().nth(20_000).map_or(0, |(at, _)| at);
            eprintln!("--- quotad {} said ---\n{}\n---", self.child.id(), &said[from..]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.replaced {
            for pid in process::redis_servers_in(&self.setup.data()) {
                process::send("KILL", pid);
            }
        }
    }
}
