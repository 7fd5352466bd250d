//! The table: names, kinds, units, labels with their values, help.

use metrics::Unit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A label and every value it can have.
pub type Label = (&'static str, &'static [&'static str]);

/// One row of [`METRICS`].
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub labels: &'static [Label],
    pub help: &'static str,
}

/// What a request was.
pub const VERBS: &[&str] = &[
    "reserve", "settle", "release", "extend", "charge", "refund", "redeem", "estimate", "batch", "balance", "key",
    "authz", "admin", "other",
];
/// How it was answered: `ok` or the code of its problem.
pub const CODES: &[&str] = &[
    "ok",
    "unauthorized",
    "invalid_request",
    "payload_too_large",
    "account_not_found",
    "reservation_not_found",
    "code_not_found",
    "code_used",
    "code_disabled",
    "code_expired",
    "conflict",
    "already_settled",
    "already_released",
    "refund_exceeds_charge",
    "account_disabled",
    "account_restricted",
    "key_not_found",
    "key_disabled",
    "key_expired",
    "ip_not_allowed",
    "model_not_allowed",
    "group_not_allowed",
    "platform_disabled",
    "model_not_priced",
    "insufficient_balance",
    "key_exhausted",
    "limit_exceeded",
    "too_many_attempts",
    "unavailable",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "internal",
];
pub const LISTENERS: &[&str] = &["gateway", "admin"];
/// Why a connection was cut.
pub const CUTS: &[&str] = &["slow_head", "idle", "drain"];
/// Scripts by their files' names, and plain commands of calls (`command`) and of write-back (`stream`).
pub const SCRIPTS: &[&str] = &[
    "reserve",
    "settle",
    "release",
    "extend",
    "charge",
    "refund",
    "adjust",
    "reset",
    "expire",
    "policy",
    "hydrate",
    "due",
    "cascade",
    "queue_holds",
    "read_account",
    "read_record",
    "set_meta",
    "lease",
    "undo",
    "mend",
    "unload",
    "heads",
    "redo",
    "restore",
    "wipe",
    "command",
    "stream",
];
pub const REDIS_ERRORS: &[&str] = &["timeout", "overloaded", "connection", "recovering", "corrupt"];
/// What an expiry did with the hold.
pub const EXPIRIES: &[&str] = &["released", "charged"];
/// What a shard was recovered from: `first` is a shard's first opening, and no recovery.
pub const RECOVERIES: &[&str] = &["first", "restarted", "behind", "missing", "diverged"];
/// Why a policy was read: it was not in memory, or what is there may be old.
pub const RELOADS: &[&str] = &["miss", "stale"];
/// What became of an operation that was brought from the spool to Redis.
pub const REPLAYS: &[&str] = &["done", "replayed", "refused"];

/// What a repair put right: sums in SQL, posted counters, what is held, the place of a hold in the
/// list of deadlines.
pub const REPAIRS: &[&str] = &["sql", "counters", "held", "deadline"];

const VERB: Label = ("verb", VERBS);
const NONE: Unit = Unit::Count;

const fn row(name: &'static str, kind: Kind, unit: Unit, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, kind, unit, labels, help }
}

/// The table; README's is held against it by a test.
pub const METRICS: &[Metric] = &[
    row("quotad_build_info", Kind::Gauge, NONE, &[], "1; the label version is the build's"),
    row(
        "quotad_requests_total",
        Kind::Counter,
        NONE,
        &[VERB, ("code", CODES)],
        "Requests and operations of batches answered",
    ),
    row("quotad_request_seconds", Kind::Histogram, Unit::Seconds, &[VERB], "From the head of a request to its answer"),
    row("quotad_requests_in_flight", Kind::Gauge, NONE, &[], "Requests being worked on"),
    row("quotad_connections", Kind::Gauge, NONE, &[("listener", LISTENERS)], "Open connections"),
    row(
        "quotad_accept_pauses_total",
        Kind::Counter,
        NONE,
        &[("listener", LISTENERS)],
        "Times that the cap on connections made a listener wait",
    ),
    row(
        "quotad_connections_cut_total",
        Kind::Counter,
        NONE,
        &[("reason", CUTS)],
        "Connections closed by this side before their time",
    ),
    row("quotad_settles_clamped_total", Kind::Counter, NONE, &[], "Settles whose cost was above max_amount"),
    row(
        "quotad_redis_call_seconds",
        Kind::Histogram,
        Unit::Seconds,
        &[("script", SCRIPTS)],
        "Calls to Redis, answered or not",
    ),
    row("quotad_redis_errors_total", Kind::Counter, NONE, &[("kind", REDIS_ERRORS)], "Calls that Redis did not decide"),
    row("quotad_writeback_lag_entries", Kind::Gauge, NONE, &[], "Entries in the streams that SQL does not have yet"),
    row("quotad_writeback_lag_seconds", Kind::Gauge, Unit::Seconds, &[], "Age of the oldest of them"),
    row("quotad_writeback_lag_alarm", Kind::Gauge, NONE, &[], "1 while the oldest of them is older than ten seconds"),
    row("quotad_writeback_batches_total", Kind::Counter, NONE, &[], "Batches posted to SQL"),
    row("quotad_writeback_rows_total", Kind::Counter, NONE, &[], "Ledger rows posted to SQL"),
    row(
        "quotad_writeback_duplicates_total",
        Kind::Counter,
        NONE,
        &[],
        "Entries whose operation SQL had before: done twice in Redis, and taken back by one entry",
    ),
    row(
        "quotad_writeback_errors_total",
        Kind::Counter,
        NONE,
        &[],
        "Batches that SQL did not take; they are tried again",
    ),
    row(
        "quotad_writeback_stopped_shards",
        Kind::Gauge,
        NONE,
        &[],
        "Shards whose write-back stands still until somebody looks",
    ),
    row(
        "quotad_writeback_uncompensated_total",
        Kind::Counter,
        NONE,
        &[],
        "Duplicates whose compensation could not be made",
    ),
    row("quotad_attach_refused_shards", Kind::Gauge, NONE, &[], "Shards not served because their histories differ"),
    row("quotad_attach_rebuilt_shards_total", Kind::Counter, NONE, &[], "Shards rebuilt from SQL"),
    row(
        "quotad_recoveries_total",
        Kind::Counter,
        NONE,
        &[("cause", RECOVERIES)],
        "Shards that went on in a new generation after Redis was another one",
    ),
    row(
        "quotad_recovery_lost_entries_total",
        Kind::Counter,
        NONE,
        &[],
        "Entries that were seen in Redis, and that neither it nor SQL had after a recovery",
    ),
    row(
        "quotad_holds_expired_total",
        Kind::Counter,
        NONE,
        &[("action", EXPIRIES)],
        "Holds that nobody settled in time",
    ),
    row("quotad_repairs_total", Kind::Counter, NONE, &[("what", REPAIRS)], "Numbers that a reconcile put right"),
    row("quotad_trusted_grants_total", Kind::Counter, NONE, &[], "Reserves granted in trust: nothing was held"),
    row(
        "quotad_trusted_in_flight",
        Kind::Gauge,
        NONE,
        &[],
        "Of those, the ones that are not settled, not released, and within their time",
    ),
    row("quotad_accounts_unloaded_total", Kind::Counter, NONE, &[], "Idle accounts that left Redis"),
    row(
        "quotad_degraded",
        Kind::Gauge,
        NONE,
        &[],
        "1 while accounts are answered without Redis, and until it has calmed down",
    ),
    row("quotad_degraded_grants_total", Kind::Counter, NONE, &[], "Reserves granted without Redis"),
    row("quotad_spooled_total", Kind::Counter, NONE, &[], "Settles, charges and releases answered without Redis"),
    row("quotad_spool_entries", Kind::Gauge, NONE, &[], "Of those, the ones that Redis does not know yet"),
    row(
        "quotad_spool_replayed_total",
        Kind::Counter,
        NONE,
        &[("result", REPLAYS)],
        "Of those, the ones brought to Redis; `refused` are kept in the spool's file of that name",
    ),
    row(
        "quotad_credits_owed",
        Kind::Gauge,
        NONE,
        &[],
        "Credits of codes and referrals that are owed for more than two seconds and not in the ledger; above 0 for minutes: see the log",
    ),
    row("quotad_credits_refused_total", Kind::Counter, NONE, &[], "Times that such a credit was refused"),
    row("quotad_policy_reloads_total", Kind::Counter, NONE, &[("reason", RELOADS)], "Policies read from SQL"),
];

/// Fixed buckets in seconds: from a quarter of a millisecond to the longest time budget.
pub const BUCKETS_SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.007_5, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
