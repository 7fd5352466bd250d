//! The public price list (`model_prices.json`: USD per token, one object per model) read into our
//! own form. Prices are read by their decimal digits and become whole units per 1 000 000 tokens.
//!
//! Taken: `{input,output}_cost_per_token`, `…_per_audio_token`, `…_per_image_token`,
//! `output_cost_per_reasoning_token`, `cache_read_input_token_cost` (also `_audio_` and `_image_`),
//! `cache_creation_input_token_cost` (and its `_above_1hr`), `…_cost_per_second`, `input_cost_per_audio_per_second`,
//! `output_cost_per_video_per_second`, `…_cost_per_image`, all with `_above_<n>k_tokens`; `tiered_pricing` with a range of prompt tokens;
//! `input_cost_per_request` and `_per_query` as the price of a call. Left out: batch, flex and priority
//! service, prices per pixel, character, page or by resolution, tools and storage. A model that has only
//! such prices is not priced.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use rust_decimal::Decimal;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::doc::{FORMAT, PriceDoc, TariffDoc};
use crate::quota::{amount::AMOUNT_MAX, id::Model};

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Models taken, of which `free` have prices of 0 only.
    pub models: usize,
    pub free: usize,
    /// Prices that were no whole units per 1 000 000 tokens, rounded half up.
    pub rounded: usize,
    /// Entries without a price by token or call.
    pub unpriced: usize,
    /// Entries that cannot stand: name and reason.
    pub refused: Vec<(String, String)>,
    /// Models whose output price nobody says; it is their input price.
    pub assumed: Vec<String>,
}

/// Entry of the list that only explains it.
const SAMPLE: &str = "sample_spec";
/// Kinds of models that put out no tokens.
const WITHOUT_OUTPUT: [&str; 3] = ["embedding", "moderation", "rerank"];
/// Kinds of models that make pictures.
const MAKING_IMAGES: [&str; 2] = ["image_generation", "image_edit"];

/// # Errors
/// A sentence when the text is no such list at all.
pub(super) fn import(json: &[u8], units_per_usd: i64) -> Result<(TariffDoc, ImportReport), String> {
    let List(entries) = serde_json::from_slice(json).map_err(|error| format!("is no price list: {error}"))?;
    let mut report = ImportReport::default();
    let mut models = BTreeMap::new();
    for (name, entry) in entries.into_iter().filter(|(name, _)| name != SAMPLE) {
        match read_entry(&name, entry, units_per_usd, &mut report.rounded) {
            Err(why) => report.refused.push((name.into_owned(), why)),
            Ok(None) => report.unpriced += 1,
            Ok(Some(_)) if models.contains_key(&*name) => {
                report.refused.push((name.into_owned(), "is given twice; the first one was taken".into()));
            }
            Ok(Some(price)) => {
                report.free += usize::from(!price.has_price());
                models.insert(name.into_owned(), price);
            }
        }
    }
    report.models = models.len();
    if models.is_empty() {
        return Err("is no price list: not one of its models has a price by token or call".into());
    }
    let doc = TariffDoc {
        format: FORMAT,
        units_per_usd,
        models,
        group_ratio: BTreeMap::new(),
        user_group_ratio: BTreeMap::new(),
    };
    Ok((doc, report))
}

/// `None`: the entry has no price by token or call.
fn read_entry(
    name: &str,
    entry: &RawValue,
    units_per_usd: i64,
    rounded: &mut usize,
) -> Result<Option<PriceDoc>, String> {
    Model::new(name).map_err(|bad| format!("the name {bad}"))?;
    let List(fields) = serde_json::from_str(entry.get()).map_err(|_| "is not an object".to_owned())?;
    let mut reader = Reader { units_per_usd, price: PriceDoc::default(), elsewhere: false, rounded: 0 };
    let (mut tiered, mut mode) = (None, Cow::Borrowed(""));
    for (field, value) in fields {
        match &*field {
            "tiered_pricing" => tiered = Some(value),
            "litellm_provider" => reader.price.provider = serde_json::from_str(value.get()).ok(),
            "max_output_tokens" => {
                let most = whole(value).filter(|most| *most > 0);
                reader.price.max_output = reader.price.max_output.or(most);
            }
            "mode" => {
                mode = serde_json::from_str::<Cow<'_, str>>(value.get()).unwrap_or_default();
                if WITHOUT_OUTPUT.contains(&&*mode) {
                    reader.price.max_output = Some(0);
                }
            }
            _ => reader.take(&field, value, None)?,
        }
    }
    if let Some(tiers) = tiered {
        reader.take_tiers(tiers)?;
    }
    let mut price = reader.price;
    if mode == "chat" {
        // Rented machines: their seconds are no call's.
        (price.seconds_in, price.seconds_out) = (None, None);
    }
    if mode == "audio_transcription" {
        // Some entries price what goes in by what comes out: the same seconds.
        let heard = price.seconds_out.take();
        price.seconds_in = price.seconds_in.filter(|units| *units > 0).or(heard);
    }
    let by_output = [price.per_image_out, price.output, price.image_out].into_iter().flatten().any(|units| units > 0);
    if MAKING_IMAGES.contains(&&*mode) && !by_output {
        // The list prices the pictures that such a model makes by what goes in.
        price.per_image_out = price.per_image_in.take().or(price.per_image_out);
    }
    let by_token = price.input.is_some() || price.output.is_some();
    if !price.has_price() && (!by_token || reader.elsewhere) {
        return Ok(None);
    }
    price.compile()?;
    *rounded += reader.rounded;
    Ok(Some(price))
}

/// Collects the prices of one entry.
struct Reader {
    units_per_usd: i64,
    price: PriceDoc,
    /// The entry has a price for something else than tokens and calls.
    elsewhere: bool,
    rounded: usize,
}

