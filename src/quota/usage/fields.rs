//! A usage object's fields: whole numbers from 0, or a sentence about the one that is none.

use std::cell::Cell;

use rust_decimal::{Decimal, RoundingStrategy::MidpointAwayFromZero};
use serde_json::{Map, Value};

use super::{BadUsage, TOKENS_MAX, bad};

/// More seconds than this are no usage of one call.
const SECONDS_MAX: i64 = 1_000_000;

/// An object of the usage; a field that is `null` is as good as absent.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Whether a number was larger than can be.
    beyond: &'a Cell<bool>,
}

impl<'a> Fields<'a> {
    /// `beyond` becomes true when a number is read that is larger than can be.
    pub(super) fn new(object: &'a Map<String, Value>, beyond: &'a Cell<bool>) -> Self {
        Self { object, beyond }
    }

    pub(super) fn field(self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(self, names: &[&str]) -> bool {
        names.iter().any(|name| self.field(name).is_some())
    }

    pub(super) fn object(self, name: &str) -> Result<Option<Fields<'a>>, BadUsage> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields { object, ..self })),
            Some(_) => Err(bad(format!("The usage's {name} is not an object."))),
        }
    }

    /// A number of tokens; 0 when absent. It may be spelled with a point (`12.0`); more than can be is taken for
    /// the most.
    pub(super) fn count(self, name: &str) -> Result<i64, BadUsage> {
        let Some(value) = self.field(name) else { return Ok(0) };
        let whole = positive(value).filter(|number| !number.is_fraction());
        match whole.ok_or_else(|| bad(format!("The usage's {name} is {value}, not a whole number from 0.")))? {
            Positive::Exact(number) if number <= Decimal::from(TOKENS_MAX) => {
                Ok(i64::try_from(number).unwrap_or(TOKENS_MAX))
            }
            Positive::Exact(_) | Positive::Huge => {
                self.beyond.set(true);
                Ok(TOKENS_MAX)
            }
        }
    }

    /// Seconds, perhaps with decimals, as milliseconds; 0 when absent. More than can be is taken for the most.
    pub(super) fn millis(self, name: &str) -> Result<i64, BadUsage> {
        let Some(value) = self.field(name) else { return Ok(0) };
        match positive(value).ok_or_else(|| bad(format!("The usage's {name} is {value}, not a number from 0.")))? {
            Positive::Exact(seconds) if seconds <= Decimal::from(SECONDS_MAX) => {
                let millis = (seconds * Decimal::ONE_THOUSAND).round_dp_with_strategy(0, MidpointAwayFromZero);
                Ok(i64::try_from(millis).unwrap_or(SECONDS_MAX * 1_000))
            }
            Positive::Exact(_) | Positive::Huge => {
                self.beyond.set(true);
                Ok(SECONDS_MAX * 1_000)
            }
        }
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
            sum += Fields { object: row, ..self }.count("tokenCount")?;
        }
        Ok(sum)
    }
}

/// A number that is not negative.
#[derive(Clone, Copy)]
enum Positive {
    Exact(Decimal),
    /// Larger than a decimal can be.
    Huge,
}

impl Positive {
    fn is_fraction(&self) -> bool {
        matches!(self, Positive::Exact(number) if !number.is_integer())
    }
}

/// `None` for what is no number from 0.
fn positive(value: &Value) -> Option<Positive> {
    let text = value.as_number()?.to_string();
    if text.starts_with('-') && text.contains(|digit: char| ('1'..='9').contains(&digit)) {
        return None;
    }
    let exact = Decimal::from_str_exact(&text).or_else(|_| Decimal::from_scientific(&text));
    match exact {
        Ok(number) => Some(Positive::Exact(number.abs())),
        // Smaller than a decimal can be: a fraction that is as good as nothing.
        Err(_) if text.contains("e-") => Some(Positive::Exact(Decimal::new(1, 28))),
        Err(_) => Some(Positive::Huge),
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
