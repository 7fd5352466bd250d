//! The upstreams' shapes of a usage object, each read into the one shape that is priced.

use serde_json::Value;

use super::{
    BadUsage, Usage, bad,
    fields::{Counts, Fields},
};

/// Tells the shapes apart by their names. Some gateways fill in two shapes and leave one at 0, so
/// the first one that has tokens is taken.
pub(super) fn read(usage: Fields<'_>) -> Result<Usage, BadUsage> {
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
    if usage.has(&PIECES) || usage.is_timed() {
        known = Some(with_pieces(usage, known.unwrap_or_default())?);
    }
    known.ok_or_else(|| bad("The usage has the shape of no known upstream: OpenAI, Anthropic or Gemini."))
}

/// What is priced by the piece or by its length, beside the tokens or alone, for gateways to name where
/// an upstream reports nothing. OpenAI reports transcriptions as `{"type":"duration","seconds":12.5}`.
const PIECES: [&str; 5] = ["input_seconds", "output_seconds", "input_images", "output_images", "requests"];

fn with_pieces(usage: Fields<'_>, tokens: Usage) -> Result<Usage, BadUsage> {
    let named = usage.millis("input_seconds")?;
    let timed = usage.is_timed();
    Ok(Usage {
        millis_in: if named > 0 || !timed { named } else { usage.millis("seconds")? },
        millis_out: usage.millis("output_seconds")?,
        images_in: usage.count("input_images")?,
        images_out: usage.count("output_images")?,
        requests: usage.count("requests")?,
        ..tokens
    })
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
    let cached = match of_prompt.count("cached_tokens")? {
        // DeepSeek and Moonshot say it beside the prompt, and so do gateways that speak for Anthropic.
        0 => usage
            .count("prompt_cache_hit_tokens")?
            .max(usage.count("cached_tokens")?)
            .max(usage.count("cache_read_input_tokens")?),
        cached => cached,
    };
    let written = Written::read(usage, of_prompt)?;
    let (said, total, output) = (usage.count(prompt_name)?, usage.count("total_tokens")?, usage.count(output_name)?);
    // Gateways that keep Anthropic's way of counting say so, or add up so; where they do neither, see `with_prompt`.
    let beside = usage.field("usage_semantic").and_then(Value::as_str) == Some("anthropic")
        || cached + written.all() > 0 && total == said + cached + written.all() + output;
    let prompt = Prompt {
        all: if beside { said + cached + written.all() } else { said },
        cached,
        written,
        audio: of_prompt.count("audio_tokens")?,
        image: of_prompt.count("image_tokens")?,
        cached_audio: cached_details.count("audio_tokens")?,
        cached_image: cached_details.count("image_tokens")?,
    };
    let (all, reasoning) = (output, of_output.count("reasoning_tokens")?);
    // Upstreams differ in whether the completion includes its reasoning; the sum tells.
    let apart = reasoning > all || total == prompt.all + all + reasoning;
    let output = Output {
        all: if apart { all + reasoning } else { all },
        reasoning,
        audio: of_output.count("audio_tokens")?,
        image: of_output.count("image_tokens")?,
    };
    Usage::default().with_prompt(&prompt)?.with_output(&output)
}

/// `input_tokens` is what was neither read from the cache nor written to it.
fn anthropic(usage: Fields<'_>) -> Result<Usage, BadUsage> {
    let written = Written::read(usage, None)?;
    Ok(Usage {
        input: usage.count("input_tokens")?,
        cache_read: usage.count("cache_read_input_tokens")?,
        cache_write_5m: written.for_5m,
        cache_write_1h: written.for_1h,
        output: usage.count("output_tokens")?,
        ..Usage::default()
    })
}

/// Tokens that were written to the cache, by how long they live there.
#[derive(Clone, Copy, Default)]
struct Written {
    for_5m: i64,
    for_1h: i64,
}

