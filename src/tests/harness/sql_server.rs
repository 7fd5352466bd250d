//! Private PostgreSQL and MariaDB servers for tests: in folders and at addresses of their own, gone at the
//! end. Shared by every test that needs one (`#[path = "harness/sql_server.rs"] mod sql_server;`, and
//! `loopback.rs` likewise).
#![allow(dead_code, reason = "each test uses another part of it")]

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::loopback::Loopback;

/// How long a server may take to come up before the test fails.
const START_MAX: Duration = Duration::from_secs(60);
const USER: &str = "quotad";
/// Of MariaDB; PostgreSQL trusts everybody on its port.
pub const PASSWORD: &str = "open-sesame";

/// The kernel has few of those queues, and many servers run at once.
const NO_AIO: &str = "--innodb-use-native-aio=0";

/// PostgreSQL; `start` makes a server.
pub struct Postgres;
/// MariaDB; `start` makes a server.
pub struct MariaDb;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

/// A running server. Killed when dropped.
pub struct SqlServer {
    pub kind: Kind,
    folder: TempDir,
    /// Its own for as long as it lives: while it is killed nobody else takes its port.
    loopback: Loopback,
    port: u16,
    child: Option<Child>,
    databases: AtomicU32,
    options: Vec<String>,
}

impl Postgres {
    pub fn start() -> SqlServer {
        Self::start_with(&[])
    }

    /// `options` as on the command line, e.g. `["-c", "fsync=off"]`.
    pub fn start_with(options: &[&str]) -> SqlServer {
        Self::initialised(options).up()
    }

    /// A server that speaks TLS, for [`SqlServer::authority`] to vouch for.
    pub fn start_with_tls() -> SqlServer {
        let mut server = Self::initialised(&[]);
        server.make_certificate();
        for (option, file) in [("ssl_cert_file", "cert.pem"), ("ssl_key_file", "key.pem")] {
            let path = server.folder.path().join(file);
            server.options.extend(["-c".to_owned(), format!("{option}={}", path.display())]);
        }
        server.options.extend(["-c".to_owned(), "ssl=on".to_owned()]);
        server.up()
    }

    fn initialised(options: &[&str]) -> SqlServer {
        let server = SqlServer::new(Kind::Postgres, options);
        let program = postgres_program("initdb");
        server.begin_like_others(&program, || {
            let mut init = server.as_somebody(&program);
            init.args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(server.data());
            run(&mut init);
        });
        server
    }
}

impl MariaDb {
    pub fn start() -> SqlServer {
        Self::start_with(&[])
    }

    /// `options` as on the command line, e.g. `["--max-connections=20"]`.
    pub fn start_with(options: &[&str]) -> SqlServer {
        Self::initialised(options).up()
    }

    /// A server that speaks TLS, for [`SqlServer::authority`] to vouch for.
    pub fn start_with_tls() -> SqlServer {
        let mut server = Self::initialised(&[]);
        server.make_certificate();
        for (option, file) in [("ssl-cert", "cert.pem"), ("ssl-key", "key.pem")] {
            server.options.push(format!("--{option}={}", server.folder.path().join(file).display()));
        }
        server.up()
    }

    fn initialised(options: &[&str]) -> SqlServer {
        let server = SqlServer::new(Kind::MariaDb, options);
        let program = mariadb_program("mariadb-install-db");
        server.begin_like_others(&program, || {
            let mut init = Command::new(&program);
            init.arg("--no-defaults").arg(format!("--datadir={}", server.data().display()));
            init.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M"]);
            init.arg(NO_AIO);
            if is_root() {
                init.arg("--user=root");
            }
            run(&mut init);
        });
        let init = format!(
            "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n\
             CREATE USER IF NOT EXISTS '{USER}'@'localhost' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO '{USER}'@'localhost' WITH GRANT OPTION;\n"
        );
        std::fs::write(server.folder.path().join("init.sql"), init).expect("a file");
        server
    }
}

impl SqlServer {
    fn new(kind: Kind, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        if kind == Kind::Postgres && is_root() {
            run(Command::new("chown").arg(unprivileged()).arg(folder.path()));
        }
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let loopback = Loopback::claim();
        let port = loopback.free_port();
        Self { kind, folder, loopback, port, child: None, databases: AtomicU32::new(0), options }
    }

