//! Dollars at the edge: some calls (platform quotas, sign-up defaults) speak US dollars. They are read
//! as exact decimals and become whole units at once; an amount that is no whole number of units is
//! refused, never rounded.

use rust_decimal::{Decimal, prelude::ToPrimitive as _};

use super::amount::AMOUNT_MAX;

/// How many units one dollar has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(i64);

/// Why a text or number is no amount of dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUsd {
    #[error("must be a decimal number of US dollars")]
    Number,
    #[error("must not be negative")]
    Negative,
    #[error("is finer than the smallest unit: no whole number of units")]
    Precise,
    #[error("is more than an amount can be: 9007199254740991 units")]
    Large,
}

/// Digits after the point at most, and of the exponent.
const DIGITS_MAX: i64 = 28;

/// Reads a decimal as JSON writes numbers: `10`, `0.25`, `1e-3`. Exactly or not at all.
///
/// # Errors
/// [`BadUsd`]; a number with more than 28 digits after the point is [`BadUsd::Precise`].
pub fn parse(text: &str) -> Result<Decimal, BadUsd> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
        None => (text, 0),
    };
    let digits = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(BadUsd::Number);
    }
    let read = Decimal::from_str_exact(mantissa).map_err(|error| match error {
        rust_decimal::Error::Underflow => BadUsd::Precise,
        _ => BadUsd::Large,
    })?;
    let mut read = read.normalize();
    if read.is_zero() {
        return Ok(Decimal::ZERO);
    }
    let scale = i64::from(read.scale()) - exponent;
    if scale > DIGITS_MAX {
        return Err(BadUsd::Precise);
    }
    // The digits stay; only the point moves, and zeros come behind where it moves past them.
    read.set_scale(scale.max(0) as u32).map_err(|_| BadUsd::Precise)?;
    for _ in scale..0 {
        read = read.checked_mul(Decimal::TEN).ok_or(BadUsd::Large)?;
    }
    Ok(read.normalize())
}

fn read_exponent(text: &str) -> Result<i64, BadUsd> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadUsd::Number);
    }
    let exponent: i64 = digits.parse().map_err(|_| BadUsd::Number)?;
    Ok(if text.starts_with('-') { -exponent } else { exponent })
}

impl Scale {
    /// `units_per_usd` of the deployment.
    #[must_use]
    pub fn new(units_per_usd: i64) -> Self {
        Self(units_per_usd)
    }

    /// Whole units.
    ///
    /// # Errors
    /// [`BadUsd`]: negative, finer than a unit, or beyond what an amount can be.
    pub fn units(self, usd: Decimal) -> Result<i64, BadUsd> {
        if usd.is_sign_negative() && !usd.is_zero() {
            return Err(BadUsd::Negative);
        }
        let units = usd.checked_mul(self.0.into()).ok_or(BadUsd::Large)?;
        if !units.is_integer() {
            return Err(BadUsd::Precise);
        }
        units.to_i64().filter(|units| *units <= AMOUNT_MAX).ok_or(BadUsd::Large)
    }

    /// Dollars, without zeros at the end. Exact whenever the scale has no other prime factors than 2
    /// and 5, like every usual one; otherwise to 28 digits.
    #[must_use]
    pub fn usd(self, units: i64) -> Decimal {
        (Decimal::from(units) / Decimal::from(self.0)).normalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_become_units_exactly_or_not_at_all() {
        let scale = Scale::new(100_000_000);
        for (text, units) in [
            ("0", 0),
            ("-0", 0),
            ("0e99", 0),
            ("10", 1_000_000_000),
            ("10.50", 1_050_000_000),
            ("0.00000001", 1),
            ("0.000000010000000000000000", 1),
            ("1e-8", 1),
            ("1E+2", 10_000_000_000),
            ("1.5e1", 1_500_000_000),
            ("12.5e-1", 125_000_000),
            ("12.5e3", 1_250_000_000_000),
            ("0.5e1", 500_000_000),
            ("90071992.54740991", AMOUNT_MAX),
        ] {
            assert_eq!(parse(text).and_then(|usd| scale.units(usd)), Ok(units), "{text}");
        }
        for (text, bad) in [
            ("-1", BadUsd::Negative),
            ("-0.00000001", BadUsd::Negative),
            ("0.000000001", BadUsd::Precise),
            ("1e-9", BadUsd::Precise),
            ("1e-99", BadUsd::Precise),
            ("0.00000000000000000000000000000000001", BadUsd::Precise),
            ("90071992.54740992", BadUsd::Large),
            ("1e30", BadUsd::Large),
            ("1e9999", BadUsd::Large),
            ("99999999999999999999999999999999999999", BadUsd::Large),
            ("NaN", BadUsd::Number),
            ("Infinity", BadUsd::Number),
            ("", BadUsd::Number),
            ("-", BadUsd::Number),
            ("1_0", BadUsd::Number),
            (".5", BadUsd::Number),
            ("5.", BadUsd::Number),
            ("1e", BadUsd::Number),
            ("1e1.5", BadUsd::Number),
            ("+1", BadUsd::Number),
            (" 1", BadUsd::Number),
        ] {
            assert_eq!(parse(text).and_then(|usd| scale.units(usd)), Err(bad), "{text}");
        }
    }

    #[test]
    fn units_print_as_the_dollars_they_came_from() {
        let scale = Scale::new(100_000_000);
        for (units, text) in [(0, "0"), (1, "0.00000001"), (1_050_000_000, "10.5"), (100_000_000_000, "1000")] {
            assert_eq!(scale.usd(units).to_string(), text);
            assert_eq!(parse(text).and_then(|usd| scale.units(usd)), Ok(units));
        }
        assert_eq!(Scale::new(500_000).usd(1).to_string(), "0.000002");
        assert_eq!(scale.usd(-150_000_000).to_string(), "-1.5");
    }
}
