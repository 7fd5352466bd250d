//! A usage object's fields: numbers that can be, or a sentence about the one that cannot.

use rust_decimal::{Decimal, RoundingStrategy::MidpointAwayFromZero};
use serde_json::{Map, Value};

use super::{BadUsage, TOKENS_MAX, bad};

/// More seconds than this are no usage of one call.
const SECONDS_MAX: i64 = 1_000_000;

/// An object of the usage; a field that is `null` is as good as absent.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn field(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(self, names: &[&str]) -> bool {
        names.iter().any(|name| self.field(name).is_some())
    }

    pub(super) fn object(self, name: &str) -> Result<Option<Fields<'a>>, BadUsage> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields(object))),
            Some(_) => Err(bad(format!("The usage's {name} is not an object."))),
        }
    }

    /// A number of tokens; 0 when absent.
    pub(super) fn count(self, name: &str) -> Result<i64, BadUsage> {
        let Some(value) = self.field(name) else { return Ok(0) };
        match value.as_i64() {
            Some(count) if (0..=TOKENS_MAX).contains(&count) => Ok(count),
            _ => Err(bad(format!("The usage's {name} is {value}, not a whole number from 0 to {TOKENS_MAX}."))),
        }
    }

    /// Seconds, perhaps with decimals, as milliseconds; 0 when absent.
    pub(super) fn millis(self, name: &str) -> Result<i64, BadUsage> {
        let Some(value) = self.field(name) else { return Ok(0) };
        let text = value.as_number().map(ToString::to_string).unwrap_or_default();
        let seconds = Decimal::from_str_exact(&text).or_else(|_| Decimal::from_scientific(&text)).ok();
        seconds
            .filter(|seconds| !seconds.is_sign_negative() && *seconds <= Decimal::from(SECONDS_MAX))
            .map(|seconds| (seconds * Decimal::ONE_THOUSAND).round_dp_with_strategy(0, MidpointAwayFromZero))
            .and_then(|millis| i64::try_from(millis).ok())
            .ok_or_else(|| bad(format!("The usage's {name} is {value}, not a number from 0 to {SECONDS_MAX}.")))
    }

    /// Whether `seconds` is what was used: others may mean how long the call took.
    pub(super) fn is_timed(self) -> bool {
        self.field("type").is_some_and(|kind| kind == "duration") && self.has(&["seconds"])
    }

    /// Gemini's `[{"modality":"AUDIO","tokenCount":n}]`: the tokens of one modality.
    pub(super) fn modality(self, name: &str, modality: &str) -> Result<i64, BadUsage> {
        let rows = match self.field(name) {
            None => return Ok(0),
            Some(Value::Array(rows)) => rows,
            Some(_) => return Err(bad(format!("The usage's {name} is not a list."))),
        };
        let mut sum = 0;
        for row in rows.iter().filter_map(Value::as_object).filter(|row| row.get("modality") == Some(&modality.into()))
        {
            sum += Fields(row).count("tokenCount")?;
        }
        Ok(sum)
    }
}

/// Counts of an object that may be absent.
pub(super) trait Counts {
    fn count(self, name: &str) -> Result<i64, BadUsage>;
}

impl Counts for Option<Fields<'_>> {
    fn count(self, name: &str) -> Result<i64, BadUsage> {
        self.map_or(Ok(0), |fields| fields.count(name))
    }
}