    /// Fills the server's folder by `init`, which takes seconds, or with a copy of what it once made.
    fn begin_like_others(&self, program: &Path, init: impl FnOnce()) {
        // Cargo's own folder for what tests keep; other builds have none.
        let Some(kept) = option_env!("CARGO_TARGET_TMPDIR").map(Path::new) else { return init() };
        let name = program.to_string_lossy().replace('/', "_");
        let (template, lock) = (kept.join(format!("new{name}")), kept.join(format!("new{name}.lock")));
        std::fs::create_dir_all(kept).expect("a folder of cargo's");
        let lock = std::fs::File::create(lock).expect("a lock file");
        lock.lock().expect("a lock");
        if !template.exists() {
            init();
            let half = kept.join(format!("half{name}"));
            let _ = std::fs::remove_dir_all(&half);
            run(Command::new("cp").arg("-a").arg(self.data()).arg(&half));
            std::fs::rename(half, template).expect("a template");
            return;
        }
        drop(lock);
        run(Command::new("cp").arg("-a").arg(template).arg(self.data()));
    }

    fn up(mut self) -> Self {
        self.restart();
        self
    }

    /// Where it listens; the same for as long as it lives.
    pub fn address(&self) -> SocketAddr {
        (self.loopback.ip(), self.port).into()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The certificate of the authority that signed that of a server which speaks TLS.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// An authority, and a certificate for this machine by it.
    fn make_certificate(&self) {
        let script = "set -e; new='openssl req -newkey rsa:2048 -nodes -batch'
            $new -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
            $new -subj /CN=server -keyout key.pem -out server.csr
            echo 'subjectAltName=IP:'$1',DNS:localhost' >extensions
            openssl x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out cert.pem
            chmod 600 key.pem";
        let ip = self.loopback.ip().to_string();
        run(Command::new("sh").args(["-c", script, "sh", &ip]).current_dir(self.folder.path()));
        if self.kind == Kind::Postgres && is_root() {
            run(Command::new("chown").args([unprivileged(), "key.pem", "cert.pem"]).current_dir(self.folder.path()));
        }
    }

    /// The address of a new empty database.
    pub fn database(&self) -> String {
        let name = format!("q{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.query("", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of a database, over TCP.
    pub fn url(&self, database: &str) -> String {
        self.url_through(self.address(), database)
    }

    /// The same through a proxy that listens there.
    pub fn url_through(&self, address: SocketAddr, database: &str) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://{USER}@{address}/{database}"),
            Kind::MariaDb => format!("mysql://{USER}:{PASSWORD}@{address}/{database}"),
        }
    }

    /// Asks the server with its own client; columns are parted by tabs, an empty name is the server's own
    /// database. To look at, or tamper with, what it holds.
    #[track_caller]
    pub fn query(&self, database: &str, sql: &str) -> String {
        let output = self.try_query(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The same, whatever comes of it.
    pub fn try_query(&self, database: &str, sql: &str) -> Output {
        let (ip, port) = (self.loopback.ip().to_string(), self.port.to_string());
        let mut client = match self.kind {
            Kind::Postgres => {
                let mut client = Command::new(postgres_program("psql"));
                client.env("PGCONNECT_TIMEOUT", "5").args(["-X", "-q", "-A", "-t", "-F", "\t", "-U", USER]);
                client.args(["-v", "ON_ERROR_STOP=1", "-h", &ip, "-p", &port]);
                client.args(["-d", if database.is_empty() { "postgres" } else { database }, "-c", sql]);
                client
            }
            Kind::MariaDb => {
                let mut client = Command::new(mariadb_program("mariadb"));
                client.args(["--no-defaults", "--connect-timeout=5", "-N", "-B", "-u", USER]);
                client.arg(format!("-p{PASSWORD}")).args(["-h", &ip, "-P", &port]);
                client.args(["-e", sql, "-D", if database.is_empty() { "mysql" } else { database }]);
                client
            }
        };
        client.stdin(Stdio::null()).output().expect("the server's client runs")
    }

    /// Starts the server (again) on its folder and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        let until = Instant::now() + START_MAX;
        loop {
            let mut child = self.command().spawn().expect("the server can be started");
            while Instant::now() < until && child.try_wait().expect("a process").is_none() {
                if self.try_query("", "SELECT 1").status.success() {
                    self.child = Some(child);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until && !log.is_empty(), "{:?} did not come up:\n{log}", self.kind);
            // What was killed is not quite gone.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn command(&self) -> Command {
        let (ip, port) = (self.loopback.ip().to_string(), self.port.to_string());
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.as_somebody(&postgres_program("postgres"));
                command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
                command.args(["-h", &ip, "-p", &port, "-c", "shared_buffers=32MB"]);
                command
            }
            Kind::MariaDb => {
                let mut command = Command::new(mariadb_program("mariadbd"));
                let place = |option: &str, path: &Path| format!("--{option}={}", path.display());
                command.arg("--no-defaults").arg(place("datadir", &self.data()));
                command.arg(place("socket", &self.folder.path().join("sock")));
                command.arg(place("pid-file", &self.folder.path().join("pid")));
                command.arg(place("init-file", &self.folder.path().join("init.sql")));
                command.args(["--skip-name-resolve", "--innodb-log-file-size=16M", NO_AIO]);
                command.arg(format!("--bind-address={ip}")).arg(format!("--port={port}"));
                if is_root() {
                    command.arg("--user=root");
                }
                command
            }
        };
        let log = || std::fs::File::create(self.folder.path().join("log")).expect("a log file");
        command.args(&self.options).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log()).stderr(log());
        command
    }

    /// A command that PostgreSQL runs as: it refuses to be root.
    fn as_somebody(&self, program: &Path) -> Command {
        if !is_root() {
            return Command::new(program);
        }
        let user = unprivileged();
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), &format!("--regid={}", group_of(user)), "--clear-groups", "--"]);
        command.arg(program).current_dir(self.folder.path());
        command
    }

    /// SIGKILL to the server and all that it started, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Stopped first, so that it starts nothing more meanwhile.
            signal("STOP", &[child.id()]);
            signal("KILL", &children_of(child.id()));
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// CPU time that its processes have used so far.
    pub fn cpu_time(&self) -> Duration {
        let pid = self.child.as_ref().expect("a running server").id();
        children_of(pid).into_iter().chain([pid]).map(cpu_time).sum()
    }

    /// The server stops answering, connections stay.
    pub fn freeze(&self) {
        let pid = self.child.as_ref().expect("a running server").id();
        signal("STOP", &[pid]);
        signal("STOP", &children_of(pid));
    }

    pub fn thaw(&self) {
        let pid = self.child.as_ref().expect("a running server").id();
        signal("CONT", &children_of(pid));
        signal("CONT", &[pid]);
    }

    /// Keeps a copy of everything the server holds; it is restarted for that.
    pub fn save(&mut self) {
        self.save_as("saved");
    }

    /// One of several copies, by name.
    pub fn save_as(&mut self, name: &str) {
        self.kill();
        let saved = self.folder.path().join(name);
        let _ = std::fs::remove_dir_all(&saved);
        run(Command::new("cp").arg("-a").arg(self.data()).arg(saved));
        self.restart();
    }

    /// Puts the copy in place of what the server holds.
    pub fn restore(&mut self) {
        self.restore_from("saved");
    }

    /// Puts the copy of that name in place.
    pub fn restore_from(&mut self, name: &str) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("the old folder");
        run(Command::new("cp").arg("-a").arg(self.folder.path().join(name)).arg(self.data()));
        self.restart();
    }
}

