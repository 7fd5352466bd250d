//! What a patch makes of a policy, and what no policy may be. Pure: the store reads, merges here,
//! and writes what comes out.

use std::{collections::HashSet, sync::Arc};

use crate::{
    engine::ports::{AccountPatch, KeyPatch, StoreError},
    quota::{
        amount::{AMOUNT_MAX, COUNTER_MAX},
        group::{AUTO, NAME_RULE, is_name},
        id::Model,
        limit::{LIMITS_MAX, Limit, Metric, Period},
        policy::{KeyPolicy, Policy, Trust},
    },
};

/// Keys of one account at most.
pub const KEYS_MAX: usize = 1000;
/// Models, or networks, of one key at most.
const LIST_MAX: usize = 256;
/// Characters of a name or contact at most.
const TEXT_MAX: usize = 256;

fn refused(field: &'static str, detail: impl Into<String>) -> StoreError {
    StoreError::Refused { field, detail: detail.into() }
}

/// The account after the patch. The version is the caller's business.
///
/// # Errors
/// `Refused` naming the field that cannot stand.
pub(super) fn merge_account(mut policy: Policy, patch: &AccountPatch) -> Result<Policy, StoreError> {
    if let Some(status) = patch.status {
        policy.status = status;
    }
    if let Some(group) = &patch.group {
        if **group == *AUTO {
            return Err(refused("group", "`auto` is for keys and calls"));
        }
        policy.group = checked_group(group)?;
    }
    if let Some(units) = patch.credit_limit {
        policy.credit_limit = in_range("credit_limit", units, COUNTER_MAX)?;
    }
    if let Some(zone) = &patch.zone {
        policy.zone = zone.clone();
    }
    if let Some(trust) = patch.trust {
        if let Trust::Above(units) = trust {
            in_range("trust", units, COUNTER_MAX)?;
        }
        policy.trust = trust;
    }
    if let Some(on_unavailable) = patch.on_unavailable {
        policy.on_unavailable = on_unavailable;
    }
    if let Some(limits) = &patch.limits {
        policy.limits = checked_limits(limits)?;
    }
    if let Some(name) = &patch.name {
        policy.name = checked_text("name", name.as_deref())?;
    }
    if let Some(contact) = &patch.contact {
        policy.contact = checked_text("contact", contact.as_deref())?;
    }
    if let Some(units) = patch.initial_balance {
        in_range("initial_balance", units, COUNTER_MAX)?;
    }
    Ok(policy)
}

/// The key after the patch. That its secret is nobody else's is for the store to check.
///
/// # Errors
/// `Refused` naming the field that cannot stand.
pub(super) fn merge_key(mut key: KeyPolicy, patch: &KeyPatch) -> Result<KeyPolicy, StoreError> {
    if let Some(status) = patch.status {
        key.status = status;
    }
    if let Some(allowance) = patch.allowance {
        key.allowance = allowance.map(|units| in_range("allowance", units, AMOUNT_MAX)).transpose()?;
    }
    if let Some(expires_at) = patch.expires_at {
        if let Some(at) = expires_at {
            in_range("expires_at", at.0, AMOUNT_MAX)?;
        }
        key.expires_at = expires_at;
    }
    if let Some(models) = &patch.models {
        key.models = checked_list("models", models)?;
    }
    if let Some(networks) = &patch.networks {
        key.networks = checked_list("networks", networks)?;
    }
    if let Some(group) = &patch.group {
        key.group = group.as_deref().map(checked_group).transpose()?;
    }
    if let Some(limits) = &patch.limits {
        key.limits = checked_limits(limits)?;
    }
    if let Some(secret) = patch.secret_sha256 {
        key.secret_sha256 = Some(secret);
    }
    if let Some(name) = &patch.name {
        key.name = checked_text("name", name.as_deref())?;
    }
    if let Some(cross_group_retry) = patch.cross_group_retry {
        key.cross_group_retry = cross_group_retry;
    }
    Ok(key)
}

fn in_range(field: &'static str, number: i64, most: i64) -> Result<i64, StoreError> {
    if (0..=most).contains(&number) { Ok(number) } else { Err(refused(field, format!("must be from 0 to {most}"))) }
}

fn checked_group(group: &str) -> Result<Box<str>, StoreError> {
    if !is_name(group) {
        return Err(refused("group", format!("must be {NAME_RULE}")));
    }
    Ok(group.into())
}

fn checked_text(field: &'static str, text: Option<&str>) -> Result<Option<Box<str>>, StoreError> {
    match text {
        Some(text) if text.chars().count() > TEXT_MAX || text.contains('\0') => {
            Err(refused(field, format!("must be at most {TEXT_MAX} characters, none of them NUL")))
        }
        text => Ok(text.map(Into::into)),
    }
}

fn checked_list<T: Clone>(field: &'static str, list: &[T]) -> Result<Vec<T>, StoreError> {
    if list.len() > LIST_MAX {
        return Err(refused(field, format!("must be at most {LIST_MAX} entries")));
    }
    Ok(list.to_vec())
}

fn checked_limits(limits: &[Limit]) -> Result<Vec<Arc<Limit>>, StoreError> {
    if limits.len() > LIMITS_MAX {
        return Err(refused("limits", format!("must be at most {LIMITS_MAX} limits")));
    }
    let mut seen = HashSet::new();
    for limit in limits {
        if Model::new(&limit.platform).is_err() || Model::new(&limit.model).is_err() {
            return Err(refused("limits", "platform and model must be 1 to 128 printable ASCII characters"));
        }
        if (limit.metric == Metric::Concurrency) != (limit.period == Period::None) {
            return Err(refused("limits", "a concurrency limit has no period, every other limit has one"));
        }
        if limit.cap.is_some_and(|cap| !(0..=AMOUNT_MAX).contains(&cap)) {
            return Err(refused("limits", format!("a cap must be null or from 0 to {AMOUNT_MAX}")));
        }
        if !seen.insert((&limit.platform, &limit.model, limit.metric, limit.period)) {
            let period = limit.period.as_text().unwrap_or_default();
            return Err(refused(
                "limits",
                format!(
                    "two limits for platform {}, model {}, {} {period}",
                    limit.platform,
                    limit.model,
                    limit.metric.as_str()
                ),
            ));
        }
    }
    Ok(limits.iter().cloned().map(Arc::new).collect())
}
