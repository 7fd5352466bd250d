//! Bearer tokens of the two listeners. Presented and expected tokens are compared as SHA-256
//! digests in constant time, so neither content nor length leaks through the clock.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::Problem;

/// The tokens that open a listener; several while one is being exchanged for another.
#[derive(Clone, Default)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// Empty texts are left out: an unset variable must not open a door.
    pub fn new<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> Self {
        let digest = |token: T| (!token.as_ref().is_empty()).then(|| Sha256::digest(token.as_ref()).into());
        Self(tokens.into_iter().filter_map(digest).collect())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn accept(&self, presented: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        self.0.iter().fold(subtle::Choice::from(0), |found, token| found | token.ct_eq(&digest)).into()
    }

    /// Opens for one of the tokens in `Authorization: Bearer`; never when there are none.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match bearer(headers) {
            Some(token) if self.accept(token) => Ok(()),
            Some(_) => Err(Problem::unauthorized("the bearer token is wrong")),
            None => Err(Problem::unauthorized("a bearer token is required in the header Authorization")),
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    credentials(headers, "bearer")
}

/// The password of `Authorization: Basic`; the user's name is not looked at.
pub(crate) fn basic_password(headers: &HeaderMap) -> Option<String> {
    let decoded = STANDARD.decode(credentials(headers, "basic")?).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(password.to_owned())
}

fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (given, rest) = value.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    (given.eq_ignore_ascii_case(scheme) && !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn only_a_known_token_opens() {
        let tokens = Tokens::new(["old", "new"]);
        for good in ["Bearer old", "Bearer new", "bearer  new"] {
            assert!(tokens.check(&headers(good)).is_ok(), "{good}");
        }
        for bad in ["Bearer", "Bearer ", "Bearer ol", "Bearer older", "Basic old", "old", "Bearer old new"] {
            assert_eq!(tokens.check(&headers(bad)).unwrap_err().status, 401, "{bad}");
        }
        assert!(tokens.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn no_token_opens_nothing() {
        let tokens = Tokens::new([""]);
        assert!(tokens.is_empty());
        assert!(tokens.check(&headers("Bearer x")).is_err());
    }

    #[test]
    fn basic_carries_the_token_as_password() {
        assert_eq!(basic_password(&headers("Basic Z3c6czNjcmV0")).as_deref(), Some("s3cret"));
        assert_eq!(basic_password(&headers("Basic !")), None);
    }
}
