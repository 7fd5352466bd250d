//! Policies to rows and back.

use std::{collections::HashMap, sync::Arc};

use super::{
    raises::raise,
    session::{Dialect, Row, Session, Value},
};
use crate::{
    engine::ports::StoreError,
    quota::{
        clock::Millis,
        id::{AccountId, KeyId, Model},
        limit::{Limit, Metric, Period},
        policy::{AccountStatus, KeyPolicy, KeyStatus, OnUnavailable, Policy, Trust},
        window::Zone,
    },
};

/// Columns of an account as [`read_account`] expects them.
pub(super) const ACCOUNT_COLUMNS: &str =
    "account, version, status, price_group, credit_limit, zone, trust, name, contact, on_unavailable";
const TRUST_OFF: i64 = -1;

pub(super) fn corrupt(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(what.to_string())
}

/// The policies of living accounts with `first <= account <= last`, in order, whole.
pub(super) async fn load(session: &mut dyn Session, first: &str, last: &str) -> Result<Vec<Policy>, StoreError> {
    let span = [Value::Text(first), Value::Text(last)];
    let accounts = session
        .fetch(
            format!(
                "SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE account >= ? AND account <= ? AND deleted = 0 \
                 ORDER BY account"
            )
            .into(),
            &span,
        )
        .await?;
    let mut policies = accounts.iter().map(read_account).collect::<Result<Vec<_>, _>>()?;
    let keys = session
        .fetch(
            "SELECT account, key_id, status, allowance, expires_at, models, networks, price_group, secret_sha256, \
             name, cross_group_retry, created_at, changed_at FROM api_keys WHERE account >= ? AND account <= ?"
                .into(),
            &span,
        )
        .await?;
    for row in &keys {
        let (id, key) = read_key(row)?;
        if let Some(policy) = find(&mut policies, row.text(0)?) {
            policy.keys.insert(id, key);
        }
    }
    let limits = session
        .fetch(
            "SELECT account, key_id, platform, model, metric, period, cap FROM limits \
             WHERE account >= ? AND account <= ? ORDER BY account, key_id, position"
                .into(),
            &span,
        )
        .await?;
    for row in &limits {
        let limit = Arc::new(read_limit(row)?);
        let Some(policy) = find(&mut policies, row.text(0)?) else { continue };
        match row.text(1)? {
            "" => policy.limits.push(limit),
            key => match policy.keys.get_mut(key) {
                Some(key) => key.limits.push(limit),
                None => return Err(corrupt(format!("a limit of key {key}, which does not exist"))),
            },
        }
    }
    Ok(policies)
}

fn find<'a>(policies: &'a mut [Policy], account: &str) -> Option<&'a mut Policy> {
    let place = policies.binary_search_by(|policy| policy.account.as_str().cmp(account)).ok()?;
    policies.get_mut(place)
}

fn read_account(row: &Row) -> Result<Policy, StoreError> {
    Ok(Policy {
        account: AccountId::new(row.text(0)?).map_err(corrupt)?,
        version: row.number(1)?,
        status: match row.text(2)? {
            "enabled" => AccountStatus::Enabled,
            "disabled" => AccountStatus::Disabled,
            "restricted" => AccountStatus::Restricted,
            other => return Err(corrupt(format!("account status {other}"))),
        },
        group: row.text(3)?.into(),
        credit_limit: row.int(4)?,
        zone: Zone::parse(row.text(5)?).map_err(corrupt)?,
        trust: match row.opt_int(6)? {
            None => Trust::Default,
            Some(TRUST_OFF) => Trust::Off,
            Some(units) => Trust::Above(units),
        },
        limits: Vec::new(),
        keys: HashMap::new(),
        name: row.opt_text(7)?.map(Into::into),
        contact: row.opt_text(8)?.map(Into::into),
        on_unavailable: match row.opt_text(9)? {
            None => None,
            Some(word) => Some(OnUnavailable::parse(word).ok_or_else(|| corrupt(format!("on_unavailable {word}")))?),
        },
    })
}

fn read_key(row: &Row) -> Result<(KeyId, KeyPolicy), StoreError> {
    let key = KeyPolicy {
        status: match row.text(2)? {
            "enabled" => KeyStatus::Enabled,
            "disabled" => KeyStatus::Disabled,
            other => return Err(corrupt(format!("key status {other}"))),
        },
        allowance: row.opt_int(3)?,
        expires_at: row.opt_int(4)?.map(Millis),
        models: serde_json::from_str::<Vec<String>>(row.text(5)?)
            .map_err(corrupt)?
            .iter()
            .map(Model::new)
            .collect::<Result<_, _>>()
            .map_err(corrupt)?,
        networks: serde_json::from_str(row.text(6)?).map_err(corrupt)?,
        group: row.opt_text(7)?.map(Into::into),
        limits: Vec::new(),
        secret_sha256: row.opt_blob(8)?.map(<[u8; 32]>::try_from).transpose().map_err(corrupt)?,
        name: row.opt_text(9)?.map(Into::into),
        cross_group_retry: row.int(10)? != 0,
        created_at: row.opt_int(11)?.map(Millis),
        changed_at: row.opt_int(12)?.map(Millis),
    };
    Ok((KeyId::new(row.text(1)?).map_err(corrupt)?, key))
}

