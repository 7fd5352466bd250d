//! The port [`Raises`]: policy versions that SQL has and Redis may not.

use async_trait::async_trait;

use super::StoreError;
use crate::quota::{clock::Millis, id::AccountId};

/// A policy version that SQL took on. Its row is written in the transaction that raises the version: whoever
/// dies before Redis knows it leaves the row behind, and no sidecar decides by the old rules for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    pub account: AccountId,
    pub version: u32,
}

/// Called by the task that looks after the outbox, on every sidecar. Every call may be repeated.
#[async_trait]
pub trait Raises: Send + Sync + 'static {
    /// Rows whose time has come, in the order of their accounts, after `cursor`.
    async fn raises(&self, now: Millis, cursor: Option<&AccountId>, most: u32) -> Result<Vec<Raise>, StoreError>;
    /// Redis has these: their rows go, unless another version took their place.
    async fn raised(&self, raises: &[Raise]) -> Result<(), StoreError>;
}
