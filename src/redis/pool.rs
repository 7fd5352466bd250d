//! Connections. A bb8 pool opens and checks them; the hot path never asks it. It clones the
//! connection of a lane instead, one of a small fixed set of slots that a background task keeps
//! filled. Commands of many calls share a lane's connection and are answered in order.
//!
//! Every new connection tells which server it leads to (`run_id`). Another server than before means
//! that nothing known of the shards holds any longer: all of them stop being served, before the
//! connection is used, until they are attached again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use ::redis::{RedisError, aio::MultiplexedConnection};
use arc_swap::ArcSwapOption;
use bb8::{PooledConnection, RunError};
use bb8_redis::RedisConnectionManager;
use tokio::{sync::Notify, time::timeout};

use super::serving::Serving;
use crate::engine::ports::Unavailable;

/// How often lanes are looked at when nothing is known to be wrong.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// Between two attempts to reach a server that is not there.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// What a connection may take to be opened, or to answer a PING.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one attempt waits for a place in the pool. bb8 does not say at once that a connection was
/// refused, so this is what an attempt on a server that is away costs; a slow connection goes on being
/// opened behind it and is found by the next attempt.
const PLACE_MAX: Duration = Duration::from_millis(250);
/// Unanswered PINGs in a row after which a connection is taken for dead.
const MISSED_MAX: u32 = 3;
/// A command's longest stay within the client; every call has its own, shorter time budget.
const RESPONSE_MAX: Duration = Duration::from_secs(60);

/// A connection in its slot.
struct Lane {
    connection: MultiplexedConnection,
    broken: AtomicBool,
    missed: AtomicU32,
    /// Keeps the place in the pool: as many connections as lanes, never more.
    _place: PooledConnection<'static, RedisConnectionManager>,
}

/// The lanes and the map from shard to lane. The last slot is for the stream side, whose long
/// answers would hold up the calls of a shard.
pub(crate) struct Lanes {
    pool: bb8::Pool<RedisConnectionManager>,
    slots: Box<[ArcSwapOption<Lane>]>,
    /// Lane of each shard. One map, so that lanes may lead to different servers one day.
    of_shard: Box<[u16]>,
    broken: Notify,
    serving: Arc<Serving>,
}

/// A clone of a lane's connection, for one call.
pub(crate) struct Borrowed {
    pub(crate) connection: MultiplexedConnection,
    lane: Arc<Lane>,
}

impl Lanes {
    pub(crate) fn new(url: &str, lanes: u16, serving: Arc<Serving>) -> Result<Self, RedisError> {
        let slots = u32::from(lanes) + 1;
        let pool = bb8::Pool::builder()
            .max_size(slots)
            .max_lifetime(None)
            .idle_timeout(None)
            .connection_timeout(PLACE_MAX)
            .retry_connection(false)
            .build_unchecked(RedisConnectionManager::new(url)?);
        Ok(Self {
            pool,
            slots: (0..slots).map(|_| ArcSwapOption::empty()).collect(),
            of_shard: (0..serving.shards()).map(|shard| shard % lanes).collect(),
            broken: Notify::new(),
            serving,
        })
    }

    /// The connection for a shard's calls.
    pub(crate) fn of(&self, shard: u16) -> Result<Borrowed, Unavailable> {
        self.borrow(self.of_shard.get(usize::from(shard)).copied().unwrap_or(0).into())
    }

    /// The connection for the stream side.
    pub(crate) fn control(&self) -> Result<Borrowed, Unavailable> {
        self.borrow(self.slots.len() - 1)
    }

    fn borrow(&self, slot: usize) -> Result<Borrowed, Unavailable> {
        let lane = self.slots[slot].load_full().filter(|lane| !lane.broken.load(Ordering::Relaxed));
        let lane = lane.ok_or_else(|| Unavailable::Connection("there is no connection just now".to_owned()))?;
        Ok(Borrowed { connection: lane.connection.clone(), lane })
    }

    /// A call saw its connection die.
    pub(crate) fn report(&self, borrowed: &Borrowed) {
        borrowed.lane.broken.store(true, Ordering::Relaxed);
        self.broken.notify_one();
    }

    /// Keeps the slots filled until it is dropped.
    pub(crate) async fn tend(self: Arc<Self>) {
        let mut down = false;
        loop {
            let wait = if down { RETRY_EVERY } else { TEND_EVERY };
            // A permit left by `report` ends the wait at once, except while the server is away.
            if down {
                tokio::time::sleep(wait).await;
            } else {
                let _ = timeout(wait, self.broken.notified()).await;
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
        for slot in &self.slots {
            let fine = match slot.load_full() {
                Some(lane) => lane.answers().await,
                None => false,
            };
            if !fine {
                // The broken one gives its place in the pool back first.
                slot.store(None);
                slot.store(Some(Arc::new(self.open().await?)));
            }
        }
        Ok(())
    }

    async fn open(&self) -> Result<Lane, String> {
        let place = self.pool.get_owned().await.map_err(|error| match error {
            RunError::User(error) => error.to_string(),
            RunError::TimedOut => "the server cannot be reached".to_owned(),
        })?;
        let mut connection = place.clone();
        connection.set_response_timeout(RESPONSE_MAX);
        let run_id = run_id(&mut connection).await?;
        self.serving.server_seen(&run_id);
        Ok(Lane { connection, broken: AtomicBool::new(false), missed: AtomicU32::new(0), _place: place })
    }
}

impl Lane {
    /// False when the connection is known to be gone, or silent for too long.
    async fn answers(&self) -> bool {
        if self.broken.load(Ordering::Relaxed) {
            return false;
        }
        let mut connection = self.connection.clone();
        match timeout(PATIENCE, ::redis::cmd("PING").exec_async(&mut connection)).await {
            Ok(Ok(())) => {
                self.missed.store(0, Ordering::Relaxed);
                true
            }
            // An error that the server answered (LOADING, BUSY) is no reason to hang up.
            Ok(Err(error)) => error.code().is_some(),
            Err(_) => self.missed.fetch_add(1, Ordering::Relaxed) + 1 < MISSED_MAX,
        }
    }
}

/// The server behind a connection.
pub(crate) async fn run_id(connection: &mut MultiplexedConnection) -> Result<String, String> {
    let mut info = ::redis::cmd("INFO");
    info.arg("server");
    let text: String = timeout(PATIENCE, info.query_async(connection))
        .await
        .map_err(|_| "INFO was not answered within a second".to_owned())?
        .map_err(|error| error.to_string())?;
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
    id.map(|id| id.trim().to_owned()).ok_or_else(|| "INFO names no run_id".to_owned())
}
