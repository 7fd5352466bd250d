//! What a call must cost, worked out here from the public price list in exact integers, so that the
//! audit does not ask the server that is being audited.
//!
//! Prices are whole units per million tokens (one unit is 10^-8 USD). A cost is the sum of tokens
//! times prices, rounded once, half away from zero; at least 1 unit when anything was used of a model
//! that costs anything.

use std::{collections::BTreeMap, io::Read};

use flate2::read::GzDecoder;
use rust_decimal::{Decimal, RoundingStrategy, prelude::ToPrimitive};
use serde_json::value::RawValue;

/// The list that the server ships too.
const LIST: &[u8] = include_bytes!("../../src/quota/tariff/model_prices.json.gz");

/// Units in one USD times the million tokens that a price is for.
const UNITS_PER_USD_AND_MILLION: i64 = 100_000_000 * 1_000_000;
/// Prompts are estimated as at least so long (rules, "Reserve and settle").
const PROMPT_TOKENS_MIN: i64 = 500;
/// Prompts longer than this are in the higher tier, for models that have one.
const LONG_PROMPT_TOKENS: i64 = 200_000;

/// Tokens of one call by kind; the kinds do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Prompt tokens that were neither read from nor written to a cache.
    pub input: i64,
    pub cache_read: i64,
    pub cache_write_5m: i64,
    pub cache_write_1h: i64,
    pub output: i64,
}

impl Tokens {
    fn prompt(&self) -> i64 {
        self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h
    }
}

/// Units per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    input: i64,
    cache_read: i64,
    cache_write_5m: i64,
    cache_write_1h: i64,
    output: i64,
}

/// One model's prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    short: Rates,
    long: Rates,
}

type Listed<'a> = BTreeMap<String, &'a RawValue>;

impl Price {
    /// Looks models up in the public list, in the order given.
    ///
    /// # Errors
    /// A sentence naming the model or field that the list lacks or that cannot be read.
    pub fn of(models: &[&str]) -> Result<Vec<Self>, String> {
        let mut text = String::new();
        GzDecoder::new(LIST)
            .read_to_string(&mut text)
            .map_err(|error| format!("the price list cannot be unpacked: {error}"))?;
        let list: Listed<'_> =
            serde_json::from_str(&text).map_err(|error| format!("the price list is no JSON object: {error}"))?;
        models
            .iter()
            .map(|model| {
                let row = list.get(*model).ok_or_else(|| format!("the price list has no model {model:?}"))?;
                Self::read(row.get()).map_err(|problem| format!("model {model:?} in the price list: {problem}"))
            })
            .collect()
    }

    /// Reads one row of the list. Absent cache prices: reading and writing cost like plain input, an
    /// hour's write like a short one; an absent higher tier costs like the lower.
    fn read(row: &str) -> Result<Self, String> {
        let row: Listed<'_> = serde_json::from_str(row).map_err(|error| error.to_string())?;
        let rate = |field: &str, fallback: Option<i64>| match row.get(field) {
            Some(text) => per_million(text.get()).map_err(|problem| format!("{field} {problem}")),
            None => fallback.ok_or_else(|| format!("{field} is missing")),
        };
        let input = rate("input_cost_per_token", None)?;
        let cache_write_5m = rate("cache_creation_input_token_cost", Some(input))?;
        let short = Rates {
            input,
            cache_read: rate("cache_read_input_token_cost", Some(input))?,
            cache_write_5m,
            cache_write_1h: rate("cache_creation_input_token_cost_above_1hr", Some(cache_write_5m))?,
            output: rate("output_cost_per_token", None)?,
        };
        let long = Rates {
            input: rate("input_cost_per_token_above_200k_tokens", Some(short.input))?,
            cache_read: rate("cache_read_input_token_cost_above_200k_tokens", Some(short.cache_read))?,
            cache_write_5m: rate("cache_creation_input_token_cost_above_200k_tokens", Some(short.cache_write_5m))?,
            cache_write_1h: rate(
                "cache_creation_input_token_cost_above_1hr_above_200k_tokens",
                Some(short.cache_write_1h),
            )?,
            output: rate("output_cost_per_token_above_200k_tokens", Some(short.output))?,
        };
        Ok(Self { short, long })
    }

    /// Units that a call with these tokens costs.
    #[must_use]
    pub fn cost(&self, tokens: &Tokens) -> i64 {
        let rates = if tokens.prompt() > LONG_PROMPT_TOKENS { &self.long } else { &self.short };
        if tokens.prompt() + tokens.output == 0 {
            return 0;
        }
        let sum: i128 = [
            (tokens.input, rates.input),
            (tokens.cache_read, rates.cache_read),
            (tokens.cache_write_5m, rates.cache_write_5m),
            (tokens.cache_write_1h, rates.cache_write_1h),
            (tokens.output, rates.output),
        ]
        .iter()
        .map(|(tokens, rate)| i128::from(*tokens) * i128::from(*rate))
        .sum();
        // Nothing here is negative, so that adding a half and cutting is "half away from zero".
        let units = i64::try_from((sum + 500_000) / 1_000_000).unwrap_or(i64::MAX);
        let priced = *rates != Rates::default();
        if priced { units.max(1) } else { units }
    }

