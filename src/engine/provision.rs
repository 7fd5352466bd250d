//! Provisioning: a new account with its balance, limits, first key and referral, in one step that may be
//! repeated. SQL makes all of it in one transaction; then Redis learns of it as of any account. Whatever
//! dies in between, the same call again ends it, and gives nothing twice.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{
    Answer, Engine,
    keys::new_secret,
    ports::{Grant, KeyPatch, Provisioned, Provisioning},
    step::{Done, Step, verdict},
};
use crate::quota::{
    defaults::Source,
    id::{AccountId, Actor, KeyId},
    policy::{DEFAULT_GROUP, Policy},
    verdict::{Code, Refusal},
    window::Zone,
};

/// A provisioning as it is asked for.
#[derive(Clone, Debug)]
pub struct Provision {
    pub account: AccountId,
    pub source: Source,
    pub group: Option<Box<str>>,
    pub inviter: Option<AccountId>,
    pub key: Option<FirstKey>,
    pub name: Option<Box<str>>,
    pub contact: Option<Box<str>>,
    pub zone: Option<Zone>,
}

#[derive(Clone, Debug)]
pub struct FirstKey {
    pub id: KeyId,
    pub patch: KeyPatch,
    /// The patch as text: the same for the same request, whoever sends it and whenever.
    pub content: String,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct ProvisionDone {
    /// As it is now.
    pub policy: Arc<Policy>,
    /// As it was given.
    pub grant: Grant,
    /// Only in the answer that made the key, and only when no `secret_sha256` was given.
    pub secret: Option<String>,
}

impl Engine {
    /// Makes the account, or finds that this very call made it (`replayed`).
    pub async fn provision(&self, by: &Actor, ask: &Provision) -> Answer<ProvisionDone> {
        verdict(self.try_provision(by, ask).await)
    }

    async fn try_provision(&self, by: &Actor, ask: &Provision) -> Step<Done<ProvisionDone>> {
        if ask.inviter.as_ref() == Some(&ask.account) {
            return Err(Refusal::invalid("inviter", "an account cannot invite itself").into());
        }
        let (mut key, mut secret) = (None, None);
        if let Some(first) = &ask.key {
            let text = new_secret()?;
            let first_secret_sha256 = Some(Sha256::digest(text.as_bytes()).into());
            key = Some((first.id.clone(), KeyPatch { first_secret_sha256, ..first.patch.clone() }));
            secret = first.patch.secret_sha256.is_none().then_some(text);
        }
        let terms = self.signup_terms(ask.group.as_deref().unwrap_or(DEFAULT_GROUP), ask.source);
        let provisioning = Provisioning {
            account: ask.account.clone(),
            source: ask.source,
            group: ask.group.clone(),
            inviter: ask.inviter.clone(),
            key,
            name: ask.name.clone(),
            contact: ask.contact.clone(),
            zone: ask.zone.clone(),
            content: ask.content(),
            terms,
        };
        let era = self.counters.era();
        let (policy, grant, first) = match self.policies.provision(by, &provisioning).await? {
            Provisioned::Done { policy, grant, first } => (policy, grant, first),
            Provisioned::Conflict(field) => return Err(conflict(&ask.account, field)),
            Provisioned::NoInviter => return Err(no_inviter(ask)),
        };
        crate::fail_point!("provisioned");
        let policy = self.in_force(*policy, era).await?;
        // Of a repeated call too: the first one may have ended before this.
        self.initialise(&ask.account).await?;
        let secret = secret.filter(|_| first);
        Ok(Done { answer: ProvisionDone { policy, grant, secret }, replayed: !first })
    }
}

impl Provision {
    /// What makes two calls the same, in the order in which a difference is told.
    fn content(&self) -> Vec<(&'static str, Option<String>)> {
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        vec![
            ("source", Some(self.source.as_str().to_owned())),
            ("group", text(&self.group)),
            ("inviter", self.inviter.as_ref().map(ToString::to_string)),
            ("key", self.key.as_ref().map(|key| format!("{} {}", key.id, key.content))),
            ("name", text(&self.name)),
            ("contact", text(&self.contact)),
            ("timezone", self.zone.as_ref().map(|zone| zone.name().to_owned())),
        ]
    }
}

fn conflict(account: &AccountId, field: &'static str) -> super::step::Stop {
    let detail = match field {
        "account" => format!("the account `{account}` is there, and was not provisioned"),
        field => format!("the account `{account}` was provisioned with another {field}"),
    };
    Refusal { field: Some(field), ..Refusal::new(Code::Conflict, detail) }.into()
}

fn no_inviter(ask: &Provision) -> super::step::Stop {
    let inviter = ask.inviter.as_ref().map_or("", AccountId::as_str);
    let detail = format!("there is no account `{inviter}` that could have invited");
    Refusal { field: Some("inviter"), ..Refusal::new(Code::AccountNotFound, detail) }.into()
}
