//! A redis-server that the test owns and two sidecars can share.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{aof::Aof, eventually, process};

/// A server on a Unix socket in a folder of its own, with an append-only file.
pub struct Redis {
    folder: tempfile::TempDir,
    child: Child,
    options: Vec<String>,
    variables: Vec<(&'static str, PathBuf)>,
}

/// What a server had on disk.
pub struct Copy(tempfile::TempDir);

impl Redis {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With further options, which win over ours.
    pub fn with(options: &[&str]) -> Self {
        Self::with_variables(options, Vec::new())
    }

    /// With environment variables too, e.g. `LD_PRELOAD`.
    pub fn with_variables(options: &[&str], variables: Vec<(&'static str, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for redis");
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = spawn(folder.path(), &options, &variables);
        let redis = Self { folder, child, options, variables };
        redis.wait();
        redis
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Address for `--redis-url`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A plain connection, to look at or tamper with what the server holds.
    pub fn connect(&self) -> ::redis::Connection {
        let client = ::redis::Client::open(self.url()).expect("a Redis address");
        client.get_connection().expect("a connection to redis-server")
    }

    /// One command, its words apart by spaces; errors are the caller's.
    pub fn try_ask<T: ::redis::FromRedisValue>(&self, words: &str) -> ::redis::RedisResult<T> {
        let mut words = words.split(' ');
        let mut command = ::redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.connect())
    }

    #[track_caller]
    pub fn ask<T: ::redis::FromRedisValue>(&self, words: &str) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    /// SIGKILL; what is not in the append-only file is lost.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts again on the same files.
    pub fn start_again(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        self.child = spawn(self.folder.path(), &self.options, &self.variables);
        self.wait();
    }

    /// The append-only file of the killed server.
    pub fn aof(&self) -> Aof {
        Aof::open(self.folder())
    }

    /// What the killed server has on disk, kept aside.
    pub fn copy(&self) -> Copy {
        let copy = tempfile::tempdir().expect("a folder for a copy");
        copy_folder(&self.folder().join("appendonlydir"), copy.path());
        Copy(copy)
    }

    /// Puts a copy in place of what the killed server has on disk.
    pub fn restore(&self, copy: &Copy) {
        self.lose_everything();
        copy_folder(copy.0.path(), &self.folder().join("appendonlydir"));
    }

    /// The killed server's disk is empty.
    pub fn lose_everything(&self) {
        std::fs::remove_dir_all(self.folder().join("appendonlydir")).expect("the append-only folder");
    }

    /// Sets what files may grow to, in bytes; `None`: as much as there is. A server whose disk is full.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        // The soft limit alone, so that it can be raised again.
        let arguments = [format!("--pid={}", self.pid()), format!("--fsize={limit}:unlimited")];
        let done = Command::new("prlimit").args(arguments).status().expect("prlimit is installed");
        assert!(done.success());
    }

    /// A field of a loaded account's hash, as Redis has it.
    pub fn account_field(&self, account: &str, field: &str) -> Vec<u8> {
        let mut connection = self.connect();
        let name = account_key(&mut connection, account);
        ::redis::cmd("HGET").arg(name).arg(field).query(&mut connection).expect("a field")
    }

    /// Tampers with it.
    pub fn set_account_field(&self, account: &str, field: &str, value: &[u8]) {
        let mut connection = self.connect();
        let name = account_key(&mut connection, account);
        ::redis::cmd("HSET").arg(name).arg(field).arg(value).exec(&mut connection).expect("HSET");
    }

    /// The server stands still (accepts connections, answers nothing) until [`Redis::thaw`].
    pub fn freeze(&self) {
        process::send("STOP", self.child.id());
    }

    pub fn thaw(&self) {
        process::send("CONT", self.child.id());
    }

    /// Until it answers; one that loads a file does that a moment after it listens.
    fn wait(&self) {
        eventually("redis-server accepts connections", Duration::from_secs(10), || {
            UnixStream::connect(self.socket()).is_ok() && self.try_ask::<String>("PING").is_ok()
        });
    }
}

/// The key of a loaded account, in whichever shard it is.
fn account_key(connection: &mut ::redis::Connection, account: &str) -> String {
    let names: Vec<String> = ::redis::cmd("KEYS").arg(format!("q*a/{account}")).query(connection).expect("KEYS");
    let [name] = <[String; 1]>::try_from(names).expect("the account is loaded once");
    name
}

fn spawn(folder: &Path, options: &[String], variables: &[(&'static str, PathBuf)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("redis.log"));
    // The signal of a file that reached its limit would kill the server; ignored, it is an error of write().
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec redis-server \"$@\"", "redis-server"]);
    command
        .args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"])
        .args(["--auto-aof-rewrite-percentage", "0", "--maxmemory-policy", "noeviction", "--unixsocket"])
        .arg(folder.join("redis.sock"))
        .arg("--dir")
        .arg(folder)
        .args(options)
        .envs(variables.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.expect("a log file"))
        .spawn()
        .expect("redis-server is installed")
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder to copy") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copied file");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.folder().join("redis.log")).unwrap_or_default();
            let from = said.char_indices().rev().nth(4_000).map_or(0, |(at, _)| at);
            eprintln!("--- redis-server {} said ---\n{}\n---", self.child.id(), &said[from..]);
        }
        self.thaw();
        self.kill();
    }
}
