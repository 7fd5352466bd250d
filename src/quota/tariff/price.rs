//! One model's prices, and the arithmetic from tokens to units: integers all the way, one rounding.

use super::ratio::Ratio;
use crate::quota::{amount::AMOUNT_MAX, usage::Usage};

/// Prices are per so many tokens.
const PER_TOKENS: i128 = 1_000_000;
/// A prompt is estimated as no shorter than this.
const PROMPT_TOKENS_MIN: i64 = 500;
/// Output that is estimated when the call names no maximum.
const OUTPUT_TOKENS_DEFAULT: i64 = 8_192;

/// Units per 1 000 000 tokens of each kind, and per call; what a price list leaves out is filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub input: i64,
    pub cache_read: i64,
    pub cache_write_5m: i64,
    pub cache_write_1h: i64,
    pub audio_in: i64,
    pub image_in: i64,
    pub output: i64,
    pub audio_out: i64,
    /// Units per call, not per million.
    pub per_request: i64,
}

/// Other prices for long prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Holds for prompts of more tokens than this.
    pub above_tokens: i64,
    pub rates: Rates,
}

/// A model's prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    pub rates: Rates,
    /// In order of their thresholds.
    pub tiers: Vec<Tier>,
    /// Tokens that the model puts out at most; 0 for one that puts out none, such as embeddings.
    pub max_output: Option<i64>,
    /// Whose model it is, as the price list names it.
    pub provider: Option<Box<str>>,
}

/// What a call may cost at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Units for prompt and output.
    pub cost: i64,
    /// Units for the prompt alone, with the price per call.
    pub prompt_cost: i64,
    /// Prompt and output tokens counted against token limits.
    pub tokens: i64,
    /// The model is free: all its prices are 0, or the group's ratio is.
    pub free: bool,
}

impl Rates {
    fn all(&self) -> [i64; 9] {
        [
            self.input,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.audio_in,
            self.image_in,
            self.output,
            self.audio_out,
            self.per_request,
        ]
    }

    #[must_use]
    pub fn is_free(&self) -> bool {
        self.all().iter().all(|price| *price == 0)
    }

    /// Price of one call and of its tokens, in millionths of a unit.
    fn micros(&self, usage: &Usage) -> i128 {
        let kinds = [
            (usage.input, self.input),
            (usage.cache_read, self.cache_read),
            (usage.cache_write_5m, self.cache_write_5m),
            (usage.cache_write_1h, self.cache_write_1h),
            (usage.audio_in, self.audio_in),
            (usage.image_in, self.image_in),
            (usage.output, self.output),
            (usage.audio_out, self.audio_out),
        ];
        let calls = i128::from(self.per_request) * PER_TOKENS;
        kinds
            .iter()
            .fold(calls, |sum, (tokens, price)| sum.saturating_add(i128::from((*tokens).max(0)) * i128::from(*price)))
    }

    /// The one rounding, half away from zero; at least 1 where anything has a price.
    fn units(&self, micros: i128, ratio: Ratio) -> i64 {
        let (mantissa, scale) = ratio.parts();
        if self.is_free() || mantissa == 0 {
            return 0;
        }
        // 128 bits are left only by sums far above the largest amount.
        let Some(product) = micros.checked_mul(mantissa) else { return AMOUNT_MAX };
        let divisor = PER_TOKENS * 10_i128.pow(scale);
        let rounded = product / divisor + i128::from(product % divisor >= divisor / 2);
        i64::try_from(rounded).unwrap_or(AMOUNT_MAX).clamp(1, AMOUNT_MAX)
    }
}

impl Price {
    /// The prices that hold for a prompt of this length.
    #[must_use]
    pub fn rates_for(&self, prompt_tokens: i64) -> &Rates {
        let tier = self.tiers.iter().rfind(|tier| prompt_tokens > tier.above_tokens);
        tier.map_or(&self.rates, |tier| &tier.rates)
    }

    #[must_use]
    pub fn is_free(&self) -> bool {
        self.rates.is_free() && self.tiers.iter().all(|tier| tier.rates.is_free())
    }

    /// Units that the usage costs; 0 when nothing was used.
    #[must_use]
    pub fn cost(&self, ratio: Ratio, usage: &Usage) -> i64 {
        if usage.total_tokens() <= 0 {
            return 0;
        }
        let rates = self.rates_for(usage.prompt_tokens());
        rates.units(rates.micros(usage), ratio)
    }

    /// `max_tokens` absent: 8 192; bounded by the model's maximum either way.
    #[must_use]
    pub fn estimate(&self, ratio: Ratio, prompt_tokens: i64, max_tokens: Option<i64>) -> Estimate {
        let prompt_tokens = prompt_tokens.max(0);
        let wanted = max_tokens.unwrap_or(OUTPUT_TOKENS_DEFAULT).max(0);
        let output = self.max_output.map_or(wanted, |most| wanted.min(most));
        let rates = self.rates_for(prompt_tokens);
        let prompt = Usage { input: prompt_tokens.max(PROMPT_TOKENS_MIN), ..Usage::default() };
        let prompt_cost = rates.units(rates.micros(&prompt), ratio);
        let cost = rates.units(rates.micros(&Usage { output, ..prompt }), ratio);
        let tokens = prompt_tokens.saturating_add(output).min(AMOUNT_MAX);
        Estimate { cost, prompt_cost, tokens, free: self.is_free() || ratio.parts().0 == 0 }
    }
}

#[cfg(test)]
#[path = "price_tests.rs"]
mod tests;
