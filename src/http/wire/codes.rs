//! Redemption codes on the wire: requests of both listeners, and answers.

use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr,
        schema::{Schema, Type},
    },
};

use super::{
    read::{Bad, Value, string},
    request,
    scalar::{InstantOrNull, Level, Secret},
    view::{is_false, maybe_text, text},
};
use crate::quota::{
    amount::{Amount, COUNTER_MAX},
    clock::Millis,
    code::{BATCH_MAX, CodeName, CodeState, NAME_CHARS_MAX, Plain},
    id::{AccountId, CodeId, OpId},
};

request!(
    /// Make codes.
    CodesMake {
        /// Names the call: repeated, it makes no more. May come in the header `Idempotency-Key`.
        op_id: Option<OpId>,
        name: CodeName,
        amount: Worth,
        /// How many; default 1.
        count: Option<BatchSize>,
        /// In the future; null, or absent, is never.
        expires_at: Option<InstantOrNull>,
    }
);

request!(
    /// Change a code that nobody has used; absent fields stay as they are.
    CodePut {
        name: Option<CodeName>,
        amount: Option<Worth>,
        /// In the future; null is never.
        expires_at: Option<InstantOrNull>,
        status: Option<CodeSwitch>,
    }
);

request!(
    /// Delete all codes that cannot be redeemed any more.
    CodesPurge {
        /// Of `used`, `expired`, `disabled`; absent: all three.
        status: Option<Vec<Spent>>,
    }
);

request!(
    /// Turn a code into balance.
    Redeem {
        account: Option<AccountId>,
        /// The caller's secret, instead of `account`.
        api_key: Option<Secret>,
        code: Plain,
    }
);

request!(
    /// Turn a code into the account's balance.
    RedeemFor {
        code: Plain,
    }
);

/// What a code is worth: units, above 0, within the range of a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worth(pub(crate) i64);

/// How many codes one call makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSize(pub(crate) u32);

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeSwitch {
    pub(crate) disabled: bool,
}

/// A state in which a code cannot be redeemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent(pub(crate) CodeState);

impl Value for Worth {
    fn read(raw: &str) -> Result<Self, Bad> {
        match Level::read(raw)?.0 {
            0 => Err(Bad::value("must be above 0")),
            units => Ok(Self(units)),
        }
    }
}

impl Value for BatchSize {
    fn read(raw: &str) -> Result<Self, Bad> {
        let size = Amount::parse(raw).ok().and_then(|size| u32::try_from(size.units()).ok());
        let size = size.filter(|size| (1..=BATCH_MAX).contains(size));
        size.map(Self).ok_or_else(|| Bad::value(format!("must be a whole number from 1 to {BATCH_MAX}")))
    }
}

impl Value for CodeName {
    fn read(raw: &str) -> Result<Self, Bad> {
        let sentence = || format!("must be 1 to {NAME_CHARS_MAX} characters, none of them a control character");
        Self::parse(&string(raw)?).ok_or_else(|| Bad::value(sentence()))
    }
}

impl Value for Plain {
    fn read(raw: &str) -> Result<Self, Bad> {
        Self::parse(&string(raw)?).ok_or_else(|| Bad::value("must be 32 letters and digits"))
    }
}

impl Value for CodeSwitch {
    fn read(raw: &str) -> Result<Self, Bad> {
        match &*string(raw)? {
            "enabled" => Ok(Self { disabled: false }),
            "disabled" => Ok(Self { disabled: true }),
            _ => Err(Bad::value("must be enabled or disabled")),
        }
    }
}

impl Value for Spent {
    fn read(raw: &str) -> Result<Self, Bad> {
        let state = CodeState::parse(&string(raw)?).filter(|state| *state != CodeState::Enabled);
        state.map(Self).ok_or_else(|| Bad::value("must be one of used, expired, disabled"))
    }
}

macro_rules! schemas {
    ($($kind:ty => $schema:expr,)*) => {$(
        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }
        impl ToSchema for $kind {}
    )*};
}

fn words(words: &[&'static str]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied()))
}

schemas! {
    Worth => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(COUNTER_MAX))
        .description(Some("units of money; decimal digits in a string are read too")),
    BatchSize => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(i64::from(BATCH_MAX))),
    CodeName => ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(NAME_CHARS_MAX))
        .pattern(Some("^[^\\u0000-\\u001f\\u007f-\\u009f]*$")),
    Plain => ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9A-Za-z]{32}$")),
    CodeSwitch => words(&["enabled", "disabled"]),
    Spent => words(&["used", "expired", "disabled"]),
    CodeId => ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9._:@-]{1,128}$"))
        .description(Some("a code, by a name that is no secret")),
}

/// A code.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CodeShown<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) id: &'a CodeId,
    pub(crate) name: &'a str,
    pub(crate) amount: i64,
    /// `enabled`, `disabled`, `used` or `expired`.
    pub(crate) status: &'static str,
    /// Its begin and its end.
    pub(crate) shown: String,
    /// Null: never.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) expires_at: Option<Millis>,
    #[serde(serialize_with = "text")]
    pub(crate) created_at: Millis,
    /// `op_id` of the call that made it.
    #[serde(serialize_with = "text")]
    pub(crate) batch: &'a OpId,
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) used_by: Option<&'a AccountId>,
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) used_at: Option<Millis>,
    /// The code itself: only in the answer of the call that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'a str>,
}

/// A page of codes, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CodesShown<'a> {
    pub(crate) codes: Vec<CodeShown<'a>>,
    /// For the next page; null on the last one.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) next_cursor: Option<CodeId>,
}

/// 201 of the call that makes codes, 200 of its repetition: those that are left, without the codes themselves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CodesMade<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) op_id: &'a OpId,
    pub(crate) codes: Vec<CodeShown<'a>>,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
}

/// 200 of purge.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CodesPurged {
    /// Codes deleted.
    pub(crate) purged: u64,
}

/// 200 of redeem.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Redeemed<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    /// Id of the code.
    #[serde(serialize_with = "text")]
    pub(crate) id: &'a CodeId,
    /// `redeemed`.
    pub(crate) outcome: &'static str,
    pub(crate) amount: i64,
    pub(crate) balance: i64,
    pub(crate) available: i64,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
}
