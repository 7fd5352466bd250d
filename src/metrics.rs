//! Every metric: name, kind, unit, labels with all their values, and what it tells. Any floor but 0
//! may record; nothing is recorded before [`install`]. Labels are closed lists, never ids.
//!
//! A call on the hot path is a look-up in an array and one atomic add: handles are made once per
//! label value, when it is first used, so that `/metrics` shows what happened and not what could.

mod table;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use table::{
    BUCKETS_SECONDS, CODES, CUTS, EXPIRIES, Kind, LISTENERS, Label, METRICS, Metric, RECOVERIES, REDIS_ERRORS, RELOADS,
    REPAIRS, REPLAYS, SCRIPTS, VERBS,
};

/// Renders what was recorded.
#[derive(Clone, Debug)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// The Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds what histograms have gathered into their buckets. To be called every few seconds:
    /// samples wait in memory until this or a scrape.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Makes the recorder of this process; again and again the same one.
///
/// # Errors
/// When another recorder has been installed.
pub fn install() -> Result<Exporter, String> {
    static EXPORTER: OnceLock<Result<Exporter, String>> = OnceLock::new();
    let made = EXPORTER.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), BUCKETS_SECONDS)
            .map_err(|error| error.to_string())?;
        let exporter = Exporter(builder.install_recorder().map_err(|error| error.to_string())?);
        for metric in METRICS {
            match metric.kind {
                Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
                Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
                Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
            }
        }
        metrics::gauge!("quotad_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        let _ = INSTALLED.set(());
        Ok(exporter)
    });
    made.clone()
}

static INSTALLED: OnceLock<()> = OnceLock::new();

/// Handles of one metric, one per value of its label (`N` = 1 without labels).
struct Family<H, const N: usize> {
    handles: [OnceLock<H>; N],
    make: fn(usize) -> H,
}

impl<H, const N: usize> Family<H, N> {
    const fn new(make: fn(usize) -> H) -> Self {
        Self { handles: [const { OnceLock::new() }; N], make }
    }

    /// `None` before [`install`], and for a value outside the list.
    fn get(&self, place: usize) -> Option<&H> {
        INSTALLED.get()?;
        Some(self.handles.get(place)?.get_or_init(|| (self.make)(place)))
    }

    fn with(&self, place: usize, record: impl FnOnce(&H)) {
        if let Some(handle) = self.get(place) {
            record(handle);
        }
    }
}

/// A value's place in its list; outside it nothing is recorded, and debug builds stop.
fn place(list: &[&str], value: &str) -> usize {
    let place = list.iter().position(|known| *known == value);
    debug_assert!(place.is_some(), "{value} is not in the label's list");
    place.unwrap_or(usize::MAX)
}

static REQUESTS: Family<Counter, { VERBS.len() * CODES.len() }> = Family::new(|cell| {
    let (verb, code) = (VERBS[cell / CODES.len()], CODES[cell % CODES.len()]);
    metrics::counter!("quotad_requests_total", "verb" => verb, "code" => code)
});
static REQUEST_SECONDS: Family<Histogram, { VERBS.len() }> =
    Family::new(|verb| metrics::histogram!("quotad_request_seconds", "verb" => VERBS[verb]));
static IN_FLIGHT: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_requests_in_flight"));
static CONNECTIONS: Family<Gauge, { LISTENERS.len() }> =
    Family::new(|listener| metrics::gauge!("quotad_connections", "listener" => LISTENERS[listener]));
static PAUSES: Family<Counter, { LISTENERS.len() }> =
    Family::new(|listener| metrics::counter!("quotad_accept_pauses_total", "listener" => LISTENERS[listener]));
static CUT: Family<Counter, { CUTS.len() }> =
    Family::new(|reason| metrics::counter!("quotad_connections_cut_total", "reason" => CUTS[reason]));
static CLAMPED: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_settles_clamped_total"));
static REDIS_SECONDS: Family<Histogram, { SCRIPTS.len() }> =
    Family::new(|script| metrics::histogram!("quotad_redis_call_seconds", "script" => SCRIPTS[script]));
static REDIS_FAILED: Family<Counter, { REDIS_ERRORS.len() }> =
    Family::new(|kind| metrics::counter!("quotad_redis_errors_total", "kind" => REDIS_ERRORS[kind]));
