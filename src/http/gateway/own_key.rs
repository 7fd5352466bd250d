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

/// The key whose secret the caller presents.
pub(super) async fn find(service: &Service, headers: &HeaderMap) -> Result<OwnKey, Problem> {
    let missing = || Problem::unauthorized("the key's secret is required as bearer token in the header Authorization");
    let secret = bearer(headers).ok_or_else(missing)?;
    let (own, _) = done(service.engine.own_key(secret).await)?;
    Ok(own)
}
