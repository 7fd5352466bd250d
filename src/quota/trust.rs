//! When work may go unheld (rules, "Trust"): as long as far more is left than all such work can cost.
//!
//! `T` is the account's threshold, `N` the most sidecars that share a Redis, `S = T / N` the share of one
//! sidecar: its trusted work in flight on one account never exceeds `S`, and it grants only while what is
//! left by its newest numbers, less that work, stays above `T`. Work is in flight from its grant until the
//! reply to its charge has become, or was found older than, the newest numbers.
//!
//! *Trusted work overdraws nothing.* Let `a(t)` be what Redis has left at `t`, and `u` the latest instant
//! whose numbers any grant so far was based on: `a(u) > T`. Take one sidecar and its last grant. Work of
//! it that is charged after `u`, or not charged yet, was in flight at that grant; for had the reply to its
//! charge come before, the grant would have been based on numbers later than `u`. So that work is worth at
//! most `S`, that of all sidecars at most `N * S <= T`, and `a(now)`, less all that is in flight, is still
//! above `a(u) - T > 0`. The same holds for a key's allowance and for the cap of a cost limit.
//!
//! *What is not trusted* leaves room for the trusted work of its own sidecar, and cannot see that of the
//! others. When such holds take all that is left while others' trusted work is in flight, then that work
//! overdraws by what it costs, `(N - 1) * S < T` at most; with one sidecar by nothing.

use super::policy::{Policy, Trust};

/// Threshold and share of an account that is trusted; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    threshold: i64,
    share: i64,
}

impl Rule {
    /// `None`: nothing is trusted. `default` is the deployment's threshold.
    #[must_use]
    pub fn of(policy: &Policy, default: Option<i64>, sidecars: u32) -> Option<Self> {
        let threshold = match policy.trust {
            Trust::Default => default?,
            Trust::Off => return None,
            Trust::Above(units) => units,
        };
        Some(Self { threshold, share: threshold / i64::from(sidecars.max(1)) })
    }

    /// Whether the sidecar's share has room for `amount` beside its trusted work in flight.
    #[must_use]
    pub fn has_share(&self, in_flight: i64, amount: i64) -> bool {
        in_flight.saturating_add(amount) <= self.share
    }

    /// Whether what is left stays above the threshold with `amount` taken off, too.
    #[must_use]
    pub fn is_far(&self, left: i64, in_flight: i64, amount: i64) -> bool {
        left.saturating_sub(in_flight).saturating_sub(amount) > self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{
        id::AccountId,
        policy::{AccountStatus, Policy},
        window::Zone,
    };

    fn policy(trust: Trust) -> Policy {
        Policy {
            account: AccountId::new("a").unwrap(),
            version: 1,
            status: AccountStatus::Enabled,
            group: "default".into(),
            credit_limit: 0,
            zone: Zone::utc(),
            trust,
            on_unavailable: None,
            limits: Vec::new(),
            keys: std::collections::HashMap::new(),
            name: None,
            contact: None,
        }
    }

    #[test]
    fn the_accounts_threshold_wins_and_null_is_off() {
        let rule = |trust, default, sidecars| {
            Rule::of(&policy(trust), default, sidecars).map(|rule| (rule.threshold, rule.share))
        };
        assert_eq!(rule(Trust::Default, None, 4), None);
        assert_eq!(rule(Trust::Default, Some(1_000), 4), Some((1_000, 250)));
        assert_eq!(rule(Trust::Off, Some(1_000), 4), None);
        assert_eq!(rule(Trust::Above(10), Some(1_000), 3), Some((10, 3)));
        assert_eq!(rule(Trust::Above(10), None, 1), Some((10, 10)));
    }

    #[test]
    fn the_threshold_itself_is_not_far_and_the_share_itself_is_within() {
        let rule = Rule::of(&policy(Trust::Above(1_000)), None, 4).unwrap();
        for (left, in_flight, amount, far) in [
            (1_100, 0, 100, false),
            (1_101, 0, 100, true),
            (1_101, 1, 100, false),
            (-1, 0, 0, false),
            (i64::MIN, 9, 9, false),
        ] {
            assert_eq!(rule.is_far(left, in_flight, amount), far, "{left} {in_flight} {amount}");
        }
        for (in_flight, amount, within) in
            [(0, 250, true), (0, 251, false), (249, 1, true), (250, 1, false), (0, i64::MAX, false)]
        {
            assert_eq!(rule.has_share(in_flight, amount), within, "{in_flight} {amount}");
        }
    }

    #[test]
    fn a_threshold_of_nothing_trusts_nothing_that_costs() {
        let rule = Rule::of(&policy(Trust::Above(0)), None, 4).unwrap();
        assert!(!rule.has_share(0, 1) && rule.has_share(0, 0));
    }
}
