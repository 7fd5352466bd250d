//! Floor 2: Redis. The only room that knows it: key names, scripts (their text is in `lua/`),
//! connections, what answers and errors mean. It implements the ports `Counters` (the hot path) and
//! `Stream` (write-back and attach) and `News`, and knows no SQL, no HTTP and no policy.
//!
//! A call takes a permit (bounded in flight) and a lane, runs one script and decodes the answer, all
//! within one time budget. [`pipe`] is a connection that calls share, [`share`] a script that they share, [`pool`] keeps those there and asks which
//! server they lead to, [`control`] has the connections of write-back and attach; which shards are served is [`serving`]'s.

mod arguments;
#[doc(hidden)]
pub mod bench;
mod call;
mod connect;
mod control;
mod counters;
mod deadlines;
mod fault;
mod keys;
mod loaded;
mod news;
mod pipe;
mod pool;
mod recover;
mod reply;
mod resp;
mod script;
mod server;
mod serving;
mod share;
mod stream;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};

use call::Caller;
use control::Control;
use pool::Lanes;
pub use script::ComposeError;
use script::Scripts;
use serving::Serving;

/// Settings of the room.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// `redis://[user:password@]host:port[/db]` or `unix:///path[?db=0]`.
    pub url: String,
    /// Number of shards, fixed at the first initialisation of a deployment.
    pub shards: u16,
    /// Calls in flight at most; more are answered `Overloaded` at once instead of queueing.
    pub in_flight_max: usize,
    /// A call that takes longer is given up on (it may still happen; repeating it is safe).
    pub call_timeout: Duration,
    /// How long settled reservations and operations are remembered in Redis.
    pub tombstone_ttl: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            shards: 64,
            in_flight_max: 4_096,
            call_timeout: Duration::from_millis(250),
            tombstone_ttl: Duration::from_secs(15 * 60),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, place))) => format!("{scheme}://***@{place}"),
            _ => self.url.clone(),
        };
        f.debug_struct("Config")
            .field("url", &url)
            .field("shards", &self.shards)
            .field("in_flight_max", &self.in_flight_max)
            .field("call_timeout", &self.call_timeout)
            .field("tombstone_ttl", &self.tombstone_ttl)
            .finish()
    }
}

/// Why the room cannot be built. A server that is away is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the Redis URL cannot be used: {0}")]
    Url(::redis::RedisError),
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    #[error("the scripts cannot be composed: {0}")]
    Script(#[from] ComposeError),
}

/// Both ports on one set of connections. Shared by `Arc`; dropping the last one stops its task.
pub struct Redis {
    pub(crate) caller: Caller,
    pub(crate) scripts: Scripts,
    /// Time to live of tombstones in ms, as scripts pass it on.
    pub(crate) tombstone_ms: String,
    /// The same as a number.
    pub(crate) tombstone_ttl_ms: u64,
    /// Makes the connections of those who listen to news.
    news: Arc<::redis::Client>,
    tend: JoinHandle<()>,
}

/// Builds the room and connects if the server is there. No shard is served before it is attached.
/// Calls share one connection; write-back and attach have their own.
///
/// # Errors
/// [`BuildError`]; never because the server does not answer.
pub async fn build(config: &Config) -> Result<Arc<Redis>, BuildError> {
    build_on(config, &[Handle::current()]).await
}

/// The same with a connection for each of `runtimes`, driven there: calls from a runtime's thread
/// go by its own connection. They must outlive the room.
///
/// # Errors
/// [`BuildError`]; never because the server does not answer.
pub async fn build_on(config: &Config, runtimes: &[Handle]) -> Result<Arc<Redis>, BuildError> {
    let whole = [
        ("shards", config.shards == 0),
        ("runtimes", runtimes.is_empty()),
        ("in_flight_max", config.in_flight_max == 0),
        ("tombstone_ttl", config.tombstone_ttl.as_millis() == 0),
    ];
    if let Some((name, _)) = whole.into_iter().find(|(_, zero)| *zero) {
        return Err(BuildError::Zero(name));
    }
    let scripts = Scripts::compose()?;
    let serving = Arc::new(Serving::new(config.shards));
    let lanes = Lanes::new(config.url.as_str(), runtimes, Arc::clone(&serving)).map_err(BuildError::Url)?;
    let lanes = Arc::new(lanes);
    let news = Arc::new(::redis::Client::open(config.url.as_str()).map_err(BuildError::Url)?);
    let control = Control::new(config.url.as_str(), Arc::clone(&serving)).map_err(BuildError::Url)?;
    if let Err(error) = lanes.look().await {
        tracing::warn!(error, "Redis is not there yet");
    }
    let in_flight = Semaphore::new(config.in_flight_max.min(Semaphore::MAX_PERMITS));
    Ok(Arc::new(Redis {
        caller: Caller { lanes: Arc::clone(&lanes), control, serving, in_flight, call_timeout: config.call_timeout },
        scripts,
        news,
        tombstone_ms: config.tombstone_ttl.as_millis().to_string(),
        tombstone_ttl_ms: config.tombstone_ttl.as_millis() as u64,
        tend: tokio::spawn(lanes.tend()),
    }))
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.tend.abort();
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}
