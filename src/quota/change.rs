//! One change of what an operator rules over, as the audit keeps it: who, what, of which subject, and how it
//! was before and after. The documents are for people and never hold a secret.
//!
//! Whoever changes something makes a [`Change`] and hands it to the store together with the change, so that
//! both are committed or neither is. Money is different: its truth is the ledger, whose entries say who
//! asked ([`super::entry::LogFields::by`]); the audit's row beside it is found by the operation's id.

use serde_json::{Map, Value, json};

use super::{
    id::{AccountId, Actor, KeyId, OpId},
    limit::Limit,
    policy::{AccountStatus, KeyPolicy, KeyStatus, OnUnavailable, Policy, Trust},
};

/// What a change is about. Ids hold no `/`, so that an account's subject begins those of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(Box<str>);

impl Subject {
    /// `account/<id>`.
    #[must_use]
    pub fn account(account: &AccountId) -> Self {
        Self(format!("account/{account}").into())
    }

    /// `account/<id>/key/<id>`.
    #[must_use]
    pub fn key(account: &AccountId, key: &KeyId) -> Self {
        Self(format!("account/{account}/key/{key}").into())
    }

    /// `<kind>/<id>` for all other kinds: `tariff/3`, `setting/max_amount`.
    #[must_use]
    pub fn of(kind: &'static str, id: impl std::fmt::Display) -> Self {
        Self(format!("{kind}/{id}").into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A change that is being made.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub by: Actor,
    /// The verb: `put`, `delete`, `import`, `credit` …
    pub what: &'static str,
    pub subject: Subject,
    /// `None`: it was not there.
    pub before: Option<Value>,
    /// `None`: it is gone.
    pub after: Option<Value>,
    /// Of an operation that may be repeated: the same subject, verb and id are kept once.
    pub op_id: Option<OpId>,
}

impl Change {
    /// From one document to another.
    #[must_use]
    pub fn new(
        by: &Actor,
        what: &'static str,
        subject: Subject,
        before: impl Into<Option<Value>>,
        after: impl Into<Option<Value>>,
    ) -> Self {
        Self { by: by.clone(), what, subject, before: before.into(), after: after.into(), op_id: None }
    }

    /// The same, of an operation with an id of its own.
    #[must_use]
    pub fn with_op(self, op_id: &OpId) -> Self {
        Self { op_id: Some(op_id.clone()), ..self }
    }

    /// An account was created or merged. `initial_balance` is what a new one begins with.
    #[must_use]
    pub fn put_account(by: &Actor, before: Option<&Policy>, after: &Policy, initial_balance: Option<i64>) -> Self {
        let mut doc = account_doc(after);
        if let Some(units) = initial_balance {
            doc["initial_balance"] = units.into();
        }
        Self::new(by, "put", Subject::account(&after.account), before.map(account_doc), doc)
    }

    /// An account was deleted, with its keys (what each was stands in its own rows), the balance that was taken away
    /// and the rewards that were pending.
    #[must_use]
    pub fn delete_account(by: &Actor, before: &Policy, balance: i64, referral_pending: i64) -> Self {
        let mut doc = account_doc(before);
        doc["balance"] = balance.into();
        doc["referral_pending"] = referral_pending.into();
        let mut keys: Vec<&str> = before.keys.keys().map(KeyId::as_str).collect();
        keys.sort_unstable();
        doc["keys"] = keys.into();
        Self::new(by, "delete", Subject::account(&before.account), doc, None)
    }

    /// A key was created or merged.
    #[must_use]
    pub fn put_key(
        by: &Actor,
        account: &AccountId,
        key: &KeyId,
        before: Option<&KeyPolicy>,
        after: &KeyPolicy,
    ) -> Self {
        let mut doc = key_doc(after);
        if before.is_some_and(|before| before.secret_sha256.is_some() && before.secret_sha256 != after.secret_sha256) {
            doc["secret"] = "replaced".into();
        }
        Self::new(by, "put", Subject::key(account, key), before.map(key_doc), doc)
    }

    #[must_use]
    pub fn delete_key(by: &Actor, account: &AccountId, key: &KeyId, before: &KeyPolicy) -> Self {
        Self::new(by, "delete", Subject::key(account, key), key_doc(before), None)
    }

    /// Whether anything differs: a put of what is there already is no change.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.before != self.after
    }
}

/// A change as it was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Grows with time.
    pub id: i64,
    pub at: super::clock::Millis,
    pub by: String,
    pub what: String,
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
    pub op_id: Option<String>,
}

