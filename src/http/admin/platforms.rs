//! `/admin/v1/accounts/{account}/platform-quotas`, one of them, and `…/reset`.

use crate::{
    engine::{platforms::QuotaState, reset::Reset},
    http::{
        admin::reset::op_id,
        answer::{Answer, Handled},
        error::{Problem, Word},
        gateway::done,
        path,
        route::Call,
        wire::{
            quota::{PlatformQuotaReset, PlatformQuotaShown, PlatformQuotas, PlatformQuotasPut},
            read,
        },
    },
    quota::{
        id::{AccountId, OpId, Platform},
        limit::Metric,
        platform::window_of,
    },
};

pub(super) async fn list(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    shown(call, &account).await
}

pub(super) async fn put(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let put: PlatformQuotasPut = read::body(call.body)?;
    let engine = &call.service.engine;
    let quotas = put.units(engine.scale())?;
    done(engine.put_quotas(&call.actor()?, &account, &quotas).await)?;
    shown(call, &account).await
}

pub(super) async fn get(call: &Call<'_>, account: &str, platform: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let platform = path::id(platform, "platform", Platform::new)?;
    let quota = quota_of(call, &account, &platform).await?;
    Ok(Answer::ok(&PlatformQuotaShown::of(&quota, call.service.engine.scale())))
}

pub(super) async fn reset(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let ask: PlatformQuotaReset = read::body(call.body)?;
    let engine = &call.service.engine;
    let (policy, _) = done(engine.account(&account).await)?;
    let is_asked = |limit: &&std::sync::Arc<crate::quota::limit::Limit>| {
        &*limit.platform == ask.platform.as_str() && window_of(limit) == Some(ask.window.0)
    };
    // Limits may name both kinds of month.
    let periods: Vec<_> = policy.limits.iter().filter(is_asked).map(|limit| limit.period).collect();
    if periods.is_empty() {
        return Err(no_quota(&account, &ask.platform));
    }
    let op_id = op_id(call, ask.op_id)?;
    let mut all_replayed = true;
    for (place, period) in periods.into_iter().enumerate() {
        let reset = Reset {
            account: account.clone(),
            key: None,
            platform: ask.platform.as_str().into(),
            model: "*".into(),
            metric: Metric::Cost,
            period,
            op_id: op_id_of(&op_id, place)?,
        };
        let (_, replayed) = done(engine.reset(&call.actor()?, &reset).await)?;
        all_replayed &= replayed;
    }
    let quota = quota_of(call, &account, &ask.platform).await?;
    Ok(Answer::ok(&PlatformQuotaShown::of(&quota, engine.scale())).replayed(all_replayed))
}

/// Of the reset of one of a window's limits: each is an operation of its own.
fn op_id_of(op_id: &OpId, place: usize) -> Result<OpId, Problem> {
    if place == 0 {
        return Ok(op_id.clone());
    }
    OpId::new(format!("{op_id}.{place}")).map_err(|bad| Problem::invalid("op_id", format!("op_id {bad}")))
}

async fn shown(call: &Call<'_>, account: &AccountId) -> Handled {
    let engine = &call.service.engine;
    let (states, _) = done(engine.quotas(account).await)?;
    let quotas = states.iter().map(|state| PlatformQuotaShown::of(state, engine.scale())).collect();
    Ok(Answer::ok(&PlatformQuotas { account, quotas }))
}

/// A quota that is not there is 404: nothing is limited then.
async fn quota_of(call: &Call<'_>, account: &AccountId, platform: &Platform) -> Result<QuotaState, Problem> {
    let (states, _) = done(call.service.engine.quotas(account).await)?;
    states.into_iter().find(|state| state.platform == *platform).ok_or_else(|| no_quota(account, platform))
}

fn no_quota(account: &AccountId, platform: &Platform) -> Problem {
    Problem::new(Word::NotFound, format!("the account {account} has no quota for the platform {platform}"))
}
