//! How the values of settings are read from JSON text, and the macro that makes entries of them. Every
//! refusal is a sentence that follows the setting's name.

use std::{collections::HashSet, fmt};

use serde::{
    Deserializer, Serialize,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::registry::Values;
use crate::quota::amount::COUNTER_MAX;

/// The JSON type of an amount.
pub(super) const AMOUNT: &str = "integer";

/// One setting: its name and nature, and how it is read and shown. Made by the registry alone.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    /// Its type in JSON.
    pub kind: &'static str,
    /// `units`, `ms`; empty: none.
    pub unit: &'static str,
    pub meaning: &'static str,
    pub(super) read: fn(&mut Values, &str) -> Result<(), String>,
    pub(super) show: fn(&Values) -> Value,
    pub(super) copy: fn(&mut Values, &Values),
}

impl Entry {
    /// Sets it from JSON text.
    ///
    /// # Errors
    /// A sentence that follows the name; nothing is changed.
    pub fn set(&self, values: &mut Values, raw: &str) -> Result<(), String> {
        (self.read)(values, raw)
    }

    /// As JSON.
    #[must_use]
    pub fn show(&self, values: &Values) -> Value {
        (self.show)(values)
    }

    /// The row of README's table.
    #[must_use]
    pub fn readme_row(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(", {}", self.unit) };
        let default = self.show(&Values::builtin());
        format!("| `{}` | {}{unit} | `{default}` | {} |", self.name, self.kind, self.meaning)
    }
}

/// The head of README's table of runtime settings.
pub const README_HEAD: &str = "| setting | type | default | meaning |\n|---|---|---|---|";

/// The entry of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    super::registry::ENTRIES.iter().find(|entry| entry.name == name)
}

