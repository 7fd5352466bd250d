//! Group ratios: what a price is multiplied with, as exact decimals.

use std::{collections::HashMap, fmt};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::value::RawValue;

use crate::quota::amount::AMOUNT_MAX;

/// A factor from 0 to 1 000 000 with at most nine decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(Decimal);

/// Why a text is no ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a decimal number from 0 to 1000000 with at most 9 decimals, such as \"0.8\"")]
pub struct BadRatio;

const RATIO_MAX: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);
const DECIMALS_MAX: u32 = 9;

impl Ratio {
    pub const ONE: Ratio = Ratio(Decimal::ONE);

    /// # Errors
    /// [`BadRatio`] for a sign, an exponent, or a number out of range.
    pub fn parse(text: &str) -> Result<Self, BadRatio> {
        if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(BadRatio);
        }
        let ratio = Decimal::from_str_exact(text).map_err(|_| BadRatio)?.normalize();
        if ratio > RATIO_MAX || ratio.scale() > DECIMALS_MAX { Err(BadRatio) } else { Ok(Self(ratio)) }
    }

    /// Units that were multiplied with `from`, multiplied with this instead, rounded up; at most `AMOUNT_MAX`.
    /// `None` when `from` is 0, which leaves nothing to tell it from.
    #[must_use]
    pub fn instead_of(self, from: Ratio, units: i64) -> Option<i64> {
        let ((above, above_scale), (below, below_scale)) = (self.parts(), from.parts());
        if below == 0 {
            return None;
        }
        let power = |scale: u32, other: u32| 10_i128.pow(scale.saturating_sub(other));
        let above = i128::from(units.max(0)).checked_mul(above * power(below_scale, above_scale));
        let below = below * power(above_scale, below_scale);
        let rounded_up = above.map(|above| above / below + i128::from(above % below > 0));
        Some(rounded_up.and_then(|units| i64::try_from(units).ok()).unwrap_or(AMOUNT_MAX).min(AMOUNT_MAX))
    }

    /// Whether it makes everything free.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The ratio is `.0 / 10^.1`.
    pub(super) fn parts(self) -> (i128, u32) {
        (self.0.mantissa(), self.0.scale())
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// From JSON alone: a string, or a number by its very digits.
impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        Self::parse(unquoted).map_err(D::Error::custom)
    }
}

/// The two tables: by (user group, using group), and by using group alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ratios {
    pub by_user: HashMap<Box<str>, HashMap<Box<str>, Ratio>>,
    pub by_using: HashMap<Box<str>, Ratio>,
}

impl Ratios {
    /// `ratio[user group][using group]`, else `ratio[using group]`, else 1.
    pub fn of(&self, user_group: &str, using_group: &str) -> Ratio {
        let own = self.by_user.get(user_group).and_then(|row| row.get(using_group));
        own.or_else(|| self.by_using.get(using_group)).copied().unwrap_or(Ratio::ONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_exact_decimals() {
        for (text, shown) in
            [("0", "0"), ("1", "1"), ("0.80", "0.8"), ("1000000", "1000000"), ("0.123456789", "0.123456789")]
        {
            let ratio = Ratio::parse(text).unwrap();
            assert_eq!(ratio.to_string(), shown);
            assert_eq!(serde_json::to_string(&ratio).unwrap(), format!("\"{shown}\""));
            assert_eq!(serde_json::from_str::<Ratio>(&format!("\"{text}\"")).unwrap(), ratio);
            assert_eq!(serde_json::from_str::<Ratio>(text).unwrap(), ratio, "a number is read by its digits");
        }
        for bad in ["", "-1", "+1", "1e3", ".5", "1_000", "1.2.3", "1000000.1", "0.1234567891", "NaN", "0x1"] {
            assert_eq!(Ratio::parse(bad), Err(BadRatio), "{bad}");
        }
        assert!(serde_json::from_str::<Ratio>("null").is_err());
    }

    #[test]
    fn units_of_one_ratio_become_those_of_another() {
        let ratio = |text| Ratio::parse(text).unwrap();
        for (from, to, units, then) in [
            ("1", "2", 7, 14),
            ("0.5", "1.5", 100, 300),
            ("2", "1", 7, 4),
            ("3", "0.000000001", 3_000_000_001, 2),
            ("0.000000001", "1000000", 1, 1_000_000_000_000_000),
            ("0.000000001", "1000000", i64::MAX, AMOUNT_MAX),
            ("1", "0", 9, 0),
            ("0.8", "0.8", 12_345, 12_345),
        ] {
            assert_eq!(ratio(to).instead_of(ratio(from), units), Some(then), "{units} of {from} as {to}");
        }
        assert_eq!(ratio("1").instead_of(ratio("0"), 9), None);
    }

    #[test]
    fn the_own_table_goes_before_the_common_one() {
        let ratio = |text| Ratio::parse(text).unwrap();
        let ratios = Ratios {
            by_user: HashMap::from([("vip".into(), HashMap::from([("fast".into(), ratio("0.5"))]))]),
            by_using: HashMap::from([("fast".into(), ratio("2")), ("vip".into(), ratio("0.9"))]),
        };
        assert_eq!(ratios.of("vip", "fast"), ratio("0.5"));
        assert_eq!(ratios.of("standard", "fast"), ratio("2"));
        assert_eq!(ratios.of("vip", "vip"), ratio("0.9"));
        assert_eq!(ratios.of("vip", "slow"), Ratio::ONE);
    }
}
