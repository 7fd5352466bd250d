//! The settings: one struct per room, read from file < environment < flags, judged as a whole
//! before anything listens. What each setting means, and why its default is what it is, stands in
//! [`settings::SETTINGS`]; which values cannot stand together is judged in [`Config::judge`].

pub mod layers;
mod reader;
mod report;
pub mod secret;
pub mod settings;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    embedded::{self, Fsync},
    engine::{
        self, AbortCharge,
        ports::Constants,
        settings::{Deployment, ENTRIES, Values, judge_platforms},
    },
    quota::{amount::COUNTER_MAX, id::Platform, policy::OnUnavailable, window::Zone},
};
use layers::{Layers, Sources};
use reader::Reader;
pub(crate) use reader::units;
pub use report::report;
use secret::{Secret, ServerUrl};

/// The longest path a Unix socket can have, without the final zero byte.
pub const SOCKET_PATH_MAX: usize = embedded::SOCKET_PATH_MAX;

#[derive(Clone, Debug)]
pub struct Config {
    pub data: PathBuf,
    pub demo: bool,
    pub log: Log,
    pub constants: Constants,
    /// Zone of accounts that name none.
    pub zone: Zone,
    pub engine: engine::Settings,
    pub redis: Redis,
    pub sql: Sql,
    pub writeback: Writeback,
    /// Bytes that operations may take which were answered without Redis.
    pub spool_bytes_max: u64,
    pub upkeep: Upkeep,
    pub http: Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub level: String,
}

/// Which Redis there is.
#[derive(Clone, Debug)]
pub enum RedisChoice {
    /// The private one, started and watched by us.
    Embedded(embedded::Config),
    Url(ServerUrl),
}

#[derive(Clone, Debug)]
pub struct Redis {
    pub choice: RedisChoice,
    pub time_budget: Duration,
    pub in_flight_max: usize,
    pub tombstone_ttl: Duration,
}

#[derive(Clone, Debug)]
pub struct Sql {
    pub url: ServerUrl,
    /// To a server; SQLite has as many as it needs.
    pub connections: u32,
}

#[derive(Clone, Debug)]
pub struct Writeback {
    /// Entries of one shard per transaction at most.
    pub batch_entries_max: usize,
    /// Pause when there was nothing to post.
    pub poll: Duration,
    /// Posted entries that stay in each stream.
    pub retention_entries: u64,
    /// The age of entries waiting for SQL above which no more is taken on; `None`: however old.
    pub lag_max: Option<Duration>,
}

/// The clocks of the background tasks.
#[derive(Clone, Debug)]
pub struct Upkeep {
    pub sweep_interval: Duration,
    /// Between two looks for newer settings and price lists.
    pub settings_poll: Duration,
    /// `None`: accounts are never unloaded.
    pub unload_idle: Option<Duration>,
    /// From the stop signal to the end.
    pub drain_deadline: Duration,
}

#[derive(Clone, Debug)]
pub struct Http {
    /// Threads that serve gateways; `None`: by the number of cores.
    pub threads: Option<usize>,
    pub gateway_listen: SocketAddr,
    pub gateway_socket: Option<PathBuf>,
    pub admin_listen: SocketAddr,
    /// `None`: gateways need no credential.
    pub gateway_token: Option<Secret>,
    /// `None`: the one in `<data>/admin.token`, which is made when it is not there.
    pub admin_token: Option<Secret>,
    /// Entries of `X-Forwarded-For` that our own proxies wrote, from the right; the last of them is the client.
    pub trusted_hops: usize,
    pub body_bytes_max: usize,
    pub batch_body_bytes_max: usize,
    pub header_bytes_max: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub connections_max: usize,
}

/// A configuration that stands, and the texts it was read from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub layers: Layers,
    /// Sentences for the log: allowed, but worth knowing.
    pub warnings: Vec<String>,
}

/// Reads and judges the settings.
///
/// # Errors
/// Every problem found, one sentence each.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<String>> {
    let layers = Layers::merge(sources)?;
    let mut read = Reader::new(&layers);
    let config = Config::read(&mut read);
    config.judge(&mut read);
    let problems = read.finish();
    if problems.is_empty() {
        let warnings = config.warnings();
        Ok(Loaded { config, layers, warnings })
    } else {
        Err(problems)
    }
}

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

