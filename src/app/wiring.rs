//! How each room is built. One small function per room, so that a room's signature is used in one
//! place only.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{
    failure::Failure,
    listen::Listeners,
    tasks::{Stop, Tasks},
};
use crate::{
    config::{Config, secret::Secret},
    engine::{
        Engine,
        codes::Codes,
        ports::{CodeStore, Counters, LedgerStore, News, Outbox, PolicyStore, Posting, Spool, Stream},
        unload::Unloader,
    },
    http::{self, Health, Service, Tokens},
    metrics::{self, Exporter},
    quota::{
        clock::Clock,
        tariff::{Draft, Tariff},
    },
    redis, spool, sql, writeback,
};

/// The database as its ports.
#[derive(Clone)]
pub(super) struct Database {
    pub policies: Arc<dyn PolicyStore>,
    pub ledger: Arc<dyn LedgerStore>,
    pub posting: Arc<dyn Posting>,
    pub outbox: Arc<dyn Outbox>,
    pub codes: Arc<dyn CodeStore>,
    store: Arc<sql::Store>,
}

impl Database {
    pub(super) async fn close(&self) {
        self.store.close().await;
    }
}

/// Redis as its ports, and the clock that its answers set.
pub(super) struct Redis {
    pub counters: Arc<dyn Counters>,
    pub stream: Arc<dyn Stream>,
    pub news: Arc<dyn News>,
    pub clock: Arc<Clock>,
}

pub(super) use writeback::Writeback;

pub(super) fn install_metrics() -> Result<Exporter, Failure> {
    metrics::install().map_err(Failure::Other)
}

/// `config.sql`, `config.zone` (of accounts that name none).
pub(super) async fn open_database(config: &Config) -> Result<Database, Failure> {
    let sql = &config.sql;
    let opened = sql::open_with(sql.url.expose(), config.zone.clone(), sql.connections).await;
    let store = opened.map_err(|error| match error {
        sql::OpenError::Url(sentence) => Failure::Config(vec![format!("`database_url`: {sentence}")]),
        error => Failure::backend(error),
    })?;
    Ok(Database {
        policies: store.clone(),
        ledger: store.clone(),
        posting: store.clone(),
        outbox: store.clone(),
        codes: store.clone(),
        store,
    })
}

/// `config.redis` (time budget, in-flight bound, tombstones), `config.constants.shards`; a connection
/// for each of `threads`.
pub(super) async fn connect_redis(config: &Config, url: &str, threads: &[Handle]) -> Result<Redis, Failure> {
    let settings = redis::Config {
        url: url.to_owned(),
        shards: config.constants.shards,
        in_flight_max: config.redis.in_flight_max,
        call_timeout: config.redis.time_budget,
        tombstone_ttl: config.redis.tombstone_ttl,
    };
    let built = redis::build_on(&settings, threads).await;
    let redis = built.map_err(|error| Failure::Config(vec![error.to_string()]))?;
    Ok(Redis { counters: redis.clone(), stream: redis.clone(), news: redis, clock: Arc::new(Clock::default()) })
}

/// `config.writeback`; `holder` names this sidecar in leases.
pub(super) fn build_writeback(config: &Config, redis: &Redis, database: &Database, holder: String) -> Writeback {
    let ports = writeback::Ports {
        stream: redis.stream.clone(),
        counters: redis.counters.clone(),
        posting: database.posting.clone(),
        clock: redis.clock.clone(),
    };
    let settings = writeback::Settings {
        batch_entries_max: config.writeback.batch_entries_max,
        poll: config.writeback.poll,
        retention_entries: config.writeback.retention_entries,
        tombstone_ttl: config.redis.tombstone_ttl,
        redo_rows_max: writeback::REDO_ROWS_MAX,
        lag_max: config.writeback.lag_max,
        constants: config.constants,
        holder,
    };
    writeback::build(&ports, &settings)
}

/// `config.data`, `config.spool_bytes_max`.
pub(super) fn open_spool(config: &Config) -> Result<Arc<dyn Spool>, Failure> {
    let folder = config.data.join("spool");
    let opened = spool::open(spool::Config { folder: folder.clone(), bytes_max: config.spool_bytes_max });
    match opened {
        Ok(files) => Ok(files),
        Err(error) => Err(Failure::Other(format!("the spool in {} cannot be read: {error}", folder.display()))),
    }
}

pub(super) fn build_engine(
    config: &Config,
    redis: &Redis,
    database: &Database,
    writeback: &Writeback,
    spool: Arc<dyn Spool>,
) -> Arc<Engine> {
    let engine = Engine::new(
        redis.counters.clone(),
        database.policies.clone(),
        database.ledger.clone(),
        writeback.drain.clone(),
        redis.clock.clone(),
        config.engine.clone(),
    );
    let engine = engine.with_backlog(writeback.backlog.clone()).with_spool(spool).with_news(redis.news.clone());
    Arc::new(engine.with_builtin_tariff(Tariff::builtin_at(config.constants.units_per_usd)))
}

