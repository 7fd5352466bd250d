//! The request of `POST /v1/estimate`, and texts as long as a body.

use std::borrow::Cow;

use super::{
    read::{Bad, Items, Value, members, string},
    request,
    scalar::{Count, GroupName, Secret},
};
use crate::quota::{
    id::{AccountId, KeyId, Model},
    tokens::Image,
};

/// Pixels of an image's side.
pub(crate) const PIXELS_MAX: i64 = 100_000;
/// Images of one prompt.
pub(crate) const IMAGES_MAX: usize = 1_000;
/// Seconds of sound or film.
pub(crate) const SECONDS_MAX: i64 = 1_000_000;

request!(
    /// What a call would hold: its prompt as tokens, text or messages, and what comes beside them.
    Estimation {
        /// Whose group's ratio holds. This, `api_key` or neither.
        account: Option<AccountId>,
        api_key: Option<Secret>,
        key: Option<KeyId>,
        /// The price group, or `auto`. Default: the key's, else the account's. Without an account any group's ratio
        /// can be asked for.
        group: Option<GroupName>,
        model: Model,
        /// Tokens of the prompt, when they are known. One of this, `text` and `messages`.
        prompt_tokens: Option<Count>,
        text: Option<LongText>,
        /// Messages of a chat as the upstream takes them; images in them are counted.
        messages: Option<Messages>,
        /// Images of the prompt: their sizes.
        images: Option<Images>,
        /// Sound of the prompt.
        audio_seconds: Option<Seconds>,
        /// Default 8192; bounded by the model's maximum.
        max_tokens: Option<Count>,
        /// Images that are made.
        output_images: Option<Count>,
        /// Sound or film that is made.
        output_seconds: Option<Seconds>,
    }
);

/// Any text, as long as the body may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LongText(pub(crate) String);

/// Seconds, perhaps with decimals; kept as milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) i64);

/// Sizes of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images(pub(crate) Vec<Image>);

/// A chat: its texts, each to be counted for itself, how many messages they are of, and its images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    pub(crate) texts: Vec<String>,
    pub(crate) messages: usize,
    pub(crate) images: Vec<Image>,
}

impl Value for LongText {
    fn read(raw: &str) -> Result<Self, Bad> {
        string(raw).map(|text| Self(text.into_owned()))
    }
}

impl Value for Seconds {
    fn read(raw: &str) -> Result<Self, Bad> {
        let seconds = rust_decimal::Decimal::from_str_exact(raw).ok();
        seconds
            .filter(|seconds| !seconds.is_sign_negative() && *seconds <= SECONDS_MAX.into())
            .and_then(|seconds| i64::try_from((seconds * rust_decimal::Decimal::ONE_THOUSAND).ceil()).ok())
            .map(Self)
            .ok_or_else(|| Bad::value(format!("must be a number from 0 to {SECONDS_MAX}")))
    }
}

impl Value for Images {
    fn read(raw: &str) -> Result<Self, Bad> {
        let images: Vec<Size> = Value::read(raw)?;
        if images.len() > IMAGES_MAX {
            return Err(Bad::value(format!("must be at most {IMAGES_MAX} images")));
        }
        Ok(Self(images.into_iter().map(|size| size.0).collect()))
    }
}

/// `{"width":…,"height":…,"detail":"low"}`; without both sizes it is an image of 1024 × 1024.
struct Size(Image);

impl Value for Size {
    fn read(raw: &str) -> Result<Self, Bad> {
        let (mut width, mut height, mut low) = (None, None, false);
        members(raw, |name, value| {
            match name {
                "width" => width = Some(pixels(value).map_err(|bad| bad.within(name))?),
                "height" => height = Some(pixels(value).map_err(|bad| bad.within(name))?),
                "detail" => low = is_low(value).map_err(|bad| bad.within(name))?,
                name => return Err(Bad::unknown(name)),
            }
            Ok(())
        })?;
        match (width, height) {
            (Some(width), Some(height)) => Ok(Self(Image { width, height, low })),
            (None, None) => Ok(Self(Image { low, ..Image::UNKNOWN })),
            (Some(_), None) => Err(Bad::at("height", "is required beside width")),
            (None, Some(_)) => Err(Bad::at("width", "is required beside height")),
        }
    }
}

fn pixels(raw: &str) -> Result<i64, Bad> {
    let pixels = raw.parse().ok().filter(|pixels| (1..=PIXELS_MAX).contains(pixels));
    pixels.ok_or_else(|| Bad::value(format!("must be a whole number from 1 to {PIXELS_MAX}")))
}

fn is_low(raw: &str) -> Result<bool, Bad> {
    match &*string(raw)? {
        "low" => Ok(true),
        "high" | "auto" | "original" => Ok(false),
        _ => Err(Bad::value("must be low, high, auto or original")),
    }
}

/// Messages are the upstream's: what is not known of them is counted as the text that it is.
impl Value for Messages {
    fn read(raw: &str) -> Result<Self, Bad> {
        let items: Items<'_> = serde_json::from_str(raw).map_err(|_| Bad::value("must be an array of messages"))?;
        let mut chat = Self { messages: items.0.len(), ..Self::default() };
        for (place, message) in items.0.iter().enumerate() {
            chat.message(message.get()).map_err(|bad| bad.within(&format!("[{place}]")))?;
        }
        if chat.images.len() > IMAGES_MAX {
            return Err(Bad::value(format!("must have at most {IMAGES_MAX} images")));
        }
        Ok(chat)
    }
}

