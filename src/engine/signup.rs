//! The terms of sign-ups, as the runtime settings have them at this moment.

use super::{Engine, ports::SignupTerms};
use crate::quota::{defaults::Source, usd::Scale};

impl Engine {
    /// How many units a dollar has here.
    #[must_use]
    pub fn scale(&self) -> Scale {
        self.tariffs.scale()
    }

    /// For an account of this group and source.
    pub(crate) fn signup_terms(&self, group: &str, source: Source) -> SignupTerms {
        let live = self.live();
        SignupTerms {
            initial_balance: live.initial_balance.of(group, source),
            invitee_reward: live.invitee_reward,
            inviter_reward: live.inviter_reward,
            month: live.platform_quota_month,
        }
    }
}
