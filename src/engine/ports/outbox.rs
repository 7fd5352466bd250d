//! The port [`Outbox`]: credits that SQL owes to Redis, and with [`Raises`] all that it owes.

use async_trait::async_trait;

use super::{Raises, StoreError};
use crate::{
    engine::adjust::CreditKind,
    quota::{
        clock::Millis,
        id::{AccountId, OpId},
        verdict::Code,
    },
};

/// A credit that follows from something SQL alone knows (a code that was used, a referral that was
/// transferred). Its row is written in the transaction of its cause, so there is never one without the
/// other; [`Engine::give`](crate::engine::Engine::give) brings it to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    pub account: AccountId,
    /// Of the credit, and so of its ledger entry: one effect, however often it is brought.
    pub op_id: OpId,
    pub kind: CreditKind,
    /// Units, above 0.
    pub amount: i64,
    pub note: Option<String>,
}

/// A credit whose row is open and to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub owed: Owed,
    /// When it was to be looked at; tells looks apart for [`Outbox::postpone`].
    pub due_at: Millis,
    /// Looks that found it unposted so far.
    pub attempts: u32,
    /// Its entry is in the ledger: nothing is owed any more.
    pub posted: bool,
}

/// How a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The ledger has the credit.
    Credited,
    /// It can never be credited: the account is gone, or another operation has its name.
    Refused(Code),
}

/// Called by the task that looks after the outbox, on every sidecar. Every call may be repeated.
#[async_trait]
pub trait Outbox: Raises {
    /// Open rows whose time has come, the longest due first.
    async fn due(&self, now: Millis, most: u32) -> Result<Vec<Due>, StoreError>;
    /// Open rows that were written before the first look at them: their writers did not see them through.
    async fn late(&self, now: Millis) -> Result<u64, StoreError>;
    /// Looks at a row again at `until` and not before, on whatever sidecar; compare-and-set on its
    /// `due_at`: false when another one was quicker.
    async fn postpone(&self, due: &Due, until: Millis) -> Result<bool, StoreError>;
    /// Closes rows; those that are closed already stay as they are.
    async fn done(&self, due: &[Due], how: Closed, now: Millis) -> Result<(), StoreError>;
}