impl Config {
    fn read(read: &mut Reader<'_>) -> Self {
        let data = read.parse("data", "a directory", |text| (!text.is_empty()).then(|| PathBuf::from(text)));
        let units_per_usd = read.number("units_per_usd", 1, 1_000_000_000_000);
        Self {
            demo: read.bool("demo"),
            log: Log::read(read),
            constants: Constants { shards: read.number("shards", 1, 4096), units_per_usd },
            zone: read
                .parse("timezone", "an IANA time zone such as Europe/Berlin or UTC", |text| Zone::parse(text).ok()),
            engine: read_engine(read, units_per_usd),
            redis: Redis::read(read, &data),
            sql: Sql::read(read, &data),
            writeback: Writeback {
                batch_entries_max: read.number("writeback_batch", 1, 10_000),
                poll: read.millis("writeback_poll_ms", 1, MINUTE_MS),
                retention_entries: read.number("writeback_retention", 1, 10_000_000),
                lag_max: Some(read.millis("writeback_lag_max_ms", 0, DAY_MS)).filter(|max| !max.is_zero()),
            },
            spool_bytes_max: read.number("spool_max_bytes", 4096, 1 << 40),
            upkeep: Upkeep {
                sweep_interval: read.millis("sweep_interval_ms", 10, MINUTE_MS),
                settings_poll: read.millis("settings_poll_ms", 50, DAY_MS),
                unload_idle: Some(read.millis("unload_idle_ms", 0, 1000 * DAY_MS)).filter(|idle| !idle.is_zero()),
                drain_deadline: read.millis("drain_deadline_ms", 0, DAY_MS),
            },
            http: Http::read(read),
            data,
        }
    }

