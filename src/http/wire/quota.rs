//! Platform quotas and sign-up defaults on the wire. Alone among all calls they speak US dollars: as
//! exact decimals, never as floats.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    read::{Bad, Object, Value, members, string},
    request,
    view::{maybe_text, text},
    word,
};
use crate::{
    engine::platforms::{QuotaState, SpanState},
    quota::{
        clock::Millis,
        defaults::{Defaults, Layer},
        id::{AccountId, OpId, Platform},
        platform::{Caps, PlatformQuota},
        usd::{self, Scale},
    },
};

/// Dollars, or null for unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsdOrNull(pub(crate) Option<Decimal>);

impl Value for UsdOrNull {
    fn read(raw: &str) -> Result<Self, Bad> {
        if raw == "null" {
            return Ok(Self(None));
        }
        let text = if raw.starts_with('"') { string(raw)? } else { raw.into() };
        let usd = usd::parse(&text).map_err(|bad| Bad::value(bad.to_string()))?;
        Ok(Self(Some(usd)))
    }
}

request!(
    /// What may be spent on a platform, in US dollars: null (or absent) is unlimited, 0 disabled.
    PlatformQuotaRule {
        platform: Platform,
        daily_limit_usd: Option<UsdOrNull>,
        weekly_limit_usd: Option<UsdOrNull>,
        monthly_limit_usd: Option<UsdOrNull>,
    }
);

impl Value for PlatformQuotaRule {
    fn read(raw: &str) -> Result<Self, Bad> {
        Object::read(raw, None)
    }
}

request!(
    /// Replace all platform quotas of an account. Its other limits stay, and all that was used.
    PlatformQuotasPut {
        quotas: Vec<PlatformQuotaRule>,
    }
);

request!(
    /// Start one window of a platform quota anew.
    PlatformQuotaReset {
        /// Names the reset, so that it may be repeated. May come in the header `Idempotency-Key`.
        op_id: Option<OpId>,
        platform: Platform,
        window: word::Window,
    }
);

request!(
    /// What a new account may spend on a platform, in US dollars: null (or absent) says nothing.
    DefaultCaps {
        daily: Option<UsdOrNull>,
        weekly: Option<UsdOrNull>,
        monthly: Option<UsdOrNull>,
    }
);

/// One layer of sign-up defaults: caps by platform.
#[derive(Debug)]
pub(crate) struct LayerDefaults(pub(crate) Vec<(Platform, DefaultCaps)>);

/// All layers of sign-up defaults.
#[derive(Debug)]
pub(crate) struct AllDefaults(pub(crate) Vec<(Layer, LayerDefaults)>);

impl PlatformQuotasPut {
    /// # Errors
    /// Names the field: a platform that is named twice, or an amount that is no whole number of units.
    pub(crate) fn units(&self, scale: Scale) -> Result<Vec<PlatformQuota>, Bad> {
        let mut quotas: Vec<PlatformQuota> = Vec::with_capacity(self.quotas.len());
        for (place, rule) in self.quotas.iter().enumerate() {
            let within = |bad: Bad| bad.within(&format!("quotas[{place}]"));
            if quotas.iter().any(|quota| quota.platform == rule.platform) {
                return Err(within(Bad::at("platform", "is named twice")));
            }
            let caps = [
                ("daily_limit_usd", rule.daily_limit_usd),
                ("weekly_limit_usd", rule.weekly_limit_usd),
                ("monthly_limit_usd", rule.monthly_limit_usd),
            ];
            quotas.push(PlatformQuota { platform: rule.platform.clone(), caps: units(caps, scale).map_err(within)? });
        }
        Ok(quotas)
    }
}

/// Caps by field name, in units.
fn units(caps: [(&str, Option<UsdOrNull>); 3], scale: Scale) -> Result<Caps, Bad> {
    let mut read = [None; 3];
    for (place, (name, usd)) in caps.into_iter().enumerate() {
        let usd = usd.and_then(|UsdOrNull(usd)| usd);
        let units = usd.map(|usd| scale.units(usd)).transpose();
        read[place] = units.map_err(|bad| Bad::at(name, bad.to_string()))?;
    }
    let [daily, weekly, monthly] = read;
    Ok(Caps { daily, weekly, monthly })
}

impl LayerDefaults {
    /// # Errors
    /// Names the field, as `openai.daily`.
    pub(crate) fn units(&self, scale: Scale) -> Result<Defaults, Bad> {
        let mut layer = BTreeMap::new();
        for (platform, caps) in &self.0 {
            let caps = [("daily", caps.daily), ("weekly", caps.weekly), ("monthly", caps.monthly)];
            layer.insert(platform.clone(), units(caps, scale).map_err(|bad| bad.within(platform.as_str()))?);
        }
        Ok(Defaults(layer))
    }
}