    /// Units that a reserve with this estimate must hold.
    #[must_use]
    pub fn estimate(&self, prompt_tokens: i64, max_tokens: i64) -> i64 {
        self.cost(&Tokens { input: prompt_tokens.max(PROMPT_TOKENS_MIN), output: max_tokens, ..Tokens::default() })
    }

    /// The prompt's part of that estimate: what a settle with outcome `client_abort` and nothing
    /// else is charged.
    #[must_use]
    pub fn prompt_part(&self, prompt_tokens: i64) -> i64 {
        self.estimate(prompt_tokens, 0)
    }
}

/// Units per million tokens of a price in USD per token, as the list writes it: `7.5e-08`.
fn per_million(text: &str) -> Result<i64, String> {
    let usd = Decimal::from_scientific(text)
        .or_else(|_| Decimal::from_str_exact(text))
        .map_err(|_| format!("is no decimal number: {text}"))?;
    let units = (usd * Decimal::from(UNITS_PER_USD_AND_MILLION))
        .round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero);
    units.to_i64().filter(|units| *units >= 0).ok_or_else(|| format!("is no price: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(model: &str) -> Price {
        Price::of(&[model]).unwrap()[0]
    }

    #[test]
    fn list_prices_are_exact() {
        for (text, units) in [
            ("2.5e-06", 250_000_000),
            ("7.5e-08", 7_500_000),
            ("1e-05", 1_000_000_000),
            ("0.0", 0),
            ("0.000003", 300_000_000),
        ] {
            assert_eq!(per_million(text), Ok(units), "{text}");
        }
        assert!(per_million("-1e-6").is_err());
        assert!(per_million("\"free\"").is_err());
        assert!(Price::of(&["no-such-model"]).unwrap_err().contains("no-such-model"));
    }

    /// Each case worked out by hand from the list price in USD.
    #[test]
    fn costs_by_hand() {
        let cases = [
            // 1 180 prompt tokens, 1 024 of them cached: 156 × 250 + 1 024 × 125 + 310 × 1 000.
            ("gpt-4o", Tokens { input: 156, cache_read: 1024, output: 310, ..Tokens::default() }, 477_000),
            // 1 token at 15 units and 1 at 60 units per token.
            ("gpt-4o-mini", Tokens { input: 1, output: 1, ..Tokens::default() }, 75),
            // 3 cached tokens at 7.5 units: 22.5, half away from zero.
            ("gpt-4o-mini", Tokens { cache_read: 3, ..Tokens::default() }, 23),
            // 100 × 300 + 200 × 30 + 40 × 375 + 10 × 600 + 50 × 1 500.
            (
                "claude-sonnet-4-5",
                Tokens { input: 100, cache_read: 200, cache_write_5m: 40, cache_write_1h: 10, output: 50 },
                30_000 + 6_000 + 15_000 + 6_000 + 75_000,
            ),
            // At the border of the tiers, and one token over it: 125 against 250 units each.
            ("gemini-2.5-pro", Tokens { input: 200_000, output: 1, ..Tokens::default() }, 25_000_000 + 1_000),
            ("gemini-2.5-pro", Tokens { input: 200_001, output: 1, ..Tokens::default() }, 50_000_250 + 1_500),
            // Cached tokens count towards the tier.
            ("gemini-2.5-pro", Tokens { input: 1, cache_read: 200_000, ..Tokens::default() }, 250 + 200_000 * 25),
            ("gpt-4o", Tokens::default(), 0),
        ];
        for (model, tokens, units) in cases {
            assert_eq!(price(model).cost(&tokens), units, "{model} {tokens:?}");
        }
    }

    #[test]
    fn anything_used_costs_at_least_one_unit() {
        let cheap = Price::read(r#"{"input_cost_per_token": 1e-12, "output_cost_per_token": 0}"#).unwrap();
        assert_eq!(cheap.cost(&Tokens { input: 1, ..Tokens::default() }), 1);
        assert_eq!(cheap.cost(&Tokens { output: 7, ..Tokens::default() }), 1);
        let free = Price::read(r#"{"input_cost_per_token": 0, "output_cost_per_token": 0}"#).unwrap();
        assert_eq!(free.cost(&Tokens { input: 1000, output: 7, ..Tokens::default() }), 0);
    }

    #[test]
    fn estimates_count_at_least_500_prompt_tokens_and_all_of_the_output() {
        let price = price("gpt-4o");
        // 1 200 × 250 + 800 × 1 000, the example of the README.
        assert_eq!(price.estimate(1200, 800), 1_100_000);
        assert_eq!(price.estimate(3, 10), 500 * 250 + 10_000);
        assert_eq!(price.prompt_part(3), 500 * 250);
        assert_eq!(price.prompt_part(2000), 2000 * 250);
    }
}