    /// What single values cannot tell.
    fn judge(&self, read: &mut Reader<'_>) {
        let http = &self.http;
        let insecure = read.bool("insecure");
        if !http.gateway_listen.ip().is_loopback() && http.gateway_token.is_none() && !insecure {
            read.problem(format!(
                "`gateway_listen` is {}, which others can reach, and `gateway_token` is not set: set a token, \
                 listen on 127.0.0.1, or pass --insecure to let everybody in",
                http.gateway_listen
            ));
        }
        if http.gateway_listen == http.admin_listen && http.gateway_listen.port() != 0 {
            read.problem(format!(
                "`gateway_listen` and `admin_listen` are both {}: give them different ports",
                http.admin_listen
            ));
        }
        if http.gateway_token.is_some() && http.gateway_token == http.admin_token {
            read.problem(
                "`gateway_token` and `admin_token` are the same: a gateway could then change accounts; use two tokens"
                    .to_owned(),
            );
        }
        if let Some(socket) = &http.gateway_socket
            && socket.as_os_str().len() > SOCKET_PATH_MAX
        {
            read.problem(format!(
                "`gateway_socket` is {} bytes long, and a socket path can have {SOCKET_PATH_MAX} at most: {}",
                socket.as_os_str().len(),
                socket.display()
            ));
        }
        if let Err((_, sentence)) = self.engine.deployment.values.judge() {
            read.problem(sentence);
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (gateway, admin) = (self.http.gateway_listen, self.http.admin_listen);
        if !gateway.ip().is_loopback() && self.http.gateway_token.is_none() {
            warnings.push(format!("`gateway_listen` is {gateway} and --insecure is set: whoever reaches it can spend"));
        }
        if !admin.ip().is_loopback() {
            warnings.push(format!(
                "`admin_listen` is {admin}, which others can reach: its token travels unencrypted, and /metrics needs none"
            ));
        }
        warnings
    }
}

impl Log {
    fn read(read: &mut Reader<'_>) -> Self {
        let directives = |text: &str| tracing_subscriber::EnvFilter::try_new(text).ok().map(|_| text.to_owned());
        Self {
            format: read.parse("log_format", "text or json", |text| match text {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            }),
            level: read.parse("log_level", "error, warn, info, debug, trace or a list of directives", |text| {
                directives(text).filter(|level| !level.is_empty())
            }),
        }
    }
}

impl Redis {
    fn read(read: &mut Reader<'_>, data: &std::path::Path) -> Self {
        let binary = read.path("redis_server");
        let fsync = read.parse("appendfsync", "everysec or always", Fsync::parse);
        let schemes = ["redis", "unix", "redis+unix"];
        let url = read.server("redis_url", &schemes, "absent or begin with redis:// or unix://");
        Self {
            choice: match url {
                Some(url) => RedisChoice::Url(url),
                None => RedisChoice::Embedded(embedded::Config { dir: data.join("redis"), binary, fsync }),
            },
            time_budget: read.millis("time_budget_ms", 1, MINUTE_MS),
            in_flight_max: read.number("max_in_flight", 1, 1_000_000),
            tombstone_ttl: read.millis("tombstone_ttl_ms", 1000, DAY_MS),
        }
    }
}

impl Sql {
    fn read(read: &mut Reader<'_>, data: &std::path::Path) -> Self {
        let schemes = ["sqlite", "postgres", "postgresql", "mysql", "mariadb"];
        let url = read.server("database_url", &schemes, "absent or begin with sqlite:, postgres: or mysql:");
        // What a URL reads as its own signs must not be in the path.
        let path = data.join("quotad.db").display().to_string().replace('%', "%25").replace('?', "%3f");
        let default = || ServerUrl::new(format!("sqlite://{path}"));
        Self { url: url.unwrap_or_else(default), connections: read.number("database_connections", 2, 1000) }
    }
}

impl Http {
    fn read(read: &mut Reader<'_>) -> Self {
        Self {
            threads: Some(read.number("gateway_threads", 0, 64)).filter(|threads| *threads > 0),
            gateway_listen: read.address("gateway_listen"),
            gateway_socket: read.path("gateway_socket"),
            admin_listen: read.address("admin_listen"),
            gateway_token: read.secret("gateway_token"),
            admin_token: read.secret("admin_token"),
            trusted_hops: read.number("trusted_hops", 1, 16),
            body_bytes_max: read.number("body_max_bytes", 1024, 16 << 20),
            batch_body_bytes_max: read.number("batch_body_max_bytes", 1024, 64 << 20),
            header_bytes_max: read.number("header_max_bytes", 8192, 1 << 20),
            header_timeout: read.millis("header_timeout_ms", 1, MINUTE_MS),
            body_timeout: read.millis("body_timeout_ms", 1, 10 * MINUTE_MS),
            idle_timeout: read.millis("idle_timeout_ms", 1, DAY_MS),
            connections_max: read.number("max_connections", 1, 1_000_000),
        }
    }
}

fn read_engine(read: &mut Reader<'_>, units_per_usd: i64) -> engine::Settings {
    let deployment = read_deployment(read, units_per_usd);
    engine::Settings {
        deployment,
        trust_sidecars: read.number("trust_sidecars", 1, 10_000),
        policy_cache_accounts: read.number("policy_cache_accounts", 1, 100_000_000),
        log_ip: read.bool("log_ip"),
        time_budget: read.millis("time_budget_ms", 1, MINUTE_MS),
    }
}

/// What can be changed at run time, as far as the file knows it: this deployment's defaults.
#[allow(clippy::needless_update, reason = "a setting that the file does not know is the package's")]
fn read_deployment(read: &mut Reader<'_>, units_per_usd: i64) -> Deployment {
    let mut charge = |key: &str| {
        read.parse(key, "nothing, prompt or estimate", |text| match text {
            "nothing" => Some(AbortCharge::Nothing),
            "prompt" => Some(AbortCharge::Prompt),
            "estimate" => Some(AbortCharge::Estimate),
            _ => None,
        })
    };
    let values = Values {
        abort_ok: charge("abort_ok"),
        abort_client_abort: charge("abort_client_abort"),
        abort_upstream_error: charge("abort_upstream_error"),
        abort_unknown: charge("abort_unknown"),
        default_hold: read.units("default_hold", units_per_usd, COUNTER_MAX),
        max_amount: read.units("max_amount", units_per_usd, COUNTER_MAX),
        default_ttl_ms: read.number("default_ttl_ms", 1000, 86_400_000),
        hold_free_models: read.bool("hold_free_models"),
        trust_threshold: read.optional_units("trust_threshold", units_per_usd, COUNTER_MAX),
        on_unavailable: read.parse("on_unavailable", "deny or allow", OnUnavailable::parse),
        unavailable_allowance: read.units("unavailable_allowance", units_per_usd, COUNTER_MAX),
        unavailable_total: read.units("unavailable_total", units_per_usd, COUNTER_MAX),
        platforms: read.parse("platforms", "names of platforms, each once, with commas between them", platforms),
        referral_transfer_min: units_per_usd,
        ..Values::builtin()
    };
    let origins = ENTRIES.iter().filter_map(|entry| Some((entry.name, read.origin(entry.name)?))).collect();
    Deployment { values, origins }
}

fn platforms(text: &str) -> Option<Vec<Platform>> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let platforms: Vec<Platform> = names.map(|name| Platform::new(name).ok()).collect::<Option<_>>()?;
    judge_platforms(&platforms).is_ok().then_some(platforms)
}

#[cfg(test)]
mod tests;
