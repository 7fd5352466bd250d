//! One model's prices, and the arithmetic from tokens to units: integers all the way, one rounding.

use super::ratio::Ratio;
use crate::quota::{amount::AMOUNT_MAX, usage::Usage};

/// Token prices are per so many tokens.
const PER_TOKENS: i128 = 1_000_000;
/// Sums are in so many parts of a unit: a millisecond at a price per 1 000 000 seconds is whole.
const PARTS: i128 = 1_000 * PER_TOKENS;
/// A prompt is estimated as no shorter than this.
const PROMPT_TOKENS_MIN: i64 = 500;
/// Output that is estimated when the call names no maximum.
const OUTPUT_TOKENS_DEFAULT: i64 = 8_192;

/// Units per 1 000 000 tokens or seconds of each kind, and per image or call; what a price list leaves
/// out is filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub input: i64,
    pub cache_read: i64,
    pub cache_read_audio: i64,
    pub cache_read_image: i64,
    pub cache_write_5m: i64,
    pub cache_write_1h: i64,
    pub audio_in: i64,
    pub image_in: i64,
    pub output: i64,
    pub reasoning: i64,
    pub audio_out: i64,
    pub image_out: i64,
    /// Units per 1 000 000 seconds of sound or film.
    pub seconds_in: i64,
    pub seconds_out: i64,
    /// Units per image, not per million.
    pub per_image_in: i64,
    pub per_image_out: i64,
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
    /// Output tokens in it: those asked for, as far as the model puts out so many.
    pub output: i64,
    /// The model is free: all its prices are 0, or the group's ratio is.
    pub free: bool,
}

impl Rates {
    /// Every price with its name in the stored form.
    #[must_use]
    pub fn named(&self) -> [(&'static str, i64); 17] {
        [
            ("input", self.input),
            ("cache_read", self.cache_read),
            ("cache_read_audio", self.cache_read_audio),
            ("cache_read_image", self.cache_read_image),
            ("cache_write_5m", self.cache_write_5m),
            ("cache_write_1h", self.cache_write_1h),
            ("audio_in", self.audio_in),
            ("image_in", self.image_in),
            ("output", self.output),
            ("reasoning", self.reasoning),
            ("audio_out", self.audio_out),
            ("image_out", self.image_out),
            ("seconds_in", self.seconds_in),
            ("seconds_out", self.seconds_out),
            ("per_image_in", self.per_image_in),
            ("per_image_out", self.per_image_out),
            ("per_request", self.per_request),
        ]
    }

    #[must_use]
    pub fn is_free(&self) -> bool {
        self.named().iter().all(|(_, price)| *price == 0)
    }

    /// What the usage has to name and does not: a model that is priced by the length of what it makes or hears, or
    /// by the images that it sees, and not by tokens or calls, costs nothing that can be told without that. The
    /// usage's field.
    fn lacks(&self, usage: &Usage) -> Option<&'static str> {
        let makes_tokens = [self.output, self.reasoning, self.audio_out, self.image_out].iter().any(|units| *units > 0);
        let takes_tokens = [self.input, self.audio_in, self.image_in].iter().any(|units| *units > 0);
        if makes_tokens || self.per_image_out > 0 {
            None
        } else if self.seconds_out > 0 {
            (usage.millis_out <= 0).then_some("output_seconds")
        } else if takes_tokens || self.per_request > 0 {
            None
        } else {
            // Either of the two is enough where both have a price.
            let sees = self.per_image_in > 0 && usage.images_in > 0;
            let hears = self.seconds_in > 0 && usage.millis_in > 0;
            let lacks = if self.seconds_in > 0 { "input_seconds" } else { "input_images" };
            (!sees && !hears && self.seconds_in.max(self.per_image_in) > 0).then_some(lacks)
        }
    }

    /// A model that is priced by the images it makes, and not by its tokens, made one where nobody says how
    /// many: else a picture would cost the one unit that is the least.
    fn with_image(&self, usage: Usage) -> Usage {
        let by_image = self.per_image_out > 0 && self.output == 0 && usage.images_out <= 0;
        Usage { images_out: if by_image { 1 } else { usage.images_out }, ..usage }
    }

