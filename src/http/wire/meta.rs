//! `meta`: an object for the log, kept as it was written, but only if every database can keep it.

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::read::{Bad, Value};

/// Bytes of a `meta` object.
pub(crate) const META_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct Meta(pub(crate) Box<RawValue>);

impl Value for Meta {
    fn read(raw: &str) -> Result<Self, Bad> {
        if !raw.starts_with('{') {
            return Err(Bad::value("must be an object"));
        }
        if raw.len() > META_BYTES_MAX {
            return Err(Bad::value(format!("must be at most {META_BYTES_MAX} bytes")));
        }
        serde_json::from_str::<Storable>(raw).map_err(|error| Bad::value(format!("cannot be kept: {error}")))?;
        RawValue::from_string(raw.to_owned()).map(Self).map_err(|error| Bad::value(error.to_string()))
    }
}

/// Any JSON that every database can store and read back: names once per object, no NUL, no lone
/// surrogate, no number beyond a double, no deeper than serde_json reads (128 levels).
struct Storable;

impl<'de> Deserialize<'de> for Storable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Storable)
    }
}

impl<'de> Visitor<'de> for Storable {
    type Value = Storable;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self, E> {
        if text.contains('\0') { Err(E::custom("a NUL character")) } else { Ok(self) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Storable>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<Storable>()?;
            Visitor::visit_str::<A::Error>(Storable, &name)?;
            if !seen.insert(name) {
                return Err(A::Error::custom("a name is given twice"));
            }
        }
        Ok(self)
    }
}
