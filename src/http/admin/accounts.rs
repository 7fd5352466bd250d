//! `/admin/v1/accounts` and `/admin/v1/accounts/{account}`.

use crate::{
    engine::{Payer, balance::Sheet, ports::AccountPatch},
    http::{
        answer::{Answer, Handled},
        gateway::done,
        path,
        route::Call,
        wire::{
            admin::AccountPut,
            limit::LimitShown,
            read,
            report::{Account, Accounts},
            word,
        },
    },
    quota::{
        id::AccountId,
        policy::{OnUnavailable, Policy, Trust},
        verdict::Verdict,
    },
};

pub(super) async fn put(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let put: AccountPut = read::body(call.body)?;
    let ((policy, created), _) = done(call.service.engine.put_account(&call.actor()?, &account, &patch(put)).await)?;
    let live = live(call, &account).await;
    Ok(Answer::ok(&shown(&policy, live.as_ref())).created(created))
}

pub(super) async fn get(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let (policy, _) = done(call.service.engine.account(&account).await)?;
    let live = live(call, &account).await;
    Ok(Answer::ok(&shown(&policy, live.as_ref())))
}

pub(super) async fn list(call: &Call<'_>) -> Handled {
    let cursor = path::parameter(call.query, "cursor")?.filter(|cursor| !cursor.is_empty());
    let cursor = cursor.map(|cursor| path::id(&cursor, "cursor", AccountId::new)).transpose()?;
    let most = path::page(call.query)?;
    // One more than asked for tells whether there is a next page.
    let (mut policies, _) = done(call.service.engine.list_accounts(cursor.as_ref(), most + 1).await)?;
    let more = policies.len() > most as usize;
    policies.truncate(most as usize);
    let next_cursor = policies.last().filter(|_| more).map(|policy| policy.account.clone());
    let accounts = policies.iter().map(|policy| shown(policy, None)).collect();
    Ok(Answer::ok(&Accounts { accounts, next_cursor }))
}

pub(super) async fn delete(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    done(call.service.engine.delete_account(&call.actor()?, &account).await)?;
    Ok(Answer::nothing())
}

fn patch(put: AccountPut) -> AccountPatch {
    AccountPatch {
        status: put.status.map(|status| status.0),
        group: put.group.map(|group| group.0),
        credit_limit: put.credit_limit.map(|level| level.0),
        zone: put.timezone.map(|zone| zone.0),
        trust: put.trust_threshold.map(|trust| trust.0),
        on_unavailable: put.on_unavailable.map(|word| word.0),
        limits: put.limits.map(|limits| limits.0),
        name: put.name.map(|name| name.0),
        contact: put.contact.map(|contact| contact.0),
        initial_balance: put.initial_balance.map(|level| level.0),
    }
}

/// Live numbers; none while Redis cannot be asked, because the rules stand without them.
pub(super) async fn live(call: &Call<'_>, account: &AccountId) -> Option<Sheet> {
    match call.service.engine.balance(&Payer::Account(account.clone())).await {
        Ok(Verdict::Done { answer, .. }) => Some(answer),
        Ok(Verdict::Refused(_)) | Err(_) => None,
    }
}

fn shown<'a>(policy: &'a Policy, live: Option<&Sheet>) -> Account<'a> {
    Account {
        account: &policy.account,
        status: word::AccountStatus(policy.status).as_str(),
        group: &policy.group,
        credit_limit: policy.credit_limit,
        timezone: policy.zone.name(),
        trust_threshold: match policy.trust {
            Trust::Default => "default".into(),
            Trust::Off => serde_json::Value::Null,
            Trust::Above(units) => units.into(),
        },
        on_unavailable: policy.on_unavailable.map(OnUnavailable::as_str),
        limits: policy.limits.iter().map(|limit| LimitShown::from(&**limit)).collect(),
        name: policy.name.as_deref(),
        contact: policy.contact.as_deref(),
        version: policy.version,
        balance: live.map(|sheet| sheet.balance),
        held: live.map(|sheet| sheet.held),
        available: live.map(|sheet| sheet.available),
        used: live.map(|sheet| sheet.used),
        requests: live.map(|sheet| sheet.requests),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{policy::AccountStatus, window::Zone};

    #[test]
    fn an_account_is_shown_flat() {
        let policy = Policy {
            account: AccountId::new("a").unwrap(),
            version: 3,
            status: AccountStatus::Enabled,
            group: "vip".into(),
            credit_limit: 5,
            zone: Zone::utc(),
            trust: Trust::Off,
            on_unavailable: None,
            limits: Vec::new(),
            keys: std::collections::HashMap::new(),
            name: None,
            contact: Some("x@y".into()),
        };
        let text = serde_json::to_value(shown(&policy, None)).unwrap();
        let expected = serde_json::json!({"account": "a", "status": "enabled", "group": "vip", "credit_limit": 5,
            "timezone": "UTC", "trust_threshold": null, "on_unavailable": null, "limits": [], "name": null,
            "contact": "x@y", "version": 3});
        assert_eq!(text, expected);
    }

    #[test]
    fn absent_fields_change_nothing() {
        let put: AccountPut = read::body(br#"{"name":null,"trust_threshold":null,"limits":[]}"#).unwrap();
        let patch = patch(put);
        assert_eq!((patch.name, patch.contact, patch.group), (Some(None), None, None));
        assert_eq!((patch.trust, patch.limits, patch.credit_limit), (Some(Trust::Off), Some(Vec::new()), None));
    }
}
