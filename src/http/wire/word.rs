//! The closed lists of words that requests choose from.

use super::read::{Bad, Value, string};
use crate::{
    engine::{adjust, reserve, settle},
    quota::{defaults, limit, platform, policy},
};

/// Declares a word type: what it means in the engine, and its spellings (the first is the proper one).
macro_rules! words {
    ($(#[$meta:meta])* $name:ident of $kind:ty { $($word:literal $(or $other:literal)* => $value:path,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $kind);

        impl $name {
            pub(crate) const WORDS: &'static [&'static str] = &[$($word $(, $other)*),*];

            fn of(text: &str) -> Option<Self> {
                Some(Self(match text {
                    $($word $(| $other)* => $value,)*
                    _ => return None,
                }))
            }

            /// The word for a value.
            #[allow(dead_code, reason = "answers show some lists only")]
            pub(crate) fn as_str(self) -> &'static str {
                match self.0 {
                    $($value => $word,)*
                }
            }
        }

        impl Value for $name {
            fn read(raw: &str) -> Result<Self, Bad> {
                Self::of(&string(raw)?).ok_or_else(|| Bad::value(format!("must be one of {}", Self::WORDS.join(", "))))
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                super::schema::one_of_words(Self::WORDS)
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

words!(
    /// How a reserve holds.
    Mode of reserve::Mode {
        "strict" => reserve::Mode::Strict,
        "best_effort" => reserve::Mode::BestEffort,
        "check_only" => reserve::Mode::CheckOnly,
    }
);

/// What an expiry does with a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    Release,
    Charge,
}

words!(
    /// What happens to a hold that nobody settles.
    OnExpiry of Expiry {
        "release" => Expiry::Release,
        "charge" => Expiry::Charge,
    }
);

words!(
    /// How the call ended.
    Outcome of settle::Outcome {
        "ok" => settle::Outcome::Ok,
        "client_abort" => settle::Outcome::ClientAbort,
        "upstream_error" => settle::Outcome::UpstreamError,
        "unknown" => settle::Outcome::Unknown,
    }
);

words!(
    /// Where a credit comes from.
    CreditKind of adjust::CreditKind {
        "topup" => adjust::CreditKind::Topup,
        "grant" => adjust::CreditKind::Grant,
        "redeem" => adjust::CreditKind::Redeem,
        "referral" => adjust::CreditKind::Referral,
        "adjust" => adjust::CreditKind::Adjust,
    }
);

words!(
    /// Whether an account may spend.
    AccountStatus of policy::AccountStatus {
        "enabled" or "active" => policy::AccountStatus::Enabled,
        "disabled" => policy::AccountStatus::Disabled,
        "restricted" => policy::AccountStatus::Restricted,
    }
);

words!(
    /// Whether a key may spend.
    KeyStatus of policy::KeyStatus {
        "enabled" or "active" => policy::KeyStatus::Enabled,
        "disabled" => policy::KeyStatus::Disabled,
    }
);

words!(
    /// What a limit counts.
    Metric of limit::Metric {
        "cost" => limit::Metric::Cost,
        "tokens" => limit::Metric::Tokens,
        "requests" => limit::Metric::Requests,
        "concurrency" => limit::Metric::Concurrency,
    }
);

/// A word of a list that the rules keep, so that it stands in one place.
macro_rules! listed_words {
    ($($(#[$meta:meta])* $name:ident of $kind:ty;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $kind);

        impl Value for $name {
            fn read(raw: &str) -> Result<Self, Bad> {
                let text = string(raw)?;
                let found = <$kind>::ALL.into_iter().find(|one| one.as_str() == text);
                let words = || <$kind>::ALL.map(<$kind>::as_str).join(", ");
                found.map(Self).ok_or_else(|| Bad::value(format!("must be one of {}", words())))
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                super::schema::one_of_words(&<$kind>::ALL.map(<$kind>::as_str))
            }
        }

        impl utoipa::ToSchema for $name {}
    )*};
}

listed_words! {
    /// Where an account signed up.
    Source of defaults::Source;
    /// A span of a platform quota.
    Window of platform::Window;
}
