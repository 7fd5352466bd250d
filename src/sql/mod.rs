//! Floor 2: the only room that knows SQL. It remembers policies, the ledger and its sums, and how far
//! each shard's stream is posted; it implements the ports `PolicyStore`, `Changes`, `SettingStore`, `LedgerStore` and `Posting`.
//!
//! The room is written once, over the small [`session`] interface; `sqlite.rs` is the first backend.
//! `merge` and `sums` are pure; `policy`, `ledger` and `posting` hold the statements, one port each.
//! `contract` holds the tests that every backend must pass.

mod apply;
mod audit;
mod bulk;
mod changes;
mod codes;
mod connect;
#[cfg(test)]
mod contract;
mod defaults;
mod ledger;
mod marks;
mod merge;
mod mysql;
mod onboarding;
mod outbox;
mod policy;
mod policy_rows;
mod postgres;
mod posting;
mod provision;
mod raises;
mod redeem;
mod referrals;
mod server;
mod session;
mod settings;
mod sqlite;
mod sums;
mod tariffs;

pub use connect::{OpenError, open, open_with};
pub use merge::KEYS_MAX;
use session::{Access, Backend, Session};

use crate::{engine::ports::StoreError, quota::window::Zone};

/// An open database.
pub struct Store {
    backend: Box<dyn Backend>,
    /// Of accounts that are created without one.
    zone: Zone,
}

impl Store {
    async fn read(&self) -> Result<Box<dyn Session>, StoreError> {
        self.backend.begin(Access::Read).await
    }

    async fn write(&self) -> Result<Box<dyn Session>, StoreError> {
        self.backend.begin(Access::Write).await
    }

    /// Closes the connections; later calls answer `Unavailable`.
    pub async fn close(&self) {
        self.backend.close().await;
    }
}
