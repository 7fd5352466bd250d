//! The port [`Onboarding`]: what a new account begins with, and whom it was invited by.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{KeyPatch, Owed, StoreError};
use crate::quota::{
    clock::Millis,
    defaults::{Defaults, Layer, Source},
    id::{AccountId, Actor, KeyId, OpId},
    platform::{Month, PlatformQuota},
    policy::Policy,
    window::Zone,
};

/// A provisioning as it was asked for, and its terms as they are at this moment.
#[derive(Clone, Debug)]
pub struct Provisioning {
    pub account: AccountId,
    pub source: Source,
    pub group: Option<Box<str>>,
    pub inviter: Option<AccountId>,
    pub key: Option<(KeyId, KeyPatch)>,
    pub name: Option<Box<str>>,
    pub contact: Option<Box<str>>,
    pub zone: Option<Zone>,
    /// What makes two calls the same: names of fields and their texts.
    pub content: Vec<(&'static str, Option<String>)>,
    pub terms: SignupTerms,
}

/// What provisioning gives, in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignupTerms {
    pub initial_balance: i64,
    /// To the balance of an account that was invited.
    pub invitee_reward: i64,
    /// To the pending balance of its inviter.
    pub inviter_reward: i64,
    /// Which month the quotas by default count over.
    pub month: Month,
}

/// What an account was given when it was provisioned; kept as long as the account lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub source: Source,
    pub inviter: Option<AccountId>,
    pub key: Option<KeyId>,
    /// Units, without the bonus.
    pub initial_balance: i64,
    /// Units for having been invited.
    pub bonus: i64,
    pub at: Millis,
}

/// How a provisioning ended.
#[derive(Clone, Debug)]
pub enum Provisioned {
    /// The account is there. `first`: this very call made it.
    Done { policy: Box<Policy>, grant: Grant, first: bool },
    /// It was provisioned with another value of this field; `account`: it was made in another way.
    Conflict(&'static str),
    /// There is no such account.
    NoInviter,
}

/// An account that was invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitee {
    pub account: AccountId,
    pub source: Source,
    /// Units it brought its inviter.
    pub reward: i64,
    /// Units it got itself.
    pub bonus: i64,
    pub at: Millis,
}

/// What an account has from those it invited, and a page of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrals {
    /// Units that can be transferred.
    pub pending: i64,
    /// Units of all rewards there ever were.
    pub history: i64,
    /// In the order of their ids.
    pub invitees: Vec<Invitee>,
}

/// Moves units from the pending balance of an account to its balance.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub account: AccountId,
    pub op_id: OpId,
    pub amount: i64,
    /// The least that may be moved at once.
    pub least: i64,
    /// Of the credit, should this call be the first.
    pub credit_op: OpId,
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// Off the pending balance, and owed to the balance. `first`: by this very call.
    Done {
        owed: Owed,
        pending: i64,
        first: bool,
    },
    /// The op id moved another amount.
    Conflict,
    TooLittle,
    /// More than is pending.
    Lacking {
        pending: i64,
    },
    NoAccount,
}

/// Every change keeps a row of the audit in its own transaction.
#[async_trait]
pub trait Onboarding: Send + Sync + 'static {
    /// Replaces the platform quotas of an account and none of its other limits; `None` when there is no
    /// such account. Refuses (`quotas`) what does not fit beside them.
    async fn put_quotas(
        &self,
        by: &Actor,
        account: &AccountId,
        quotas: &[PlatformQuota],
        month: Month,
    ) -> Result<Option<Policy>, StoreError>;
    /// All layers; one that was never set is empty.
    async fn defaults(&self) -> Result<BTreeMap<Layer, Defaults>, StoreError>;
    /// Replaces these layers, each whole, all or none.
    async fn put_defaults(&self, by: &Actor, layers: &BTreeMap<Layer, Defaults>) -> Result<(), StoreError>;
    /// Makes account, limits, key and referral in one transaction, once: any number of calls at the same
    /// time make one of each.
    async fn provision(&self, by: &Actor, ask: &Provisioning) -> Result<Provisioned, StoreError>;
    /// `None`: no such account. Invitees after `cursor`.
    async fn referrals(
        &self,
        account: &AccountId,
        cursor: Option<&AccountId>,
        most: u32,
    ) -> Result<Option<Referrals>, StoreError>;
    /// Takes off the pending balance and writes down, in the same transaction, that the balance is owed
    /// the amount.
    async fn transfer(&self, by: &Actor, ask: &Transfer) -> Result<Transferred, StoreError>;
}
