//! Connections: a small fixed set of lanes that a background task keeps filled. Commands of many calls
//! share a lane's connection and are answered in order. Each lane is driven by one runtime; a call takes
//! the lane that is driven on its own thread, so that nobody has to be woken on another one.
//!
//! Every new connection tells which server it leads to (`run_id`). Another server than before means
//! that nothing known of the shards holds any longer: all of them stop being served, before the
//! connection is used, until they are attached again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use ::redis::{Client, Cmd, FromRedisValue, IntoConnectionInfo, RedisError, Value};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    connect::connect,
    fault::Fault,
    pipe::{Driver, Pipe, driven_here},
    resp,
    script::Script,
    serving::Serving,
};
use crate::engine::ports::Unavailable;

/// How often lanes are looked at when nothing is known to be wrong.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// Between two attempts to reach a server that is not there.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// What a connection may take to be opened, or to answer a PING.
const PATIENCE: Duration = Duration::from_secs(1);
/// Unanswered PINGs in a row after which a connection is taken for dead.
const MISSED_MAX: u32 = 3;

/// A connection in its slot.
pub(crate) struct Lane {
    pipe: Arc<Pipe>,
    driver: AbortHandle,
    broken: AtomicBool,
    missed: AtomicU32,
}

/// The lanes.
pub(crate) struct Lanes {
    client: Client,
    slots: Box<[ArcSwapOption<Lane>]>,
    /// Where each lane is driven.
    runtimes: Box<[Handle]>,
    broken: Notify,
    serving: Arc<Serving>,
}

impl Lanes {
    /// As many lanes as `runtimes`, each driven by its own.
    pub(crate) fn new(
        url: impl IntoConnectionInfo,
        runtimes: &[Handle],
        serving: Arc<Serving>,
    ) -> Result<Self, RedisError> {
        let runtimes: Box<[Handle]> = runtimes.into();
        Ok(Self {
            client: Client::open(url)?,
            slots: runtimes.iter().map(|_| ArcSwapOption::empty()).collect(),
            runtimes,
            broken: Notify::new(),
            serving,
        })
    }

    /// The connection for a shard's calls: this thread's own, if it drives one. Any will do: calls that
    /// must follow one another wait for each other's answers.
    pub(crate) fn of(&self, shard: u16) -> Result<Arc<Lane>, Unavailable> {
        let lanes = self.slots.len();
        self.take(driven_here().filter(|lane| *lane < lanes).unwrap_or(usize::from(shard) % lanes))
    }

    fn take(&self, slot: usize) -> Result<Arc<Lane>, Unavailable> {
        let lane = self.slots[slot].load_full().filter(|lane| !lane.broken.load(Ordering::Relaxed));
        lane.ok_or_else(|| Unavailable::Connection("there is no connection just now".to_owned()))
    }

    /// A call saw its connection die; or the stream side saw one of its own die, so the lanes are looked at.
    pub(crate) fn report(&self, lane: Option<&Lane>) {
        if let Some(lane) = lane {
            lane.broken.store(true, Ordering::Relaxed);
        }
        self.broken.notify_one();
    }

    /// Keeps the slots filled until it is dropped.
    pub(crate) async fn tend(self: Arc<Self>) {
        let mut down = false;
        loop {
            // A permit left by `report` ends the wait at once, except while the server is away.
            if down {
                sleep(RETRY_EVERY).await;
            } else {
                let _ = timeout(TEND_EVERY, self.broken.notified()).await;
            }
            let result = self.look().await;
            match (&result, down) {
                (Err(error), false) => tracing::warn!(%error, "the connection to Redis is lost"),
                (Ok(()), true) => tracing::info!("connected to Redis"),
                _ => {}
            }
            down = result.is_err();
        }
    }

    /// One look at every slot; stops at the first that cannot be filled.
    pub(crate) async fn look(&self) -> Result<(), String> {
        for number in 0..self.slots.len() {
            let slot = &self.slots[number];
            let fine = match slot.load_full() {
                Some(lane) => lane.answers().await,
                None => false,
            };
            if !fine {
                slot.store(None);
                slot.store(Some(Arc::new(self.open(number).await?)));
            }
        }
        Ok(())
    }

