//! The composition root: the only file, with its folder, that knows all rooms. It builds them from
//! the bottom up, runs them, and takes them down in the opposite order.

mod admin_token;
pub mod ask;
pub mod client;
mod demo;
pub mod failure;
mod listen;
mod logging;
mod price_table;
pub mod reconcile;
mod sidecar_id;
mod signals;
mod tables;
pub mod tariffs;
mod tasks;
mod threads;
mod upkeep;
mod wiring;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};
use tracing::{info, warn};

use crate::{
    config::{Config, Loaded, RedisChoice, secret::Secret},
    embedded::{self, Embedded, checks, lock::DataLock},
    engine::{Engine, outbox::Courier, ports::ServerFacts},
    http::Health,
    metrics::Exporter,
};
use failure::Failure;
use listen::Listeners;
use signals::Signals;
use tasks::Tasks;
use threads::Threads;
use wiring::{Database, Redis, Writeback};

/// How long a Redis may be loading its data at start.
const LOADING_WAIT: Duration = Duration::from_secs(300);
/// A Redis that starts beside the sidecar, or a busy machine, needs a moment; one that is not there
/// should be said soon.
const REACH_WAIT: Duration = Duration::from_secs(5);
const LOADING_LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Serves until SIGTERM or SIGINT, or until something fails.
///
/// # Errors
/// [`Failure`]; nothing listens any more and nothing of ours runs when this returns.
pub fn serve(loaded: Loaded) -> Result<(), Failure> {
    crate::faults::arm();
    logging::install(&loaded.config.log)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("no threads: {error}")))?;
    let threads = Threads::start(loaded.config.http.threads)
        .map_err(|error| Failure::Other(format!("no threads to serve gateways: {error}")))?;
    let result = runtime.block_on(run(loaded.config, threads.handles()));
    // First: what it still does may need what lives on the others.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(threads);
    result
}

/// The OpenAPI document, for `quotad openapi`.
#[must_use]
pub fn openapi() -> String {
    wiring::openapi()
}

/// The private Redis frames everything else: up before it, stopped after it, whatever happened.
async fn run(config: Config, threads: &[Handle]) -> Result<(), Failure> {
    let mut signals = Signals::install()?;
    let _lock = DataLock::take(&config.data)?;
    let (embedded, url) = match &config.redis.choice {
        RedisChoice::Embedded(private) => {
            let mut asked = "";
            let stop = async { asked = signals.next().await };
            let Some(embedded) = embedded::start_unless(private.clone(), stop).await? else {
                return interrupted(asked);
            };
            let url = embedded.url();
            (Some(embedded), Secret::new(url))
        }
        RedisChoice::Url(url) => (None, Secret::new(url.expose())),
    };
    let result = serve_on(&config, &url, threads, &mut signals).await;
    match (stop_redis(embedded).await, result) {
        (Err(stopping), Ok(())) => Err(stopping),
        (_, result) => result,
    }
}

async fn stop_redis(embedded: Option<Embedded>) -> Result<(), Failure> {
    match embedded {
        Some(embedded) => {
            embedded.stop().await?;
            info!("stopped the private redis-server");
            Ok(())
        }
        None => Ok(()),
    }
}

fn interrupted(signal: &str) -> Result<(), Failure> {
    info!(signal, "stopped while starting");
    Ok(())
}

/// All rooms, built.
struct House {
    database: Database,
    redis: Redis,
    writeback: Writeback,
    engine: Arc<Engine>,
    health: Arc<Health>,
    exporter: Exporter,
    listeners: Listeners,
    /// Names this sidecar in leases.
    holder: String,
    admin_token: Secret,
    admin_token_file: Option<PathBuf>,
}

