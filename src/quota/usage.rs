//! Usage objects as upstreams send them, read into one shape.
//!
//! Upstreams differ in what a number includes: OpenAI and Gemini count cached tokens in the prompt,
//! Anthropic beside it; Gemini counts thoughts beside the candidates, OpenAI in the completion.
//! Fields that are not known are passed over, because upstreams add them; numbers that cannot be
//! are refused, because a made-up cost is worse than none.

use serde_json::{Map, Value};

/// More tokens than this in one number are no usage of one call.
pub const TOKENS_MAX: i64 = 1_000_000_000;

/// Tokens of one call by kind. The kinds do not overlap: `input` is what is left of the prompt
/// after cached, cache-written, audio and image tokens are taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    pub input: i64,
    pub cache_read: i64,
    pub cache_write_5m: i64,
    pub cache_write_1h: i64,
    pub audio_in: i64,
    pub image_in: i64,
    pub output: i64,
    pub audio_out: i64,
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
    /// [`BadUsage`] for another shape, a negative or absurd number, or no positive number at all.
    pub fn from_json(text: &str) -> Result<Self, BadUsage> {
        let value = serde_json::from_str(text).map_err(|_| bad("The usage is not valid JSON."))?;
        let Value::Object(object) = value else { return Err(bad("The usage is not a JSON object.")) };
        let inner = Fields(&object).object("usage")?.or(Fields(&object).object("usageMetadata")?);
        let usage = read(inner.unwrap_or(Fields(&object)))?;
        if usage.total_tokens() == 0 {
            return Err(bad("The usage names no positive number of tokens."));
        }
        Ok(usage)
    }

    /// All prompt tokens, which select the price tier.
    #[must_use]
    pub fn prompt_tokens(&self) -> i64 {
        [self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_in, self.image_in]
            .into_iter()
            .fold(self.input, i64::saturating_add)
    }

    #[must_use]
    pub fn completion_tokens(&self) -> i64 {
        self.output.saturating_add(self.audio_out)
    }

    #[must_use]
    pub fn total_tokens(&self) -> i64 {
        self.prompt_tokens().saturating_add(self.completion_tokens())
    }
}

fn bad(detail: impl Into<String>) -> BadUsage {
    BadUsage(detail.into())
}

/// Tells the shapes apart by their names. Some gateways fill in two shapes and leave one at 0, so
/// the first one that has tokens is taken.
fn read(usage: Fields<'_>) -> Result<Usage, BadUsage> {
    let mut known = None;
    if usage.has(&["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"]) {
        known = Some(gemini(usage)?);
    }
    let idle = |known: &Option<Usage>| known.is_none_or(|usage| usage.total_tokens() == 0);
    if idle(&known) && usage.has(&["prompt_tokens", "completion_tokens"]) {
        known = Some(openai(usage, "prompt_tokens", "completion_tokens")?);
    }
    if idle(&known) && usage.has(&["input_tokens", "output_tokens"]) {
        let details = usage.has(&["input_tokens_details", "input_token_details"]);
        let cache = usage.has(&["cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"]);
        // With neither, both readings agree.
        known =
            Some(if cache && !details { anthropic(usage)? } else { openai(usage, "input_tokens", "output_tokens")? });
    }
    known.ok_or_else(|| bad("The usage has the shape of no known upstream: OpenAI, Anthropic or Gemini."))
}

/// Chat (`prompt_tokens`) and responses, transcription and realtime (`input_tokens`; the latter two
/// spell their details `input_token_details`).
fn openai(usage: Fields<'_>, prompt_name: &str, output_name: &str) -> Result<Usage, BadUsage> {
    let details = |name: &str| {
        let plural = usage.object(&format!("{name}_details"))?;
        let singular = || usage.object(&format!("{}_details", name.trim_end_matches('s')));
        if plural.is_some() { Ok(plural) } else { singular() }
    };
    let (of_prompt, of_output) = (details(prompt_name)?, details(output_name)?);
    let cached_details = of_prompt.map(|of| of.object("cached_tokens_details")).transpose()?.flatten();
    let prompt = Prompt {
        all: usage.count(prompt_name)?,
        cached: of_prompt.count("cached_tokens")?,
        audio: of_prompt.count("audio_tokens")?,
        image: of_prompt.count("image_tokens")?,
        cached_audio: cached_details.count("audio_tokens")?,
        cached_image: cached_details.count("image_tokens")?,
    };
    Usage::default().with_prompt(&prompt)?.with_output(usage.count(output_name)?, of_output.count("audio_tokens")?)
}