    async fn open(&self, number: usize) -> Result<Lane, String> {
        let pipe = Arc::new(Pipe::default());
        let (info, driven) = (self.client.get_connection_info().clone(), pipe.clone());
        // A socket belongs to the runtime that opens it.
        let opening = self.runtimes[number].spawn(async move {
            let socket = timeout(PATIENCE, connect(info.addr())).await;
            let socket = socket.unwrap_or_else(|_| Err("the server cannot be reached".to_owned()))?;
            let driver = Driver::new(driven, socket, number);
            Ok::<_, String>(tokio::spawn(async move { drop(driver.await) }).abort_handle())
        });
        let driver = opening.await.map_err(|error| error.to_string())??;
        let lane = Lane { pipe, driver, broken: AtomicBool::new(false), missed: AtomicU32::new(0) };
        let until = Instant::now() + PATIENCE;
        for command in greeting(self.client.get_connection_info().redis_settings()) {
            lane.send::<Value>(until, &command).await.map_err(|fault| fault.to_string())?;
        }
        let run_id = lane.run_id(until).await.map_err(|fault| fault.to_string())?;
        self.serving.server_seen(&run_id);
        Ok(lane)
    }
}

/// What has to be said first.
fn greeting(settings: &::redis::RedisConnectionInfo) -> Vec<Cmd> {
    let mut commands = Vec::new();
    if let Some(password) = settings.password() {
        let mut auth = ::redis::cmd("AUTH");
        auth.arg(settings.username()).arg(password);
        commands.push(auth);
    }
    if settings.db() != 0 {
        let mut select = ::redis::cmd("SELECT");
        select.arg(settings.db());
        commands.push(select);
    }
    commands
}

impl Lane {
    /// Sends what `write` writes and takes the reply apart.
    pub(crate) async fn call(&self, until: Instant, write: impl FnOnce(&mut Vec<u8>)) -> Result<Value, Fault> {
        let reply = self.pipe.call(until, write)?.await?;
        match resp::value(&reply) {
            Ok(answer) => answer.map_err(|error| Fault::of(&error)),
            Err(garbage) => Err(Fault::Corrupt(garbage.to_string())),
        }
    }

    /// One of the calls that a script carries; its answer as it came.
    pub(crate) async fn share(
        &self,
        until: Instant,
        script: &Script,
        keys: &[String],
        arg: &[u8],
    ) -> Result<Bytes, Fault> {
        let reply = self.pipe.share(until, script, keys, arg)?.await?;
        match resp::string(&reply) {
            Ok(answer) => answer.map_err(|error| Fault::of(&error)),
            Err(garbage) => Err(Fault::Corrupt(garbage.to_string())),
        }
    }

    pub(crate) async fn send<T: FromRedisValue>(&self, until: Instant, command: &Cmd) -> Result<T, Fault> {
        let value = self.call(until, |out| command.write_packed_command(out)).await?;
        T::from_redis_value(value).map_err(|error| Fault::Corrupt(error.to_string()))
    }

    /// The server behind it.
    pub(crate) async fn run_id(&self, until: Instant) -> Result<String, Fault> {
        let mut info = ::redis::cmd("INFO");
        info.arg("server");
        let text: String = self.send(until, &info).await?;
        let id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        id.map(|id| id.trim().to_owned()).ok_or_else(|| Fault::Corrupt("INFO names no run_id".to_owned()))
    }

    /// False when the connection is known to be gone, or silent for too long.
    async fn answers(&self) -> bool {
        if self.broken.load(Ordering::Relaxed) {
            return false;
        }
        match self.send::<Value>(Instant::now() + PATIENCE, &::redis::cmd("PING")).await {
            Ok(_) => {
                self.missed.store(0, Ordering::Relaxed);
                true
            }
            Err(Fault::Lost(_)) => false,
            // An error that the server answered (LOADING, BUSY) is no reason to hang up.
            Err(Fault::NoScript | Fault::NotServing(_) | Fault::Refused(_) | Fault::Corrupt(_)) => true,
            Err(Fault::Timeout | Fault::Overloaded) => self.missed.fetch_add(1, Ordering::Relaxed) + 1 < MISSED_MAX,
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
