//! Provisioning and referrals on the wire.

use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{
    admin::KeyPut,
    limit::LimitShown,
    quota::Usd,
    read::{Bad, Object, Value, members},
    request,
    scalar::{GroupName, Text, TimeZone, Units},
    view::{is_false, maybe_text, text},
    word,
};
use crate::quota::{
    clock::Millis,
    id::{AccountId, KeyId, OpId},
};

request!(
    /// Make an account with its balance, quotas, first key and referral; the same call again changes nothing.
    Provision {
        account: AccountId,
        /// Where it signed up: decides the default quotas.
        source: word::Source,
        /// Price group. Not `auto`.
        group: Option<GroupName>,
        /// The account that invited it.
        inviter: Option<AccountId>,
        key: Option<FirstKey>,
        name: Option<Text>,
        contact: Option<Text>,
        timezone: Option<TimeZone>,
    }
);

request!(
    /// Move units from the pending balance to the balance.
    ReferralTransfer {
        /// Names the transfer. May come in the header `Idempotency-Key`.
        op_id: Option<OpId>,
        amount: Units,
    }
);

/// The fields of a key, and its id.
#[derive(Debug)]
pub(crate) struct FirstKey {
    pub(crate) id: KeyId,
    pub(crate) put: KeyPut,
    /// The object with its names in order, to tell a repeated call from another one.
    pub(crate) content: String,
}

/// The name of the key's id among its fields.
const ID: &str = "key";

impl Value for FirstKey {
    fn read(raw: &str) -> Result<Self, Bad> {
        let mut id = None;
        members(raw, |name, value| {
            match (name == ID, id.is_some()) {
                (true, false) => id = Some(KeyId::read(value).map_err(|bad| bad.within(ID))?),
                (true, true) => return Err(Bad::at(ID, "is given twice")),
                (false, _) => {}
            }
            Ok(())
        })?;
        let id = id.ok_or_else(|| Bad::at(ID, "is required"))?;
        let put = KeyPut::read(raw, Some(ID))?;
        let content: serde_json::Value = serde_json::from_str(raw).map_err(|_| Bad::value("must be a JSON object"))?;
        Ok(Self { id, put, content: content.to_string() })
    }
}

impl PartialSchema for FirstKey {
    fn schema() -> RefOr<Schema> {
        let mut schema = KeyPut::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.properties.insert(ID.to_owned(), KeyId::schema());
            object.required.push(ID.to_owned());
        }
        schema
    }
}

impl ToSchema for FirstKey {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        KeyPut::schemas(schemas);
    }
}

/// 200 or 201 of provision: the account as it is, and what it was given.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provisioned)]
pub(crate) struct ProvisionShown<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    pub(crate) source: &'static str,
    pub(crate) group: &'a str,
    pub(crate) timezone: &'a str,
    #[schema(required)]
    pub(crate) name: Option<&'a str>,
    #[schema(required)]
    pub(crate) contact: Option<&'a str>,
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) inviter: Option<AccountId>,
    /// Units that it began with, without the bonus.
    pub(crate) initial_balance: i64,
    /// Units for having been invited.
    pub(crate) bonus: i64,
    pub(crate) limits: Vec<LimitShown<'a>>,
    /// Its first key.
    #[serde(serialize_with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<KeyId>,
    /// Of that key; only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<&'a str>,
    #[serde(serialize_with = "text")]
    pub(crate) provisioned_at: Millis,
    /// Live numbers; absent while Redis cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) balance: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) available: Option<i64>,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
}

/// An account that was invited.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitee)]
pub(crate) struct InviteeShown<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    pub(crate) source: &'static str,
    /// Units it brought its inviter.
    pub(crate) reward: i64,
    /// Units it got itself.
    pub(crate) bonus: i64,
    #[serde(serialize_with = "text")]
    pub(crate) invited_at: Millis,
}

/// What an account has from those it invited.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Referrals)]
pub(crate) struct ReferralsShown<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    /// Units that can be moved to the balance.
    pub(crate) pending: i64,
    pub(crate) pending_usd: Usd,
    /// Units of all rewards there ever were.
    pub(crate) history: i64,
    pub(crate) history_usd: Usd,
    pub(crate) invitees: Vec<InviteeShown<'a>>,
    /// For the next page; null on the last one.
    #[serde(serialize_with = "maybe_text")]
    #[schema(required)]
    pub(crate) next_cursor: Option<AccountId>,
}

/// 200 of a transfer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transfer)]
pub(crate) struct TransferShown<'a> {
    #[serde(serialize_with = "text")]
    pub(crate) account: &'a AccountId,
    #[serde(serialize_with = "text")]
    pub(crate) op_id: &'a OpId,
    /// `transferred`.
    pub(crate) outcome: &'static str,
    pub(crate) amount: i64,
    /// Units still pending.
    pub(crate) pending: i64,
    pub(crate) balance: i64,
    pub(crate) available: i64,
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(crate) replayed: bool,
}
