//! Usage objects as the upstreams send them, made from what a call used. The same tokens in another
//! vendor's words: OpenAI counts cached tokens inside the prompt, Anthropic beside it.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::price::Tokens;

/// Whose words a model's usage is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI responses.
    Responses,
    Anthropic,
    /// Gemini's `usageMetadata`.
    Gemini,
}

impl Shape {
    /// The object for `tokens`. Only Anthropic's shape can name tokens written to a cache; the other
    /// shapes expect none.
    #[must_use]
    pub fn object(self, tokens: &Tokens) -> Value {
        let prompt = tokens.input + tokens.cache_read;
        let total = prompt + tokens.output;
        match self {
            Shape::Chat => json!({
                "prompt_tokens": prompt,
                "completion_tokens": tokens.output,
                "total_tokens": total,
                "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            }),
            Shape::Responses => json!({
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": tokens.cache_read},
                "output_tokens": tokens.output,
                "output_tokens_details": {"reasoning_tokens": tokens.output / 2},
                "total_tokens": total,
            }),
            Shape::Anthropic => json!({
                "input_tokens": tokens.input,
                "cache_read_input_tokens": tokens.cache_read,
                "cache_creation_input_tokens": tokens.cache_write_5m + tokens.cache_write_1h,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": tokens.cache_write_5m,
                    "ephemeral_1h_input_tokens": tokens.cache_write_1h,
                },
                "output_tokens": tokens.output,
                "service_tier": "standard",
            }),
            // Thinking is billed as output and counted beside the answer.
            Shape::Gemini => json!({
                "promptTokenCount": prompt,
                "cachedContentTokenCount": tokens.cache_read,
                "candidatesTokenCount": tokens.output - tokens.output / 4,
                "thoughtsTokenCount": tokens.output / 4,
                "totalTokenCount": total,
            }),
        }
    }

    /// Whether tokens written to a cache can be said in this shape.
    #[must_use]
    pub fn names_cache_writes(self) -> bool {
        self == Shape::Anthropic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_names_every_token_once() {
        let tokens = Tokens { input: 70, cache_read: 30, output: 9, ..Tokens::default() };
        let chat = Shape::Chat.object(&tokens);
        assert_eq!((&chat["prompt_tokens"], &chat["completion_tokens"]), (&json!(100), &json!(9)));
        assert_eq!(chat["prompt_tokens_details"]["cached_tokens"], 30);
        let responses = Shape::Responses.object(&tokens);
        assert_eq!((&responses["input_tokens"], &responses["output_tokens"]), (&json!(100), &json!(9)));
        let gemini = Shape::Gemini.object(&tokens);
        assert_eq!(gemini["promptTokenCount"], 100);
        assert_eq!(
            gemini["candidatesTokenCount"].as_i64().unwrap() + gemini["thoughtsTokenCount"].as_i64().unwrap(),
            9
        );
        let written = Tokens { cache_write_5m: 4, cache_write_1h: 3, ..tokens };
        let anthropic = Shape::Anthropic.object(&written);
        assert_eq!((&anthropic["input_tokens"], &anthropic["cache_read_input_tokens"]), (&json!(70), &json!(30)));
        assert_eq!(anthropic["cache_creation_input_tokens"], 7);
        assert_eq!(anthropic["cache_creation"]["ephemeral_1h_input_tokens"], 3);
    }
}
