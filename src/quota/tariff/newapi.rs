//! new-api's ratio settings read into our own form: `ModelRatio`, `CompletionRatio`, `CacheRatio`,
//! `CreateCacheRatio`, `ModelPrice`, `ImageRatio`, `AudioRatio`, `AudioCompletionRatio`, `GroupRatio` and
//! `GroupGroupRatio`, each an object or (as that program stores its options) the text of one. Also read
//! are the same names in lower case (`model_ratio`), as its `/api/ratio_config` spells them, a list of
//! `{"key":…,"value":…}`, and either of them within `{"data":…}`; and its `/api/pricing` (`pricing_page`). Other
//! settings are passed over.
//!
//! A model ratio of 1 is 2 USD per 1 000 000 input tokens. Output costs that times the completion ratio,
//! cached input times the cache ratio (1 when absent), input written to the cache times its ratio (1.25
//! when absent; for an hour 1.6 times as much), images times the image ratio, sound times the audio
//! ratio, and sound that is put out times that and the audio completion ratio (all 1 when absent). A
//! model with a `ModelPrice` costs that many USD per call, whatever its ratio says.
//!
//! An absent completion ratio is not in the settings but in the program, which knows many models by name.
//! Here it is the proportion of output to input of the model of that name in `known`, the list in force;
//! where there is none it is 1, and the import says so.

use std::{borrow::Cow, collections::BTreeMap};

use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::{
    doc::{PriceDoc, RatioRow, TariffDoc},
    import::{ImportReport, List, decimal},
    pricing_page,
    ratio::Ratio,
};
use crate::quota::{
    amount::AMOUNT_MAX,
    group::{NAME_RULE, is_name},
    id::Model,
};

/// Settings that are read, as they are stored and as they are shown.
const SETTINGS: [(&str, &str); 10] = [
    ("ModelRatio", "model_ratio"),
    ("CompletionRatio", "completion_ratio"),
    ("CacheRatio", "cache_ratio"),
    ("CreateCacheRatio", "create_cache_ratio"),
    ("ModelPrice", "model_price"),
    ("ImageRatio", "image_ratio"),
    ("AudioRatio", "audio_ratio"),
    ("AudioCompletionRatio", "audio_completion_ratio"),
    ("GroupRatio", "group_ratio"),
    ("GroupGroupRatio", "group_group_ratio"),
];
/// USD per 1 000 000 input tokens at a model ratio of 1.
const USD_PER_RATIO: i64 = 2;

type Table = BTreeMap<String, Decimal>;

/// The settings as they were found.
#[derive(Debug, Default)]
struct Settings {
    texts: BTreeMap<&'static str, String>,
    /// Rows of a price page that cannot be read; `None`: it was no price page.
    page: Option<Vec<(String, String)>>,
}

/// What such settings say: a part of a price list.
pub(super) struct Ratios {
    /// `None`: they price no models, and say nothing about those that there are.
    pub models: Option<BTreeMap<String, PriceDoc>>,
    pub group_ratio: Option<BTreeMap<String, Ratio>>,
    pub user_group_ratio: Option<BTreeMap<String, RatioRow>>,
    /// They name some groups only: the others stay.
    pub some_groups: bool,
    pub report: ImportReport,
}

/// `None`: the text holds none of these settings.
///
/// # Errors
/// A sentence naming the setting that cannot be read.
pub(super) fn import(json: &[u8], known: &TariffDoc) -> Option<Result<Ratios, String>> {
    let settings = find(json)?;
    Some(settings.read(known))
}

/// The settings in any of the forms that they come in.
fn find(json: &[u8]) -> Option<Settings> {
    let mut settings = Settings::default();
    let raw: &RawValue = serde_json::from_slice(json).ok()?;
    collect(raw, &mut settings, true);
    (settings.page.is_some() || !settings.texts.is_empty()).then_some(settings)
}

fn collect(raw: &RawValue, settings: &mut Settings, outer: bool) {
    if let Ok(options) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
        if let Some(page) = pricing_page::read(&options) {
            settings.texts.extend(page.settings);
            settings.page = Some(page.refused);
            return;
        }
        for option in options {
            let Ok(List(fields)) = serde_json::from_str(option.get()) else { continue };
            let text = |name: &str| {
                let (_, value) = fields.iter().find(|(field, _)| field == name)?;
                serde_json::from_str::<Cow<'_, str>>(value.get()).ok()
            };
            if let (Some(key), Some(value)) = (text("key"), text("value")) {
                settings.take(&key, &value);
            }
        }
        return;
    }
    let Ok(List(fields)) = serde_json::from_str(raw.get()) else { return };
    for (name, value) in fields {
        if outer && name == "data" {
            collect(value, settings, false);
        } else {
            let text = serde_json::from_str::<Cow<'_, str>>(value.get());
            settings.take(&name, text.as_deref().unwrap_or(value.get()));
        }
    }
}

