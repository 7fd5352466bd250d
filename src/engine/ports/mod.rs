//! What the engine needs from the floor above it: counters that decide atomically (Redis, and the
//! in-memory model of the tests) and a store that remembers (SQL); and what write-back needs of both.
//! Neither knows the other.

mod backlog;
mod changes;
mod codes;
mod counters;
mod onboarding;
mod outbox;
mod posting;
mod raises;
mod settings;
mod spool;
mod store;
mod stream;

use std::time::Duration;

pub use super::patch::{AccountPatch, KeyPatch};
pub use backlog::Backlog;
pub use changes::Changes;
pub use codes::{CodeFilter, CodePatch, CodeStore, Edited, GuessBound, Made, NewCodes, Redemption};
pub use counters::{
    AdjustCall, ChargeCall, Cost, Counters, ExtendCall, Field, Listed, MendCall, OpRecord, RefundCall, Reply, Reprice,
    ReserveCall, ResetCall, SettleCall, Status, UndoCall,
};
pub use onboarding::{
    Grant, Invitee, Onboarding, Provisioned, Provisioning, Referrals, SignupTerms, Transfer, Transferred,
};
pub use outbox::{Closed, Due, Outbox, Owed};
pub use posting::{Applied, Batch, Cause, Constants, Line, Mark, Opened, Opening, Posting, compensation_id};
pub use raises::{Raise, Raises};
pub use settings::{Listen, News, Put, SettingPut, SettingStore, Stored, StoredSettings};
pub use spool::{Spool, SpoolError};
pub use store::{Audit, Drain, LedgerStore, Ledgered, Load, PolicyStore, Posted, StoreError, TariffVersion};
pub use stream::{Digest, NO_DIGEST, Position, RawEntry, ServerFacts, ShardMeta, Stream, Tombstone};

/// "We could not tell": no verdict. The caller answers 503 and may ask again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("the call was not decided within the time budget")]
    Timeout,
    #[error("too many calls in flight")]
    Overloaded,
    #[error("Redis cannot be reached: {0}")]
    Connection(String),
    /// The shard is being attached or recovered, or its generation changed.
    #[error("the shard is being recovered")]
    Recovering,
    #[error("the database cannot be reached: {0}")]
    Store(String),
    /// The setting that bounds how far SQL may fall behind.
    #[error("the database is too far behind to take on more")]
    Behind,
    /// A script or a stored value broke an invariant; alarmed where it is found.
    #[error("stored state is corrupt: {0}")]
    Corrupt(String),
}

impl Unavailable {
    /// Whether Redis cannot decide for now: away, silent or being recovered. Not: too much to do, SQL
    /// too far behind, or state that makes no sense.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Unavailable::Timeout | Unavailable::Connection(_) | Unavailable::Recovering => true,
            Unavailable::Overloaded | Unavailable::Store(_) | Unavailable::Behind | Unavailable::Corrupt(_) => false,
        }
    }

    /// How long a client should wait before it asks again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(1)
    }
}
