//! `POST /admin/v1/accounts/{account}/reset`.

use crate::{
    engine::reset::Reset,
    http::{
        answer::{Answer, Handled},
        error::Problem,
        gateway::{done, id_of, idempotency_key},
        path,
        request_id::random,
        route::Call,
        wire::{admin, read, report},
    },
    quota::{
        id::{AccountId, OpId},
        limit::Metric,
    },
};

pub(super) async fn answer(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let ask: admin::Reset = read::body(call.body)?;
    let metric = ask.metric.map_or(Metric::Cost, |metric| metric.0);
    if metric == Metric::Concurrency {
        return Err(Problem::invalid("metric", "concurrency has no window to reset"));
    }
    let reset = Reset {
        account,
        key: ask.key,
        platform: ask.platform.as_str().into(),
        model: ask.model.map_or("*".into(), |model| model.as_str().into()),
        metric,
        period: ask.period.0,
        op_id: op_id(call, ask.op_id)?,
    };
    let (reset, replayed) = done(call.service.engine.reset(&call.actor()?, &reset).await).map_err(Problem::missing)?;
    let shown = report::ResetDone { account: &reset.account, outcome: "reset", cleared: reset.cleared, replayed };
    Ok(Answer::ok(&shown).replayed(replayed))
}

/// The caller's id of a reset, or a new one: that reset is repeated by nobody.
pub(super) fn op_id(call: &Call<'_>, body: Option<OpId>) -> Result<OpId, Problem> {
    let made_up = || OpId::new(format!("reset-{:032x}", random())).expect("hexadecimal digits are id characters");
    Ok(id_of("op_id", body, idempotency_key(call.headers)?)?.unwrap_or_else(made_up))
}