static LAG_ENTRIES: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_writeback_lag_entries"));
static LAG_SECONDS: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_writeback_lag_seconds"));
static LAG_ALARM: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_writeback_lag_alarm"));
static BATCHES: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_writeback_batches_total"));
static ROWS: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_writeback_rows_total"));
static DUPLICATES: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_writeback_duplicates_total"));
static WRITEBACK_FAILED: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_writeback_errors_total"));
static STOPPED: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_writeback_stopped_shards"));
static UNCOMPENSATED: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_writeback_uncompensated_total"));
static REFUSED: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_attach_refused_shards"));
static REBUILT: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_attach_rebuilt_shards_total"));
static RECOVERED: Family<Counter, { RECOVERIES.len() }> =
    Family::new(|cause| metrics::counter!("quotad_recoveries_total", "cause" => RECOVERIES[cause]));
static RECOVERY_LOST: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_recovery_lost_entries_total"));
static EXPIRED: Family<Counter, { EXPIRIES.len() }> =
    Family::new(|action| metrics::counter!("quotad_holds_expired_total", "action" => EXPIRIES[action]));
static REPAIRED: Family<Counter, { REPAIRS.len() }> =
    Family::new(|what| metrics::counter!("quotad_repairs_total", "what" => REPAIRS[what]));
static UNLOADED: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_accounts_unloaded_total"));
static RELOADED: Family<Counter, { RELOADS.len() }> =
    Family::new(|reason| metrics::counter!("quotad_policy_reloads_total", "reason" => RELOADS[reason]));

static DEGRADED: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_degraded"));
static TRUSTED_GRANTS: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_trusted_grants_total"));
static TRUSTED_IN_FLIGHT: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_trusted_in_flight"));
static DEGRADED_GRANTS: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_degraded_grants_total"));
static SPOOLED: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_spooled_total"));
static SPOOL_ENTRIES: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_spool_entries"));
static SPOOL_REPLAYED: Family<Counter, { REPLAYS.len() }> =
    Family::new(|result| metrics::counter!("quotad_spool_replayed_total", "result" => REPLAYS[result]));
static CREDITS_OWED: Family<Gauge, 1> = Family::new(|_| metrics::gauge!("quotad_credits_owed"));
static CREDITS_REFUSED: Family<Counter, 1> = Family::new(|_| metrics::counter!("quotad_credits_refused_total"));

/// One request or batch operation of [`VERBS`], answered with one of [`CODES`].
pub fn answered(verb: &'static str, code: &'static str) {
    REQUESTS.with(place(VERBS, verb).saturating_mul(CODES.len()).saturating_add(place(CODES, code)), |counter| {
        counter.increment(1);
    });
}

/// How long a request of [`VERBS`] took.
pub fn request_took(verb: &'static str, took: Duration) {
    REQUEST_SECONDS.with(place(VERBS, verb), |histogram| histogram.record(took));
}

/// Counts something for as long as it lives.
#[must_use]
pub struct Counted(Option<&'static Gauge>);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(gauge) = self.0 {
            gauge.decrement(1.0);
        }
    }
}

fn counted(gauge: Option<&'static Gauge>) -> Counted {
    if let Some(gauge) = gauge {
        gauge.increment(1.0);
    }
    Counted(gauge)
}

/// A request in flight.
pub fn in_flight() -> Counted {
    counted(IN_FLIGHT.get(0))
}

/// An open connection of one of [`LISTENERS`].
pub fn connection(listener: &'static str) -> Counted {
    counted(CONNECTIONS.get(place(LISTENERS, listener)))
}

/// A listener of [`LISTENERS`] waits for a free connection.
pub fn accept_paused(listener: &'static str) {
    PAUSES.with(place(LISTENERS, listener), |counter| counter.increment(1));
}

/// A connection was cut for one of [`CUTS`].
pub fn connection_cut(reason: &'static str) {
    CUT.with(place(CUTS, reason), |counter| counter.increment(1));
}

/// A settle's cost was clamped to `max_amount`.
pub fn settle_clamped() {
    CLAMPED.with(0, |counter| counter.increment(1));
}

/// A call of one of [`SCRIPTS`] that began at `since`.
pub fn redis_called(script: &'static str, since: Instant) {
    REDIS_SECONDS.with(place(SCRIPTS, script), |histogram| histogram.record(since.elapsed()));
}

/// A call failed with one of [`REDIS_ERRORS`].
pub fn redis_failed(kind: &'static str) {
    REDIS_FAILED.with(place(REDIS_ERRORS, kind), |counter| counter.increment(1));
}

