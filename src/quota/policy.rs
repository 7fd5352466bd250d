//! What an account is allowed: plain data, read from SQL as a whole and never changed, only replaced
//! by a newer version. The one question it answers is [`Policy::admit`].

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use super::{
    clock::Millis,
    id::{AccountId, KeyId, Model},
    limit::Limit,
    window::Zone,
};

pub use super::admission::{Admission, Ask, FOREVER, Gauge, Group};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccountStatus {
    #[default]
    Enabled,
    Disabled,
    /// Overdue or otherwise held back: `account_restricted`.
    Restricted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyStatus {
    #[default]
    Enabled,
    Disabled,
}

/// Where a key stands: what an operator set, what time did, and what was spent. In the order in which a call is
/// refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStanding {
    Enabled,
    Disabled,
    Expired,
    /// All of the allowance is spent. A larger one revives the key.
    Exhausted,
}

/// How an account is trusted: work far below the balance may go unheld (rules, "Trust").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The deployment's setting.
    #[default]
    Default,
    Off,
    /// Units that must stay available.
    Above(i64),
}

/// What becomes of an account's calls while Redis cannot decide them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnavailable {
    /// They are refused: 503.
    #[default]
    Deny,
    /// They are granted within a bounded allowance, and charged later.
    Allow,
}

impl OnUnavailable {
    /// The word, the same in settings, SQL and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            OnUnavailable::Deny => "deny",
            OnUnavailable::Allow => "allow",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [OnUnavailable::Deny, OnUnavailable::Allow].into_iter().find(|word| word.as_str() == text)
    }
}

/// An API key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyPolicy {
    pub status: KeyStatus,
    /// Units the key may spend in all; `None` is unlimited (still counted).
    pub allowance: Option<i64>,
    pub expires_at: Option<Millis>,
    /// Empty: all models.
    pub models: Vec<Model>,
    /// Empty: all addresses.
    pub networks: Vec<ipnet::IpNet>,
    /// Overrides the account's group for prices.
    pub group: Option<Box<str>>,
    pub limits: Vec<Arc<Limit>>,
    pub secret_sha256: Option<[u8; 32]>,
    /// For people.
    pub name: Option<Box<str>>,
    /// Whether a retry may go on in another group than the reservation's.
    pub cross_group_retry: bool,
    /// `None`: made, or changed last, before this was kept.
    pub created_at: Option<Millis>,
    pub changed_at: Option<Millis>,
}

/// An account's rules at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub account: AccountId,
    /// Grows by one with every change of the account or one of its keys; starts at 1.
    pub version: u32,
    pub status: AccountStatus,
    pub group: Box<str>,
    pub credit_limit: i64,
    pub zone: Zone,
    pub trust: Trust,
    /// `None`: the deployment's setting.
    pub on_unavailable: Option<OnUnavailable>,
    pub limits: Vec<Arc<Limit>>,
    pub keys: HashMap<KeyId, KeyPolicy>,
    pub name: Option<Box<str>>,
    pub contact: Option<Box<str>>,
}

/// The price group of an account that names none.
pub const DEFAULT_GROUP: &str = "default";

impl Policy {
    /// An account without any rule: enabled, no credit, no limits, no keys.
    #[must_use]
    pub fn blank(account: AccountId, version: u32, zone: Zone) -> Self {
        Self {
            account,
            version,
            status: AccountStatus::Enabled,
            group: DEFAULT_GROUP.into(),
            credit_limit: 0,
            zone,
            trust: Trust::Default,
            on_unavailable: None,
            limits: Vec::new(),
            keys: HashMap::new(),
            name: None,
            contact: None,
        }
    }
}

impl KeyStanding {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KeyStanding::Enabled => "enabled",
            KeyStanding::Disabled => "disabled",
            KeyStanding::Expired => "expired",
            KeyStanding::Exhausted => "exhausted",
        }
    }
}

impl KeyPolicy {
    /// Where the key stands at `now` with `used` units spent; holds are not spent yet. `None`: nobody knows what
    /// is spent, so it does not count.
    #[must_use]
    pub fn standing(&self, now: Millis, used: Option<i64>) -> KeyStanding {
        let spent = |allowance| used.is_some_and(|used| used >= allowance);
        match self.status {
            KeyStatus::Disabled => KeyStanding::Disabled,
            KeyStatus::Enabled if self.expires_at.is_some_and(|expires_at| now >= expires_at) => KeyStanding::Expired,
            KeyStatus::Enabled if self.allowance.is_some_and(spent) => KeyStanding::Exhausted,
            KeyStatus::Enabled => KeyStanding::Enabled,
        }
    }

    /// An IPv4 address counts as such in either spelling: `10.0.0.1`, or `::ffff:10.0.0.1` as a
    /// dual-stack listener shows it; and so does an IPv4 network.
    pub(super) fn allows_ip(&self, client_ip: Option<IpAddr>) -> bool {
        if self.networks.is_empty() {
            return true;
        }
        let Some(ip) = client_ip.map(|ip| ip.to_canonical()) else { return false };
        let mapped = match ip {
            IpAddr::V4(ip) => Some(IpAddr::V6(ip.to_ipv6_mapped())),
            IpAddr::V6(_) => None,
        };
        // ::/0 holds all mapped addresses too, but means IPv6: only a mapped network is one of IPv4.
        let holds_mapped = |network: &ipnet::IpNet| {
            network.prefix_len() >= 96 && mapped.is_some_and(|mapped| network.contains(&mapped))
        };
        self.networks.iter().any(|network| network.contains(&ip) || holds_mapped(network))
    }

    pub(super) fn allows_model(&self, model: Option<&Model>) -> bool {
        self.models.is_empty() || model.is_some_and(|model| self.models.contains(model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_as_the_first_reason_against_it_says() {
        let key = |status, expires_at, allowance| KeyPolicy {
            status,
            expires_at: Some(Millis(expires_at)),
            allowance,
            ..KeyPolicy::default()
        };
        let (on, off) = (KeyStatus::Enabled, KeyStatus::Disabled);
        for (key, used, standing) in [
            (key(off, 5, Some(1)), Some(9), "disabled"),
            (key(on, 10, Some(1)), Some(9), "expired"),
            (key(on, 11, Some(9)), Some(9), "exhausted"),
            (key(on, 11, Some(0)), Some(0), "exhausted"),
            (key(on, 11, Some(10)), Some(9), "enabled"),
            (key(on, 11, None), Some(i64::MAX), "enabled"),
            (key(on, 11, Some(1)), None, "enabled"),
        ] {
            assert_eq!(key.standing(Millis(10), used).as_str(), standing, "{key:?} {used:?}");
        }
    }
}
