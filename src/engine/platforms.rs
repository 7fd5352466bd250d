//! Platform quotas: an account's limits on cost per platform, seen and set as one table.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Answer, Engine, Payer,
    policies::no_account,
    step::{Done, Step, verdict},
};
use crate::quota::{
    clock::Millis,
    id::{AccountId, Actor, Platform},
    platform::{PlatformQuota, Window, quotas_of, window_of},
    policy::Policy,
    verdict::{LimitState, Refusal, Verdict},
};

/// One span of a quota with its live numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanState {
    /// Units: `None` is unlimited, 0 disabled.
    pub cap: Option<i64>,
    /// Units charged in the open window; one that is over reads 0.
    pub used: i64,
    /// `None`: a rolling window not begun, or a span that nothing counts.
    pub resets_at: Option<Millis>,
}

/// The quota of one platform with its live numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaState {
    pub platform: Platform,
    pub daily: SpanState,
    pub weekly: SpanState,
    pub monthly: SpanState,
}

impl QuotaState {
    /// As it stands with this limit.
    fn note(&mut self, window: Window, state: &LimitState) {
        let span = match window {
            Window::Daily => &mut self.daily,
            Window::Weekly => &mut self.weekly,
            Window::Monthly => &mut self.monthly,
        };
        *span = SpanState { cap: state.limit.cap, used: state.used, resets_at: state.resets_at };
    }
}

impl Engine {
    /// The quotas of an account, in the order of its limits.
    pub async fn quotas(&self, account: &AccountId) -> Answer<Vec<QuotaState>> {
        let sheet = match self.balance(&Payer::Account(account.clone())).await? {
            Verdict::Done { answer, .. } => answer,
            Verdict::Refused(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        let mut quotas: Vec<QuotaState> = Vec::new();
        for state in sheet.limits.iter().filter(|state| state.key.is_none()) {
            let (Some(window), Ok(platform)) = (window_of(&state.limit), Platform::new(&state.limit.platform)) else {
                continue;
            };
            let place = quotas.iter().position(|quota| quota.platform == platform).unwrap_or_else(|| {
                let [daily, weekly, monthly] = [SpanState::default(); 3];
                quotas.push(QuotaState { platform, daily, weekly, monthly });
                quotas.len() - 1
            });
            quotas[place].note(window, state);
        }
        Ok(Verdict::Done { answer: quotas, replayed: false })
    }

    /// Replaces all quotas of an account; its other limits stay, and so does everything that was used. A
    /// platform must be on the list of platforms, or have a quota already.
    pub async fn put_quotas(&self, by: &Actor, account: &AccountId, quotas: &[PlatformQuota]) -> Answer<Arc<Policy>> {
        verdict(self.try_put_quotas(by, account, quotas).await)
    }

    async fn try_put_quotas(
        &self,
        by: &Actor,
        account: &AccountId,
        quotas: &[PlatformQuota],
    ) -> Step<Done<Arc<Policy>>> {
        let rules = self.reload(account).await?.ok_or_else(|| no_account(account))?;
        let there: BTreeSet<Platform> = quotas_of(&rules.policy.limits).into_iter().map(|had| had.platform).collect();
        let named = quotas.iter().map(|quota| &quota.platform);
        self.check_platforms("quotas", named, |platform| there.contains(platform))?;
        let era = self.counters.era();
        let month = self.live().platform_quota_month;
        let policy = self.policies.put_quotas(by, account, quotas, month).await?.ok_or_else(|| no_account(account))?;
        Ok(Done::now(self.in_force(policy, era).await?))
    }

    /// Refuses a platform that is named twice, or neither listed nor `known`.
    pub(crate) fn check_platforms<'p>(
        &self,
        field: &'static str,
        named: impl Iterator<Item = &'p Platform>,
        known: impl Fn(&Platform) -> bool,
    ) -> Step<()> {
        let listed = &self.live().platforms;
        let mut seen = BTreeSet::new();
        for platform in named {
            if !seen.insert(platform) {
                return Err(Refusal::invalid(field, format!("the platform {platform} is named twice")).into());
            }
            if !listed.contains(platform) && !known(platform) {
                let detail = format!("the platform {platform} is not on the list of platforms");
                return Err(Refusal::invalid(field, detail).into());
            }
        }
        Ok(())
    }
}
