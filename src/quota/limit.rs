//! Limits: what they count, over which span, up to which cap; and how one is named in Redis.
//!
//! All limits with the same platform, model and key apply together, so their counters share one
//! hash field (a *group*); inside it each counter carries a [`CounterCode`] made of metric and
//! period. Names are made of what the limit is, never of a running number: a limit that is removed
//! and added again finds its usage.

use std::borrow::Cow;

use super::id::KeyId;

/// What a limit counts. The number is part of [`CounterCode`] and known to the scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Metric {
    Cost = 0,
    Tokens = 1,
    Requests = 2,
    Concurrency = 3,
}

/// The span a limit counts over. Calendar spans are in the account's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// Concurrency has no window.
    None,
    Minute,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
    /// Anchored at the first use, stepping whole periods of so many seconds.
    Rolling(u32),
}

/// Why a text is no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be minute, hour, day, week, month or rolling:<seconds> \
     (1 to 2097135 seconds, or whole hours up to 100 years)"
)]
pub struct BadPeriod;

/// Rolling periods up to here (24 days) are any number of seconds; longer ones are whole hours.
pub const ROLLING_SECONDS_MAX: u32 = ROLLING_HOURS - ROLLING_BASE - 1;
const ROLLING_HOURS_MAX: u32 = 876_600;

impl Metric {
    pub const ALL: [Metric; 4] = [Metric::Cost, Metric::Tokens, Metric::Requests, Metric::Concurrency];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Cost => "cost",
            Metric::Tokens => "tokens",
            Metric::Requests => "requests",
            Metric::Concurrency => "concurrency",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == text)
    }
}

impl Period {
    /// # Errors
    /// [`BadPeriod`] for an unknown word or a rolling length out of range.
    pub fn parse(text: &str) -> Result<Self, BadPeriod> {
        match text {
            "minute" => Ok(Period::Minute),
            "hour" => Ok(Period::Hour),
            "day" => Ok(Period::Day),
            "week" => Ok(Period::Week),
            "month" => Ok(Period::Month),
            _ => {
                let digits = text.strip_prefix("rolling:").ok_or(BadPeriod)?;
                if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(BadPeriod);
                }
                let seconds: u32 = digits.parse().map_err(|_| BadPeriod)?;
                let whole_hours = seconds.is_multiple_of(3600) && seconds / 3600 <= ROLLING_HOURS_MAX;
                if seconds <= ROLLING_SECONDS_MAX || whole_hours {
                    Ok(Period::Rolling(seconds))
                } else {
                    Err(BadPeriod)
                }
            }
        }
    }

    /// The word on the wire; `None` for concurrency.
    #[must_use]
    pub fn as_text(self) -> Option<Cow<'static, str>> {
        Some(match self {
            Period::None => return None,
            Period::Minute => "minute".into(),
            Period::Hour => "hour".into(),
            Period::Day => "day".into(),
            Period::Week => "week".into(),
            Period::Month => "month".into(),
            Period::Rolling(seconds) => format!("rolling:{seconds}").into(),
        })
    }
}

/// Metric and period in 24 bits: the metric in the top two, then 0 none, 1..=5 calendar,
/// `1 << 21 | hours` for rolling whole hours, `16 + seconds` for other rolling lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterCode(pub u32);

const PERIOD_BITS: u32 = 22;
const ROLLING_BASE: u32 = 16;
const ROLLING_HOURS: u32 = 1 << 21;

impl CounterCode {
    #[must_use]
    pub fn new(metric: Metric, period: Period) -> Self {
        let period = match period {
            Period::None => 0,
            Period::Minute => 1,
            Period::Hour => 2,
            Period::Day => 3,
            Period::Week => 4,
            Period::Month => 5,
            Period::Rolling(seconds) if seconds.is_multiple_of(3600) => ROLLING_HOURS | (seconds / 3600),
            Period::Rolling(seconds) => ROLLING_BASE + seconds,
        };
        Self(((metric as u32) << PERIOD_BITS) | period)
    }

