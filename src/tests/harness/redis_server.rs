//! A private redis-server for a test: on a Unix socket in a folder of its own, gone at the end. Shared
//! by every test that needs one (`#[path = "harness/redis_server.rs"] mod redis_server;`).
#![allow(dead_code, reason = "each test uses another part of it")]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a server may take to come up before the test fails.
const START_MAX: Duration = Duration::from_secs(20);

/// A running redis-server. Killed when dropped.
pub struct RedisServer {
    folder: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one without persistence. `options` are further arguments, e.g. `["--appendonly", "yes"]`.
    pub fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder for redis-server"), options)
    }

    /// The same in a folder of the caller's choice.
    pub fn start_in(folder: TempDir, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { folder, options, child: None };
        server.restart();
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts the server (again) on its folder and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::create(self.folder.path().join("redis.log")).expect("a log file");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        let until = Instant::now() + START_MAX;
        while self.try_connect().is_none() {
            assert!(Instant::now() < until, "redis-server did not come up");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// Sends `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("a running server").id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill");
        assert!(sent.success());
    }

    pub fn try_connect(&self) -> Option<redis::Connection> {
        let mut connection = redis::Client::open(self.url()).ok()?.get_connection().ok()?;
        redis::cmd("PING").query::<String>(&mut connection).ok()?;
        Some(connection)
    }

    /// CPU time that it has used so far.
    pub fn cpu_time(&self) -> Duration {
        let info: String = redis::cmd("INFO").arg("cpu").query(&mut self.connect()).expect("INFO");
        let seconds = |name: &str| -> f64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|seconds| seconds.trim().parse().ok()).expect("CPU times")
        };
        Duration::from_secs_f64(seconds("used_cpu_user") + seconds("used_cpu_sys"))
    }

    /// A plain blocking connection, to look at or tamper with what the server holds.
    pub fn connect(&self) -> redis::Connection {
        self.try_connect().expect("a connection to redis-server")
    }

    /// Every key with its serialized value and whether it has a time to live.
    pub fn dump(&self) -> BTreeMap<Vec<u8>, (Vec<u8>, bool)> {
        let mut connection = self.connect();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("KEYS");
        keys.into_iter()
            .map(|key| {
                let value = redis::cmd("DUMP").arg(&key).query(&mut connection).expect("DUMP");
                let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).expect("PTTL");
                (key, (value, ttl >= 0))
            })
            .collect()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
