//! Limits on the wire: as a rule (what the admin API sets), and with live numbers (what answers
//! show).

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    read::{Bad, Object, Value},
    request,
    scalar::{Cap, Span},
    view::maybe_text,
    word,
};
use crate::quota::{
    clock::Millis,
    id::{KeyId, Model, Platform},
    limit::{LIMITS_MAX, LIMITS_TOGETHER_MAX, Limit, Metric, Period},
    verdict::LimitState,
};

request!(
    /// One rule: what may be used of a platform and model within a period.
    LimitRule {
        /// A platform, or `*` (default) for all.
        platform: Option<Platform>,
        /// A model, or `*` (default) for all.
        model: Option<Model>,
        /// Default `cost`.
        metric: Option<word::Metric>,
        /// Required, but absent for concurrency.
        period: Option<Span>,
        /// Null is unlimited, 0 is disabled.
        cap: Cap,
    }
);

/// The limits of an account or key, checked as a whole.
#[derive(Debug)]
pub(crate) struct Limits(pub(crate) Vec<Limit>);

impl Value for Limit {
    fn read(raw: &str) -> Result<Self, Bad> {
        let rule = LimitRule::read(raw, None)?;
        let metric = rule.metric.map_or(Metric::Cost, |metric| metric.0);
        let period = period_of(metric, rule.period)?;
        Ok(Self {
            platform: rule.platform.map_or("*".into(), |platform| platform.as_str().into()),
            model: rule.model.map_or("*".into(), |model| model.as_str().into()),
            metric,
            period,
            cap: rule.cap.0,
        })
    }
}

/// A period fits its metric: concurrency has none, everything else has one.
pub(crate) fn period_of(metric: Metric, period: Option<Span>) -> Result<Period, Bad> {
    match (metric, period) {
        (Metric::Concurrency, None) => Ok(Period::None),
        (Metric::Concurrency, Some(_)) => Err(Bad::at("period", "concurrency has no period")),
        (_, Some(Span(period))) => Ok(period),
        (_, None) => Err(Bad::at("period", "is required")),
    }
}

impl Value for Limits {
    fn read(raw: &str) -> Result<Self, Bad> {
        let limits = Vec::<Limit>::read(raw)?;
        if limits.len() > LIMITS_MAX {
            return Err(Bad::value(format!("must be at most {LIMITS_MAX} limits")));
        }
        for (place, limit) in limits.iter().enumerate() {
            let together = |other: &&Limit| other.platform == limit.platform && other.model == limit.model;
            let before = limits[..place].iter().filter(together);
            if before.clone().any(|other| other.code() == limit.code()) {
                return Err(Bad::at(format!("[{place}]"), "has the platform, model, metric and period of another"));
            }
            if before.count() >= LIMITS_TOGETHER_MAX {
                let detail = format!("more than {LIMITS_TOGETHER_MAX} limits have this platform and model");
                return Err(Bad::at(format!("[{place}]"), detail));
            }
        }
        Ok(Self(limits))
    }
}

/// A rule as the admin API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitShown<'a> {
    pub(crate) platform: &'a str,
    pub(crate) model: &'a str,
    pub(crate) metric: &'static str,
    /// Null for concurrency.
    #[schema(required)]
    pub(crate) period: Option<String>,
    /// Null is unlimited, 0 is disabled.
    #[schema(required)]
    pub(crate) cap: Option<i64>,
}

impl<'a> From<&'a Limit> for LimitShown<'a> {
    fn from(limit: &'a Limit) -> Self {
        Self {
            platform: &limit.platform,
            model: &limit.model,
            metric: limit.metric.as_str(),
            period: limit.period.as_text().map(Into::into),
            cap: limit.cap,
        }
    }
}

/// A limit with its live numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitLive<'a> {
    pub(crate) platform: &'a str,
    pub(crate) model: &'a str,
    pub(crate) metric: &'static str,
    /// Null for concurrency.
    #[schema(required)]
    pub(crate) period: Option<String>,
    /// Null is unlimited, 0 is disabled.
    #[schema(required)]
    pub(crate) cap: Option<i64>,
    pub(crate) used: i64,
    pub(crate) held: i64,
    /// End of the open window; null for concurrency and for a rolling window not begun.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) resets_at: Option<Millis>,
    /// The key whose limit it is; absent for the account's own.
    #[serde(serialize_with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<KeyId>,
}

impl<'a> From<&'a LimitState> for LimitLive<'a> {
    fn from(state: &'a LimitState) -> Self {
        Self {
            platform: &state.limit.platform,
            model: &state.limit.model,
            metric: state.limit.metric.as_str(),
            period: state.limit.period.as_text().map(Into::into),
            cap: state.limit.cap,
            used: state.used,
            held: state.held,
            resets_at: state.resets_at,
            key: state.key.clone(),
        }
    }
}