/// `idle`: since when nobody has asked for an account that is unloaded.
pub(super) fn build_unloader(idle: Duration, redis: &Redis, database: &Database) -> Unloader {
    Unloader::new(redis.counters.clone(), database.posting.clone(), redis.clock.clone(), idle)
}

/// How long the first attach tries again: Redis may be restarted while this starts.
const FIRST_ATTACH_WAIT: Duration = Duration::from_secs(30);
const FIRST_ATTACH_PAUSE: Duration = Duration::from_millis(100);

/// The first attach, before anything listens: what no waiting cures refuses to start.
pub(super) async fn attach_first(writeback: &Writeback, health: &Health) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match writeback.attach.run_once().await {
            Ok(_) => break,
            Err(error) if error.is_transient() && begun.elapsed() < FIRST_ATTACH_WAIT => {
                tracing::warn!(%error, "Redis cannot be attached yet; trying again");
                sleep(FIRST_ATTACH_PAUSE).await;
            }
            Err(error) => return Err(Failure::backend(error)),
        }
    }
    health.set_scripts(true);
    Ok(())
}

/// Attaches all shards again whenever the stream port says so, until told to stop.
pub(super) async fn run_attach(writeback: Writeback, mut stop: Stop) {
    if let Err(error) = writeback.attach.run(stop.told()).await {
        tracing::error!(%error, "attach gave up");
    }
}

/// Posts until told to stop, then posts the rest. The engine loads what late compensations need.
pub(super) async fn run_writeback(writeback: Writeback, engine: Arc<Engine>, mut stop: Stop) {
    writeback.worker.run(&*engine, stop.told()).await;
}

/// Watches how far SQL is behind.
pub(super) async fn run_lag(writeback: Writeback, mut stop: Stop) {
    writeback.lag.run(stop.told()).await;
}

/// The sockets, and the threads that serve gateways.
pub(super) fn sockets(listeners: Listeners, threads: &[Handle]) -> http::Listeners {
    http::Listeners {
        gateway: Some(listeners.gateway),
        gateway_unix: listeners.gateway_socket,
        admin: Some(listeners.admin),
        threads: threads.to_vec(),
    }
}

/// What the listeners work with.
pub(super) struct Served {
    pub engine: Arc<Engine>,
    pub codes: Arc<dyn CodeStore>,
    pub health: Arc<Health>,
    pub exporter: Exporter,
}

/// All listeners are one task: it stops accepting when told, and ends when its requests have.
pub(super) fn spawn_http(
    config: &Config,
    listeners: http::Listeners,
    served: Served,
    admin_token: &Secret,
    tasks: &mut Tasks,
) {
    let settings = &config.http;
    let Served { engine, codes, health, exporter } = served;
    let service = Arc::new(Service {
        config: http::Config {
            gateway_tokens: Tokens::new(settings.gateway_token.as_ref().map(Secret::expose)),
            admin_tokens: Tokens::new([admin_token.expose()]),
            trusted_hops: settings.trusted_hops,
            body_bytes_max: settings.body_bytes_max,
            batch_body_bytes_max: settings.batch_body_bytes_max,
            header_bytes_max: settings.header_bytes_max,
            header_timeout: settings.header_timeout,
            body_timeout: settings.body_timeout,
            idle_timeout: settings.idle_timeout,
            connections_max: settings.connections_max,
            // Requests get half of the time, so that write-back has some (`Running::stop`).
            drain_deadline: config.upkeep.drain_deadline / 2,
            ..http::Config::default()
        },
        codes: Arc::new(Codes::new(engine.clone(), codes)),
        engine,
        health,
        exporter: Some(exporter),
    });
    tasks.spawn("http", move |mut stop| async move { http::run(listeners, service, stop.told()).await });
}

/// The OpenAPI document as JSON.
pub(super) fn openapi() -> String {
    http::document()
}

/// The difference that a price list makes, as the admin API tells it.
pub(super) fn tariff_difference(base: u32, version: Option<u32>, draft: &Draft) -> serde_json::Value {
    http::tariff_difference(base, version, draft)
}

/// The built-in list in its stored form.
pub(super) fn builtin_tariff(units_per_usd: i64) -> Result<Vec<u8>, String> {
    Tariff::builtin_doc(units_per_usd).and_then(|doc| serde_json::to_vec(&doc).map_err(|error| error.to_string()))
}