/// `input_tokens` is what was neither read from the cache nor written to it.
fn anthropic(usage: Fields<'_>) -> Result<Usage, BadUsage> {
    let by_life = usage.object("cache_creation")?;
    let write_5m = by_life.count("ephemeral_5m_input_tokens")?;
    let write_1h = by_life.count("ephemeral_1h_input_tokens")?;
    let written = match usage.field("cache_creation_input_tokens") {
        Some(_) => usage.count("cache_creation_input_tokens")?,
        None => write_5m + write_1h,
    };
    if write_5m + write_1h > written {
        return Err(bad("The usage names more tokens in cache_creation than in cache_creation_input_tokens."));
    }
    Ok(Usage {
        input: usage.count("input_tokens")?,
        cache_read: usage.count("cache_read_input_tokens")?,
        // Five minutes is what a cache entry lives when nothing else is said.
        cache_write_5m: written - write_1h,
        cache_write_1h: write_1h,
        output: usage.count("output_tokens")?,
        ..Usage::default()
    })
}

/// Tokens of tool results come on top of the prompt, thoughts on top of the candidates.
fn gemini(usage: Fields<'_>) -> Result<Usage, BadUsage> {
    let prompt = Prompt {
        all: usage.count("promptTokenCount")?,
        cached: usage.count("cachedContentTokenCount")?,
        audio: usage.modality("promptTokensDetails", "AUDIO")?,
        image: usage.modality("promptTokensDetails", "IMAGE")?,
        cached_audio: usage.modality("cacheTokensDetails", "AUDIO")?,
        cached_image: usage.modality("cacheTokensDetails", "IMAGE")?,
    };
    let audio_out = usage.modality("candidatesTokensDetails", "AUDIO")?;
    let mut read =
        Usage::default().with_prompt(&prompt)?.with_output(usage.count("candidatesTokenCount")?, audio_out)?;
    read.input += usage.count("toolUsePromptTokenCount")?;
    read.output += usage.count("thoughtsTokenCount")?;
    Ok(read)
}

/// A prompt whose parts are counted within `all`.
struct Prompt {
    all: i64,
    cached: i64,
    audio: i64,
    image: i64,
    /// What of `audio` and `image` is in `cached` as well.
    cached_audio: i64,
    cached_image: i64,
}

impl Usage {
    /// Cached tokens are taken out of the prompt first, then audio and image. Where upstream counts
    /// cached audio in both and does not say how much, the parts exceed the whole; then the later
    /// ones yield.
    fn with_prompt(self, prompt: &Prompt) -> Result<Self, BadUsage> {
        for (part, name) in [(prompt.cached, "cached"), (prompt.audio, "audio"), (prompt.image, "image")] {
            if part > prompt.all {
                return Err(bad(format!("The usage names {part} {name} tokens in a prompt of {}.", prompt.all)));
            }
        }
        let mut left = prompt.all - prompt.cached;
        let audio_in = (prompt.audio - prompt.cached_audio).clamp(0, left);
        left -= audio_in;
        let image_in = (prompt.image - prompt.cached_image).clamp(0, left);
        Ok(Self { input: left - image_in, cache_read: prompt.cached, audio_in, image_in, ..self })
    }

    fn with_output(self, all: i64, audio_out: i64) -> Result<Self, BadUsage> {
        if audio_out > all {
            return Err(bad(format!("The usage names {audio_out} audio tokens in an output of {all}.")));
        }
        Ok(Self { output: all - audio_out, audio_out, ..self })
    }
}

/// An object of the usage; a field that is `null` is as good as absent.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn field(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn has(self, names: &[&str]) -> bool {
        names.iter().any(|name| self.field(name).is_some())
    }

    fn object(self, name: &str) -> Result<Option<Fields<'a>>, BadUsage> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields(object))),
            Some(_) => Err(bad(format!("The usage's {name} is not an object."))),
        }
    }

    /// A number of tokens; 0 when absent.
    fn count(self, name: &str) -> Result<i64, BadUsage> {
        let Some(value) = self.field(name) else { return Ok(0) };
        match value.as_i64() {
            Some(count) if (0..=TOKENS_MAX).contains(&count) => Ok(count),
            _ => Err(bad(format!("The usage's {name} is {value}, not a whole number from 0 to {TOKENS_MAX}."))),
        }
    }

    /// Gemini's `[{"modality":"AUDIO","tokenCount":n}]`: the tokens of one modality.
    fn modality(self, name: &str, modality: &str) -> Result<i64, BadUsage> {
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
trait Counts {
    fn count(self, name: &str) -> Result<i64, BadUsage>;
}

impl Counts for Option<Fields<'_>> {
    fn count(self, name: &str) -> Result<i64, BadUsage> {
        self.map_or(Ok(0), |fields| fields.count(name))
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