impl Written {
    /// As Anthropic says it (`cache_creation_input_tokens`, and `cache_creation` by life), and as gateways that speak
    /// for it in OpenAI's shape do, beside the prompt or in its details. They say the same thing in several places, so
    /// the largest number holds. Five minutes is what an entry lives when nothing else is said.
    fn read(usage: Fields<'_>, details: Option<Fields<'_>>) -> Result<Self, BadUsage> {
        let mut all = usage.count("cache_creation_input_tokens")?;
        let names =
            ["cached_creation_tokens", "cache_creation_input_tokens", "cache_creation_tokens", "cache_write_tokens"];
        for name in names {
            all = all.max(details.count(name)?);
        }
        let mut for_5m = usage.count("claude_cache_creation_5_m_tokens")?;
        let mut for_1h = usage.count("claude_cache_creation_1_h_tokens")?;
        let inner = |name: &str| details.map_or(Ok(None), |details| details.object(name));
        let by_life =
            [usage.object("cache_creation")?, inner("cache_creation")?, inner("cache_creation_token_details")?];
        for by_life in by_life {
            for_5m = for_5m.max(by_life.count("ephemeral_5m_input_tokens")?);
            for_1h = for_1h.max(by_life.count("ephemeral_1h_input_tokens")?);
        }
        Ok(Self { for_5m: all.max(for_5m + for_1h) - for_1h, for_1h })
    }

    fn all(self) -> i64 {
        self.for_5m + self.for_1h
    }
}

/// Tokens of tool results come on top of the prompt, thoughts on top of the candidates.
fn gemini(usage: Fields<'_>) -> Result<Usage, BadUsage> {
    let prompt = Prompt {
        all: usage.count("promptTokenCount")?,
        cached: usage.count("cachedContentTokenCount")?,
        written: Written::default(),
        audio: usage.modality("promptTokensDetails", "AUDIO")?,
        image: usage.modality("promptTokensDetails", "IMAGE")?,
        cached_audio: usage.modality("cacheTokensDetails", "AUDIO")?,
        cached_image: usage.modality("cacheTokensDetails", "IMAGE")?,
    };
    let thoughts = usage.count("thoughtsTokenCount")?;
    let output = Output {
        all: usage.count("candidatesTokenCount")? + thoughts,
        reasoning: thoughts,
        audio: usage.modality("candidatesTokensDetails", "AUDIO")?,
        image: usage.modality("candidatesTokensDetails", "IMAGE")?,
    };
    let mut read = Usage::default().with_prompt(&prompt)?.with_output(&output)?;
    read.input += usage.count("toolUsePromptTokenCount")?;
    Ok(read)
}

/// A prompt whose parts are counted within `all`, unless what was cached is more than it.
struct Prompt {
    all: i64,
    cached: i64,
    written: Written,
    audio: i64,
    image: i64,
    /// What of `audio` and `image` is in `cached` as well.
    cached_audio: i64,
    cached_image: i64,
}

/// A completion whose parts are counted within `all`.
struct Output {
    all: i64,
    reasoning: i64,
    audio: i64,
    image: i64,
}

impl Usage {
    /// Cached and cache-written tokens are taken out of the prompt first, then audio and image. Where
    /// upstream counts cached audio in both and does not say how much, the parts exceed the whole; then
    /// the later ones yield. More cached tokens than the prompt has are beside it: so do relays count that keep
    /// Anthropic's way of counting in OpenAI's shape.
    fn with_prompt(self, prompt: &Prompt) -> Result<Self, BadUsage> {
        let cached = prompt.cached + prompt.written.all();
        let all = if cached > prompt.all { prompt.all + cached } else { prompt.all };
        for (part, name) in [(prompt.audio, "audio"), (prompt.image, "image")] {
            if part > all {
                return Err(bad(format!("The usage names {part} {name} tokens in a prompt of {all}.")));
            }
        }
        let cache_read_audio = prompt.cached_audio.min(prompt.cached);
        let cache_read_image = prompt.cached_image.min(prompt.cached - cache_read_audio);
        let mut left = all - cached;
        let audio_in = (prompt.audio - cache_read_audio).clamp(0, left);
        left -= audio_in;
        let image_in = (prompt.image - cache_read_image).clamp(0, left);
        Ok(Self {
            input: left - image_in,
            cache_read: prompt.cached - cache_read_audio - cache_read_image,
            cache_read_audio,
            cache_read_image,
            cache_write_5m: prompt.written.for_5m,
            cache_write_1h: prompt.written.for_1h,
            audio_in,
            image_in,
            ..self
        })
    }

    fn with_output(self, output: &Output) -> Result<Self, BadUsage> {
        let Output { all, reasoning, audio, image } = *output;
        if audio + image > all {
            return Err(bad(format!(
                "The usage names {} audio and image tokens in an output of {all}.",
                audio + image
            )));
        }
        let reasoning = reasoning.min(all - audio - image);
        Ok(Self { output: all - audio - image - reasoning, reasoning, audio_out: audio, image_out: image, ..self })
    }
}
