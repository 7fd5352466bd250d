//! Answers of the admin listener, as they are written.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    limit::LimitShown,
    view::{is_false, maybe_text, text},
};
use crate::quota::{
    clock::Millis,
    id::{AccountId, KeyId, OpId, ReservationId},
};

/// 200 of credit and debit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Adjusted<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    #[serde(serialize_with = "text")]
    pub(crate) op_id: &'a OpId,
    /// `credited` or `debited`.
    pub(crate) outcome: &'static str,
    pub(crate) amount: i64,
    pub(crate) balance: i64,
    pub(crate) available: i64,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
}

/// An account: its rules and, when they can be had, its live numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Account<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    pub(crate) status: &'static str,
    pub(crate) group: &'a str,
    pub(crate) credit_limit: i64,
    pub(crate) timezone: &'a str,
    /// Units, null for off, or `default`.
    #[schema(required, value_type = super::admin::TrustLevel)]
    pub(crate) trust_threshold: serde_json::Value,
    /// `deny` or `allow`; null: the deployment's.
    #[schema(required)]
    pub(crate) on_unavailable: Option<&'static str>,
    pub(crate) limits: Vec<LimitShown<'a>>,
    #[schema(required)]
    pub(crate) name: Option<&'a str>,
    #[schema(required)]
    pub(crate) contact: Option<&'a str>,
    /// Grows with every change of the account or its keys.
    pub(crate) version: u32,
    /// Live numbers; absent in lists, and while Redis cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) balance: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) available: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) used: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accounts<'a> {
    pub(crate) accounts: Vec<Account<'a>>,
    /// For the next page; null on the last one.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) next_cursor: Option<AccountId>,
}

/// A key: its rules and, when they can be had, its live numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Key<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    #[serde(serialize_with = "text")]
    pub(crate) key: &'a KeyId,
    #[schema(required)]
    pub(crate) name: Option<&'a str>,
    /// `enabled`, `disabled`, `expired` or `exhausted`: by what is set, the time, and what is spent.
    pub(crate) status: &'static str,
    /// Null: unlimited.
    #[schema(required)]
    pub(crate) allowance: Option<i64>,
    /// Null: never.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) expires_at: Option<Millis>,
    pub(crate) models: Vec<&'a str>,
    pub(crate) networks: Vec<String>,
    /// Null: the account's.
    #[schema(required)]
    pub(crate) group: Option<&'a str>,
    /// Whether a retry may go on in another group.
    pub(crate) cross_group_retry: bool,
    pub(crate) limits: Vec<LimitShown<'a>>,
    /// Null: made before this was kept.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) created_at: Option<Millis>,
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) changed_at: Option<Millis>,
    /// Only in the answer that made the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<&'a str>,
    /// Null: unlimited. This and the other live numbers are absent while Redis cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub(crate) left: Option<Option<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) used: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Keys<'a> {
    pub(crate) keys: Vec<Key<'a>>,
    /// For the next page; null on the last one.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) next_cursor: Option<KeyId>,
}

/// 200 of reset.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResetDone<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    /// `reset`.
    pub(crate) outcome: &'static str,
    /// Usage taken off the window.
    pub(crate) cleared: i64,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
}

/// One reservation as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reservation<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    #[serde(serialize_with = "text")]
    pub(crate) id: &'a ReservationId,
    /// `held`, `settled`, `released` or `expired`.
    pub(crate) state: &'static str,
    /// The whole hold as it was asked for.
    pub(crate) reserved: i64,
    /// What is still held now.
    pub(crate) held: i64,
    pub(crate) charged: i64,
    pub(crate) refunded: i64,
    pub(crate) overdraft: i64,
    pub(crate) tokens: i64,
    /// Partial settles so far.
    pub(crate) parts: u16,
    /// Made by the verb charge.
    pub(crate) charge: bool,
    pub(crate) late: bool,
    pub(crate) unreserved: bool,
    pub(crate) clamped: bool,
    /// `release` or `charge`.
    pub(crate) on_expiry: &'static str,
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) key: Option<KeyId>,
    #[serde(serialize_with = "text")]
    pub(crate) created_at: Millis,
    #[serde(serialize_with = "text")]
    pub(crate) expires_at: Millis,
}

/// 200 of reconcile.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reconciled<'a> {
    /// Accounts compared.
    pub(crate) accounts: u64,
    /// Of those, the ones whose holds moved all the time and could not be compared.
    pub(crate) moving: u64,
    pub(crate) differences: Vec<Difference<'a>>,
    /// Cursor of the next page; null on the last one.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) next: Option<AccountId>,
}

/// One number that differs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Difference<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    pub(crate) what: &'a str,
    /// Absent: Redis does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis: Option<i64>,
    /// Absent: SQL does not keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sql: Option<i64>,
    /// What the ledger, or the live holds, add up to; absent: there should be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<i64>,
    /// Whether it was put right; absent when that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repaired: Option<bool>,
}

/// One change, as the audit kept it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub(crate) struct ChangeShown<'a> {
    /// Grows with time. A text, because it is longer than the whole numbers of some readers.
    pub(crate) id: String,
    #[serde(serialize_with = "text")]
    pub(crate) at: Millis,
    /// The header `X-Quota-Actor` of the call, else `admin`.
    pub(crate) by: &'a str,
    /// The verb: `put`, `delete`, `credit` …
    pub(crate) what: &'a str,
    /// `account/<id>`, `account/<id>/key/<id>`, or `<kind>/<id>`.
    pub(crate) subject: &'a str,
    /// As it was; null: it was not there, or (money) it cannot be told.
    #[schema(required, value_type = Option<Object>)]
    pub(crate) before: &'a Option<serde_json::Value>,
    /// As it became; null: it is gone.
    #[schema(required, value_type = Option<Object>)]
    pub(crate) after: &'a Option<serde_json::Value>,
    /// Of the operation in the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) op_id: Option<&'a str>,
}

/// A page of the audit, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Changes<'a> {
    pub(crate) changes: Vec<ChangeShown<'a>>,
    /// For the next page; null on the last one.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
}

/// A setting that can be changed at run time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Setting<'a> {
    pub(crate) name: &'static str,
    /// In force, on every sidecar within a second.
    #[schema(required, value_type = super::admin::Json)]
    pub(crate) value: &'a serde_json::Value,
    /// In force when the setting is deleted: the configuration's, or the package's.
    #[schema(required, value_type = super::admin::Json)]
    pub(crate) default: &'a serde_json::Value,
    /// Where the value comes from: `database`, `file …`, `environment …`, or `default`.
    pub(crate) source: &'a str,
    /// Its type in JSON.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// `units`, `ms`; null: none.
    #[schema(required)]
    pub(crate) unit: Option<&'static str>,
    /// What it does.
    #[serde(rename = "doc")]
    pub(crate) meaning: &'static str,
    /// Grows with every change; 0: never changed.
    pub(crate) version: u32,
    /// Null: never changed.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) changed_at: Option<Millis>,
    #[schema(required)]
    pub(crate) changed_by: Option<&'a str>,
}

/// A page of the settings, in order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settings<'a> {
    pub(crate) settings: Vec<Setting<'a>>,
    /// For the next page; null on the last one.
    #[schema(required)]
    pub(crate) next_cursor: Option<&'a str>,
}