fn read_limit(row: &Row) -> Result<Limit, StoreError> {
    let metric = row.text(4)?;
    let period = row.text(5)?;
    Ok(Limit {
        platform: row.text(2)?.into(),
        model: row.text(3)?.into(),
        metric: Metric::parse(metric).ok_or_else(|| corrupt(format!("metric {metric}")))?,
        period: if period.is_empty() { Period::None } else { Period::parse(period).map_err(corrupt)? },
        cap: row.opt_int(6)?,
    })
}

/// Writes the account's own columns, its version among them, of which Redis must hear; limits and keys are written
/// apart.
pub(super) async fn save_account(
    session: &mut dyn Session,
    dialect: &Dialect,
    policy: &Policy,
    now: Millis,
) -> Result<(), StoreError> {
    let status = match policy.status {
        AccountStatus::Enabled => "enabled",
        AccountStatus::Disabled => "disabled",
        AccountStatus::Restricted => "restricted",
    };
    let trust = match policy.trust {
        Trust::Default => None,
        Trust::Off => Some(TRUST_OFF),
        Trust::Above(units) => Some(units),
    };
    let changed = session
        .execute(
            "UPDATE accounts SET version = ?, deleted = 0, status = ?, price_group = ?, credit_limit = ?, zone = ?, \
             trust = ?, name = ?, contact = ?, on_unavailable = ?, changed_at = ? WHERE account = ?"
                .into(),
            &[
                policy.version.into(),
                status.into(),
                (&*policy.group).into(),
                policy.credit_limit.into(),
                policy.zone.name().into(),
                trust.into(),
                policy.name.as_deref().into(),
                policy.contact.as_deref().into(),
                policy.on_unavailable.map(OnUnavailable::as_str).into(),
                now.0.into(),
                policy.account.as_str().into(),
            ],
        )
        .await?;
    if changed != 1 {
        return Err(corrupt(format!("account {} vanished", policy.account)));
    }
    raise(session, dialect, &policy.account, policy.version, now).await
}

/// Replaces a key whole; its limits are written apart.
pub(super) async fn save_key(
    session: &mut dyn Session,
    account: &AccountId,
    id: &KeyId,
    key: &KeyPolicy,
) -> Result<(), StoreError> {
    let models: Vec<&str> = key.models.iter().map(Model::as_str).collect();
    let models = serde_json::to_string(&models).map_err(corrupt)?;
    let networks = serde_json::to_string(&key.networks).map_err(corrupt)?;
    let status = match key.status {
        KeyStatus::Enabled => "enabled",
        KeyStatus::Disabled => "disabled",
    };
    let secret = key.secret_sha256;
    remove_key(session, account, id).await?;
    session
        .execute(
            "INSERT INTO api_keys (account, key_id, status, allowance, expires_at, models, networks, price_group, \
             secret_sha256, name, cross_group_retry, created_at, changed_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                .into(),
            &[
                account.as_str().into(),
                id.as_str().into(),
                status.into(),
                key.allowance.into(),
                key.expires_at.map(|at| at.0).into(),
                models.as_str().into(),
                networks.as_str().into(),
                key.group.as_deref().into(),
                secret.as_ref().map(<[u8; 32]>::as_slice).into(),
                key.name.as_deref().into(),
                i64::from(key.cross_group_retry).into(),
                key.created_at.map(|at| at.0).into(),
                key.changed_at.map(|at| at.0).into(),
            ],
        )
        .await?;
    Ok(())
}

/// Removes the key's row, not its limits and not its usage.
pub(super) async fn remove_key(session: &mut dyn Session, account: &AccountId, id: &KeyId) -> Result<u64, StoreError> {
    session
        .execute(
            "DELETE FROM api_keys WHERE account = ? AND key_id = ?".into(),
            &[account.as_str().into(), id.as_str().into()],
        )
        .await
}

/// Replaces the limits of the account (`key` is `None`) or of one key.
pub(super) async fn save_limits(
    session: &mut dyn Session,
    account: &AccountId,
    key: Option<&KeyId>,
    limits: &[Arc<Limit>],
) -> Result<(), StoreError> {
    let key = key.map_or("", KeyId::as_str);
    session
        .execute("DELETE FROM limits WHERE account = ? AND key_id = ?".into(), &[account.as_str().into(), key.into()])
        .await?;
    for (position, limit) in (0_u32..).zip(limits) {
        let period = limit.period.as_text().unwrap_or_default();
        session
            .execute(
                "INSERT INTO limits (account, key_id, position, platform, model, metric, period, cap) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                    .into(),
                &[
                    account.as_str().into(),
                    key.into(),
                    position.into(),
                    (&*limit.platform).into(),
                    (&*limit.model).into(),
                    limit.metric.as_str().into(),
                    (&*period).into(),
                    limit.cap.into(),
                ],
            )
            .await?;
    }
    Ok(())
}
