//! Price lists on the admin listener, as they are written.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::view::maybe_text;
use crate::quota::{
    clock::Millis,
    tariff::{Diff, Rates},
};

/// A version of the price list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TariffShown {
    /// 0 is the list that quotad brings along.
    pub(crate) version: u32,
    /// Where it came from.
    pub(crate) source: String,
    /// Null: it was not imported.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) imported_at: Option<Millis>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tariffs {
    /// The newest first.
    pub(crate) tariffs: Vec<TariffShown>,
    /// For the next page; null on the last one.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
}

/// A version with its list, as `POST /admin/v1/tariffs` takes it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TariffWhole<'a> {
    #[serde(flatten)]
    pub(crate) about: TariffShown,
    /// Prices in units: of models by name, and ratios of groups.
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    pub(crate) tariff: &'a crate::quota::tariff::TariffDoc,
}

/// Units per 1 000 000 tokens or seconds, or per image or request, by name; prices of 0 are left out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = std::collections::HashMap<String, i64>)]
pub(crate) struct Prices(BTreeMap<&'static str, i64>);

impl From<&Rates> for Prices {
    fn from(rates: &Rates) -> Self {
        Self(rates.named().into_iter().filter(|(_, units)| *units > 0).collect())
    }
}

/// Prices that hold for longer prompts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TierShown {
    pub(crate) above_tokens: i64,
    pub(crate) prices: Prices,
}

/// A model as it is priced: what the list leaves out is filled in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelShown<'a> {
    pub(crate) model: &'a str,
    /// `<provider>/<model>` names it as well.
    #[schema(required)]
    pub(crate) provider: Option<&'a str>,
    /// Tokens that it puts out at most; null: not known.
    #[schema(required)]
    pub(crate) max_output: Option<i64>,
    pub(crate) prices: Prices,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) tiers: Vec<TierShown>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Models<'a> {
    pub(crate) version: u32,
    /// Units of a dollar, in which all prices are.
    pub(crate) units_per_usd: i64,
    pub(crate) models: Vec<ModelShown<'a>>,
    /// For the next page; null on the last one.
    #[schema(required)]
    pub(crate) next_cursor: Option<&'a str>,
}

/// What an import changed, or would change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Imported<'a> {
    /// The version it was compared with.
    pub(crate) base: u32,
    /// Its own number; null: nothing was stored.
    #[schema(required)]
    pub(crate) version: Option<u32>,
    /// Models in the list.
    pub(crate) models: usize,
    pub(crate) notes: &'a [String],
    pub(crate) diff: &'a Diff,
}

/// A version that was made the newest one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Activated {
    /// The number of the version whose list it has.
    pub(crate) of: u32,
    pub(crate) version: u32,
}