impl Settings {
    fn take(&mut self, name: &str, value: &str) {
        let known = SETTINGS.iter().find(|(stored, shown)| name == *stored || name == *shown);
        // Our own document has a `group_ratio` too, but never gets here.
        if let Some((name, _)) = known.filter(|_| value.trim_start().starts_with('{')) {
            self.texts.insert(name, value.to_owned());
        }
    }

    fn read(&self, known: &TariffDoc) -> Result<Ratios, String> {
        let mut report = ImportReport::default();
        report.refused.extend(self.page.iter().flatten().cloned());
        let (ratios, prices) = (self.table("ModelRatio")?, self.table("ModelPrice")?);
        let models = match (&ratios, &prices) {
            (None, None) => None,
            (ratios, prices) => {
                let empty = Table::new();
                let by = |table: &'_ Option<Table>| table.clone().unwrap_or_default();
                let reader = Reader {
                    units_per_usd: known.units_per_usd,
                    known,
                    ratios: ratios.as_ref().unwrap_or(&empty),
                    prices: prices.as_ref().unwrap_or(&empty),
                    completion: by(&self.table("CompletionRatio")?),
                    cache: by(&self.table("CacheRatio")?),
                    create: by(&self.table("CreateCacheRatio")?),
                    image: by(&self.table("ImageRatio")?),
                    audio: by(&self.table("AudioRatio")?),
                    audio_completion: by(&self.table("AudioCompletionRatio")?),
                };
                Some(reader.models(&mut report))
            }
        };
        let mut group_ratio = self.groups("GroupRatio")?;
        let mut user_group_ratio = match self.texts.get("GroupGroupRatio") {
            None => None,
            Some(text) => {
                let List(rows) = list("GroupGroupRatio", text)?;
                let row = |(user, row): (Cow<'_, str>, &RawValue)| {
                    Ok((user.into_owned(), RatioRow(ratio_row("GroupGroupRatio", row.get())?)))
                };
                Some(rows.into_iter().map(row).collect::<Result<_, String>>()?)
            }
        };
        if models.is_none() && self.page.is_some() {
            return Err("is a price page, but not one of its rows can be read".into());
        }
        if models.is_none() && group_ratio.is_none() && user_group_ratio.is_none() {
            return Err("names neither ModelRatio nor ModelPrice nor groups: there is nothing to import".into());
        }
        if let Some(row) = &mut group_ratio {
            drop_strangers(row, &mut report);
        }
        if let Some(rows) = &mut user_group_ratio {
            drop_strangers(rows, &mut report);
            rows.values_mut().for_each(|RatioRow(row)| drop_strangers(row, &mut report));
        }
        Ok(Ratios { models, group_ratio, user_group_ratio, some_groups: self.page.is_some(), report })
    }

    fn table(&self, setting: &str) -> Result<Option<Table>, String> {
        let Some(text) = self.texts.get(setting) else { return Ok(None) };
        let List(fields) = list(setting, text)?;
        let field = |(name, value): (Cow<'_, str>, &RawValue)| {
            let number = decimal(value).map_err(|why| format!("{setting}: `{name}` {why}"))?;
            Ok((name.into_owned(), number))
        };
        fields.into_iter().map(field).collect::<Result<_, String>>().map(Some)
    }

    fn groups(&self, setting: &str) -> Result<Option<BTreeMap<String, Ratio>>, String> {
        self.texts.get(setting).map(|text| ratio_row(setting, text)).transpose()
    }
}

/// Leaves out, and tells, what no account here can have as a group.
fn drop_strangers<T>(groups: &mut BTreeMap<String, T>, report: &mut ImportReport) {
    groups.retain(|name, _| {
        let good = is_name(name);
        if !good {
            report.refused.push((name.clone(), format!("can be no price group here, and is left out: {NAME_RULE}")));
        }
        good
    });
}

fn list<'t>(setting: &str, text: &'t str) -> Result<List<'t>, String> {
    serde_json::from_str(text).map_err(|error| format!("{setting} is no object: {error}"))
}

