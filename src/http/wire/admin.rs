//! Requests of the admin listener.

use super::{
    limit::Limits,
    read::{Bad, Value, string},
    request,
    scalar::{
        Cap, Count, GroupName, GroupOrNull, InstantOrNull, Level, Network, PageLimit, Sha256, Span, Text, TextOrNull,
        TimeZone, Units,
    },
    word,
};
use crate::quota::{
    id::{AccountId, KeyId, Model, OpId, Platform},
    policy::{OnUnavailable, Trust},
};

request!(
    /// Create or merge an account; absent fields stay as they are.
    AccountPut {
        status: Option<word::AccountStatus>,
        /// Price group: what its calls cost, and which other groups it may use. Not `auto`.
        group: Option<GroupName>,
        /// How far `available` may go below zero.
        credit_limit: Option<Level>,
        timezone: Option<TimeZone>,
        /// Units that must stay available for work to go unheld; null is off, `default` the deployment's.
        trust_threshold: Option<TrustLevel>,
        /// While Redis cannot decide: `deny`, or `allow` within the deployment's allowance; null is the deployment's.
        on_unavailable: Option<UnavailableOrNull>,
        /// Replaced as a whole when given.
        limits: Option<Limits>,
        /// Units to begin with; only when the account is created.
        initial_balance: Option<Level>,
        name: Option<TextOrNull>,
        contact: Option<TextOrNull>,
    }
);

request!(
    /// Create or merge a key; absent fields stay as they are.
    KeyPut {
        status: Option<word::KeyStatus>,
        /// Units the key may spend in all; null is unlimited.
        allowance: Option<Cap>,
        /// Null is never.
        expires_at: Option<InstantOrNull>,
        /// Empty is all.
        models: Option<Vec<Model>>,
        /// Addresses or CIDR blocks; empty is all.
        networks: Option<Vec<Network>>,
        /// Price group that its calls are made in, or `auto`: the first usable one that serves the model. Null is the
        /// account's.
        group: Option<GroupOrNull>,
        /// Replaced as a whole when given.
        limits: Option<Limits>,
        /// For people; null clears it.
        name: Option<TextOrNull>,
        /// Whether a retry (`extend` with `group`) may go on in another group than the reservation's.
        cross_group_retry: Option<bool>,
        /// SHA-256 of a secret of your own. Without it a new key gets a secret, shown once.
        secret_sha256: Option<Sha256>,
    }
);

request!(
    /// Top up.
    Credit {
        /// Names the credit. May come in the header `Idempotency-Key`.
        op_id: Option<OpId>,
        amount: Units,
        /// Default `topup`.
        kind: Option<word::CreditKind>,
        note: Option<Text>,
    }
);

request!(
    /// Take away.
    Debit {
        /// Names the debit. May come in the header `Idempotency-Key`.
        op_id: Option<OpId>,
        amount: Units,
        /// Also when it overdraws.
        force: Option<bool>,
        note: Option<Text>,
    }
);

request!(
    /// Start a window's usage anew.
    Reset {
        /// Names the reset, so that it may be repeated. May come in the header `Idempotency-Key`.
        op_id: Option<OpId>,
        platform: Platform,
        /// Default `*`.
        model: Option<Model>,
        /// Default `cost`.
        metric: Option<word::Metric>,
        period: Span,
        /// The key whose limit it is; absent for the account's own.
        key: Option<KeyId>,
    }
);

request!(
    /// Compare Redis with SQL.
    Reconcile {
        /// Absent: all accounts.
        account: Option<AccountId>,
        /// Mend what follows from the ledger or from the live holds.
        repair: Option<bool>,
        /// `next` of the page before.
        cursor: Option<AccountId>,
        /// Accounts on a page; absent: all that are left.
        limit: Option<PageLimit>,
    }
);

request!(
    /// Change a setting.
    SettingPut {
        /// Of the setting's own type.
        value: Json,
        /// The version that you know: when there is another one by now, nothing is changed (409).
        version: Option<Count>,
    }
);

/// Any JSON, as it came.
#[derive(Debug)]
pub(crate) struct Json(pub(crate) Box<str>);

impl Value for Json {
    fn read(raw: &str) -> Result<Self, Bad> {
        Ok(Self(raw.into()))
    }
}

impl utoipa::PartialSchema for Json {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, SchemaType};
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).into()
    }
}

impl utoipa::ToSchema for Json {}

/// What happens while Redis cannot decide: a word, or null for the deployment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnavailableOrNull(pub(crate) Option<OnUnavailable>);

impl Value for UnavailableOrNull {
    fn read(raw: &str) -> Result<Self, Bad> {
        let word = || OnUnavailable::parse(&string(raw)?).ok_or_else(|| Bad::value("must be deny, allow or null"));
        Ok(Self(if raw == "null" { None } else { Some(word()?) }))
    }
}

impl utoipa::PartialSchema for UnavailableOrNull {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::{ObjectBuilder, OneOfBuilder, schema::Type};
        OneOfBuilder::new()
            .item(super::schema::one_of_words(&["deny", "allow"]))
            .item(ObjectBuilder::new().schema_type(Type::Null))
            .into()
    }
}

impl utoipa::ToSchema for UnavailableOrNull {}

/// Account trust: units, null for off, or the word `default`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustLevel(pub(crate) Trust);

impl Value for TrustLevel {
    fn read(raw: &str) -> Result<Self, Bad> {
        Ok(Self(match raw {
            "null" => Trust::Off,
            raw if raw.starts_with('"') && string(raw)? == "default" => Trust::Default,
            raw => Trust::Above(Level::read(raw)?.0),
        }))
    }
}

impl utoipa::PartialSchema for TrustLevel {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::{ObjectBuilder, OneOfBuilder, schema::Type};
        OneOfBuilder::new()
            .item(Level::schema())
            .item(super::schema::one_of_words(&["default"]))
            .item(ObjectBuilder::new().schema_type(Type::Null))
            .into()
    }
}

impl utoipa::ToSchema for TrustLevel {}
