//! `/admin/v1/accounts/{account}/keys` and `…/keys/{key}`.

use crate::{
    engine::{
        balance::{KeyBalance, Sheet},
        ports::KeyPatch,
    },
    http::{
        admin::accounts::live,
        answer::{Answer, Handled},
        error::Problem,
        gateway::done,
        path,
        route::Call,
        wire::{
            admin::KeyPut,
            limit::LimitShown,
            read,
            report::{Key, Keys},
        },
    },
    quota::{
        clock::Millis,
        id::{AccountId, KeyId},
        policy::{KeyPolicy, Policy},
        verdict::Code,
    },
};

pub(super) async fn put(call: &Call<'_>, account: &str, key: &str) -> Handled {
    let (account, key) = ids(account, key)?;
    let put: KeyPut = read::body(call.body)?;
    let (made, _) = done(call.service.engine.put_key(&call.actor()?, &account, &key, &patch(put)).await)?;
    let rules = found(&made.policy, &key)?;
    let live = live(call, &account).await;
    let now = call.service.engine.clock.now();
    let shown = Key { secret: made.secret.as_deref(), ..shown(&account, &key, rules, now, live.as_ref()) };
    Ok(Answer::ok(&shown).created(made.created))
}

pub(super) async fn get(call: &Call<'_>, account: &str, key: &str) -> Handled {
    let (account, key) = ids(account, key)?;
    let (policy, _) = done(call.service.engine.account(&account).await)?;
    let rules = found(&policy, &key)?;
    let live = live(call, &account).await;
    let now = call.service.engine.clock.now();
    Ok(Answer::ok(&shown(&account, &key, rules, now, live.as_ref())))
}

pub(super) async fn list(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let (policy, _) = done(call.service.engine.account(&account).await)?;
    let cursor = path::parameter(call.query, "cursor")?.filter(|cursor| !cursor.is_empty());
    let cursor = cursor.map(|cursor| path::id(&cursor, "cursor", KeyId::new)).transpose()?;
    let most = path::page(call.query)? as usize;
    let live = live(call, &account).await;
    let mut keys: Vec<_> = policy.keys.iter().filter(|(key, _)| Some(*key) > cursor.as_ref()).collect();
    keys.sort_unstable_by_key(|(key, _)| *key);
    let more = keys.len() > most;
    keys.truncate(most);
    let next_cursor = keys.last().filter(|_| more).map(|(key, _)| (*key).clone());
    let now = call.service.engine.clock.now();
    let keys = keys.into_iter().map(|(key, rules)| shown(&account, key, rules, now, live.as_ref())).collect();
    Ok(Answer::ok(&Keys { keys, next_cursor }))
}

pub(super) async fn delete(call: &Call<'_>, account: &str, key: &str) -> Handled {
    let (account, key) = ids(account, key)?;
    done(call.service.engine.delete_key(&call.actor()?, &account, &key).await).map_err(Problem::missing)?;
    Ok(Answer::nothing())
}

fn ids(account: &str, key: &str) -> Result<(AccountId, KeyId), Problem> {
    Ok((path::id(account, "account", AccountId::new)?, path::id(key, "key", KeyId::new)?))
}

fn found<'a>(policy: &'a Policy, key: &KeyId) -> Result<&'a KeyPolicy, Problem> {
    let missing = || Problem::of(Code::KeyNotFound, format!("the account has no key {key}")).missing();
    policy.keys.get(key).ok_or_else(missing)
}

pub(super) fn patch(put: KeyPut) -> KeyPatch {
    KeyPatch {
        status: put.status.map(|status| status.0),
        allowance: put.allowance.map(|allowance| allowance.0),
        expires_at: put.expires_at.map(|at| at.0),
        models: put.models,
        networks: put.networks.map(|networks| networks.into_iter().map(|network| network.0).collect()),
        group: put.group.map(|group| group.0),
        limits: put.limits.map(|limits| limits.0),
        secret_sha256: put.secret_sha256.map(|digest| digest.0),
        first_secret_sha256: None,
        name: put.name.map(|name| name.0),
        cross_group_retry: put.cross_group_retry,
    }
}

/// `live`: the account's sheet, which has a row for each of its keys in their order.
fn shown<'a>(
    account: &'a AccountId,
    key: &'a KeyId,
    rules: &'a KeyPolicy,
    now: Millis,
    live: Option<&Sheet>,
) -> Key<'a> {
    // A key that was made since has no row: zeros are its live numbers.
    let live = live.map(|sheet| match sheet.keys.binary_search_by(|known| known.key.cmp(key)) {
        Ok(place) => sheet.keys[place].clone(),
        Err(_) => KeyBalance {
            key: key.clone(),
            standing: rules.standing(now, Some(0)),
            left: rules.allowance,
            used: 0,
            held: 0,
            requests: 0,
        },
    });
    Key {
        account,
        key,
        name: rules.name.as_deref(),
        status: rules.standing(now, live.as_ref().map(|live| live.used)).as_str(),
        allowance: rules.allowance,
        expires_at: rules.expires_at,
        models: rules.models.iter().map(|model| model.as_str()).collect(),
        networks: rules.networks.iter().map(ToString::to_string).collect(),
        group: rules.group.as_deref(),
        cross_group_retry: rules.cross_group_retry,
        limits: rules.limits.iter().map(|limit| LimitShown::from(&**limit)).collect(),
        created_at: rules.created_at,
        changed_at: rules.changed_at,
        secret: None,
        left: live.as_ref().map(|live| live.left),
        used: live.as_ref().map(|live| live.used),
        held: live.as_ref().map(|live| live.held),
        requests: live.as_ref().map(|live| live.requests),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_put_is_read_whole() {
        let put: KeyPut = read::body(
            br#"{"status":"active","allowance":null,"expires_at":"2026-11-20T10:00:00Z","models":["gpt-4o"],
            "networks":["10.0.0.7/8","::1"],"group":null,"limits":[{"period":"day","cap":0}]}"#,
        )
        .unwrap();
        let patch = patch(put);
        assert_eq!((patch.allowance, patch.group, patch.secret_sha256), (Some(None), Some(None), None));
        assert_eq!(patch.expires_at, Some(Some(crate::quota::clock::Millis(1_795_168_800_000))));
        let networks: Vec<_> = patch.networks.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
        assert_eq!(patch.limits.unwrap()[0].cap, Some(0));
    }

    #[test]
    fn a_missing_key_is_404_here() {
        let problem = Problem::of(Code::KeyNotFound, "x");
        assert_eq!((problem.status, problem.missing().status), (403, 404));
    }
}