/// The account's own rules under their names in the admin API; not its keys, not its version.
fn account_doc(policy: &Policy) -> Value {
    // Named one by one, so that a new rule is not forgotten here.
    let Policy {
        account: _,
        version: _,
        status,
        group,
        credit_limit,
        zone,
        trust,
        on_unavailable,
        limits,
        keys: _,
        name,
        contact,
    } = policy;
    json!({
        "status": match status {
            AccountStatus::Enabled => "enabled",
            AccountStatus::Disabled => "disabled",
            AccountStatus::Restricted => "restricted",
        },
        "group": group,
        "credit_limit": credit_limit,
        "timezone": zone.name(),
        "trust_threshold": match trust {
            Trust::Default => json!("default"),
            Trust::Off => Value::Null,
            Trust::Above(units) => json!(units),
        },
        "on_unavailable": on_unavailable.map(OnUnavailable::as_str),
        "limits": limits_doc(limits),
        "name": name,
        "contact": contact,
    })
}

/// The key's rules. Of its secret only whether there is one.
fn key_doc(key: &KeyPolicy) -> Value {
    let KeyPolicy {
        status,
        allowance,
        expires_at,
        models,
        networks,
        group,
        limits,
        secret_sha256,
        name,
        cross_group_retry,
        created_at: _,
        changed_at: _,
    } = key;
    json!({
        "status": match status {
            KeyStatus::Enabled => "enabled",
            KeyStatus::Disabled => "disabled",
        },
        "allowance": allowance,
        "expires_at": expires_at.map(|at| at.to_string()),
        "models": models,
        "networks": networks,
        "group": group,
        "limits": limits_doc(limits),
        "name": name,
        "cross_group_retry": cross_group_retry,
        "secret": secret_sha256.map(|_| "set"),
    })
}

fn limits_doc<L: AsRef<Limit>>(limits: &[L]) -> Vec<Value> {
    limits.iter().map(|limit| limit_doc(limit.as_ref())).collect()
}

fn limit_doc(limit: &Limit) -> Value {
    let mut doc = Map::new();
    doc.insert("platform".into(), (&*limit.platform).into());
    doc.insert("model".into(), (&*limit.model).into());
    doc.insert("metric".into(), limit.metric.as_str().into());
    if let Some(period) = limit.period.as_text() {
        doc.insert("period".into(), (&*period).into());
    }
    doc.insert("cap".into(), limit.cap.into());
    doc.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::quota::{
        limit::{Metric, Period},
        window::Zone,
    };

    fn account() -> AccountId {
        AccountId::new("acme").unwrap()
    }

    fn key() -> KeyId {
        KeyId::new("ci").unwrap()
    }

    #[test]
    fn an_account_is_told_by_its_own_fields() {
        let limit = |period, metric| Limit { platform: "*".into(), model: "*".into(), metric, period, cap: None };
        let blank = Policy::blank(account(), 1, Zone::utc());
        let limits = vec![
            Arc::new(limit(Period::Rolling(60), Metric::Cost)),
            Arc::new(limit(Period::None, Metric::Concurrency)),
        ];
        let after = Policy {
            version: 2,
            limits,
            trust: Trust::Off,
            keys: [(key(), KeyPolicy::default())].into(),
            ..blank.clone()
        };
        let change = Change::put_account(&Actor::admin(), Some(&blank), &after, None);
        assert!(change.differs());
        assert_eq!((change.subject.as_str(), change.what), ("account/acme", "put"));
        let after = change.after.unwrap();
        assert_eq!(after["trust_threshold"], Value::Null);
        assert_eq!(change.before.unwrap()["trust_threshold"], "default");
        assert_eq!(after["limits"][0]["period"], "rolling:60");
        assert_eq!(after["limits"][1], json!({"platform": "*", "model": "*", "metric": "concurrency", "cap": null}));
        let again = Change::put_account(&Actor::admin(), Some(&blank), &Policy { version: 9, ..blank.clone() }, None);
        assert!(!again.differs(), "a version alone is no change");
        let created = Change::put_account(&Actor::admin(), None, &blank, Some(5));
        assert_eq!(created.after.unwrap()["initial_balance"], 5);
    }

    #[test]
    fn no_secret_is_told_but_that_it_changed() {
        let [first, second] = [7, 8].map(|byte| KeyPolicy { secret_sha256: Some([byte; 32]), ..KeyPolicy::default() });
        let change = Change::put_key(&Actor::admin(), &account(), &key(), Some(&first), &second);
        assert_eq!(change.subject.as_str(), "account/acme/key/ci");
        assert_eq!(change.before.as_ref().unwrap()["secret"], "set");
        assert_eq!(change.after.as_ref().unwrap()["secret"], "replaced");
        let same = Change::put_key(&Actor::admin(), &account(), &key(), Some(&first), &first);
        assert!(!same.differs());
        let created = Change::put_key(&Actor::admin(), &account(), &key(), None, &first);
        assert_eq!(created.after.unwrap()["secret"], "set");
        for change in [change, Change::delete_key(&Actor::admin(), &account(), &key(), &first)] {
            let told = format!("{}{}", change.before.unwrap(), change.after.unwrap_or_default());
            assert!(!told.contains("0707") && !told.contains("sha256"), "{told}");
        }
    }
}
