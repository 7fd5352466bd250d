//! `POST /admin/v1/reconcile`.

use crate::{
    engine::reconcile::Reconcile,
    http::{
        answer::{Answer, Handled},
        gateway::done,
        route::Call,
        wire::{
            admin, read,
            report::{Difference, Reconciled},
        },
    },
};

pub(super) async fn answer(call: &Call<'_>) -> Handled {
    // Without a body it is about all accounts, like `{}`.
    let ask: admin::Reconcile = read::body(if call.body.is_empty() { b"{}" } else { call.body })?;
    let ask = Reconcile {
        account: ask.account,
        repair: ask.repair.unwrap_or(false),
        cursor: ask.cursor,
        limit: ask.limit.map(|limit| limit.0),
    };
    let (found, _) = done(call.service.engine.reconcile(&call.actor()?, &ask).await)?;
    let differences = found.differences.iter().map(|one| Difference {
        account: &one.account,
        what: &one.what,
        redis: one.redis,
        sql: one.sql,
        expected: one.expected,
        repaired: one.repaired,
    });
    let (accounts, moving, next) = (found.accounts, found.moving, found.next);
    Ok(Answer::ok(&Reconciled { accounts, moving, differences: differences.collect(), next }))
}
