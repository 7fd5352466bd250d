//! Tokens of images and sound, by what the upstreams document.

use super::Family;

/// An image of a prompt, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    pub width: i64,
    pub height: i64,
    /// OpenAI's `detail` is `low`.
    pub low: bool,
}

impl Image {
    /// One whose size nobody says.
    pub const UNKNOWN: Image = Image { width: 1_024, height: 1_024, low: false };
}

/// Tokens of an image:
/// - OpenAI: 85 with low detail; else made to fit 2 048 × 2 048, then its shorter side 768 at most, 85 and
///   170 for each tile of 512 × 512; models called mini 2 833 and 5 667.
/// - Anthropic: made to fit 1 568 × 1 568, a token for 750 pixels, 1 600 at most.
/// - Google: 258 for each tile of 768 × 768, a single one up to 384 × 384.
/// - others: as OpenAI.
#[must_use]
pub fn image_tokens(model: &str, image: Image) -> i64 {
    let (width, height) = (image.width.max(1), image.height.max(1));
    let tiles = |(width, height): (i64, i64), side: i64| ceil(width, side).max(1) * ceil(height, side).max(1);
    match Family::of(model) {
        Family::Claude => {
            let (width, height) = within((width, height), 1_568);
            ceil(width * height, 750).min(1_600)
        }
        Family::Gemini if width <= 384 && height <= 384 => 258,
        Family::Gemini => 258 * tiles((width, height), 768),
        Family::O200k | Family::Cl100k | Family::Other => {
            let (base, per_tile) = if model.contains("4o-mini") { (2_833, 5_667) } else { (85, 170) };
            if image.low {
                return base;
            }
            let (width, height) = within((width, height), 2_048);
            let shorter = width.min(height);
            let size = if shorter > 768 { (width * 768 / shorter, height * 768 / shorter) } else { (width, height) };
            base + per_tile * tiles(size, 512)
        }
    }
}

/// Tokens of sound that goes in: Google documents 32 a second; for OpenAI it is 1 000 a minute, as the price
/// of its transcriptions comes to; others are counted like Google's, the most of all.
#[must_use]
pub fn audio_tokens(model: &str, millis: i64) -> i64 {
    let millis = millis.max(0);
    match Family::of(model) {
        Family::O200k | Family::Cl100k => ceil(millis, 60),
        Family::Claude | Family::Gemini | Family::Other => ceil(millis.saturating_mul(32), 1_000),
    }
}

fn ceil(number: i64, by: i64) -> i64 {
    number.div_euclid(by) + i64::from(number.rem_euclid(by) > 0)
}

/// The size with its longer side cut down to `most`, in the same proportions.
fn within((width, height): (i64, i64), most: i64) -> (i64, i64) {
    let longer = width.max(height);
    if longer <= most { (width, height) } else { ((width * most / longer).max(1), (height * most / longer).max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of the upstreams' documents.
    #[test]
    fn images_are_counted_by_each_upstreams_rule() {
        let image = |width, height| Image { width, height, low: false };
        for (model, size, tokens) in [
            ("gpt-4o", image(1_024, 1_024), 765),
            ("gpt-4o", image(2_048, 4_096), 1_105),
            ("gpt-4o", Image { low: true, ..image(4_096, 8_192) }, 85),
            ("gpt-4o-mini", image(512, 512), 8_500),
            ("claude-sonnet-4-5", image(200, 200), 54),
            ("claude-sonnet-4-5", image(1_000, 1_000), 1_334),
            ("claude-sonnet-4-5", image(10_000, 10_000), 1_600),
            ("gemini-2.5-pro", image(384, 384), 258),
            ("gemini-2.5-pro", image(1_024, 1_024), 1_032),
            ("llama-4", image(1, 1), 255),
            ("gpt-4o", image(1_000_000, 1), 85 + 170 * 4),
        ] {
            assert_eq!(image_tokens(model, size), tokens, "{model} {size:?}");
        }
    }

    #[test]
    fn sound_is_counted_by_its_length() {
        assert_eq!((audio_tokens("gemini-2.5-pro", 60_000), audio_tokens("gemini-2.5-pro", 1)), (1_920, 1));
        assert_eq!((audio_tokens("gpt-4o-audio-preview", 60_000), audio_tokens("gpt-4o", 0)), (1_000, 0));
        assert_eq!(audio_tokens("voxtral", 1_000), 32);
    }
}
