//! The platform quotas that new accounts begin with, as the admin API sees and replaces them.

use std::collections::BTreeMap;

use super::{
    Answer, Engine,
    step::{Done, Step, verdict},
};
use crate::quota::{
    defaults::{Defaults, Layer},
    id::Actor,
    verdict::Refusal,
};

/// Platforms of one layer at most: with those of another one they still fit an account.
const PLATFORMS_MAX: usize = 16;

impl Engine {
    /// Every layer.
    pub async fn defaults(&self) -> Answer<BTreeMap<Layer, Defaults>> {
        verdict(self.policies.defaults().await.map(Done::now).map_err(Into::into))
    }

    /// Replaces these layers, each whole, all or none. Accounts that exist are not touched. A platform
    /// must be on the list of platforms, or be in its layer already.
    pub async fn put_defaults(&self, by: &Actor, layers: &BTreeMap<Layer, Defaults>) -> Answer<()> {
        verdict(self.try_put_defaults(by, layers).await)
    }

    async fn try_put_defaults(&self, by: &Actor, layers: &BTreeMap<Layer, Defaults>) -> Step<Done<()>> {
        let there = self.policies.defaults().await?;
        for (layer, defaults) in layers {
            let had = there.get(layer);
            let field = layer.as_str();
            self.check_platforms(field, defaults.0.keys(), |platform| {
                had.is_some_and(|had| had.0.contains_key(platform))
            })?;
            if defaults.0.len() > PLATFORMS_MAX {
                let detail = format!("a layer of defaults has at most {PLATFORMS_MAX} platforms");
                return Err(Refusal::invalid(field, detail).into());
            }
        }
        self.policies.put_defaults(by, layers).await?;
        Ok(Done::now(()))
    }
}