impl Messages {
    fn message(&mut self, raw: &str) -> Result<(), Bad> {
        members(raw, |name, value| match name {
            "content" => self.content(value).map_err(|bad| bad.within(name)),
            _ => {
                self.take(value);
                Ok(())
            }
        })
    }

    /// A text, or parts of which some are texts.
    fn content(&mut self, raw: &str) -> Result<(), Bad> {
        if !raw.starts_with('[') {
            self.take(raw);
            return Ok(());
        }
        let parts: Items<'_> =
            serde_json::from_str(raw).map_err(|_| Bad::value("must be text or an array of parts"))?;
        for (place, part) in parts.0.iter().enumerate() {
            if part.get().starts_with('"') {
                self.take(part.get());
            } else {
                self.part(part.get()).map_err(|bad| bad.within(&format!("[{place}]")))?;
            }
        }
        Ok(())
    }

    /// `{"type":"text","text":…}`, `{"type":"image_url","image_url":{"url":…,"detail":"low"}}` and the like.
    /// Data of images, sound and files is no text.
    fn part(&mut self, raw: &str) -> Result<(), Bad> {
        let (mut kind, mut text, mut image) = (Cow::Borrowed(""), None, None);
        members(raw, |name, value| {
            match name {
                "type" => kind = string(value).map_err(|bad| bad.within(name))?,
                "text" => text = Some(value),
                "image_url" => image = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        match (&*kind, text) {
            (kind, _) if kind.contains("image") => {
                self.images.push(Image { low: image.is_some_and(low_of), ..Image::UNKNOWN });
            }
            (_, Some(text)) => self.take(text),
            ("input_audio" | "audio" | "file" | "input_file" | "document", None) => {}
            (_, None) => self.texts.push(raw.to_owned()),
        }
        Ok(())
    }

    /// A string without its quotes, anything else as it is written; nothing for null.
    fn take(&mut self, raw: &str) {
        match string(raw) {
            Ok(text) => self.texts.push(text.into_owned()),
            Err(_) if raw == "null" => {}
            Err(_) => self.texts.push(raw.to_owned()),
        }
    }
}

/// Whether an `image_url` asks for low detail.
fn low_of(raw: &str) -> bool {
    let mut low = false;
    let read = members(raw, |name, value| {
        low |= name == "detail" && value == "\"low\"";
        Ok(())
    });
    read.is_ok() && low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_its_texts_and_images() {
        let chat = Messages::read(
            r#"[{"role":"system","content":"Be brief."},
                {"role":"user","name":"ann","content":[{"type":"text","text":"What\n?"},"plain",
                  {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},
                  {"type":"image","source":{"type":"base64","data":"AAAA"}},
                  {"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}},
                  {"type":"tool_result","content":"7"}]},
                {"role":"assistant","content":null,"tool_calls":[{"id":"c"}]}]"#,
        )
        .unwrap();
        let texts = ["system", "Be brief.", "user", "ann", "What\n?", "plain"];
        let others = [r#"{"type":"tool_result","content":"7"}"#, "assistant", r#"[{"id":"c"}]"#];
        assert_eq!(chat.texts, [&texts[..], &others].concat());
        assert_eq!(chat.messages, 3);
        assert_eq!(chat.images.iter().map(|image| image.low).collect::<Vec<_>>(), [true, false]);
        for (bad, path) in [
            ("{}", ""),
            (r#"["x"]"#, "[0]"),
            (r#"[{"content":[7]}]"#, "[0].content[0]"),
            (r#"[{"content":[{"type":7}]}]"#, "[0].content[0].type"),
        ] {
            assert_eq!(Messages::read(bad).unwrap_err().path, path, "{bad}");
        }
    }

    #[test]
    fn sizes_and_seconds_have_bounds() {
        let images = Images::read(r#"[{"width":10,"height":20},{"detail":"low"},{}]"#).unwrap().0;
        assert_eq!(images[0], Image { width: 10, height: 20, low: false });
        assert_eq!((images[1].low, images[2]), (true, Image::UNKNOWN));
        for (bad, path) in [
            (r#"[{"width":10}]"#, "[0].height"),
            (r#"[{"width":0,"height":1}]"#, "[0].width"),
            (r#"[{"width":1.5,"height":1}]"#, "[0].width"),
            (r#"[{"widht":1}]"#, "[0].widht"),
            (r#"[{"detail":"tiny"}]"#, "[0].detail"),
            ("7", ""),
        ] {
            assert_eq!(Images::read(bad).unwrap_err().path, path, "{bad}");
        }
        assert_eq!((Seconds::read("1.2345").unwrap(), Seconds::read("0").unwrap()), (Seconds(1_235), Seconds(0)));
        for bad in ["-1", "1000001", "1e3", "\"1\"", "null"] {
            assert!(Seconds::read(bad).is_err(), "{bad}");
        }
    }
}
