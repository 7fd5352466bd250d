//! Brings a server up: adopts the one that a crashed sidecar left behind, or starts a fresh one.
//!
//! Two servers on one append-only file would destroy it. So each child inherits, as its standard
//! input, a file that is locked: while the lock is held, some server lives, whether or not it
//! answers, and no second one is started.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    process::{Child, Command},
    time::{Instant, sleep},
};
use tracing::info;

use super::{
    Config, Error,
    ask::{self, Identity},
    binary, conf,
    place::Place,
};

/// How long a server that holds the lock may stay silent: one that is being killed, or that works
/// off a slow command, needs a moment.
pub(super) const OCCUPIED_WAIT: Duration = Duration::from_secs(10);
/// A large append-only file takes its time to load.
const READY_WAIT: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A server that answers and has loaded its data.
#[derive(Debug)]
pub(super) struct Running {
    pub identity: Identity,
    pub server: Server,
}

#[derive(Debug)]
pub(super) enum Server {
    /// Started by us: the kernel tells when it ends.
    Child(Child),
    /// Started by a sidecar before us: the end of an open connection tells.
    Adopted(UnixStream),
}

impl Running {
    /// Resolves when the server has ended, with a word on how.
    pub(super) async fn ended(&mut self, socket: &Path) -> String {
        match &mut self.server {
            Server::Child(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            Server::Adopted(stream) => loop {
                let mut byte = [0];
                if matches!(stream.read(&mut byte).await, Ok(1)) {
                    continue;
                }
                // A connection can be closed without an end of the server.
                match UnixStream::connect(socket).await {
                    Ok(again) => *stream = again,
                    Err(_) => return "adopted, so its exit status is unknown".to_owned(),
                }
                sleep(LOOK_AGAIN).await;
            },
        }
    }
}

/// Adopts or starts, and waits until the server is ready.
pub(super) async fn bring_up(config: &Config, place: &Place, occupied_wait: Duration) -> Result<Running, Error> {
    let deadline = Instant::now() + occupied_wait;
    loop {
        if let Some(running) = adopt(config, place).await? {
            return Ok(running);
        }
        if let Some(lock) = try_lock(place)? {
            return spawn(config, place, lock).await;
        }
        if Instant::now() >= deadline {
            let pid = std::fs::read_to_string(&place.pid).unwrap_or_default();
            let pid = pid.trim().parse::<u32>().map_or_else(|_| String::new(), |pid| format!(" (process {pid})"));
            return Err(Error::Occupied { pid, dir: place.dir.clone() });
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The lock of the directory, or `None` while a server has it.
pub(super) fn try_lock(place: &Place) -> Result<Option<File>, Error> {
    let refuse = |error: std::io::Error| Error::Place { path: place.lock.clone(), reason: error.to_string() };
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).open(&place.lock).map_err(refuse)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(refuse(error)),
    }
}

/// Takes over a server that answers on our socket, works on our directory and is the one that the
/// pid file names; `None` when there is no such server.
async fn adopt(config: &Config, place: &Place) -> Result<Option<Running>, Error> {
    let deadline = Instant::now() + READY_WAIT;
    loop {
        let Some(identity) = ask::identity(&place.socket).await else { return Ok(None) };
        let named = std::fs::read_to_string(&place.pid).ok().and_then(|pid| pid.trim().parse::<u32>().ok());
        if identity.dir != place.dir || named != Some(identity.pid) {
            return Ok(None);
        }
        if identity.loading {
            if Instant::now() >= deadline {
                return Err(not_ready(place));
            }
            sleep(LOOK_AGAIN).await;
            continue;
        }
        let Ok(stream) = UnixStream::connect(&place.socket).await else { return Ok(None) };
        // It was started with the settings of its day.
        for words in [
            ["CONFIG", "SET", "appendfsync", config.fsync.as_str()],
            ["CONFIG", "SET", "maxmemory-policy", "noeviction"],
        ] {
            if ask::command(&place.socket, &words).await.is_err() {
                return Ok(None);
            }
        }
        info!(pid = identity.pid, "adopted the redis-server that a former quotad left running");
        return Ok(Some(Running { identity, server: Server::Adopted(stream) }));
    }
}

/// Starts a fresh server, which inherits the lock.
async fn spawn(config: &Config, place: &Place, lock: File) -> Result<Running, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = binary::find(config.binary.as_deref(), &path)?;
    let refuse = |path: &Path, error: std::io::Error| Error::Place { path: path.to_owned(), reason: error.to_string() };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&place.conf)
        .map_err(|e| refuse(&place.conf, e))?;
    file.write_all(conf::render(place, config.fsync).as_bytes()).map_err(|e| refuse(&place.conf, e))?;
    let log =
        || OpenOptions::new().append(true).create(true).mode(0o600).open(&place.log).map_err(|e| refuse(&place.log, e));
    let mut child = Command::new(&program)
        .arg(&place.conf)
        .current_dir(&place.dir)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(log()?))
        .stderr(Stdio::from(log()?))
        // A group of its own: the terminal's Ctrl-C must reach the sidecar alone, which drains first.
        .process_group(0)
        .spawn()
        .map_err(|error| Error::Spawn { binary: program.clone(), error })?;
    let deadline = Instant::now() + READY_WAIT;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Error::Ended { status: status.to_string(), log: place.log.clone(), tail: place.log_tail() });
        }
        if let Some(identity) = ask::identity(&place.socket).await
            && Some(identity.pid) == child.id()
            && !identity.loading
        {
            info!(pid = identity.pid, program = %program.display(), "started the private redis-server");
            return Ok(Running { identity, server: Server::Child(child) });
        }
        if Instant::now() >= deadline {
            // Left alone, so that the next start can adopt it when it has loaded.
            return Err(not_ready(place));
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn not_ready(place: &Place) -> Error {
    Error::NotReady { seconds: READY_WAIT.as_secs(), log: place.log.clone() }
}
