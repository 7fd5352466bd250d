//! Answers in the shapes of new-api. Dollars are decimal numbers, written digit by digit; a quota is 1/500 000 USD.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{engine::own_key::OwnKey, http::error::Problem, quota::amount::AMOUNT_MAX};

/// What new-api says where there is no limit.
const UNLIMITED_USD: i64 = 100_000_000;
/// new-api's unit.
const QUOTA_PER_USD: i64 = 500_000;

/// 200 of `/dashboard/billing/subscription`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscription {
    /// `billing_subscription`.
    pub(crate) object: &'static str,
    pub(crate) has_payment_method: bool,
    /// The key's allowance in dollars, as are the next two; 100000000 for an unlimited key.
    #[schema(value_type = f64)]
    pub(crate) soft_limit_usd: Box<RawValue>,
    #[schema(value_type = f64)]
    pub(crate) hard_limit_usd: Box<RawValue>,
    #[schema(value_type = f64)]
    pub(crate) system_hard_limit_usd: Box<RawValue>,
    /// When the key expires, in seconds since 1970 UTC; 0: never.
    pub(crate) access_until: i64,
}

/// 200 of `/dashboard/billing/usage`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BillingUsage {
    /// `list`.
    pub(crate) object: &'static str,
    /// What the key has spent in all, in 1/100 dollars.
    #[schema(value_type = f64)]
    pub(crate) total_usage: Box<RawValue>,
}

/// 200 of `/api/usage/token`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenUsage<'a> {
    pub(crate) code: bool,
    /// `ok`.
    pub(crate) message: &'static str,
    pub(crate) data: TokenData<'a>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenData<'a> {
    /// `token_usage`.
    pub(crate) object: &'static str,
    /// The key's name, else its id.
    pub(crate) name: &'a str,
    /// The allowance in quotas of 1/500000 dollars, as are the next two, whose sum it is; of an unlimited key what it
    /// used.
    pub(crate) total_granted: i64,
    pub(crate) total_used: i64,
    /// What is not spent yet, held or not; below 0 of a key that spent more than it may, 0 of an unlimited one.
    pub(crate) total_available: i64,
    pub(crate) unlimited_quota: bool,
    /// The models the key may call, each with `true`.
    pub(crate) model_limits: BTreeMap<&'a str, bool>,
    pub(crate) model_limits_enabled: bool,
    /// In seconds since 1970 UTC; 0: never.
    pub(crate) expires_at: i64,
}

/// Not 200 of the two billing reads.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiError<'a> {
    pub(crate) error: OpenAiProblem<'a>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiProblem<'a> {
    pub(crate) message: &'a str,
    /// `invalid_request_error` or `server_error`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Null.
    #[schema(required)]
    pub(crate) param: Option<&'a str>,
    /// `invalid_api_key`, else the problem's code.
    pub(crate) code: &'static str,
}

/// Not 200 of `/api/usage/token`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenError<'a> {
    pub(crate) success: bool,
    pub(crate) message: &'a str,
}

impl Subscription {
    pub(crate) fn of(own: &OwnKey) -> Self {
        let limit = || match own.rules.allowance {
            Some(units) => decimal(Decimal::from(units), own.units_per_usd),
            None => decimal(Decimal::from(UNLIMITED_USD), 1),
        };
        Self {
            object: "billing_subscription",
            has_payment_method: true,
            soft_limit_usd: limit(),
            hard_limit_usd: limit(),
            system_hard_limit_usd: limit(),
            access_until: expiry_s(own),
        }
    }
}

impl BillingUsage {
    pub(crate) fn of(own: &OwnKey) -> Self {
        let cents = Decimal::from(own.balance.used) * Decimal::ONE_HUNDRED;
        Self { object: "list", total_usage: decimal(cents, own.units_per_usd) }
    }
}

impl<'a> TokenUsage<'a> {
    pub(crate) fn of(own: &'a OwnKey) -> Self {
        // What is held is not spent yet, here as in the two billing reads.
        let used = quotas(own.balance.used, own.units_per_usd);
        let granted = own.rules.allowance.map_or(used, |units| quotas(units, own.units_per_usd));
        let data = TokenData {
            object: "token_usage",
            name: own.rules.name.as_deref().unwrap_or(own.key.as_str()),
            total_granted: granted,
            total_used: used,
            total_available: granted - used,
            unlimited_quota: own.rules.allowance.is_none(),
            model_limits: own.rules.models.iter().map(|model| (model.as_str(), true)).collect(),
            model_limits_enabled: !own.rules.models.is_empty(),
            expires_at: expiry_s(own),
        };
        Self { code: true, message: "ok", data }
    }
}

impl<'a> OpenAiError<'a> {
    pub(crate) fn of(problem: &'a Problem) -> Self {
        let (kind, code) = match problem.status {
            401 => ("invalid_request_error", "invalid_api_key"),
            400..500 => ("invalid_request_error", problem.word.as_str()),
            _ => ("server_error", problem.word.as_str()),
        };
        Self { error: OpenAiProblem { message: &problem.detail, kind, param: None, code } }
    }
}

impl<'a> TokenError<'a> {
    pub(crate) fn of(problem: &'a Problem) -> Self {
        Self { success: false, message: &problem.detail }
    }
}

fn expiry_s(own: &OwnKey) -> i64 {
    own.rules.expires_at.map_or(0, |at| at.seconds())
}

/// A JSON number of `number / divisor`; exact where the divisor is a power of ten.
fn decimal(number: Decimal, divisor: i64) -> Box<RawValue> {
    let text = (number / Decimal::from(divisor.max(1))).normalize().to_string();
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Units as new-api's quotas, rounded half away from zero.
fn quotas(units: i64, units_per_usd: i64) -> i64 {
    let (above, below) = (i128::from(units) * i128::from(QUOTA_PER_USD), i128::from(units_per_usd.max(1)));
    let rounded = above / below + (above % below * 2 / below);
    i64::try_from(rounded).unwrap_or(AMOUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_written_digit_by_digit() {
        for (units, per, text) in [
            (0_i64, 100_000_000, "0"),
            (1, 100_000_000, "0.00000001"),
            (150_000_000, 100_000_000, "1.5"),
            (9_007_199_254_740_991, 100_000_000, "90071992.54740991"),
            (9_007_199_254_740_991, 1, "9007199254740991"),
            (100_000_000, 1, "100000000"),
            (1, 3, "0.3333333333333333333333333333"),
        ] {
            assert_eq!(decimal(Decimal::from(units), per).get(), text);
            assert!(serde_json::from_str::<f64>(text).is_ok());
        }
    }

    #[test]
    fn quotas_are_rounded_half_away_from_zero() {
        for (units, per, quota) in [
            (200, 100_000_000, 1),
            (100, 100_000_000, 1),
            (99, 100_000_000, 0),
            (299, 100_000_000, 1),
            (300, 100_000_000, 2),
            (-100, 100_000_000, -1),
            (100_000_000, 100_000_000, QUOTA_PER_USD),
            (9_007_199_254_740_991, 1, AMOUNT_MAX),
        ] {
            assert_eq!(quotas(units, per).min(AMOUNT_MAX), quota, "{units}");
        }
    }
}
