//! What a new account begins with: platform quotas by default, one layer for the system and one for
//! each source of sign-ups. They are merged once, when an account is provisioned; what becomes of
//! them later touches no account that exists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    amount::COUNTER_MAX,
    id::Platform,
    platform::{Caps, PlatformQuota},
};

/// Where an account signed up. The one list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Email,
    Linuxdo,
    Oidc,
    Wechat,
    Github,
    Google,
    Dingtalk,
}

impl Source {
    pub const ALL: [Source; 7] = [
        Source::Email,
        Source::Linuxdo,
        Source::Oidc,
        Source::Wechat,
        Source::Github,
        Source::Google,
        Source::Dingtalk,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Email => "email",
            Source::Linuxdo => "linuxdo",
            Source::Oidc => "oidc",
            Source::Wechat => "wechat",
            Source::Github => "github",
            Source::Google => "google",
            Source::Dingtalk => "dingtalk",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

/// Whose defaults: everybody's, or those of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    System,
    Source(Source),
}

const SYSTEM: &str = "system";

impl Layer {
    /// The system's, then the sources'.
    pub fn all() -> impl Iterator<Item = Layer> {
        std::iter::once(Layer::System).chain(Source::ALL.into_iter().map(Layer::Source))
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::System => SYSTEM,
            Layer::Source(source) => source.as_str(),
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == SYSTEM { Some(Layer::System) } else { Source::parse(text).map(Layer::Source) }
    }
}

/// One layer: caps by platform, in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults(pub BTreeMap<Platform, Caps>);

impl Defaults {
    /// The quotas that a new account gets: of every platform that either layer names, field by field
    /// the source's number, 0 included, else the system's.
    #[must_use]
    pub fn merged(system: &Defaults, source: &Defaults) -> Vec<PlatformQuota> {
        let mut merged = system.0.clone();
        for (platform, over) in &source.0 {
            let caps = merged.entry(platform.clone()).or_default();
            *caps = caps.overlaid(*over);
        }
        merged.into_iter().map(|(platform, caps)| PlatformQuota { platform, caps }).collect()
    }
}

/// Units that a provisioned account begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InitialBalance {
    pub default: i64,
    pub groups: BTreeMap<Box<str>, i64>,
    pub sources: BTreeMap<Source, i64>,
}

impl InitialBalance {
    /// What is said of the group, else of the source, else of all.
    #[must_use]
    pub fn of(&self, group: &str, source: Source) -> i64 {
        *self.groups.get(group).or_else(|| self.sources.get(&source)).unwrap_or(&self.default)
    }

    /// Whether all of them are amounts, also with a bonus of the same size.
    #[must_use]
    pub fn is_in_range(&self) -> bool {
        let all = self.groups.values().chain(self.sources.values()).chain([&self.default]);
        all.into_iter().all(|units| (0..=COUNTER_MAX / 2).contains(units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(rows: &[(&str, [Option<i64>; 3])]) -> Defaults {
        let caps = |[daily, weekly, monthly]: [Option<i64>; 3]| Caps { daily, weekly, monthly };
        Defaults(rows.iter().map(|(name, row)| (Platform::new(name).unwrap(), caps(*row))).collect())
    }

    #[test]
    fn layers_merge_field_by_field() {
        let system = layer(&[("openai", [Some(10), None, Some(0)]), ("gemini", [Some(1), Some(2), Some(3)])]);
        let source = layer(&[("openai", [Some(0), Some(5), None]), ("anthropic", [None, Some(7), None])]);
        let expected = layer(&[
            ("anthropic", [None, Some(7), None]),
            ("gemini", [Some(1), Some(2), Some(3)]),
            ("openai", [Some(0), Some(5), Some(0)]),
        ]);
        let merged = Defaults::merged(&system, &source);
        assert_eq!(Defaults(merged.into_iter().map(|quota| (quota.platform, quota.caps)).collect()), expected);
        assert!(Defaults::merged(&Defaults::default(), &Defaults::default()).is_empty());
    }

    #[test]
    fn names_are_read_back() {
        let names: Vec<&str> = Layer::all().map(Layer::as_str).collect();
        assert_eq!(names, ["system", "email", "linuxdo", "oidc", "wechat", "github", "google", "dingtalk"]);
        assert!(Layer::all().all(|layer| Layer::parse(layer.as_str()) == Some(layer)));
        assert_eq!((Source::parse("system"), Layer::parse("facebook")), (None, None));
    }

    #[test]
    fn the_group_s_balance_comes_before_the_source_s() {
        let text = r#"{"default":2,"groups":{"vip":5},"sources":{"github":3}}"#;
        let initial: InitialBalance = serde_json::from_str(text).unwrap();
        let of = |group, source| initial.of(group, source);
        assert_eq!((of("vip", Source::Github), of("vip", Source::Email)), (5, 5));
        assert_eq!((of("plain", Source::Github), of("plain", Source::Email)), (3, 2));
        assert!(initial.is_in_range());
        for bad in [r#"{"sources":{"facebook":1}}"#, r#"{"group":{}}"#, r#"{"default":1.5}"#] {
            assert!(serde_json::from_str::<InitialBalance>(bad).is_err(), "{bad}");
        }
        for bad in [r#"{"default":-1}"#, r#"{"groups":{"x":4503599627370497}}"#] {
            assert!(!serde_json::from_str::<InitialBalance>(bad).unwrap().is_in_range(), "{bad}");
        }
    }
}