/// Declares the settings; see the registry.
macro_rules! runtime_settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:expr, $json:expr, $unit:literal, $read:expr;)*) => {
        /// What is in force: one field for each setting.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Values {
            $($(#[doc = $doc])+ pub $name: $kind,)*
        }

        impl Values {
            /// The package's own defaults, in units of 10^-8 USD.
            #[must_use]
            pub fn builtin() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// All of them, in the order in which they are shown.
        pub const ENTRIES: &[$crate::engine::settings::Entry] = &[$($crate::engine::settings::Entry {
            name: stringify!($name),
            kind: $json,
            unit: $unit,
            meaning: concat!($($doc),+).trim_ascii(),
            read: |values, raw| {
                let read: fn(&str) -> Result<$kind, String> = $read;
                values.$name = read(raw)?;
                Ok(())
            },
            show: |values| $crate::engine::settings::kinds::shown(&values.$name),
            copy: |values, from| values.$name.clone_from(&from.$name),
        },)*];
    };
}

pub(super) use runtime_settings;

/// A value as JSON.
pub(super) fn shown<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A whole number within a range.
pub(super) fn number<T>(raw: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = raw.parse::<T>().ok().filter(|number| *number >= least && *number <= most);
    number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

/// An amount: a JSON integer, or a decimal string as everywhere in the protocol.
pub(super) fn units(raw: &str) -> Result<i64, String> {
    let digits = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let units = digits.parse().ok().filter(|units| plain && (0..=COUNTER_MAX).contains(units));
    units.ok_or_else(|| format!("must be a whole number of units from 0 to {COUNTER_MAX}"))
}

pub(super) fn units_or_null(raw: &str) -> Result<Option<i64>, String> {
    if raw == "null" { Ok(None) } else { units(raw).map(Some).map_err(|sentence| format!("{sentence}, or null")) }
}

/// Anything that serde reads, whose objects have each name once. They are strict when their type says
/// `deny_unknown_fields`.
pub(super) fn document<T: DeserializeOwned>(raw: &str) -> Result<T, String> {
    let read = || {
        let mut checked = serde_json::Deserializer::from_str(raw);
        Once { path: "" }.deserialize(&mut checked)?;
        serde_json::from_str(raw)
    };
    read().map_err(|error: serde_json::Error| {
        let said = error.to_string();
        // Where in a text that nobody sees is no news.
        let said = said.split(" at line ").next().unwrap_or_default();
        format!("cannot be read: {said}")
    })
}

/// A value in which no object gives a name twice: a map takes the last one and forgets the first, silently.
struct Once<'p> {
    /// Names from the outermost object to this value.
    path: &'p str,
}

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            if !seen.insert(name) {
                return Err(A::Error::custom(format!("`{path}` is given twice")));
            }
            members.next_value_seed(Once { path: &path })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Once { path: self.path })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::settings::ENTRIES;

    fn read(name: &str, raw: &str) -> Result<Value, String> {
        let (mut values, entry) = (Values::builtin(), find(name).unwrap());
        entry.set(&mut values, raw)?;
        Ok(entry.show(&values))
    }

    #[test]
    fn every_setting_reads_what_it_shows() {
        for (at, entry) in ENTRIES.iter().enumerate() {
            let default = entry.show(&Values::builtin());
            assert_eq!(read(entry.name, &default.to_string()).unwrap(), default, "{}", entry.name);
            assert!(entry.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", entry.name);
            assert!(ENTRIES[..at].iter().all(|other| other.name != entry.name), "{} is there twice", entry.name);
            assert!(!entry.meaning.is_empty() && !entry.meaning.contains('|'), "{}", entry.name);
        }
        assert_eq!(Values::builtin().judge(), Ok(()));
    }

    #[test]
    fn what_cannot_stand_is_refused_with_a_sentence() {
        for (name, raw, says) in [
            ("default_hold", "-1", "from 0 to"),
            ("default_hold", "1.0", "whole number"),
            ("default_hold", "1e3", "whole number"),
            ("default_hold", "null", "whole number"),
            ("default_hold", "\"1 USD\"", "whole number"),
            ("max_amount", "4503599627370497", "4503599627370496"),
            ("default_ttl_ms", "999", "from 1000 to 86400000"),
            ("default_ttl_ms", "99999999999", "from 1000 to 86400000"),
            ("default_ttl_ms", "\"5000\"", "from 1000 to 86400000"),
            ("abort_ok", "\"everything\"", "expected one of `nothing`, `prompt`, `estimate`"),
            ("abort_ok", "1", "cannot be read"),
            ("hold_free_models", "\"yes\"", "expected a boolean"),
            ("trust_threshold", "false", "or null"),
            ("on_unavailable", "\"maybe\"", "`deny`"),
            ("platforms", "[\"openai\",\"openai\"]", "once"),
            ("platforms", "[\"*\"]", "every platform"),
            ("platforms", "[\"\"]", "1 to 128 printable"),
            ("platforms", "{}", "cannot be read"),
            ("platform_quota_month", "\"week\"", "`rolling:2592000`"),
            ("initial_balance", "5", "cannot be read"),
            ("initial_balance", r#"{"sources":{"facebook":1}}"#, "unknown variant"),
            ("initial_balance", r#"{"defaults":1}"#, "unknown field"),
            ("initial_balance", r#"{"groups":{"vip":-1}}"#, "from 0 to"),
            ("inviter_reward", "2251799813685249", "from 0 to"),
            ("referral_transfer_min", "-1", "whole number"),
        ] {
            let sentence = read(name, raw).expect_err(raw);
            assert!(sentence.contains(says), "{name} {raw}: {sentence}");
            assert!(!sentence.contains(" line "), "{sentence}");
        }
        let longest: Vec<String> = (0..65).map(|number| format!("p{number}")).collect();
        assert!(read("platforms", &serde_json::to_string(&longest).unwrap()).unwrap_err().contains("64"));
    }

    /// The last one won: a slip of the hand gave every new account of a group what nobody had meant.
    #[test]
    fn a_name_that_is_given_twice_is_refused() {
        for (name, raw, twice) in [
            ("initial_balance", r#"{"groups":{"vip":1,"vip":500000000}}"#, "`groups.vip`"),
            ("initial_balance", r#"{"sources":{"github":1,"email":2,"github":1}}"#, "`sources.github`"),
            ("initial_balance", r#"{"default":1,"default":1}"#, "`default`"),
            ("usable_groups", r#"{"*":{"vip":"a","vip":"b"}}"#, "`*.vip`"),
            ("usable_groups", r#"{"*":{"a":"x"},"*":{"b":"y"}}"#, "`*`"),
            ("group_models", r#"{"vip":["a"],"vip":["b"]}"#, "`vip`"),
            ("platforms", r#"[{"a":1,"a":2}]"#, "`a`"),
        ] {
            let sentence = read(name, raw).expect_err(raw);
            assert_eq!(sentence, format!("cannot be read: {twice} is given twice"), "{name} {raw}");
        }
        read("initial_balance", r#"{"groups":{"a":1,"b":1},"sources":{"email":1}}"#).unwrap();
    }

    #[test]
    fn what_can_stand_is_kept_as_it_is() {
        assert_eq!(read("default_hold", "\"12\"").unwrap(), 12);
        assert_eq!(read("trust_threshold", "null").unwrap(), Value::Null);
        assert_eq!(read("trust_threshold", "7").unwrap(), 7);
        assert_eq!(read("platforms", "[]").unwrap(), serde_json::json!([]));
        assert_eq!(read("abort_unknown", "\"nothing\"").unwrap(), "nothing");
        let values = Values { default_hold: 2, max_amount: 1, ..Values::builtin() };
        assert!(values.judge().unwrap_err().1.contains("above `max_amount`"));
    }
}
