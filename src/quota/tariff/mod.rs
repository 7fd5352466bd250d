//! Prices per model and what a call costs.
//!
//! A [`Tariff`] is one version of the price table, read once and shared. A model is looked up by its
//! exact name; failing that, `<provider>/<model>` finds `<model>` when the list says that it is that
//! provider's. Nothing else is guessed: another provider's model of the same name has other prices.

mod diff;
mod doc;
mod draft;
mod import;
mod newapi;
mod price;
mod pricing_page;
mod ratio;

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, OnceLock},
};

use super::{
    amount::UNITS_PER_USD,
    packed::{Packer, Unpacker},
    usage::Usage,
};

pub use diff::{Change, Diff, ModelDiff, PriceDiff, ProviderDiff, RatioDiff};
pub use doc::{FORMAT, PriceDoc, RatioRow, TariffDoc};
pub use draft::{CONTENT_BYTES_MAX, Draft};
pub use import::ImportReport;
pub use price::{Estimate, Price, Rates, Tier};
pub use ratio::{BadRatio, Ratio};

/// The public price list; see NOTICE.
const BUILTIN_GZ: &[u8] = include_bytes!("model_prices.json.gz");

/// Whose ratio holds: the account's group, and the group that the call is made in (the key's, else the
/// account's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups<'a> {
    pub user: &'a str,
    pub using: &'a str,
}

impl<'a> Groups<'a> {
    /// A call in the account's own group.
    #[must_use]
    pub fn own(group: &'a str) -> Self {
        Self { user: group, using: group }
    }
}

/// The prices a reservation was made with, frozen in its record: a tariff version and its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceTag {
    pub version: u32,
    pub user: Box<str>,
    pub using: Box<str>,
}

/// Between the groups of a tag; no group's name holds it.
const BETWEEN: u8 = b'\0';

impl PriceTag {
    #[must_use]
    pub fn new(version: u32, groups: Groups<'_>) -> Self {
        Self { version, user: groups.user.into(), using: groups.using.into() }
    }

    #[must_use]
    pub fn groups(&self) -> Groups<'_> {
        Groups { user: &self.user, using: &self.using }
    }

    /// The version, the group of the call and, when it is another one, the account's.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::with_capacity(5 + self.using.len() + self.user.len());
        packer.uint::<4>(self.version.into()).raw(self.using.as_bytes());
        if self.user != self.using {
            packer.raw(&[BETWEEN]).raw(self.user.as_bytes());
        }
        packer.finish()
    }

    /// `None` for bytes that are no tag (an empty one: no prices were asked for).
    #[must_use]
    pub fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut unpacker = Unpacker::new(bytes);
        let version = unpacker.uint::<4>().ok()? as u32;
        let mut groups = unpacker.rest().split(|byte| *byte == BETWEEN).map(std::str::from_utf8);
        let using = groups.next()?.ok()?;
        let user = groups.next().transpose().ok()?.unwrap_or(using);
        Some(Self { version, user: user.into(), using: using.into() })
    }
}

/// One version of the price table.
#[derive(Clone, Debug)]
pub struct Tariff {
    pub version: u32,
    /// A hash of the content as it is stored; 0 for one that is not. After a database was put back, a version's
    /// number can mean another list.
    pub stamp: u64,
    table: Arc<Table>,
}

/// What a [`TariffDoc`] says, checked and ready to be asked.
#[derive(Debug, Default)]
struct Table {
    units_per_usd: i64,
    models: HashMap<Box<str>, Price>,
    ratios: ratio::Ratios,
}

impl Tariff {
    /// The list that the package brings along: version 0, in units of 10^-8 USD. Read once per
    /// process, on first use.
    #[must_use]
    pub fn builtin() -> Self {
        static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
        let table = TABLE.get_or_init(|| Self::builtin_at(UNITS_PER_USD).table);
        Self { version: 0, stamp: 0, table: Arc::clone(table) }
    }

    /// The same for a deployment of another scale.
    ///
    /// # Panics
    /// When `units_per_usd` is not positive, or so large that prices leave the range of amounts.
    #[must_use]
    pub fn builtin_at(units_per_usd: i64) -> Self {
        let doc = Self::builtin_doc(units_per_usd).expect("the package's price list reads");
        Self { version: 0, stamp: 0, table: Arc::new(doc.compile().expect("the package's price list stands")) }
    }

