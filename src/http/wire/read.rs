//! Reads JSON objects strictly: no duplicate or unknown members, nothing behind the value, and
//! every complaint names its field. Values stay text until their field's type reads them, so a
//! number is judged by its digits and never passes through a float.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Why a request cannot be read: the field's path (empty: the whole body) and a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) path: String,
    pub(crate) detail: String,
}

impl Bad {
    pub(crate) fn at(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), detail: detail.into() }
    }

    /// About the value itself; whoever holds its name adds it with [`Bad::within`].
    pub(crate) fn value(detail: impl Into<String>) -> Self {
        Self::at("", detail)
    }

    pub(crate) fn unknown(name: &str) -> Self {
        Self::at(quoted(name), "is not a field of this request")
    }

    pub(crate) fn within(mut self, outer: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => outer.to_owned(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        self
    }
}

/// A request or a nested object of one.
pub(crate) trait Object: Sized {
    /// Wire names, for the test that holds schema and reader together.
    #[cfg(test)]
    const FIELDS: &'static [&'static str];

    /// Reads the object; a member called `tag` is skipped (a batch operation's `op`).
    fn read(text: &str, tag: Option<&str>) -> Result<Self, Bad>;
}

/// The type of one value.
pub(crate) trait Value: Sized {
    /// `raw` is the value's JSON text, already known to be well-formed.
    fn read(raw: &str) -> Result<Self, Bad>;
}

/// A member of an object: required, or an `Option`. Null is not absent: it is refused wherever it
/// has no meaning of its own, so that a cost that came out as null is not taken for "none said".
pub(crate) trait Field: Sized {
    fn read(raw: Option<&str>) -> Result<Self, Bad>;
}

impl<T: Value> Field for T {
    fn read(raw: Option<&str>) -> Result<Self, Bad> {
        T::read(raw.ok_or_else(|| Bad::value("is required"))?)
    }
}

impl<T: Value> Field for Option<T> {
    fn read(raw: Option<&str>) -> Result<Self, Bad> {
        raw.map(T::read).transpose()
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(raw: &str) -> Result<Self, Bad> {
        let items: Items<'_> = serde_json::from_str(raw).map_err(|_| Bad::value("must be an array"))?;
        let read =
            |(place, item): (usize, &&RawValue)| T::read(item.get()).map_err(|b| b.within(&format!("[{place}]")));
        items.0.iter().enumerate().map(read).collect()
    }
}

/// Reads a whole body as `T`.
pub(crate) fn body<T: Object>(bytes: &[u8]) -> Result<T, Bad> {
    T::read(text_of(bytes)?, None)
}

/// A body as text.
pub(crate) fn text_of(bytes: &[u8]) -> Result<&str, Bad> {
    if bytes.is_empty() {
        return Err(Bad::value("the body is empty; a JSON object is expected"));
    }
    std::str::from_utf8(bytes).map_err(|_| Bad::value("the body is not UTF-8"))
}

/// Calls `each` with every member of the object `text`: its name, and its value's JSON text.
pub(crate) fn members<'a>(text: &'a str, each: impl FnMut(&str, &'a str) -> Result<(), Bad>) -> Result<(), Bad> {
    let mut refusal = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let walked = reader.deserialize_map(Members { each, refusal: &mut refusal }).and_then(|()| reader.end());
    match (refusal, walked) {
        (Some(bad), _) => Err(bad),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_data() => Err(Bad::value("must be a JSON object")),
        (None, Err(error)) => Err(Bad::value(format!("malformed JSON: {error}"))),
    }
}

/// The text of a JSON string without its escapes.
pub(crate) fn string(raw: &str) -> Result<Cow<'_, str>, Bad> {
    let Some(text) = raw.strip_prefix('"') else { return Err(Bad::value("must be a string")) };
    // Without an escape it is its own text, and known to be well-formed: most are.
    if let Some(text) = text.strip_suffix('"').filter(|text| !text.contains('\\')) {
        return Ok(text.into());
    }
    let Name(text) = serde_json::from_str(raw).map_err(|_| Bad::value("is not valid Unicode"))?;
    Ok(text)
}

/// A caller's text, safe to say back: short and printable.
fn quoted(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

struct Members<'r, F> {
    each: F,
    refusal: &'r mut Option<Bad>,
}

impl<'de, F: FnMut(&str, &'de str) -> Result<(), Bad>> Visitor<'de> for Members<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            if let Err(bad) = (self.each)(&name, value.get()) {
                *self.refusal = Some(bad);
                return Err(de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// A string, borrowed when it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The members of an array, unread.
pub(crate) struct Items<'a>(pub(crate) Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Items<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(Array)
    }
}
