//! The private Redis of the default mode: a redis-server child on a Unix socket inside the data
//! directory, started, watched, restarted, and stopped after everything that needs it.
//!
//! The child outlives a crash of the sidecar, so that nothing acknowledged is lost; the next sidecar
//! adopts it. Two locks make this safe: `<data>/quotad.lock` admits one sidecar ([`lock`]), and
//! `<data>/redis/server.lock`, which the child inherits as its standard input, tells whether any
//! redis-server still works on the directory ([`launch`]).

mod ask;
mod binary;
pub mod checks;
mod conf;
mod launch;
pub mod lock;
mod place;
mod supervise;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use place::SOCKET_PATH_MAX;
pub use supervise::{Embedded, State, start, start_unless};

/// When the private Redis forces its log to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Once per second: a crash of redis-server loses nothing, a power failure at most a second or
    /// two, which recovery reports.
    Everysec,
    /// Before each answer.
    Always,
}

impl Fsync {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Fsync::Everysec, Fsync::Always].into_iter().find(|fsync| fsync.as_str() == text)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Fsync::Everysec => "everysec",
            Fsync::Always => "always",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    /// Where the child keeps its files; made when it is not there, for the owner alone.
    pub dir: PathBuf,
    /// A path or a name in `PATH`; `None`: `redis-server`, else `valkey-server`.
    pub binary: Option<PathBuf>,
    pub fsync: Fsync,
}

/// Why there is no private Redis. Each is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Binary(String),
    #[error("the directory {path} cannot be used for the private Redis: {reason}")]
    Place { path: PathBuf, reason: String },
    #[error("{binary} cannot be started: {error}")]
    Spawn { binary: PathBuf, error: std::io::Error },
    #[error("redis-server ended while it started ({status}); the end of {log} says: {tail}")]
    Ended { status: String, log: PathBuf, tail: String },
    #[error(
        "redis-server did not become ready within {seconds} s; see {log}. A large append-only file takes its time: start again"
    )]
    NotReady { seconds: u64, log: PathBuf },
    #[error(
        "another redis-server{pid} still works on {dir} and does not answer as ours; stop it before starting quotad again"
    )]
    Occupied { pid: String, dir: PathBuf },
    #[error("redis-server did not stop within {seconds} s; see {log}")]
    NotStopped { seconds: u64, log: PathBuf },
}
