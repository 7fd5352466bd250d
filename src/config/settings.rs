//! Every setting there is: its name, default and reason. The name is the key in the file, in upper
//! case after `QUOTAD_` the environment variable, and with dashes the flag where there is one.

/// One setting. README's table is made of these rows (`tests/tidy.rs` compares them).
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub key: &'static str,
    /// In the form in which a file or variable would give it; empty: absent.
    pub default: &'static str,
    /// Whether a command-line flag sets it too.
    pub has_flag: bool,
    /// Never printed.
    pub secret: bool,
    /// What it does, and why the default is what it is.
    pub meaning: &'static str,
}

impl Setting {
    /// `QUOTAD_GATEWAY_LISTEN` for `gateway_listen`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("QUOTAD_{}", self.key.to_ascii_uppercase())
    }

    /// `--gateway-listen` for `gateway_listen`, when there is such a flag.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        self.has_flag.then(|| format!("--{}", self.key.replace('_', "-")))
    }

    /// The row of README's table of settings.
    #[must_use]
    pub fn readme_row(&self) -> String {
        let default = if self.default.is_empty() { "–".to_owned() } else { format!("`{}`", self.default) };
        let flag = self.flag().map_or_else(|| "–".to_owned(), |flag| format!("`{flag}`"));
        format!("| `{}` | {default} | {flag} | {} |", self.key, self.meaning)
    }
}

/// The head of README's table of settings.
pub const README_HEAD: &str = "| setting | default | flag | meaning |\n|---|---|---|---|";

const fn file(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, default, has_flag: false, secret: false, meaning }
}

const fn flag(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, default, has_flag: true, secret: false, meaning }
}

const fn secret(key: &'static str, meaning: &'static str) -> Setting {
    Setting { key, default: "", has_flag: true, secret: true, meaning }
}

