//! The ports of what is set at run time: SQL keeps it, Redis spreads the news.

use async_trait::async_trait;

use super::StoreError;
use crate::quota::{clock::Millis, id::Actor};

/// A setting as SQL keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub name: String,
    /// Grows by one with every change; 0 for one that was never set.
    pub version: u32,
    /// JSON; `None`: the deployment's default, again.
    pub content: Option<String>,
    pub changed_at: Millis,
    pub changed_by: String,
}

/// All settings that were ever set, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSettings {
    /// Grows by one with every change of any setting.
    pub revision: u32,
    pub settings: Vec<Stored>,
}

/// A change of one setting.
#[derive(Clone, Copy, Debug)]
pub struct SettingPut<'a> {
    pub name: &'a str,
    /// JSON; `None`: back to the default.
    pub content: Option<&'a str>,
    /// The version that the caller knows; another one there is a conflict. `None`: whatever it is.
    pub version: Option<u32>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// In force; also when it was so before, whatever version the caller knew.
    Saved(StoredSettings),
    /// Another version is there: this one.
    Conflict(u32),
}

/// Settings in SQL. Changes are made one after the other, whoever makes them.
#[async_trait]
pub trait SettingStore: Send + Sync + 'static {
    /// What [`StoredSettings::revision`] is now: a cheap look, every moment.
    async fn settings_revision(&self) -> Result<u32, StoreError>;
    async fn settings(&self) -> Result<StoredSettings, StoreError>;
    /// Changes one, with its row of the audit. `judge` sees all settings as they would be, within the
    /// transaction, and may refuse.
    async fn put_setting(
        &self,
        by: &Actor,
        put: SettingPut<'_>,
        judge: &(dyn for<'s> Fn(&'s [Stored]) -> Result<(), StoreError> + Sync),
    ) -> Result<Put, StoreError>;
}

/// Tells other sidecars that settings or price lists have changed. News may be lost: everybody also looks
/// into SQL by himself, twice a second.
#[async_trait]
pub trait News: Send + Sync + 'static {
    /// Tells all sidecars, this one too. Short; what fails is not tried again.
    async fn tell(&self);
    /// Listens from now on.
    fn listen(&self) -> Box<dyn Listen>;
}

/// One who listens. Connects, and connects again, by itself.
#[async_trait]
pub trait Listen: Send {
    /// Waits for news; answers also when something may have been missed. Not to be dropped half-way and called
    /// again in a hurry: then it would never get to listen.
    async fn heard(&mut self);
}