    /// `None` when the bits name no metric and period: corrupt state.
    #[must_use]
    pub fn split(self) -> Option<(Metric, Period)> {
        let metric = *Metric::ALL.get((self.0 >> PERIOD_BITS) as usize)?;
        let period = match self.0 & ((1 << PERIOD_BITS) - 1) {
            0 => Period::None,
            1 => Period::Minute,
            2 => Period::Hour,
            3 => Period::Day,
            4 => Period::Week,
            5 => Period::Month,
            6..=ROLLING_BASE => return None,
            hours if hours & ROLLING_HOURS != 0 => Period::Rolling((hours & !ROLLING_HOURS) * 3600),
            seconds => Period::Rolling(seconds - ROLLING_BASE),
        };
        Some((metric, period))
    }
}

/// One rule. `cap`: `None` is unlimited (still counted), `Some(0)` disabled, `Some(n)` a cap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// A platform, or `*`.
    pub platform: Box<str>,
    /// A model, or `*`.
    pub model: Box<str>,
    pub metric: Metric,
    /// [`Period::None`] exactly when the metric is concurrency.
    pub period: Period,
    pub cap: Option<i64>,
}

impl Limit {
    #[must_use]
    pub fn code(&self) -> CounterCode {
        CounterCode::new(self.metric, self.period)
    }

    /// Whether a call of this platform and model falls under the limit. An absent platform or
    /// model matches `*` alone.
    #[must_use]
    pub fn applies(&self, platform: Option<&str>, model: Option<&str>) -> bool {
        let fits = |rule: &str, given: Option<&str>| rule == "*" || given == Some(rule);
        fits(&self.platform, platform) && fits(&self.model, model)
    }
}

/// Limits of one account, or of one key, at most: a call falls under those of both, and a ledger
/// entry counts its windows in one byte.
pub const LIMITS_MAX: usize = 100;

/// Limits with the same platform and model: they share one field in Redis, and a ledger entry
/// counts at most 255 of them over the eight fields that one call can touch.
pub const LIMITS_TOGETHER_MAX: usize = 16;

/// Names the hash field that a group's counters share: `w␟platform␟model␟key`, where ␟ is the
/// unit separator (0x1f), which no name can hold, and the key is empty for the account's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupField(Box<str>);

impl GroupField {
    #[must_use]
    pub fn new(platform: &str, model: &str, key: Option<&KeyId>) -> Self {
        Self(format!("w\u{1f}{platform}\u{1f}{model}\u{1f}{}", key.map_or("", KeyId::as_str)).into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a stored field name back: platform, model, key (`""` for the account's own).
    #[must_use]
    pub fn parse(field: &str) -> Option<(Self, [&str; 3])> {
        let mut parts = field.strip_prefix("w\u{1f}")?.split('\u{1f}');
        let names = [parts.next()?, parts.next()?, parts.next()?];
        if parts.next().is_some() { None } else { Some((Self(field.into()), names)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_read_and_print() {
        for text in ["minute", "hour", "day", "week", "month", "rolling:1", "rolling:2592000", "rolling:18000"] {
            let period = Period::parse(text).unwrap();
            assert_eq!(period.as_text().as_deref(), Some(text));
            for metric in Metric::ALL {
                let code = CounterCode::new(metric, period);
                assert!(code.0 < 1 << 24);
                assert_eq!(code.split(), Some((metric, period)), "{text}");
            }
        }
        for bad in [
            "",
            "year",
            "rolling:",
            "rolling:0",
            "rolling:-1",
            "rolling:01",
            "rolling:2592001",
            "rolling:2097137",
            "rolling:1.5",
        ] {
            assert_eq!(Period::parse(bad), Err(BadPeriod), "{bad}");
        }
    }

    #[test]
    fn a_group_field_reads_back() {
        let key = KeyId::new("k:1").unwrap();
        let field = GroupField::new("openai", "gpt 4|o", Some(&key));
        assert_eq!(GroupField::parse(field.as_str()), Some((field.clone(), ["openai", "gpt 4|o", "k:1"])));
    }
}
