//! `POST /admin/v1/accounts/{account}/reset`.

use crate::{
    engine::reset::Reset,
    http::{
        answer::{Answer, Handled},
        error::Problem,
        gateway::done,
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
        op_id: own_op_id(),
    };
    let (reset, _) = done(call.service.engine.reset(&call.actor()?, &reset).await).map_err(Problem::missing)?;
    Ok(Answer::ok(&report::ResetDone { account: &reset.account, outcome: "reset", cleared: reset.cleared }))
}

/// A new id for a reset: nobody repeats one.
pub(super) fn own_op_id() -> OpId {
    OpId::new(format!("reset-{:032x}", random())).expect("hexadecimal digits are id characters")
}
