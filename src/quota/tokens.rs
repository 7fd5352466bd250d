//! How many tokens a text, an image or a piece of sound has, for those who ask before the upstream says.
//!
//! Models of OpenAI are counted by their own vocabularies, `o200k_base` and `cl100k_base`; models of others
//! by rules, which are written here and in README. A vocabulary is read when it is first needed (some tens
//! of megabytes and a fraction of a second) and stays. Counting takes time in proportion to the text.

mod media;

pub use media::{Image, audio_tokens, image_tokens};

/// Whose model it is, as far as counting differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// OpenAI's from GPT-4o on.
    O200k,
    /// OpenAI's before that, and its embeddings.
    Cl100k,
    /// Anthropic's, whose vocabulary is not public: the tokens of `o200k_base` and a fifth more.
    Claude,
    /// Google's: counted by `o200k_base`, images and sound by Google's rules.
    Gemini,
    /// All others: the tokens of `o200k_base`, which vocabularies of today come close to.
    Other,
}

/// Beginnings of the names of OpenAI's older models; those that go on as `o200k` names do are told first.
const CL100K: [&str; 7] =
    ["gpt-4", "gpt-3.5", "gpt-35", "text-embedding-3", "text-embedding-ada", "davinci-002", "babbage-002"];
const O200K: [&str; 9] = ["gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-", "chatgpt-", "o1", "o3", "o4", "codex"];

/// Tokens around each message of a chat, and before the answer.
const PER_MESSAGE: i64 = 3;
const BEFORE_ANSWER: i64 = 3;

impl Family {
    /// By the model's name; what stands before a `/` or a `:` of a fine-tuned one does not matter.
    #[must_use]
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
        let name = name.strip_prefix("ft:").unwrap_or(&name);
        let name = name.strip_prefix("openai.").unwrap_or(name);
        let begins = |list: &[&str]| list.iter().any(|beginning| name.starts_with(beginning));
        if name.contains("claude") {
            Self::Claude
        } else if name.contains("gemini") || name.contains("gemma") {
            Self::Gemini
        } else if begins(&O200K[..3]) {
            Self::O200k
        } else if begins(&CL100K) {
            Self::Cl100k
        } else if begins(&O200K) {
            Self::O200k
        } else {
            Self::Other
        }
    }

    /// The rule's name, for answers.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::O200k => "o200k_base",
            Self::Cl100k => "cl100k_base",
            Self::Claude => "o200k_base x 1.2",
            Self::Gemini | Self::Other => "o200k_base, estimated",
        }
    }

    /// Tokens of texts, each counted for itself. Long texts take long: about ten megabytes a second.
    #[must_use]
    pub fn count<T: AsRef<str>>(self, texts: &[T]) -> i64 {
        let vocabulary = match self {
            Self::Cl100k => bpe_openai::cl100k_base(),
            Self::O200k | Self::Claude | Self::Gemini | Self::Other => bpe_openai::o200k_base(),
        };
        let count = |text: &T| i64::try_from(vocabulary.count(text.as_ref())).unwrap_or(i64::MAX);
        let tokens = texts.iter().map(count).fold(0, i64::saturating_add);
        match self {
            Self::Claude => tokens.saturating_mul(6).saturating_add(4) / 5,
            Self::O200k | Self::Cl100k | Self::Gemini | Self::Other => tokens,
        }
    }
}

/// Tokens of a chat beside its texts.
#[must_use]
pub fn around_messages(messages: usize) -> i64 {
    if messages == 0 { 0 } else { PER_MESSAGE * messages as i64 + BEFORE_ANSWER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_belongs_to_a_family() {
        for (family, models) in [
            (
                Family::O200k,
                &["gpt-4o", "gpt-4o-mini-2024-07-18", "openai/gpt-4.1", "gpt-5.1-codex", "o1", "o3-mini"][..],
            ),
            (
                Family::O200k,
                &["azure/eu/gpt-4o", "ft:gpt-4o:acme::1", "openai.gpt-oss-120b", "chatgpt-4o-latest", "GPT-5"],
            ),
            (
                Family::Cl100k,
                &["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "azure/gpt-35-turbo", "text-embedding-3-small"],
            ),
            (
                Family::Claude,
                &["claude-sonnet-4-5", "anthropic.claude-3-haiku-20240307-v1:0", "vertex_ai/claude-opus-4"],
            ),
            (Family::Gemini, &["gemini-2.5-pro", "gemini/gemini-3-pro-preview", "gemma-3-27b"]),
            (Family::Other, &["llama-3.3-70b", "deepseek-chat", "qwen-max", "", "mistral-large"]),
        ] {
            for model in models {
                assert_eq!(Family::of(model), family, "{model}");
            }
        }
    }

    /// Counts of OpenAI's own tokenizer.
    #[test]
    fn texts_are_counted_by_the_vocabulary() {
        assert_eq!(Family::Cl100k.count(&["tiktoken is great!"]), 6);
        assert_eq!(Family::O200k.count(&["tiktoken is great!"]), 6);
        assert_eq!(Family::Cl100k.count(&["antidisestablishmentarianism"]), 6);
        assert_eq!(Family::O200k.count(&["2 + 2 = 4"]), 7);
        assert_eq!(Family::Cl100k.count(&["お誕生日おめでとう"]), 9);
        assert_eq!(Family::O200k.count(&["お誕生日おめでとう"]), 8);
        assert_eq!(Family::O200k.count(&["hello world", "hello world", ""]), 4);
        assert_eq!(Family::Claude.count(&["hello world", "hello world"]), 5, "4.8, rounded up");
        assert_eq!(Family::Other.count::<&str>(&[]), 0);
        assert_eq!((around_messages(0), around_messages(2)), (0, 9));
    }

    /// No text makes counting slow: a letter repeated, blanks, and no blanks at all.
    #[test]
    fn long_and_odd_texts_are_counted() {
        for text in ["a".repeat(100_000), " ".repeat(100_000), "0".repeat(100_000), "\u{1f600}".repeat(20_000)] {
            let tokens = Family::O200k.count(&[&text]);
            assert!(tokens > 0 && tokens <= text.len() as i64);
        }
    }
}
