//! Identifiers. Each is checked when it is built; `Arc<str>` inside, because an id travels through
//! caches, keys and answers and is cloned far more often than it is made.

use std::{fmt, sync::Arc};

use serde::de::Error as _;

/// Why a text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    #[error("must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -")]
    Id,
    #[error("must be 1 to 128 printable ASCII characters")]
    Name,
}

/// Characters of an id at most; all of them are ASCII.
const ID_MAX: usize = 128;

fn is_id(text: &str) -> bool {
    (1..=ID_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'@' | b'-'))
}

fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:ident, $bad:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// [`BadId`] when length or characters are not allowed.
            pub fn new(text: impl AsRef<str>) -> Result<Self, BadId> {
                let text = text.as_ref();
                if $check(text) { Ok(Self(Arc::from(text))) } else { Err($bad) }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(<String as serde::Deserialize>::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_type!(
    /// Who pays.
    AccountId, is_id, BadId::Id
);
text_type!(
    /// An API key of an account, unique within it.
    KeyId, is_id, BadId::Id
);
text_type!(
    /// A reservation, unique within its account; also its idempotency key.
    ReservationId, is_id, BadId::Id
);
text_type!(
    /// Names a refund, credit or debit within its account and kind; its idempotency key.
    OpId, is_id, BadId::Id
);
text_type!(
    /// Who makes a change, for the audit.
    Actor, is_id, BadId::Id
);
text_type!(
    /// A redemption code, by a name that is no secret.
    CodeId, is_id, BadId::Id
);
text_type!(
    /// What is called, e.g. `openai`; `*` only in limits.
    Platform, is_name, BadId::Name
);
text_type!(
    /// Which model is called; `*` only in limits.
    Model, is_name, BadId::Name
);

impl Actor {
    /// Whoever has the admin token and gives no name.
    #[must_use]
    pub fn admin() -> Self {
        Self(Arc::from("admin"))
    }

    /// The command line of this machine, where it works without the admin API.
    #[must_use]
    pub fn command_line() -> Self {
        Self(Arc::from("command-line"))
    }

    /// What nobody asked for.
    #[must_use]
    pub fn quotad() -> Self {
        Self(Arc::from("quotad"))
    }

    /// Of an account's own, `account:<id>`: an account may be called `admin`. An id that leaves no room for it is cut
    /// short; what is changed names the account in full.
    #[must_use]
    pub fn account(account: &AccountId) -> Self {
        let text = format!("account:{account}");
        Self(Arc::from(text.get(..ID_MAX).unwrap_or(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An account called `admin` looked like the operator in the audit.
    #[test]
    fn an_account_that_acts_is_no_operator() {
        let of = |id: &str| Actor::account(&AccountId::new(id).unwrap());
        assert_eq!(of("admin").as_str(), "account:admin");
        assert_ne!(of("admin"), Actor::admin());
        let long = of(&"a".repeat(128));
        assert!(Actor::new(long.as_str()).is_ok() && long.as_str().len() == 128, "{long}");
    }

    #[test]
    fn ids() {
        let ok = "a".repeat(128);
        for good in ["a", "A-b.c_d:e@f", ok.as_str()] {
            assert!(AccountId::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", "{a}", "a b", "a/b", "é", "a\n", long.as_str()] {
            assert_eq!(AccountId::new(bad), Err(BadId::Id), "{bad}");
        }
        assert!(Model::new("gpt 4/o {x}").is_ok());
        for bad in ["", "é", "a\tb", "a\u{1f}b", long.as_str()] {
            assert_eq!(Model::new(bad), Err(BadId::Name), "{bad}");
        }
    }
}
