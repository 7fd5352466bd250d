//! The port of the audit: changes that were made, and those of operations whose truth is the ledger.

use async_trait::async_trait;

use super::StoreError;
use crate::quota::change::{Change, Recorded};

/// The audit in SQL. Changes of policies, price lists and settings are recorded by the store itself, in the
/// transaction of the change; the rest through [`Changes::record_change`].
#[async_trait]
pub trait Changes: Send + Sync + 'static {
    /// Keeps a change; one of an operation that is kept already is left alone, so twice is safe.
    async fn record_change(&self, change: &Change) -> Result<(), StoreError>;
    /// Newest first: of the subject and of what is below it (absent: all), with ids below `cursor`.
    async fn changes(&self, subject: Option<&str>, cursor: Option<i64>, most: u32)
    -> Result<Vec<Recorded>, StoreError>;
}
