//! `POST /admin/v1/accounts/{account}/credit` and `…/debit`.

use crate::{
    engine::{
        adjust::{Adjusted, Credit, CreditKind, Debit},
        referrals,
    },
    http::{
        answer::{Answer, Handled},
        error::Problem,
        gateway::{done, id_of, idempotency_key, required},
        path,
        route::Call,
        wire::{admin, read, report},
    },
    quota::{
        code,
        id::{AccountId, OpId},
    },
};

/// How the ids of credits begin that follow from a code or a transfer. One of an operator's with the same id would take
/// the place of the other.
const OWN_CREDITS: [&str; 2] = [code::CREDIT, referrals::CREDIT];

pub(super) async fn credit(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let ask: admin::Credit = read::body(call.body)?;
    let op_id = op_id(call, ask.op_id)?;
    if let Some(own) = OWN_CREDITS.iter().find(|own| op_id.as_str().starts_with(**own)) {
        return Err(Problem::invalid(
            "op_id",
            format!("op_id must not begin with `{own}`: so do quotad's own credits"),
        ));
    }
    let credit = Credit {
        account,
        op_id,
        amount: ask.amount.0,
        kind: ask.kind.map_or(CreditKind::Topup, |kind| kind.0),
        note: ask.note.map(|note| note.0.into()),
    };
    let (adjusted, replayed) = done(call.service.engine.credit(&call.actor()?, &credit).await)?;
    Ok(shown("credited", &adjusted, replayed))
}

pub(super) async fn debit(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let ask: admin::Debit = read::body(call.body)?;
    let debit = Debit {
        account,
        op_id: op_id(call, ask.op_id)?,
        amount: ask.amount.0,
        force: ask.force.unwrap_or(false),
        note: ask.note.map(|note| note.0.into()),
    };
    let (adjusted, replayed) = done(call.service.engine.debit(&call.actor()?, &debit).await)?;
    Ok(shown("debited", &adjusted, replayed))
}

pub(super) fn op_id(call: &Call<'_>, body: Option<OpId>) -> Result<OpId, Problem> {
    required("op_id", id_of("op_id", body, idempotency_key(call.headers)?)?)
}

fn shown(outcome: &'static str, adjusted: &Adjusted, replayed: bool) -> Answer {
    let answer = Answer::ok(&report::Adjusted {
        account: &adjusted.account,
        op_id: &adjusted.op_id,
        outcome,
        amount: adjusted.amount,
        balance: adjusted.balance,
        available: adjusted.available,
        replayed,
    });
    answer.replayed(replayed)
}
