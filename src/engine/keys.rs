//! Keys as the admin API sees them.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{
    Answer, Engine,
    policies::no_account,
    ports::{KeyPatch, Unavailable},
    step::{Done, Step, verdict},
};
use crate::quota::{
    id::{AccountId, Actor, KeyId},
    policy::Policy,
    verdict::{Code, Refusal},
};

/// Random characters of a secret: 285 bits.
const SECRET_CHARACTERS: usize = 48;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key's policy document and, once, its new secret.
#[derive(Clone, Debug)]
pub struct KeyPut {
    pub policy: Arc<Policy>,
    pub created: bool,
    /// Only when the key is new and no `secret_sha256` was given.
    pub secret: Option<String>,
}

impl Engine {
    pub async fn put_key(&self, by: &Actor, account: &AccountId, key: &KeyId, patch: &KeyPatch) -> Answer<KeyPut> {
        verdict(self.try_put_key(by, account, key, patch).await)
    }

    async fn try_put_key(&self, by: &Actor, account: &AccountId, key: &KeyId, patch: &KeyPatch) -> Step<Done<KeyPut>> {
        // Two creations at once may both come here: the store tells which of them it was, and only that one's
        // secret is in force and shown.
        let text = new_secret()?;
        let first_secret_sha256 = Some(Sha256::digest(text.as_bytes()).into());
        let patch = KeyPatch { first_secret_sha256, ..patch.clone() };
        let era = self.counters.era();
        let put = self.policies.put_key(by, account, key, &patch).await?;
        let (policy, created) = put.ok_or_else(|| no_account(account))?;
        let policy = self.in_force(policy, era).await?;
        let secret = (created && patch.secret_sha256.is_none()).then_some(text);
        Ok(Done::now(KeyPut { policy, created, secret }))
    }

    pub async fn delete_key(&self, by: &Actor, account: &AccountId, key: &KeyId) -> Answer<()> {
        let delete = async {
            let era = self.counters.era();
            let Some(policy) = self.policies.delete_key(by, account, key).await? else {
                self.reload(account).await?.ok_or_else(|| no_account(account))?;
                return Err(Refusal::new(Code::KeyNotFound, format!("there is no key `{key}`")).into());
            };
            self.in_force(policy, era).await?;
            Ok(Done::now(()))
        };
        verdict(delete.await)
    }
}

/// A secret for a new key.
pub(crate) fn new_secret() -> Result<String, Unavailable> {
    Ok(format!("sk-{}", random_text(SECRET_CHARACTERS)?))
}

/// So many random characters of `0-9 A-Z a-z`, each equally likely.
pub(crate) fn random_text(characters: usize) -> Result<String, Unavailable> {
    // The largest multiple of 62 that a byte holds: bytes above it would favour the first letters.
    const FAIR: u8 = 248;
    let mut text = String::with_capacity(characters);
    let mut bytes = [0; 64];
    while text.len() < characters {
        getrandom::fill(&mut bytes)
            .map_err(|error| Unavailable::Corrupt(format!("the system has no random numbers: {error}")))?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR).map(|byte| char::from(BASE62[usize::from(byte % 62)]));
        text.extend(fair.take(characters - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_texts_are_long_enough_and_differ() {
        let texts: std::collections::HashSet<_> = (0..100).map(|_| random_text(SECRET_CHARACTERS).unwrap()).collect();
        assert_eq!(texts.len(), 100);
        assert!(texts.iter().all(|text| text.len() == 48 && text.bytes().all(|b| b.is_ascii_alphanumeric())));
        let used: std::collections::HashSet<_> = texts.iter().flat_map(|text| text.bytes()).collect();
        assert_eq!(used.len(), 62);
    }
}