    /// Price of what was used, in [`PARTS`] of a unit.
    fn parts(&self, usage: &Usage) -> i128 {
        let kinds = [
            (usage.input, self.input, PARTS / PER_TOKENS),
            (usage.cache_read, self.cache_read, PARTS / PER_TOKENS),
            (usage.cache_read_audio, self.cache_read_audio, PARTS / PER_TOKENS),
            (usage.cache_read_image, self.cache_read_image, PARTS / PER_TOKENS),
            (usage.cache_write_5m, self.cache_write_5m, PARTS / PER_TOKENS),
            (usage.cache_write_1h, self.cache_write_1h, PARTS / PER_TOKENS),
            (usage.audio_in, self.audio_in, PARTS / PER_TOKENS),
            (usage.image_in, self.image_in, PARTS / PER_TOKENS),
            (usage.output, self.output, PARTS / PER_TOKENS),
            (usage.reasoning, self.reasoning, PARTS / PER_TOKENS),
            (usage.audio_out, self.audio_out, PARTS / PER_TOKENS),
            (usage.image_out, self.image_out, PARTS / PER_TOKENS),
            (usage.millis_in, self.seconds_in, PARTS / PER_TOKENS / 1_000),
            (usage.millis_out, self.seconds_out, PARTS / PER_TOKENS / 1_000),
            (usage.images_in, self.per_image_in, PARTS),
            (usage.images_out, self.per_image_out, PARTS),
            (usage.requests.max(1), self.per_request, PARTS),
        ];
        // No call that there is leaves 128 bits; numbers that do saturate.
        kinds.iter().fold(0_i128, |sum, (count, price, factor)| {
            let parts = i128::from((*count).max(0)) * i128::from(*price);
            sum.saturating_add(parts.saturating_mul(*factor))
        })
    }

    /// The one rounding, half away from zero; at least 1 where anything has a price.
    fn units(&self, parts: i128, ratio: Ratio) -> i64 {
        let (mantissa, scale) = ratio.parts();
        if self.is_free() || mantissa == 0 {
            return 0;
        }
        // 128 bits are left only by sums far above the largest amount.
        let Some(product) = parts.checked_mul(mantissa) else { return AMOUNT_MAX };
        let divisor = PARTS * 10_i128.pow(scale);
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
        if usage.is_nothing() {
            return 0;
        }
        let rates = self.rates_for(usage.prompt_tokens());
        rates.units(rates.parts(&rates.with_image(*usage)), ratio)
    }

    /// The field that the usage has to name to be priced, and does not; `None`: it can be priced.
    #[must_use]
    pub fn lacks(&self, usage: &Usage) -> Option<&'static str> {
        self.rates_for(usage.prompt_tokens()).lacks(usage)
    }

    /// What a call with this prompt may cost. `max_tokens` absent: 8 192; bounded by the model's maximum
    /// either way. A prompt of fewer than 500 tokens is taken for one of 500.
    #[must_use]
    pub fn estimate(&self, ratio: Ratio, prompt: &Usage, max_tokens: Option<i64>) -> Estimate {
        let wanted = max_tokens.unwrap_or(OUTPUT_TOKENS_DEFAULT).max(0);
        let output = self.max_output.map_or(wanted, |most| wanted.min(most));
        let prompt_tokens = prompt.prompt_tokens().max(0);
        let rates = self.rates_for(prompt_tokens);
        let missing = (PROMPT_TOKENS_MIN - prompt_tokens).max(0);
        let whole = Usage { input: prompt.input.max(0).saturating_add(missing), output, ..*prompt };
        let prompt = Usage { output: 0, images_out: 0, millis_out: 0, ..whole };
        let prompt_cost = rates.units(rates.parts(&prompt), ratio);
        Estimate {
            cost: rates.units(rates.parts(&rates.with_image(whole)), ratio),
            prompt_cost,
            tokens: prompt_tokens.saturating_add(output).min(AMOUNT_MAX),
            output,
            free: self.is_free() || ratio.parts().0 == 0,
        }
    }

    /// How many tokens a prompt has that was estimated to cost so much: the estimate's own number, or
    /// one of as few as cost the same.
    #[must_use]
    pub fn prompt_tokens_of(&self, ratio: Ratio, prompt_cost: i64) -> i64 {
        let (mantissa, scale) = ratio.parts();
        let tokens = |rates: &Rates| -> i64 {
            let per_token = i128::from(rates.input) * mantissa;
            if per_token == 0 {
                return 0;
            }
            let calls = i128::from(rates.per_request) * mantissa;
            let left = (i128::from(prompt_cost) * 10_i128.pow(scale) - calls).max(0) * PER_TOKENS;
            i64::try_from((left + per_token / 2) / per_token).unwrap_or(i64::MAX)
        };
        let dearer = self.tiers.iter().rev().map(|tier| (tokens(&tier.rates), tier.above_tokens));
        let of_tier = dearer.into_iter().find(|(tokens, above)| tokens > above);
        of_tier.map_or_else(|| tokens(&self.rates), |(tokens, _)| tokens)
    }
}

#[cfg(test)]
#[path = "price_tests.rs"]
mod tests;