impl Reader {
    /// Takes one field if it is a price, into the tier that its name or the caller says.
    fn take(&mut self, field: &str, value: &RawValue, range_k: Option<i64>) -> Result<(), String> {
        if !field.contains("cost") || !value.get().starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '"') {
            // Objects and nulls beside the prices: not ours.
            return Ok(());
        }
        let (base, own_k) = split_tier(field);
        let by_piece = ["_per_request", "_per_query", "_per_image"].iter().any(|end| base.ends_with(end));
        let per_tokens = if by_piece { 1 } else { 1_000_000 };
        let tier = own_k.or(range_k);
        if slot(&mut PriceDoc::default(), base).is_none() {
            self.elsewhere |= decimal(value).is_ok_and(|price| price > Decimal::ZERO);
            return Ok(());
        }
        let units = self.units(value, per_tokens).map_err(|why| format!("{field} {why}"))?;
        let price = match tier {
            Some(thousands) => self.price.tiers.entry(format!("above_{thousands}k")).or_default(),
            None => &mut self.price,
        };
        if let Some(slot) = slot(price, base) {
            // The field's own name goes before a range, a request before a query: first come.
            *slot = slot.or(Some(units));
        }
        Ok(())
    }

    /// `[{"input_cost_per_token":…,"range":[0,32000]},…]`: a call is priced by the range that its
    /// whole prompt falls into. Ranges of anything else are passed over.
    fn take_tiers(&mut self, tiers: &RawValue) -> Result<(), String> {
        let tiers: Vec<List<'_>> =
            serde_json::from_str(tiers.get()).map_err(|_| "tiered_pricing is not a list".to_owned())?;
        for List(fields) in tiers {
            let Some((_, range)) = fields.iter().find(|(field, _)| field == "range") else { continue };
            let range: Vec<&RawValue> = serde_json::from_str(range.get()).unwrap_or_default();
            let from = range.first().and_then(|from| whole(from)).filter(|from| from % 1000 == 0);
            let from = from.ok_or("tiered_pricing has a range that does not begin at whole thousands")?;
            let thousands = (from > 0).then_some(from / 1000);
            for (field, value) in &fields {
                self.take(field, value, thousands)?;
            }
        }
        Ok(())
    }

    /// USD as units per so many tokens or calls.
    fn units(&mut self, value: &RawValue, per: i64) -> Result<i64, String> {
        let usd = decimal(value)?;
        let factor = i128::from(self.units_per_usd) * i128::from(per);
        let divisor = 10_i128.pow(usd.scale());
        let exact = usd.mantissa().checked_mul(factor).ok_or("has too many digits")?;
        self.rounded += usize::from(exact % divisor != 0);
        let units = exact / divisor + i128::from(exact % divisor * 2 >= divisor);
        i64::try_from(units).ok().filter(|units| *units <= AMOUNT_MAX).ok_or_else(|| format!("is too large: {usd}"))
    }
}

/// The price that a field of the list is, if it is one.
fn slot<'a>(price: &'a mut PriceDoc, base: &str) -> Option<&'a mut Option<i64>> {
    Some(match base {
        "input_cost_per_token" => &mut price.input,
        "output_cost_per_token" => &mut price.output,
        "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" => &mut price.cache_read,
        "cache_creation_input_token_cost" => &mut price.cache_write_5m,
        "cache_creation_input_token_cost_above_1hr" => &mut price.cache_write_1h,
        "input_cost_per_audio_token" => &mut price.audio_in,
        "output_cost_per_audio_token" => &mut price.audio_out,
        "input_cost_per_image_token" => &mut price.image_in,
        "cache_read_input_audio_token_cost" => &mut price.cache_read_audio,
        "cache_read_input_image_token_cost" => &mut price.cache_read_image,
        "output_cost_per_reasoning_token" => &mut price.reasoning,
        "output_cost_per_image_token" => &mut price.image_out,
        "input_cost_per_second" | "input_cost_per_audio_per_second" => &mut price.seconds_in,
        "output_cost_per_second" | "output_cost_per_video_per_second" => &mut price.seconds_out,
        "input_cost_per_image" => &mut price.per_image_in,
        "output_cost_per_image" => &mut price.per_image_out,
        "input_cost_per_request" | "input_cost_per_query" => &mut price.per_request,
        _ => return None,
    })
}

/// `input_cost_per_token_above_200k_tokens` → `input_cost_per_token`, 200.
fn split_tier(field: &str) -> (&str, Option<i64>) {
    let split = field.strip_suffix("k_tokens").and_then(|rest| rest.rsplit_once("_above_"));
    match split.and_then(|(base, thousands)| Some((base, thousands.parse().ok()?))) {
        Some((base, thousands)) => (base, Some(thousands)),
        None => (field, None),
    }
}

/// A JSON number by its digits; not negative.
pub(super) fn decimal(value: &RawValue) -> Result<Decimal, String> {
    let text = value.get();
    let read = if text.contains(['e', 'E']) { Decimal::from_scientific(text) } else { Decimal::from_str_exact(text) };
    match read {
        Ok(number) if !number.is_sign_negative() || number.is_zero() => Ok(number.normalize()),
        _ => Err(format!("is {text}, not a decimal number from 0")),
    }
}

/// A whole number that may be spelled with a point.
fn whole(value: &RawValue) -> Option<i64> {
    decimal(value).ok().filter(Decimal::is_integer).and_then(|number| i64::try_from(number).ok())
}

/// A JSON object as its fields in order, values unread.
pub(super) struct List<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<List<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = entries.next_entry()? {
                    fields.push((name, value));
                }
                Ok(List(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// A field name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