impl AllDefaults {
    /// Every layer; one that is not named is empty.
    ///
    /// # Errors
    /// Names the field, as `github.openai.daily`.
    pub(crate) fn units(&self, scale: Scale) -> Result<BTreeMap<Layer, Defaults>, Bad> {
        let mut layers: BTreeMap<Layer, Defaults> = Layer::all().map(|layer| (layer, Defaults::default())).collect();
        for (layer, defaults) in &self.0 {
            layers.insert(*layer, defaults.units(scale).map_err(|bad| bad.within(layer.as_str()))?);
        }
        Ok(layers)
    }
}

/// Reads an object whose names are data: each of them once.
fn named<'a, K: PartialEq, V>(
    text: &'a str,
    name: impl Fn(&str) -> Result<K, Bad>,
    value: impl Fn(&'a str) -> Result<V, Bad>,
) -> Result<Vec<(K, V)>, Bad> {
    let mut read: Vec<(K, V)> = Vec::new();
    members(text, |key, raw| {
        let id = name(key)?;
        if read.iter().any(|(known, _)| *known == id) {
            return Err(Bad::at(key, "is given twice"));
        }
        read.push((id, value(raw).map_err(|bad| bad.within(key))?));
        Ok(())
    })?;
    Ok(read)
}

impl Object for LayerDefaults {
    #[cfg(test)]
    const FIELDS: &'static [&'static str] = &[];

    fn read(text: &str, _: Option<&str>) -> Result<Self, Bad> {
        let platform = |key: &str| Platform::new(key).map_err(|bad| Bad::at("platform", bad.to_string()));
        named(text, platform, |raw| DefaultCaps::read(raw, None)).map(Self)
    }
}

impl Object for AllDefaults {
    #[cfg(test)]
    const FIELDS: &'static [&'static str] = &[];

    fn read(text: &str, _: Option<&str>) -> Result<Self, Bad> {
        let layer = |key: &str| Layer::parse(key).ok_or_else(|| Bad::unknown(key));
        named(text, layer, |raw| LayerDefaults::read(raw, None)).map(Self)
    }
}

/// Dollars as a JSON number, digit for digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usd(pub(crate) Decimal);

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// A platform quota with its live numbers; a window that is over reads 0.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlatformQuota)]
pub(crate) struct PlatformQuotaShown {
    #[serde(serialize_with = "text")]
    pub(crate) platform: Platform,
    /// Null is unlimited, 0 disabled.
    #[schema(required)]
    pub(crate) daily_limit_usd: Option<Usd>,
    /// Charged in the open window; what is held is not in it.
    pub(crate) daily_usage_usd: Usd,
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) daily_window_resets_at: Option<Millis>,
    #[schema(required)]
    pub(crate) weekly_limit_usd: Option<Usd>,
    pub(crate) weekly_usage_usd: Usd,
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) weekly_window_resets_at: Option<Millis>,
    #[schema(required)]
    pub(crate) monthly_limit_usd: Option<Usd>,
    pub(crate) monthly_usage_usd: Usd,
    /// Null: 30 rolling days that have not begun.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) monthly_window_resets_at: Option<Millis>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlatformQuotas<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    pub(crate) quotas: Vec<PlatformQuotaShown>,
}

impl PlatformQuotaShown {
    pub(crate) fn of(state: &QuotaState, scale: Scale) -> Self {
        let usd = |units| Usd(scale.usd(units));
        let limit = |span: &SpanState| span.cap.map(usd);
        let QuotaState { platform, daily, weekly, monthly } = state;
        Self {
            platform: platform.clone(),
            daily_limit_usd: limit(daily),
            daily_usage_usd: usd(daily.used),
            daily_window_resets_at: daily.resets_at,
            weekly_limit_usd: limit(weekly),
            weekly_usage_usd: usd(weekly.used),
            weekly_window_resets_at: weekly.resets_at,
            monthly_limit_usd: limit(monthly),
            monthly_usage_usd: usd(monthly.used),
            monthly_window_resets_at: monthly.resets_at,
        }
    }
}

/// Default caps as they are shown: every field, null where nothing is said.
#[derive(Debug, Serialize)]
pub(crate) struct DefaultCapsShown {
    pub(crate) daily: Option<Usd>,
    pub(crate) weekly: Option<Usd>,
    pub(crate) monthly: Option<Usd>,
}

/// One layer as it is shown.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct LayerShown(pub(crate) BTreeMap<String, DefaultCapsShown>);

/// All layers as they are shown.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct DefaultsShown(pub(crate) BTreeMap<&'static str, LayerShown>);

impl LayerShown {
    pub(crate) fn of(defaults: &Defaults, scale: Scale) -> Self {
        let usd = |units: Option<i64>| units.map(|units| Usd(scale.usd(units)));
        let caps = |caps: &Caps| DefaultCapsShown {
            daily: usd(caps.daily),
            weekly: usd(caps.weekly),
            monthly: usd(caps.monthly),
        };
        Self(defaults.0.iter().map(|(platform, of)| (platform.to_string(), caps(of))).collect())
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
