//! A key as its owner sees it.

use serde::Serialize;
use utoipa::ToSchema;

use super::view::{maybe_text, text};
use crate::{
    engine::own_key::GroupChoice,
    quota::{clock::Millis, id::KeyId, verdict::LimitState},
};

/// 200 of own_key: rules and live numbers of the key whose secret is presented.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnKey<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) key: &'a KeyId,
    #[schema(required)]
    pub(crate) name: Option<&'a str>,
    /// `enabled`, `disabled`, `expired` or `exhausted`.
    pub(crate) status: &'static str,
    /// Units it may spend in all; null: unlimited.
    #[schema(required)]
    pub(crate) allowance: Option<i64>,
    /// Units left of it, holds taken off; null: unlimited.
    #[schema(required)]
    pub(crate) left: Option<i64>,
    pub(crate) used: i64,
    pub(crate) held: i64,
    pub(crate) requests: i64,
    /// Null: never.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) expires_at: Option<Millis>,
    /// Empty: all.
    pub(crate) models: Vec<&'a str>,
    /// Empty: all.
    pub(crate) networks: Vec<String>,
    /// The price group of calls that name none, or `auto`.
    pub(crate) group: &'a str,
    /// Whether a retry may go on in another group.
    pub(crate) cross_group_retry: bool,
    /// The price groups that its calls, or retries of them, can be made in.
    pub(crate) groups: Vec<Choice<'a>>,
    /// The key's own limits.
    pub(crate) limits: Vec<OwnLimit<'a>>,
}

/// A price group that a key may use.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupChoice)]
pub(crate) struct Choice<'a> {
    pub(crate) group: &'a str,
    pub(crate) description: &'a str,
    /// What prices are multiplied with: a decimal number.
    pub(crate) ratio: String,
}

/// A limit of the key with its live numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnLimit<'a> {
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
    /// What `cap` leaves room for; null: unlimited.
    #[schema(required)]
    pub(crate) left: Option<i64>,
    /// End of the open window; null for concurrency and for a rolling window not begun.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) resets_at: Option<Millis>,
}

impl<'a> From<&'a GroupChoice> for Choice<'a> {
    fn from(choice: &'a GroupChoice) -> Self {
        Self { group: &choice.group, description: &choice.description, ratio: choice.ratio.to_string() }
    }
}

impl<'a> From<&'a LimitState> for OwnLimit<'a> {
    fn from(state: &'a LimitState) -> Self {
        let (used, held) = (state.used, state.held);
        Self {
            platform: &state.limit.platform,
            model: &state.limit.model,
            metric: state.limit.metric.as_str(),
            period: state.limit.period.as_text().map(Into::into),
            cap: state.limit.cap,
            used,
            held,
            left: state.limit.cap.map(|cap| (cap - used - held).max(0)),
            resets_at: state.resets_at,
        }
    }
}