async fn serve_on(
    config: &Config,
    redis_url: &Secret,
    threads: &[Handle],
    signals: &mut Signals,
) -> Result<(), Failure> {
    let house = tokio::select! {
        built = build(config, redis_url, threads) => built?,
        signal = signals.next() => return interrupted(signal),
    };
    let addresses = (house.listeners.gateway_address, house.listeners.admin_address);
    let admin_token_file = house.admin_token_file.clone();
    let demo = demo::Places {
        gateway: addresses.0,
        admin: addresses.1,
        gateway_token: config.http.gateway_token.clone(),
        admin_token: house.admin_token.clone(),
        units_per_usd: config.constants.units_per_usd,
    };
    let (engine, database, health) = (house.engine.clone(), house.database.clone(), house.health.clone());
    let mut running = start(config, house, threads);
    // One line for programs that asked for port 0; people read the log.
    println!("listening gateway={} admin={}", addresses.0, addresses.1);
    info!(
        gateway = %addresses.0,
        admin = %addresses.1,
        admin_token = %admin_token_file.map_or("as configured".to_owned(), |path| format!("in {}", path.display())),
        "quotad {} is listening",
        env!("CARGO_PKG_VERSION")
    );
    let demonstration = async {
        if config.demo {
            demo::set_up(&engine, &demo).await?;
        }
        std::future::pending::<Result<(), Failure>>().await
    };
    let ended = tokio::select! {
        signal = signals.next() => { info!(signal, "stopping"); Ok(()) }
        sentence = running.one_ended() => Err(Failure::Other(sentence)),
        failed = demonstration => failed,
    };
    health.set_draining();
    let drained = tokio::select! {
        late = running.stop(config.upkeep.drain_deadline) => late,
        signal = signals.next() => vec![signal],
    };
    if drained.is_empty() {
        info!("everything finished, and was written back");
    } else {
        warn!(
            cut_off = drained.join(", "),
            "not everything finished; what is in Redis is written back after the next start"
        );
    }
    if let Some(socket) = &config.http.gateway_socket {
        let _ = std::fs::remove_file(socket);
    }
    database.close().await;
    ended
}

/// From the bottom up. Nothing listens before all the rest stands.
async fn build(config: &Config, redis_url: &Secret, threads: &[Handle]) -> Result<House, Failure> {
    let exporter = wiring::install_metrics()?;
    let (admin_token, admin_token_file) = admin_token::obtain(config.http.admin_token.as_ref(), &config.data)?;
    let database = wiring::open_database(config).await?;
    check_constants(config, &database).await?;
    let redis = wiring::connect_redis(config, redis_url.expose(), threads).await?;
    check_redis(&redis).await?;
    let holder = sidecar_id::obtain(&config.data)?;
    let writeback = wiring::build_writeback(config, &redis, &database, holder.clone());
    let spool = wiring::open_spool(config)?;
    let engine = wiring::build_engine(config, &redis, &database, &writeback, spool);
    let health = Arc::new(Health::default());
    wiring::attach_first(&writeback, &health).await?;
    engine.refresh().await.map_err(Failure::backend)?;
    let listeners = listen::bind(&config.http).await?;
    Ok(House { database, redis, writeback, engine, health, exporter, listeners, holder, admin_token, admin_token_file })
}

/// The constants of the deployment were fixed when money was first counted.
async fn check_constants(config: &Config, database: &Database) -> Result<(), Failure> {
    let wanted = config.constants;
    let stored = database.posting.constants(wanted).await.map_err(Failure::backend)?;
    let mut sentences = Vec::new();
    for (key, wanted, stored) in [
        ("shards", i64::from(wanted.shards), i64::from(stored.shards)),
        ("units_per_usd", wanted.units_per_usd, stored.units_per_usd),
    ] {
        if wanted != stored {
            sentences.push(format!(
                "`{key}` is {wanted}, but this database was begun with {stored}, and every stored number depends on it: \
                 set it to {stored}"
            ));
        }
    }
    if sentences.is_empty() { Ok(()) } else { Err(Failure::Config(sentences)) }
}

/// Waits for a moment when Redis cannot be reached and for long while it loads its data, then judges it.
async fn check_redis(redis: &Redis) -> Result<(), Failure> {
    let begun = Instant::now();
    let facts: ServerFacts = loop {
        match redis.stream.server().await {
            Ok(facts) if !facts.loading => break facts,
            Ok(_) if begun.elapsed() < LOADING_WAIT => {}
            Ok(_) => {
                return Err(Failure::backend("Redis is still loading its data; start again when it has finished"));
            }
            Err(_) if begun.elapsed() < REACH_WAIT => {}
            Err(error) => return Err(Failure::backend(error)),
        }
        tokio::time::sleep(LOADING_LOOK_AGAIN).await;
    };
    let findings = checks::check(&facts);
    for warning in findings.warnings {
        warn!("{warning}");
    }
    if findings.refusals.is_empty() { Ok(()) } else { Err(Failure::Backend(findings.refusals)) }
}