/// The setting of that name.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// All settings, in the order in which README and `check-config` show them.
pub const SETTINGS: &[Setting] = &[
    flag("config", "", "TOML file with the settings below; not a key of the file itself"),
    flag("data", "./data", "directory for everything quotad keeps: database, private Redis, admin token, lock"),
    flag("gateway_listen", "127.0.0.1:8787", "where gateways ask; loopback, because a sidecar sits beside its gateway"),
    flag("gateway_socket", "", "Unix socket that serves the gateway protocol as well"),
    flag(
        "admin_listen",
        "127.0.0.1:8788",
        "admin API, metrics and health; apart from the gateway so that it can stay private",
    ),
    secret("gateway_token", "bearer token that gateways must send; required when `gateway_listen` is not loopback"),
    file(
        "trusted_hops",
        "1",
        "proxies in front of authz that append to `X-Forwarded-For`: the client is this entry, counted from the right",
    ),
    secret("admin_token", "bearer token of the admin API; when absent, made at first start in `<data>/admin.token`"),
    flag("insecure", "false", "allows a gateway address that others can reach without `gateway_token`"),
    flag("demo", "false", "creates account `demo` with 100 USD and key `demo-key`, and prints curl lines to try"),
    flag(
        "redis_url",
        "",
        "`redis://` or `unix://` address of a Redis to use; absent: a private redis-server is started",
    ),
    flag(
        "database_url",
        "",
        "`sqlite:`, `postgres:` or `mysql:` address of the database; absent: SQLite in `<data>/quotad.db`",
    ),
    file(
        "database_connections",
        "8",
        "connections to a PostgreSQL or MySQL server; write-back takes one, look-ups the others; SQLite has its own",
    ),
    file("log_format", "text", "`text` for people, `json` for collectors; always on standard error"),
    file("log_level", "info", "`error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,quotad=debug`"),
    file("log_ip", "false", "keeps the client address in ledger rows; off, because an address is personal data"),
    file("shards", "64", "slots that accounts are spread over; fixed at the first start, later changes are refused"),
    file(
        "units_per_usd",
        "100000000",
        "smallest units per dollar; fixed at the first start, later changes are refused",
    ),
    file("timezone", "UTC", "IANA time zone of accounts that name none: where their days, weeks and months begin"),
    file("default_hold", "0.01 USD", "held when a reserve names neither amount nor estimate: about one common request"),
    file("max_amount", "10000 USD", "a single amount above it is refused, at settle clamped: it can only be a mistake"),
    file(
        "default_ttl_ms",
        "300000",
        "how long a hold lives when a reserve does not say: five minutes cover long streams",
    ),
    file(
        "abort_ok",
        "estimate",
        "settle with neither amount nor usage after success: `nothing`, `prompt` or `estimate`",
    ),
    file("abort_client_abort", "prompt", "the same when the client went away: the upstream has read the prompt"),
    file("abort_upstream_error", "nothing", "the same when the upstream failed: it charges nothing either"),
    file("abort_unknown", "estimate", "the same when nobody knows, or no outcome was given: money comes first"),
    file("hold_free_models", "true", "reserves of models priced 0 count their tokens and request; false: not at all"),
    file(
        "trust_threshold",
        "",
        "while more than this, e.g. `10 USD`, stays available, calls are granted without a hold; absent: never",
    ),
    file("trust_sidecars", "4", "the most sidecars that share this Redis: each trusts for its part of the threshold"),
    file("policy_cache_accounts", "100000", "policies kept in memory, about 1 KiB each; more are read from SQL again"),
    file(
        "time_budget_ms",
        "250",
        "a call not decided by then (or a little later) is 503, so that a gateway never hangs",
    ),
    file(
        "on_unavailable",
        "deny",
        "while Redis cannot decide: `deny` answers 503; `allow` grants within the next two and charges later",
    ),
    file(
        "unavailable_allowance",
        "1 USD",
        "what one account may spend on this sidecar in an outage: one that has nothing left can lose you no more",
    ),
    file("unavailable_total", "100 USD", "the same for all accounts together"),
    file(
        "platforms",
        "anthropic,openai,gemini,antigravity",
        "the platforms that platform quotas and sign-up defaults may name, with commas between them",
    ),
    file("spool_max_bytes", "67108864", "operations of an outage kept in `<data>/spool`; more are 503; about 200 000"),
    file("max_in_flight", "4096", "calls waiting for Redis at once; more are 503 at once instead of queueing"),
    file(
        "gateway_threads",
        "0",
        "threads that serve gateways, each with a connection to Redis of its own; 0: half of the cores, 4 at most",
    ),
    file("tombstone_ttl_ms", "900000", "how long Redis remembers ended reservations; the ledger remembers for ever"),
    file("redis_server", "", "redis-server or valkey-server to start; absent: the first usable one in `PATH`"),
    file(
        "appendfsync",
        "everysec",
        "fsync of the private Redis: `everysec`, or `always` to survive power loss, slower",
    ),
    file("writeback_batch", "512", "ledger entries of one shard posted in one SQL transaction at most"),
    file(
        "writeback_poll_ms",
        "20",
        "pause between two looks for new entries; up to eight times that when none come, up to five under load",
    ),
    file(
        "writeback_retention",
        "1000",
        "posted entries that stay in each Redis stream, the cure for a restored database",
    ),
    file(
        "writeback_lag_max_ms",
        "0",
        "while entries older than this wait for the database, reserve, extend and charge are 503; 0: never",
    ),
    file("sweep_interval_ms", "200", "pause between two sweeps for holds past their deadline"),
    file(
        "unload_idle_ms",
        "86400000",
        "an account that nobody used for so long leaves Redis until its next call; 0: never",
    ),
    file(
        "settings_poll_ms",
        "500",
        "how often the database is asked for newer settings and price lists; news of them also comes through Redis",
    ),
    file(
        "drain_deadline_ms",
        "8000",
        "time to finish at SIGTERM; below the ten seconds after which `docker stop` kills",
    ),
    file("body_max_bytes", "65536", "largest request body, from the protocol"),
    file(
        "batch_body_max_bytes",
        "1048576",
        "largest body of `/v1/batch` and `/v1/estimate`; the protocol's for a batch",
    ),
    file("header_max_bytes", "16384", "largest request head; ample for tokens and forwarding headers"),
    file("header_timeout_ms", "5000", "a request head must be complete by then, or the connection is closed"),
    file("body_timeout_ms", "5000", "a request body must be complete by then, or the connection is closed"),
    file(
        "idle_timeout_ms",
        "90000",
        "a kept-alive connection without requests is closed; longer than gateways keep theirs",
    ),
    file("max_connections", "10000", "connections per listener; further ones wait to be accepted"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_one_pattern() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            assert!(setting.key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", setting.key);
            assert!(SETTINGS[..at].iter().all(|other| other.key != setting.key), "{} is there twice", setting.key);
            assert!(!setting.meaning.contains('|'), "{} would break README's table", setting.key);
        }
        let listen = find("gateway_listen").unwrap();
        assert_eq!(listen.env(), "QUOTAD_GATEWAY_LISTEN");
        assert_eq!(listen.flag().as_deref(), Some("--gateway-listen"));
    }
}
