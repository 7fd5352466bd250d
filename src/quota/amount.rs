//! Money as whole units. One unit is 10^-8 USD by default (`units_per_usd`); there is no float
//! anywhere between the wire and the ledger.

use std::fmt;

/// The largest number that a wire amount may carry: 2^53 - 1, what JSON readers keep exact.
pub const AMOUNT_MAX: i64 = (1 << 53) - 1;
/// Balances and counters stay within ±2^52, so that sums in a script remain exact doubles.
pub const COUNTER_MAX: i64 = 1 << 52;
/// Default scale: 10^8 units are 1 USD.
pub const UNITS_PER_USD: i64 = 100_000_000;

/// An amount of units, `0 ..= 2^53-1`; built once, valid ever after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// Why a number is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number of units from 0 to 9007199254740991")]
pub struct BadAmount;

impl Amount {
    pub const ZERO: Amount = Amount(0);

    /// # Errors
    /// [`BadAmount`] outside `0 ..= 2^53-1`.
    pub fn new(units: i64) -> Result<Self, BadAmount> {
        if (0..=AMOUNT_MAX).contains(&units) { Ok(Self(units)) } else { Err(BadAmount) }
    }

    /// Reads the decimal-string form (`"120000"`): ASCII digits only, no sign, no point.
    ///
    /// # Errors
    /// [`BadAmount`] for anything else.
    pub fn parse(text: &str) -> Result<Self, BadAmount> {
        if text.is_empty() || text.len() > 20 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadAmount);
        }
        text.parse::<i64>().map_err(|_| BadAmount).and_then(Self::new)
    }

    #[must_use]
    pub fn units(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        assert_eq!(Amount::new(0), Ok(Amount::ZERO));
        assert_eq!(Amount::new(AMOUNT_MAX).unwrap().units(), 9_007_199_254_740_991);
        assert_eq!(Amount::new(AMOUNT_MAX + 1), Err(BadAmount));
        assert_eq!(Amount::new(-1), Err(BadAmount));
        assert_eq!(Amount::parse("9007199254740991").unwrap().units(), AMOUNT_MAX);
        for bad in ["", "+1", "-1", "1.0", "1e3", " 1", "9007199254740992", "99999999999999999999999"] {
            assert_eq!(Amount::parse(bad), Err(BadAmount), "{bad}");
        }
    }
}