/// Everything that runs, in the order in which it stops.
struct Running {
    listeners: Tasks,
    upkeep: Tasks,
    writeback: Tasks,
}

fn start(config: &Config, house: House, threads: &[Handle]) -> Running {
    let House { database, redis, writeback, engine, health, exporter, listeners, holder, admin_token, .. } = house;
    let mut running = Running { listeners: Tasks::new(), upkeep: Tasks::new(), writeback: Tasks::new() };

    let (worker, attacher, loader) = (writeback.clone(), writeback.clone(), engine.clone());
    running.writeback.spawn("attach", |stop| wiring::run_attach(attacher, stop));
    running.writeback.spawn("write-back", |stop| wiring::run_writeback(worker, loader, stop));
    running.writeback.spawn("lag", |stop| wiring::run_lag(writeback, stop));

    let every = config.upkeep.sweep_interval;
    let (sweeper, cascader) = (engine.clone(), engine.clone());
    running.upkeep.spawn("sweep", move |stop| sweeper.run_sweeper(every, stop.signal()));
    running.upkeep.spawn("cascade", move |stop| cascader.run_cascades(every, stop.signal()));
    if let Some(idle) = config.upkeep.unload_idle {
        let unloader = wiring::build_unloader(idle, &redis, &database);
        let round = upkeep::Round { stream: redis.stream.clone(), holder, idle };
        running.upkeep.spawn("unload", move |stop| upkeep::unload_idle(unloader, round, stop));
    }
    let replayer = engine.clone();
    running.upkeep.spawn("spool-replay", move |stop| replayer.run_replay(stop.signal()));
    let courier = Courier::new(engine.clone(), database.outbox);
    running.upkeep.spawn("outbox", move |stop| courier.run(stop.signal()));
    let (fitness, stream) = (health.clone(), redis.stream);
    running
        .upkeep
        .spawn("redis-watch", move |stop| upkeep::watch_redis(stream, move |fit| fitness.set_redis(fit), stop));
    let (reach, posting) = (health.clone(), database.posting);
    running
        .upkeep
        .spawn("sql-watch", move |stop| upkeep::watch_sql(posting, move |ok| reach.set_sql_degraded(!ok), stop));
    let samples = exporter.clone();
    running.upkeep.spawn("metrics", move |stop| upkeep::fold_samples(samples, stop));
    let every = config.upkeep.settings_poll;
    let (looker, listener, news) = (engine.clone(), engine.clone(), redis.news);
    running.upkeep.spawn("settings-poll", move |stop| upkeep::look_for_settings(looker, every, stop));
    running.upkeep.spawn("settings-news", move |stop| upkeep::listen_for_settings(listener, news, stop));

    let sockets = wiring::sockets(listeners, threads);
    let served = wiring::Served { engine, codes: database.codes, health, exporter };
    wiring::spawn_http(config, sockets, served, &admin_token, &mut running.listeners);
    running
}

impl Running {
    async fn one_ended(&mut self) -> String {
        tokio::select! {
            sentence = self.listeners.one_ended() => sentence,
            sentence = self.upkeep.one_ended() => sentence,
            sentence = self.writeback.one_ended() => sentence,
        }
    }

    /// Stops accepting and finishes what is in flight, then writes back the rest. Requests get half
    /// of the time at most, so that write-back has some. The names of the tasks that were cut off.
    async fn stop(self, within: Duration) -> Vec<&'static str> {
        let begun = Instant::now();
        let mut late = self.listeners.stop(begun + within / 2).await;
        late.extend(self.upkeep.stop(begun + within).await);
        late.extend(self.writeback.stop(begun + within).await);
        late
    }
}
