//! `POST /admin/v1/reconcile`.

use crate::http::{
    answer::{Answer, Handled},
    gateway::done,
    route::Call,
    wire::{
        admin, read,
        report::{Difference, Reconciled},
    },
};

pub(super) async fn answer(call: &Call<'_>) -> Handled {
    // Without a body it is about all accounts, like `{}`.
    let ask: admin::Reconcile = read::body(if call.body.is_empty() { b"{}" } else { call.body })?;
    let (found, _) = done(call.service.engine.reconcile(ask.account.as_ref()).await)?;
    let differences = found.differences.iter().map(|difference| Difference {
        account: &difference.account,
        what: &difference.what,
        redis: difference.redis,
        sql: difference.sql,
    });
    Ok(Answer::ok(&Reconciled { accounts: found.accounts, differences: differences.collect() }))
}
