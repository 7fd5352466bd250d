//! The fake as the store of quotas, defaults and sign-ups.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Fake;
use crate::{
    engine::ports::{Onboarding, Provisioned, Provisioning, Referrals, StoreError, Transfer, Transferred},
    quota::{
        defaults::{Defaults, Layer},
        id::{AccountId, Actor},
        platform::{Month, PlatformQuota, with_quotas},
        policy::Policy,
    },
};

/// SQL alone does this, and black-box tests see it; here the engine's own part is under test.
#[async_trait]
impl Onboarding for Fake {
    async fn put_quotas(
        &self,
        _: &Actor,
        account: &AccountId,
        quotas: &[PlatformQuota],
        month: Month,
    ) -> Result<Option<Policy>, StoreError> {
        self.note("put_quotas", account.as_str());
        let mut state = self.state.lock().unwrap();
        let Some(policy) = state.policies.get_mut(account) else { return Ok(None) };
        policy.version += 1;
        policy.limits = with_quotas(&policy.limits, quotas, month).unwrap().into_iter().map(Into::into).collect();
        Ok(Some(policy.clone()))
    }

    async fn defaults(&self) -> Result<BTreeMap<Layer, Defaults>, StoreError> {
        Ok(self.state.lock().unwrap().defaults.clone())
    }

    async fn put_defaults(&self, _: &Actor, layers: &BTreeMap<Layer, Defaults>) -> Result<(), StoreError> {
        self.state.lock().unwrap().defaults.extend(layers.clone());
        Ok(())
    }

    async fn provision(&self, _: &Actor, ask: &Provisioning) -> Result<Provisioned, StoreError> {
        self.note("provision", ask.account.as_str());
        Ok(self.state.lock().unwrap().provisioned.clone().expect("the test says how it ends"))
    }

    async fn referrals(&self, _: &AccountId, _: Option<&AccountId>, _: u32) -> Result<Option<Referrals>, StoreError> {
        Ok(None)
    }

    async fn transfer(&self, _: &Actor, ask: &Transfer) -> Result<Transferred, StoreError> {
        self.note("transfer", ask.op_id.as_str());
        Ok(self.state.lock().unwrap().transferred.clone().expect("the test says how it ends"))
    }
}
