//! The stored form of a tariff: JSON with a format number, amounts as integers, ratios as decimal
//! strings. Unknown fields and names given twice are refused, so that a typo never prices a call.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Table,
    price::{Price, Rates, Tier},
    ratio::{Ratio, Ratios},
};
use crate::quota::{amount::AMOUNT_MAX, id::Model};

/// The format written here, and the only one read.
pub const FORMAT: u32 = 1;

/// A version of the price table as it is stored and edited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TariffDoc {
    /// [`FORMAT`].
    pub format: u32,
    /// The scale of all amounts in it; must be the deployment's.
    pub units_per_usd: i64,
    #[serde(deserialize_with = "unique")]
    pub models: BTreeMap<String, PriceDoc>,
    /// `ratio[using group]`.
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    pub group_ratio: BTreeMap<String, Ratio>,
    /// `ratio[user group][using group]`, which goes before `group_ratio`.
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    pub user_group_ratio: BTreeMap<String, RatioRow>,
}

/// One user group's ratios by using group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RatioRow(#[serde(deserialize_with = "unique")] pub BTreeMap<String, Ratio>);

/// Prices of a model, or of one of its tiers, in units per 1 000 000 tokens or seconds, or per image or
/// call. Absent in a tier: as without the tier. Absent without: a kind of prompt tokens costs what plain
/// input does, of completion tokens what plain output does; `cache_read_audio` and `_image` are
/// `cache_read`, `cache_write_1h` is `cache_write_5m`; `output` of a model that has none is its
/// `image_out` or `audio_out`, `input` its `audio_in`; all others are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriceDoc {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_audio: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_image: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_in: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_in: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_out: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_out: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_in: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_out: Option<i64>,
    /// Units per image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_image_in: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_image_out: Option<i64>,
    /// Units per call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_request: Option<i64>,
    /// By name `above_<n>k`: for prompts of more than n thousand tokens. Not within a tier.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique")]
    pub tiers: BTreeMap<String, PriceDoc>,
    /// Tokens that the model puts out at most. Not within a tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<i64>,
    /// Whose model it is: `<provider>/<model>` names it as well. Not within a tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

impl TariffDoc {
    /// # Errors
    /// A sentence naming the model and field that is wrong.
    pub(super) fn compile(&self) -> Result<Table, String> {
        if self.format != FORMAT {
            return Err(format!("format is {}, this version reads format {FORMAT}", self.format));
        }
        if self.units_per_usd < 1 {
            return Err("units_per_usd must be positive".into());
        }
        let mut table = Table { units_per_usd: self.units_per_usd, ..Table::default() };
        for (name, price) in &self.models {
            let price = Model::new(name)
                .map_err(|bad| format!("the name {bad}"))
                .and_then(|_| price.compile())
                .map_err(|why| format!("model `{name}`: {why}"))?;
            table.models.insert(name.as_str().into(), price);
        }
        let row =
            |row: &BTreeMap<String, Ratio>| row.iter().map(|(group, ratio)| (group.as_str().into(), *ratio)).collect();
        table.ratios = Ratios {
            by_using: row(&self.group_ratio),
            by_user: self
                .user_group_ratio
                .iter()
                .map(|(user, RatioRow(own))| (user.as_str().into(), row(own)))
                .collect(),
        };
        Ok(table)
    }
}

impl PriceDoc {
    /// # Errors
    /// A sentence naming the field that is wrong.
    pub(super) fn compile(&self) -> Result<Price, String> {
        self.check()?;
        let mut tiers = Vec::with_capacity(self.tiers.len());
        for (name, tier) in &self.tiers {
            let above_tokens = tier_threshold(name)?;
            tier.check().map_err(|why| format!("tier `{name}`: {why}"))?;
            if !tier.tiers.is_empty() || tier.max_output.is_some() || tier.provider.is_some() {
                return Err(format!("tier `{name}`: may hold prices only"));
            }
            tiers.push(Tier { above_tokens, rates: tier.over(self).rates() });
        }
        tiers.sort_unstable_by_key(|tier| tier.above_tokens);
        let provider = self.provider.as_deref().map(Into::into);
        Ok(Price { rates: self.rates(), tiers, max_output: self.max_output, provider })
    }

