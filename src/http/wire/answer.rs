//! Answers of the gateway and the probes, as they are written. `replayed` shows only when it is true.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    limit::LimitLive,
    view::{is_false, text},
};
use crate::quota::{
    clock::Millis,
    id::{AccountId, KeyId, OpId, ReservationId},
};

/// 200 of reserve.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reserved<'a> {
    pub(crate) id: &'a ReservationId,
    /// `granted`.
    pub(crate) outcome: &'static str,
    pub(crate) held: i64,
    /// True: nothing was held, settle as usual.
    pub(crate) trusted: bool,
    #[serde(serialize_with = "text")]
    pub(crate) expires_at: Millis,
    /// This and `available`: null when `degraded`.
    #[schema(required)]
    pub(crate) balance: Option<i64>,
    #[schema(required)]
    pub(crate) available: Option<i64>,
    /// The price group that it is made in; absent in the account's own, unless a group was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<&'a str>,
    /// Only when `verbose`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<Vec<LimitLive<'a>>>,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
    /// Answered without Redis, within the allowance for that (`X-Quota-Degraded`).
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) degraded: bool,
}

/// 200 of estimate.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Estimated<'a> {
    pub(crate) model: &'a str,
    /// How the text was counted: a vocabulary, or a rule; null: there was none.
    #[schema(required)]
    pub(crate) counted_by: Option<&'static str>,
    /// Of text, images and sound.
    pub(crate) prompt_tokens: i64,
    /// Output tokens it is priced with.
    pub(crate) max_tokens: i64,
    /// What it counts against token limits.
    pub(crate) tokens: i64,
    /// Units for the prompt alone.
    pub(crate) prompt_cost: i64,
    /// Units that a reserve holds: its `amount`, or what its `estimate` of these tokens comes to.
    pub(crate) held: i64,
    /// All prices are 0, or the ratio is.
    pub(crate) free: bool,
    /// The price group; absent where neither an account nor a group is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<&'a str>,
    /// Version of the price list.
    pub(crate) tariff: u32,
    /// The group's ratio, which all prices are multiplied with.
    pub(crate) ratio: String,
    /// The prices for a prompt of this length.
    pub(crate) prices: super::tariff::Prices,
}

/// 200 of settle and charge.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settled<'a> {
    pub(crate) id: &'a ReservationId,
    /// `settled`; `held` after `final: false`.
    pub(crate) outcome: &'static str,
    /// Null when `degraded` and only Redis knows the hold that is charged.
    #[schema(required)]
    pub(crate) charged: Option<i64>,
    /// Null when `degraded` and only Redis knows the hold.
    #[schema(required)]
    pub(crate) returned: Option<i64>,
    /// How far below zero the balance went.
    pub(crate) overdraft: i64,
    /// Settled after its deadline.
    pub(crate) late: bool,
    /// No reserve came before it.
    pub(crate) unreserved: bool,
    /// The cost was above `max_amount` and clamped to it.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) clamped: bool,
    /// This and `available`: null when `degraded`.
    #[schema(required)]
    pub(crate) balance: Option<i64>,
    #[schema(required)]
    pub(crate) available: Option<i64>,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
    /// Answered without Redis, within the allowance for that (`X-Quota-Degraded`).
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) degraded: bool,
}

/// 200 of release.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Released<'a> {
    pub(crate) id: &'a ReservationId,
    /// `released`.
    pub(crate) outcome: &'static str,
    /// Null when `degraded` and only Redis knows the hold.
    #[schema(required)]
    pub(crate) returned: Option<i64>,
    /// This and `available`: null when `degraded`.
    #[schema(required)]
    pub(crate) balance: Option<i64>,
    #[schema(required)]
    pub(crate) available: Option<i64>,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
    /// Answered without Redis, within the allowance for that (`X-Quota-Degraded`).
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) degraded: bool,
}

/// 200 of extend.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Extended<'a> {
    pub(crate) id: &'a ReservationId,
    /// `extended`.
    pub(crate) outcome: &'static str,
    pub(crate) held: i64,
    #[serde(serialize_with = "text")]
    pub(crate) expires_at: Millis,
    /// This and `available`: null when `degraded`.
    #[schema(required)]
    pub(crate) balance: Option<i64>,
    #[schema(required)]
    pub(crate) available: Option<i64>,
    /// The price group that it goes on in; only where the call names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
    /// Answered without Redis, within the allowance for that (`X-Quota-Degraded`).
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) degraded: bool,
}

/// 200 of refund.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refunded<'a> {
    pub(crate) op_id: &'a OpId,
    /// `refunded`.
    pub(crate) outcome: &'static str,
    pub(crate) of: &'a ReservationId,
    pub(crate) refunded: i64,
    pub(crate) balance: i64,
    pub(crate) available: i64,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
}

/// 200 of balance: live numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Balance<'a> {
    pub(crate) account: &'a AccountId,
    pub(crate) balance: i64,
    pub(crate) held: i64,
    pub(crate) available: i64,
    pub(crate) credit_limit: i64,
    pub(crate) used: i64,
    pub(crate) requests: i64,
    pub(crate) keys: Vec<KeyBalance<'a>>,
    pub(crate) limits: Vec<LimitLive<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyBalance<'a> {
    pub(crate) key: &'a KeyId,
    /// `enabled`, `disabled`, `expired` or `exhausted`.
    pub(crate) status: &'static str,
    /// Null: unlimited.
    #[schema(required)]
    pub(crate) left: Option<i64>,
    pub(crate) used: i64,
    pub(crate) held: i64,
    pub(crate) requests: i64,
}

/// 200 and 503 of readyz.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// `ok` or `unreachable`.
    pub(crate) redis: &'static str,
    /// `ok` or `missing`.
    pub(crate) scripts: &'static str,
    /// `ok` or `degraded`: degraded does not stop reserves and settles.
    pub(crate) sql: &'static str,
    pub(crate) draining: bool,
}
