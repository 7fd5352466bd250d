//! The port `Onboarding`. Each of its calls is one transaction; the statements stand in `defaults`,
//! `provision` and `referrals`.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Store, changes, defaults, policy_rows::save_account, policy_rows::save_limits, referrals};
use crate::{
    engine::ports::{Onboarding, Provisioned, Provisioning, Referrals, StoreError, Transfer, Transferred},
    quota::{
        change::{Change, Subject},
        clock::local_now,
        defaults::{Defaults, Layer},
        id::{AccountId, Actor},
        platform::{Month, PlatformQuota, with_quotas},
        policy::Policy,
    },
};

#[async_trait]
impl Onboarding for Store {
    async fn put_quotas(
        &self,
        by: &Actor,
        account: &AccountId,
        quotas: &[PlatformQuota],
        month: Month,
    ) -> Result<Option<Policy>, StoreError> {
        let mut session = self.write().await?;
        let Some(before) = self.load_to_change(&mut *session, account).await? else { return Ok(None) };
        let limits = with_quotas(&before.limits, quotas, month)
            .map_err(|error| StoreError::Refused { field: "quotas", detail: error.to_string() })?;
        let policy = Policy { limits: limits.into_iter().map(Into::into).collect(), ..before.clone() };
        let now = local_now();
        save_account(&mut *session, self.backend.dialect(), &policy, now).await?;
        save_limits(&mut *session, account, None, &policy.limits).await?;
        changes::record(&mut *session, &Change::put_account(by, Some(&before), &policy, None), now).await?;
        session.commit().await?;
        Ok(Some(policy))
    }

    async fn defaults(&self) -> Result<BTreeMap<Layer, Defaults>, StoreError> {
        defaults::read(&mut *self.read().await?, Layer::all()).await
    }

    async fn put_defaults(&self, by: &Actor, layers: &BTreeMap<Layer, Defaults>) -> Result<(), StoreError> {
        let mut session = self.write().await?;
        let now = local_now();
        for (layer, wanted) in layers {
            let before = defaults::lock(&mut *session, self.backend.dialect(), *layer).await?;
            defaults::replace(&mut *session, *layer, wanted).await?;
            let docs = [&before, wanted].map(defaults::doc);
            let [before, after] = docs;
            let change = Change::new(by, "put", Subject::of("defaults", layer.as_str()), before, after);
            changes::record(&mut *session, &change, now).await?;
        }
        session.commit().await
    }

    async fn provision(&self, by: &Actor, ask: &Provisioning) -> Result<Provisioned, StoreError> {
        self.provision_once(by, ask).await
    }

    async fn referrals(
        &self,
        account: &AccountId,
        cursor: Option<&AccountId>,
        most: u32,
    ) -> Result<Option<Referrals>, StoreError> {
        referrals::of(&mut *self.read().await?, account, cursor, most).await
    }

    async fn transfer(&self, by: &Actor, ask: &Transfer) -> Result<Transferred, StoreError> {
        let mut session = self.write().await?;
        let done = referrals::transfer(&mut *session, self.backend.dialect(), by, ask).await?;
        session.commit().await?;
        Ok(done)
    }
}
