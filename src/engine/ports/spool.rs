//! The port [`Spool`]: what was done without Redis, kept on this machine until Redis knows it.

use std::sync::Arc;

use async_trait::async_trait;

/// Why the spool did not keep a record: the caller must not say that it did.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool is full ({0} bytes)")]
    Full(u64),
    #[error("the spool cannot be written: {0}")]
    Io(String),
}

/// Records in the order in which they came, each until it is done. Appending is called by request
/// handlers while Redis is away, the rest by the replay; nothing blocks a thread.
#[async_trait]
pub trait Spool: Send + Sync + 'static {
    /// Keeps a record: it survives a crash of the process and of the machine when this answers `Ok`.
    /// After an error it may or may not be kept.
    async fn append(&self, record: Vec<u8>) -> Result<(), SpoolError>;
    /// All records that are not done, oldest first, each with its ticket.
    fn waiting(&self) -> Vec<(u64, Arc<[u8]>)>;
    /// The record is decided and need not be kept. It may be seen again after a crash.
    async fn done(&self, ticket: u64);
    /// The record can never be done: kept aside for people, with the reason, and then done.
    async fn refuse(&self, ticket: u64, reason: &str) -> Result<(), SpoolError>;
    /// How many records wait.
    fn entries(&self) -> usize;
}
