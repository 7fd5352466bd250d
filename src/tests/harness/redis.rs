//! A redis-server that the test owns and two sidecars can share.

use std::{
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{eventually, process};

/// A server on a Unix socket in a folder of its own, with an append-only file.
pub struct Redis {
    folder: tempfile::TempDir,
    child: Child,
}

impl Redis {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for redis");
        let child = spawn(folder.path());
        let redis = Self { folder, child };
        redis.wait();
        redis
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Address for `--redis-url`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// SIGKILL; what is not in the append-only file is lost.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts again on the same files.
    pub fn start_again(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        self.child = spawn(self.folder.path());
        self.wait();
    }

    /// The server stands still (accepts connections, answers nothing) until [`Redis::thaw`].
    pub fn freeze(&self) {
        process::send("STOP", self.child.id());
    }

    pub fn thaw(&self) {
        process::send("CONT", self.child.id());
    }

    fn wait(&self) {
        eventually("redis-server accepts connections", Duration::from_secs(10), || {
            UnixStream::connect(self.socket()).is_ok()
        });
    }
}

fn spawn(folder: &std::path::Path) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"])
        .args(["--maxmemory-policy", "noeviction", "--unixsocket"])
        .arg(folder.join("redis.sock"))
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.thaw();
        self.kill();
    }
}
