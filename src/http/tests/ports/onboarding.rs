//! Nobody keeps quotas, defaults and sign-ups.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Nobody, lost};
use crate::{
    engine::ports::{Onboarding, Provisioned, Provisioning, Referrals, StoreError, Transfer, Transferred},
    quota::{
        defaults::{Defaults, Layer},
        id::{AccountId, Actor},
        platform::{Month, PlatformQuota},
        policy::Policy,
    },
};

#[async_trait]
impl Onboarding for Nobody {
    async fn put_quotas(
        &self,
        _: &Actor,
        _: &AccountId,
        _: &[PlatformQuota],
        _: Month,
    ) -> Result<Option<Policy>, StoreError> {
        lost()
    }
    async fn defaults(&self) -> Result<BTreeMap<Layer, Defaults>, StoreError> {
        lost()
    }
    async fn put_defaults(&self, _: &Actor, _: &BTreeMap<Layer, Defaults>) -> Result<(), StoreError> {
        lost()
    }
    async fn provision(&self, _: &Actor, _: &Provisioning) -> Result<Provisioned, StoreError> {
        lost()
    }
    async fn referrals(&self, _: &AccountId, _: Option<&AccountId>, _: u32) -> Result<Option<Referrals>, StoreError> {
        lost()
    }
    async fn transfer(&self, _: &Actor, _: &Transfer) -> Result<Transferred, StoreError> {
        lost()
    }
}