/// How far SQL is behind the streams, and whether that is an alarm.
pub fn writeback_lag(entries: u64, oldest: Duration, alarm: bool) {
    LAG_ALARM.with(0, |gauge| gauge.set(f64::from(u8::from(alarm))));
    LAG_ENTRIES.with(0, |gauge| gauge.set(entries as f64));
    LAG_SECONDS.with(0, |gauge| gauge.set(oldest.as_secs_f64()));
}

/// A batch was posted: its rows, and how many of them were duplicates.
pub fn writeback_posted(rows: u64, duplicates: u64) {
    BATCHES.with(0, |counter| counter.increment(1));
    ROWS.with(0, |counter| counter.increment(rows));
    DUPLICATES.with(0, |counter| counter.increment(duplicates));
}

/// SQL did not take a batch.
pub fn writeback_failed() {
    WRITEBACK_FAILED.with(0, |counter| counter.increment(1));
}

/// Shards whose write-back stands still until somebody looks.
pub fn writeback_stopped(shards: usize) {
    STOPPED.with(0, |gauge| gauge.set(shards as f64));
}

/// A duplicate could not be compensated.
pub fn writeback_uncompensated() {
    UNCOMPENSATED.with(0, |counter| counter.increment(1));
}

/// An attach ended: shards that are not served, and shards it rebuilt.
pub fn shards_attached(refused: usize, rebuilt: usize) {
    REFUSED.with(0, |gauge| gauge.set(refused as f64));
    REBUILT.with(0, |counter| counter.increment(rebuilt as u64));
}

/// A shard was recovered, for one of [`RECOVERIES`].
pub fn recovered(cause: &'static str) {
    RECOVERED.with(place(RECOVERIES, cause), |counter| counter.increment(1));
}

/// Entries that were seen in Redis, and are neither there nor in SQL any more.
pub fn recovery_lost(entries: u64) {
    RECOVERY_LOST.with(0, |counter| counter.increment(entries));
}

/// A hold ended at its deadline with one of [`EXPIRIES`].
pub fn hold_expired(action: &'static str) {
    EXPIRED.with(place(EXPIRIES, action), |counter| counter.increment(1));
}

/// A reconcile put one of [`REPAIRS`] right.
pub fn repaired(what: &'static str) {
    REPAIRED.with(place(REPAIRS, what), |counter| counter.increment(1));
}

/// Idle accounts left Redis.
pub fn unloaded(accounts: u64) {
    UNLOADED.with(0, |counter| counter.increment(accounts));
}

/// A policy was read from SQL for one of [`RELOADS`].
pub fn policy_reloaded(reason: &'static str) {
    RELOADED.with(place(RELOADS, reason), |counter| counter.increment(1));
}

/// Whether accounts are answered without Redis.
pub fn degraded(is: bool) {
    DEGRADED.with(0, |gauge| gauge.set(if is { 1.0 } else { 0.0 }));
}

/// A reserve was granted without Redis.
pub fn degraded_grant() {
    DEGRADED_GRANTS.with(0, |counter| counter.increment(1));
}

/// A reserve was granted in trust.
pub fn trusted_grant() {
    TRUSTED_GRANTS.with(0, |counter| counter.increment(1));
    TRUSTED_IN_FLIGHT.with(0, |gauge| gauge.increment(1.0));
}

/// So many trusted works are in flight no more.
pub fn trusted_ended(works: usize) {
    TRUSTED_IN_FLIGHT.with(0, |gauge| gauge.decrement(works as f64));
}

/// An operation went to the spool, in which there are so many now.
pub fn spooled(entries: usize) {
    SPOOLED.with(0, |counter| counter.increment(1));
    spool_entries(entries);
}

/// So many operations wait in the spool.
pub fn spool_entries(entries: usize) {
    SPOOL_ENTRIES.with(0, |gauge| gauge.set(entries as f64));
}

/// An operation was brought from the spool to Redis, with one of [`REPLAYS`].
pub fn spool_replayed(result: &'static str) {
    SPOOL_REPLAYED.with(place(REPLAYS, result), |counter| counter.increment(1));
}

/// What a look at the outbox found that should be in the ledger by now.
pub fn credits_owed(credits: u64) {
    CREDITS_OWED.with(0, |gauge| gauge.set(credits as f64));
}

/// A credit that SQL owes was refused.
pub fn credit_refused() {
    CREDITS_REFUSED.with(0, |counter| counter.increment(1));
}

#[cfg(test)]
mod tests;
