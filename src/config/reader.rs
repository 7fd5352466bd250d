//! Reads texts into values. Every problem becomes a sentence that names the setting, its value and
//! where it came from; all are collected, so that one run shows all of them.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use rust_decimal::{Decimal, prelude::ToPrimitive};

use super::{
    layers::{Layers, Source},
    secret::{Secret, ServerUrl},
    settings,
};

pub(super) struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self { layers, problems: Vec::new() }
    }

    pub(super) fn finish(self) -> Vec<String> {
        self.problems
    }

    pub(super) fn problem(&mut self, sentence: String) {
        self.problems.push(sentence);
    }

    /// The text, or `None` when absent.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        Some(self.layers.value(key).text.as_str()).filter(|text| !text.is_empty())
    }

    /// Where a setting of the file comes from, in words; `None` for a default, or when the file has no such one.
    pub(super) fn origin(&self, key: &str) -> Option<String> {
        let source = &settings::find(key).map(|setting| self.layers.value(setting.key))?.source;
        (*source != Source::Default).then(|| source.to_string())
    }

    /// `must` completes "`key` must be …".
    fn refuse(&mut self, key: &str, must: &str) {
        let value = self.layers.value(key);
        let secret = settings::find(key).is_some_and(|setting| setting.secret);
        let is = if secret { String::new() } else { format!(", and is `{}`", value.text) };
        self.problems.push(format!("`{key}` must be {must}{is} ({})", value.source));
    }

    /// Reads with `read`; on failure the setting's default stands in, so that reading can go on.
    pub(super) fn parse<T>(&mut self, key: &str, must: &str, read: impl Fn(&str) -> Option<T>) -> T {
        if let Some(value) = read(&self.layers.value(key).text) {
            return value;
        }
        self.refuse(key, must);
        let default = settings::find(key).map_or("", |setting| setting.default);
        read(default).unwrap_or_else(|| panic!("the default `{default}` of `{key}` does not read"))
    }

    pub(super) fn bool(&mut self, key: &str) -> bool {
        self.parse(key, "true or false", |text| bool::from_str(text).ok())
    }

    /// A whole number within a range.
    pub(super) fn number<T>(&mut self, key: &str, least: T, most: T) -> T
    where
        T: FromStr + PartialOrd + Copy + std::fmt::Display,
    {
        let must = format!("a whole number from {least} to {most}");
        self.parse(key, &must, |text| text.parse::<T>().ok().filter(|n| *n >= least && *n <= most))
    }

    /// Milliseconds within a range.
    pub(super) fn millis(&mut self, key: &str, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.number(key, least, most))
    }

    /// Whole units (`120000`), or dollars (`0.01 USD`) that are a whole number of units.
    pub(super) fn units(&mut self, key: &str, units_per_usd: i64, most: i64) -> i64 {
        let must = format!("a whole number of units or an exact amount such as `0.01 USD`, at most {most} units");
        self.parse(key, &must, |text| units(text, units_per_usd).filter(|n| (0..=most).contains(n)))
    }

    pub(super) fn optional_units(&mut self, key: &str, units_per_usd: i64, most: i64) -> Option<i64> {
        self.text(key)?;
        let units_of = |text: &str| units(text, units_per_usd).filter(|n| (0..=most).contains(n));
        let must = format!("absent, a whole number of units or an exact amount such as `10 USD`, at most {most} units");
        self.parse(key, &must, |text| if text.is_empty() { Some(None) } else { units_of(text).map(Some) })
    }

    pub(super) fn address(&mut self, key: &str) -> SocketAddr {
        self.parse(key, "an address and a port such as 127.0.0.1:8787 or [::1]:8787", |text| text.parse().ok())
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A bearer token: printable ASCII without spaces, because it travels in a header.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        let text = self.text(key)?;
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            self.refuse(key, "printable ASCII without spaces, because it is sent in a header");
        }
        Some(Secret::new(text))
    }

    /// An address with one of the schemes.
    pub(super) fn server(&mut self, key: &str, schemes: &[&str], must: &str) -> Option<ServerUrl> {
        let url = ServerUrl::new(self.text(key)?);
        if !schemes.contains(&url.scheme()) {
            let source = &self.layers.value(key).source;
            self.problems.push(format!("`{key}` must be {must}, and is `{url}` ({source})"));
        }
        Some(url)
    }
}

/// Whole units, or dollars that are a whole number of units: `120000`, `0.01 USD`.
pub(crate) fn units(text: &str, units_per_usd: i64) -> Option<i64> {
    match text.strip_suffix("USD") {
        Some(dollars) => {
            let exact = Decimal::from_str_exact(dollars.trim()).ok()?.checked_mul(units_per_usd.into())?;
            if exact.is_integer() { exact.to_i64() } else { None }
        }
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::units;

    #[test]
    fn dollars_are_exact_or_refused() {
        for (text, read) in [
            ("120000", Some(120_000)),
            ("0.01 USD", Some(1_000_000)),
            ("10000USD", Some(1_000_000_000_000)),
            ("0.000000001 USD", None),
            ("1e3", None),
            ("1.5", None),
            ("USD", None),
            ("", None),
        ] {
            assert_eq!(units(text, 100_000_000), read, "{text}");
        }
    }
}