impl Drop for SqlServer {
    /// PostgreSQL is asked to quit, because only then it gives its shared memory back.
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut().filter(|_| self.kind == Kind::Postgres) {
            signal("QUIT", &[child.id()]);
            signal("CONT", &children_of(child.id()));
            signal("CONT", &[child.id()]);
            let until = Instant::now() + Duration::from_secs(5);
            while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.kill();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

fn passwd(user: &str) -> Option<Vec<String>> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.starts_with(&format!("{user}:")))?;
    Some(line.split(':').map(str::to_owned).collect())
}

/// Whom PostgreSQL runs as when the test is root.
fn unprivileged() -> &'static str {
    if passwd("postgres").is_some() { "postgres" } else { "nobody" }
}

fn group_of(user: &str) -> String {
    passwd(user).and_then(|fields| fields.get(3).cloned()).expect("a user of this machine")
}

/// Debian keeps PostgreSQL's programs out of `PATH`, one folder per version.
fn postgres_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    let apart = newest.map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{name}")));
    apart.filter(|path| path.exists()).or_else(|| in_path(name)).unwrap_or_else(|| {
        panic!("{name} is missing: install PostgreSQL (Debian: apt-get install postgresql), or run `make test`")
    })
}

fn mariadb_program(name: &str) -> PathBuf {
    let apart = PathBuf::from("/usr/sbin").join(name);
    in_path(name).or_else(|| apart.exists().then_some(apart)).unwrap_or_else(|| {
        panic!("{name} is missing: install MariaDB (Debian: apt-get install mariadb-server), or run `make test`")
    })
}

fn in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.exists())
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = || [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said()));
}

/// All processes that descend from this one.
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let all: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let child = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
            // After the name, which may hold anything: state, parent.
            Some((child, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// CPU time of a process, in hundredths of a second, as the kernel counts it.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name: state is the first field, user and system time the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Processes that have ended by themselves are passed over.
fn signal(name: &str, pids: &[u32]) {
    if !pids.is_empty() {
        let pids = pids.iter().map(u32::to_string);
        let _ = Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
    }
}