    /// The package's list in the stored form.
    ///
    /// # Errors
    /// A sentence when `units_per_usd` is not positive or prices leave the range of amounts.
    pub fn builtin_doc(units_per_usd: i64) -> Result<TariffDoc, String> {
        let mut json = Vec::with_capacity(4 << 20);
        flate2::read::GzDecoder::new(BUILTIN_GZ).read_to_end(&mut json).expect("the package's price list unpacks");
        import::import(&json, units_per_usd).map(|(doc, _)| doc)
    }

    /// Reads the stored JSON form of a version.
    ///
    /// # Errors
    /// A sentence naming the model and field that is wrong.
    pub fn from_json(version: u32, text: &[u8]) -> Result<Self, String> {
        let doc: TariffDoc =
            serde_json::from_slice(text).map_err(|error| format!("the tariff does not read: {error}"))?;
        let tariff = Self::from_doc(version, &doc)?;
        Ok(Self { stamp: xxhash_rust::xxh3::xxh3_64(text), ..tariff })
    }

    /// # Errors
    /// A sentence naming the model and field that is wrong.
    pub fn from_doc(version: u32, doc: &TariffDoc) -> Result<Self, String> {
        let table = doc.compile().map_err(|why| format!("the tariff does not stand: {why}"))?;
        Ok(Self { version, stamp: 0, table: Arc::new(table) })
    }

    /// Reads the public price list (USD per token, decompressed) into the stored form.
    ///
    /// # Errors
    /// A sentence when it is no such list; single entries that cannot stand are in the report.
    pub fn import_public_list(json: &[u8], units_per_usd: i64) -> Result<(TariffDoc, ImportReport), String> {
        import::import(json, units_per_usd)
    }

    /// The scale of all amounts here: a deployment must not use a tariff of another.
    #[must_use]
    pub fn units_per_usd(&self) -> i64 {
        self.table.units_per_usd
    }

    /// `None`: the model is not priced.
    #[must_use]
    pub fn price(&self, model: &str) -> Option<&Price> {
        let models = &self.table.models;
        models.get(model).or_else(|| {
            let (provider, name) = model.split_once('/')?;
            models.get(name).filter(|price| price.provider.as_deref() == Some(provider))
        })
    }

    /// All models with their prices, sorted by name.
    #[must_use]
    pub fn models(&self) -> Vec<(&str, &Price)> {
        let mut models: Vec<_> = self.table.models.iter().map(|(name, price)| (&**name, price)).collect();
        models.sort_unstable_by_key(|(name, _)| *name);
        models
    }

    /// What a call is multiplied with.
    #[must_use]
    pub fn ratio(&self, groups: Groups<'_>) -> Ratio {
        self.table.ratios.of(groups.user, groups.using)
    }

    /// `None`: the model is not priced. `max_tokens` absent: 8 192, bounded by the model's maximum.
    #[must_use]
    pub fn estimate(
        &self,
        model: &str,
        groups: Groups<'_>,
        prompt: &Usage,
        max_tokens: Option<i64>,
    ) -> Option<Estimate> {
        self.price(model).map(|price| price.estimate(self.ratio(groups), prompt, max_tokens))
    }

    /// Units that the usage costs; `None`: the model is not priced. Saturates at `AMOUNT_MAX`.
    #[must_use]
    pub fn cost(&self, model: &str, groups: Groups<'_>, usage: &Usage) -> Option<i64> {
        self.price(model).map(|price| price.cost(self.ratio(groups), usage))
    }

    /// The field that the usage has to name for this model's price and does not; `None` also for a model that is
    /// not priced, or costs nothing in these groups.
    #[must_use]
    pub fn lacks(&self, model: &str, groups: Groups<'_>, usage: &Usage) -> Option<&'static str> {
        let lacking = self.price(model)?.lacks(usage)?;
        (!self.ratio(groups).is_zero()).then_some(lacking)
    }

    /// What a call used whose prompt was estimated to cost `prompt_cost` and whose completion has so many
    /// tokens; `None`: the model is not priced.
    #[must_use]
    pub fn usage_after(
        &self,
        model: &str,
        groups: Groups<'_>,
        prompt_cost: i64,
        completion_tokens: i64,
    ) -> Option<Usage> {
        let input = self.price(model)?.prompt_tokens_of(self.ratio(groups), prompt_cost);
        Some(Usage { input, output: completion_tokens, ..Usage::default() })
    }
}

#[cfg(test)]
mod modes_tests;
#[cfg(test)]
#[path = "tariff_tests.rs"]
mod tests;
