//! Usage objects as upstreams send them, read into one shape.
//!
//! Upstreams differ in what a number includes: OpenAI and Gemini count cached tokens in the prompt,
//! Anthropic beside it; Gemini counts thoughts beside the candidates, OpenAI in the completion.
//! Fields that are not known are passed over, because upstreams add them. What is no number of tokens
//! (negative, a fraction, a text) is refused, because a made-up cost is worse than none. One that is larger than can
//! be is taken for the largest and told: the work was done, and a refusal would make it free.

mod fields;
mod shapes;

use std::cell::Cell;

use serde_json::Value;

use fields::Fields;

/// More tokens than this in one number are no usage of one call: more count as so many.
pub const TOKENS_MAX: i64 = 1_000_000_000;

/// What one call used, by kind. The kinds do not overlap: `input` is what is left of the prompt after
/// cached, cache-written, audio and image tokens are taken out, `output` what is left of the completion
/// after reasoning, audio and image tokens are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Usage {
    pub input: i64,
    /// Cached text; the next two are cached sound and pictures.
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
    /// Sound or film that is priced by its length, in milliseconds.
    pub millis_in: i64,
    pub millis_out: i64,
    /// Images that are priced by the piece.
    pub images_in: i64,
    pub images_out: i64,
    /// Calls; 0 counts as one as soon as anything was used.
    pub requests: i64,
    /// A number was larger than can be, and is taken for the largest.
    pub beyond: bool,
}

/// Why a usage object cannot be priced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUsage(pub String);

impl Usage {
    /// Reads an OpenAI (chat or responses), Anthropic or Gemini usage object, also within
    /// `{"usage":{…}}` or `{"usageMetadata":{…}}`.
    ///
    /// # Errors
    /// [`BadUsage`] for another shape, for what is no whole number from 0, or no positive number at all.
    pub fn from_json(text: &str) -> Result<Self, BadUsage> {
        let value = serde_json::from_str(text).map_err(|_| bad("The usage is not valid JSON."))?;
        let Value::Object(object) = value else { return Err(bad("The usage is not a JSON object.")) };
        let beyond = Cell::new(false);
        let whole = Fields::new(&object, &beyond);
        let inner = whole.object("usage")?.or(whole.object("usageMetadata")?);
        let usage = shapes::read(inner.unwrap_or(whole))?;
        if usage.is_nothing() {
            return Err(bad("The usage names no positive number."));
        }
        Ok(Self { beyond: beyond.get(), ..usage })
    }

    /// Neither a token nor anything else was used.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let others = [self.millis_in, self.millis_out, self.images_in, self.images_out, self.requests];
        self.total_tokens() <= 0 && others.iter().all(|count| *count <= 0)
    }

    /// All prompt tokens, which select the price tier.
    #[must_use]
    pub fn prompt_tokens(&self) -> i64 {
        [self.cached_tokens(), self.cache_write_5m, self.cache_write_1h, self.audio_in, self.image_in]
            .into_iter()
            .fold(self.input, i64::saturating_add)
    }

    /// Prompt tokens that were read from a cache.
    #[must_use]
    pub fn cached_tokens(&self) -> i64 {
        self.cache_read.saturating_add(self.cache_read_audio).saturating_add(self.cache_read_image)
    }

    #[must_use]
    pub fn completion_tokens(&self) -> i64 {
        [self.reasoning, self.audio_out, self.image_out].into_iter().fold(self.output, i64::saturating_add)
    }

    #[must_use]
    pub fn total_tokens(&self) -> i64 {
        self.prompt_tokens().saturating_add(self.completion_tokens())
    }
}

fn bad(detail: impl Into<String>) -> BadUsage {
    BadUsage(detail.into())
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
