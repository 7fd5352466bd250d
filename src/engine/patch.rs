//! What the admin API changes of an account or a key: absent fields stay as they are.

use ipnet::IpNet;

use crate::quota::{
    clock::Millis,
    id::Model,
    limit::Limit,
    policy::{AccountStatus, KeyStatus, OnUnavailable, Trust},
    window::Zone,
};

/// A change of an account; absent fields stay as they are. Shapes are those of [`Policy`].
#[derive(Clone, Debug, Default)]
pub struct AccountPatch {
    pub status: Option<AccountStatus>,
    pub group: Option<Box<str>>,
    pub credit_limit: Option<i64>,
    pub zone: Option<Zone>,
    pub trust: Option<Trust>,
    /// `Some(None)`: the deployment's setting.
    pub on_unavailable: Option<Option<OnUnavailable>>,
    pub limits: Option<Vec<Limit>>,
    /// `Some(None)` clears it.
    pub name: Option<Option<Box<str>>>,
    pub contact: Option<Option<Box<str>>>,
    /// Units to begin with; only at creation.
    pub initial_balance: Option<i64>,
}

/// A change of a key; absent fields stay as they are, `Some(None)` clears.
#[derive(Clone, Debug, Default)]
pub struct KeyPatch {
    pub status: Option<KeyStatus>,
    pub allowance: Option<Option<i64>>,
    pub expires_at: Option<Option<Millis>>,
    pub models: Option<Vec<Model>>,
    pub networks: Option<Vec<IpNet>>,
    pub group: Option<Option<Box<str>>>,
    pub limits: Option<Vec<Limit>>,
    pub secret_sha256: Option<[u8; 32]>,
    /// What a key that is new gets for a secret when `secret_sha256` does not say it. Only the store can tell:
    /// of several creations at once one finds no key.
    pub first_secret_sha256: Option<[u8; 32]>,
    pub name: Option<Option<Box<str>>>,
    pub cross_group_retry: Option<bool>,
}
