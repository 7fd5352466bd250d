//! One place for a sidecar: a data directory of its own and the process that works there at present.

use std::{
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{http::Http, process};

pub const ADMIN_TOKEN: &str = "admin-token-of-the-fault-tests";

pub struct Sidecar {
    pub number: usize,
    folder: PathBuf,
    /// Where to listen, on any port.
    listen: SocketAddr,
    env: Vec<(String, String)>,
    child: Option<Child>,
    /// Numbers the logs.
    starts: usize,
    address: Option<(SocketAddr, SocketAddr)>,
    armed: bool,
}

impl Sidecar {
    /// Not yet started. `env` without the prefix that all settings have.
    pub fn new(number: usize, folder: PathBuf, listen: SocketAddr, settings: &[(&str, String)]) -> Self {
        std::fs::create_dir_all(&folder).expect("a data directory");
        let env = settings.iter().map(|(name, value)| (format!("QUOTAD_{}", name.to_uppercase()), value.clone()));
        Self { number, folder, listen, env: env.collect(), child: None, starts: 0, address: None, armed: false }
    }

    fn log(&self, start: usize) -> PathBuf {
        self.folder.join(format!("{start}.log"))
    }

    /// Starts the process, without waiting. `fail_points` in the syntax of `FAILPOINTS`.
    pub fn start(&mut self, fail_points: Option<&str>) {
        self.kill();
        self.starts += 1;
        self.armed = fail_points.is_some();
        let log = File::create(self.log(self.starts)).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotad"));
        let listen = self.listen.to_string();
        command.args(["serve", "--gateway-listen", &listen, "--admin-listen", &listen]);
        command.env_clear().envs(self.env.iter().cloned()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("QUOTAD_ADMIN_TOKEN", ADMIN_TOKEN).env("QUOTAD_DATA", self.folder.join("data"));
        if let Some(fail_points) = fail_points {
            command.env("FAILPOINTS", fail_points);
        }
        command.current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("quotad can be started"));
    }

    /// Whether its process has fail points.
    pub fn armed(&self) -> bool {
        self.armed
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.address = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            process::send(name, child.id());
        }
    }

    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Gateway and admin address, once it listens.
    pub fn address(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        if self.address.is_none() && self.runs() {
            let said = std::fs::read_to_string(self.log(self.starts)).unwrap_or_default();
            let line = said.lines().find_map(|line| line.strip_prefix("listening gateway="));
            let parts = line.and_then(|line| line.split_once(" admin="));
            self.address = parts.and_then(|(gateway, admin)| Some((gateway.parse().ok()?, admin.parse().ok()?)));
        }
        self.address
    }

    /// Its name in leases.
    pub fn id(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.join("data/sidecar.id")).ok().map(|id| id.trim().to_owned())
    }

    pub fn admin(&mut self) -> Option<Http> {
        self.address().map(|(_, admin)| Http::new(admin, Some(ADMIN_TOKEN)))
    }

    /// What its processes said, the last lines of each.
    pub fn said(&self, lines: usize) -> String {
        let mut all = String::new();
        for start in 1..=self.starts {
            let text = std::fs::read_to_string(self.log(start)).unwrap_or_default();
            let text: Vec<&str> = text.lines().collect();
            let from = text.len().saturating_sub(lines);
            all.push_str(&format!("--- sidecar {} start {start}\n{}\n", self.number, text[from..].join("\n")));
        }
        all
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}