    /// Its prices with their names, tiers and the rest left out.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<i64>); 17] {
        let mut prices = self.clone();
        prices.named_mut().map(|(name, price)| (name, *price))
    }

    pub(super) fn named_mut(&mut self) -> [(&'static str, &mut Option<i64>); 17] {
        [
            ("input", &mut self.input),
            ("output", &mut self.output),
            ("cache_read", &mut self.cache_read),
            ("cache_read_audio", &mut self.cache_read_audio),
            ("cache_read_image", &mut self.cache_read_image),
            ("cache_write_5m", &mut self.cache_write_5m),
            ("cache_write_1h", &mut self.cache_write_1h),
            ("audio_in", &mut self.audio_in),
            ("image_in", &mut self.image_in),
            ("reasoning", &mut self.reasoning),
            ("audio_out", &mut self.audio_out),
            ("image_out", &mut self.image_out),
            ("seconds_in", &mut self.seconds_in),
            ("seconds_out", &mut self.seconds_out),
            ("per_image_in", &mut self.per_image_in),
            ("per_image_out", &mut self.per_image_out),
            ("per_request", &mut self.per_request),
        ]
    }

    /// Whether anything costs anything.
    pub(super) fn has_price(&self) -> bool {
        self.named().iter().any(|(_, price)| price.is_some_and(|price| price > 0))
            || self.tiers.values().any(PriceDoc::has_price)
    }

    fn check(&self) -> Result<(), String> {
        let fields = self.named().into_iter().chain([("max_output", self.max_output)]);
        match fields.into_iter().find(|(_, value)| value.is_some_and(|value| !(0..=AMOUNT_MAX).contains(&value))) {
            Some((field, _)) => Err(format!("{field} must be from 0 to {AMOUNT_MAX}")),
            None => Ok(()),
        }
    }

    /// A tier's own prices over those of its model.
    fn over(&self, base: &PriceDoc) -> PriceDoc {
        let mut prices = PriceDoc { tiers: BTreeMap::new(), max_output: None, provider: None, ..base.clone() };
        for ((_, price), (_, own)) in prices.named_mut().into_iter().zip(self.named()) {
            *price = own.or(*price);
        }
        prices
    }

    fn rates(&self) -> Rates {
        let input = self.input.or(self.audio_in).unwrap_or(0);
        let output = self.output.or(self.image_out).or(self.audio_out).unwrap_or(0);
        let cache_read = self.cache_read.unwrap_or(input);
        let cache_write_5m = self.cache_write_5m.unwrap_or(input);
        Rates {
            input,
            cache_read,
            cache_read_audio: self.cache_read_audio.unwrap_or(cache_read),
            cache_read_image: self.cache_read_image.unwrap_or(cache_read),
            cache_write_5m,
            cache_write_1h: self.cache_write_1h.unwrap_or(cache_write_5m),
            audio_in: self.audio_in.unwrap_or(input),
            image_in: self.image_in.unwrap_or(input),
            output,
            reasoning: self.reasoning.unwrap_or(output),
            audio_out: self.audio_out.unwrap_or(output),
            image_out: self.image_out.unwrap_or(output),
            seconds_in: self.seconds_in.unwrap_or(0),
            seconds_out: self.seconds_out.unwrap_or(0),
            per_image_in: self.per_image_in.unwrap_or(0),
            per_image_out: self.per_image_out.unwrap_or(0),
            per_request: self.per_request.unwrap_or(0),
        }
    }
}

/// `above_200k` → 200 000 tokens.
fn tier_threshold(name: &str) -> Result<i64, String> {
    let thousands = name.strip_prefix("above_").and_then(|rest| rest.strip_suffix('k'));
    thousands
        .filter(|digits| !digits.starts_with('0') && digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse::<i64>().ok())
        .map(|thousands| thousands * 1000)
        .ok_or_else(|| format!("tier `{name}`: its name must be above_<n>k, such as above_200k"))
}

/// A map of JSON whose names are unique and whose errors say which entry is wrong.
fn unique<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: DeserializeOwned,
{
    struct Unique<V>(PhantomData<V>);

    impl<'de, V: DeserializeOwned> Visitor<'de> for Unique<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, raw)) = entries.next_entry::<String, Box<RawValue>>()? {
                let value = serde_json::from_str(raw.get())
                    .map_err(|error| A::Error::custom(format_args!("`{name}`: {error}")))?;
                if map.insert(name.clone(), value).is_some() {
                    return Err(A::Error::custom(format_args!("`{name}` is given twice")));
                }
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Unique(PhantomData))
}