fn ratio_row(setting: &str, text: &str) -> Result<BTreeMap<String, Ratio>, String> {
    let List(fields) = list(setting, text)?;
    let field = |(name, value): (Cow<'_, str>, &RawValue)| {
        let number = decimal(value).map_err(|why| format!("{setting}: `{name}` {why}"))?;
        let ratio = Ratio::parse(&number.to_string()).map_err(|why| format!("{setting}: `{name}` {why}"))?;
        Ok((name.into_owned(), ratio))
    };
    fields.into_iter().map(field).collect()
}

struct Reader<'a> {
    units_per_usd: i64,
    known: &'a TariffDoc,
    ratios: &'a Table,
    prices: &'a Table,
    completion: Table,
    cache: Table,
    create: Table,
    image: Table,
    audio: Table,
    audio_completion: Table,
}

impl Reader<'_> {
    fn models(&self, report: &mut ImportReport) -> BTreeMap<String, PriceDoc> {
        let mut models = BTreeMap::new();
        let only_priced = self.prices.keys().filter(|name| !self.ratios.contains_key(*name));
        for name in self.ratios.keys().chain(only_priced) {
            match self.model(name, report) {
                Ok(price) => {
                    report.free += usize::from(!price.has_price());
                    models.insert(name.clone(), price);
                }
                Err(why) => report.refused.push((name.clone(), why)),
            }
        }
        report.models = models.len();
        models
    }

    fn model(&self, name: &str, report: &mut ImportReport) -> Result<PriceDoc, String> {
        Model::new(name).map_err(|bad| format!("the name {bad}"))?;
        if name.contains('*') {
            return Err("is a pattern; only whole names are priced here".into());
        }
        let there = self.known.models.get(name);
        let (max_output, provider) = there.map_or((None, None), |price| (price.max_output, price.provider.clone()));
        let kept = PriceDoc { max_output, provider, ..PriceDoc::default() };
        let mut rounded = 0;
        let mut units = |usd: Option<Decimal>| -> Result<Option<i64>, String> {
            let scale = Decimal::from(self.units_per_usd);
            let units = usd.and_then(|usd| usd.checked_mul(scale)).ok_or("comes to too large a price")?;
            rounded += usize::from(!units.is_integer());
            let whole = units.round_dp_with_strategy(0, rust_decimal::RoundingStrategy::MidpointAwayFromZero);
            let whole = i64::try_from(whole).ok().filter(|units| *units <= AMOUNT_MAX);
            whole.map(Some).ok_or_else(|| "comes to too large a price".to_owned())
        };
        let price = if let Some(usd) = self.prices.get(name) {
            PriceDoc { per_request: units(Some(*usd))?, ..kept }
        } else {
            let input = self.ratios[name].checked_mul(Decimal::from(USD_PER_RATIO)).ok_or("is too large a ratio")?;
            let completion = match self.completion.get(name) {
                Some(ratio) => *ratio,
                None => proportion(there).unwrap_or_else(|| {
                    report.assumed.push(name.to_owned());
                    Decimal::ONE
                }),
            };
            let times = |table: &Table| table.get(name).and_then(|ratio| input.checked_mul(*ratio));
            let named = |table: &Table| table.contains_key(name);
            let audio = times(&self.audio).unwrap_or(input);
            let create =
                if named(&self.create) { times(&self.create) } else { input.checked_mul(Decimal::new(125, 2)) };
            let spoken = self.audio_completion.get(name).copied().unwrap_or(Decimal::ONE);
            let sound = named(&self.audio) || named(&self.audio_completion);
            PriceDoc {
                input: units(Some(input))?,
                output: units(input.checked_mul(completion))?,
                cache_read: if named(&self.cache) { units(times(&self.cache))? } else { None },
                cache_write_5m: units(create)?,
                cache_write_1h: units(create.and_then(|usd| usd.checked_mul(Decimal::new(16, 1))))?,
                image_in: if named(&self.image) { units(times(&self.image))? } else { None },
                audio_in: if sound { units(Some(audio))? } else { None },
                audio_out: if sound { units(audio.checked_mul(spoken))? } else { None },
                ..kept
            }
        };
        report.rounded += rounded;
        Ok(price)
    }
}

/// What output costs in proportion to input.
fn proportion(price: Option<&PriceDoc>) -> Option<Decimal> {
    let (input, output) = (price?.input?, price?.output?);
    Decimal::from(output).checked_div(Decimal::from(input))
}

#[cfg(test)]
#[path = "newapi_tests.rs"]
mod tests;
