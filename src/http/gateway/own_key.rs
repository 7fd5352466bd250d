//! `GET /v1/key`: a key, for whoever has its secret.

use hyper::HeaderMap;

use super::done;
use crate::{
    engine::own_key::OwnKey,
    http::{
        Service,
        answer::{Answer, Handled},
        auth::bearer,
        error::Problem,
        wire::own_key as wire,
    },
};

/// What the secrets that quotad makes begin with.
const PREFIX: &str = "sk-";

pub(super) async fn answer(service: &Service, headers: &HeaderMap) -> Handled {
    let own = find(service, headers).await?;
    Ok(Answer::ok(&wire::OwnKey {
        key: &own.key,
        name: own.rules.name.as_deref(),
        status: own.standing.as_str(),
        allowance: own.rules.allowance,
        left: own.balance.left,
        used: own.balance.used,
        held: own.balance.held,
        requests: own.balance.requests,
        expires_at: own.rules.expires_at,
        models: own.rules.models.iter().map(|model| model.as_str()).collect(),
        networks: own.rules.networks.iter().map(ToString::to_string).collect(),
        group: &own.group,
        cross_group_retry: own.rules.cross_group_retry,
        groups: own.groups.iter().map(wire::Choice::from).collect(),
        limits: own.limits.iter().map(wire::OwnLimit::from).collect(),
    }))
}

/// The same for clients of new-api, which may leave the prefix of a secret out.
pub(super) async fn find_without_prefix(service: &Service, headers: &HeaderMap) -> Result<OwnKey, Problem> {
    let whole = bearer(headers).filter(|secret| !secret.starts_with(PREFIX)).map(|secret| format!("{PREFIX}{secret}"));
    match (find(service, headers).await, whole) {
        (Err(problem), Some(whole)) if problem.status == 401 => {
            done(service.engine.own_key(&whole).await).map(|(own, _)| own).map_err(|second| {
                // Why the secret as it came is none is for the caller; an outage goes before.
                if second.status == 401 { problem } else { second }
            })
        }
        (found, _) => found,
    }
}

/// The key whose secret the caller presents.
pub(super) async fn find(service: &Service, headers: &HeaderMap) -> Result<OwnKey, Problem> {
    let missing = || Problem::unauthorized("the key's secret is required as bearer token in the header Authorization");
    let secret = bearer(headers).ok_or_else(missing)?;
    let (own, _) = done(service.engine.own_key(secret).await)?;
    Ok(own)
}
