//! `POST /v1/refund`.

use super::{done, id_of, payer, required};
use crate::{
    engine::refund::Refund,
    http::{
        Service,
        answer::{Answer, Handled},
        wire::{answer::Refunded, gateway},
    },
};

pub(super) async fn answer(service: &Service, ask: gateway::Refund, header: Option<&str>) -> Handled {
    let ask = Refund {
        op_id: required("op_id", id_of("op_id", ask.op_id, header)?)?,
        payer: payer(ask.account, ask.api_key)?,
        of: ask.of,
        amount: ask.amount.0,
        reason: ask.reason.map(|reason| reason.0.into()),
    };
    let (refunded, replayed) = done(service.engine.refund(&ask).await)?;
    let answer = Answer::ok(&Refunded {
        op_id: &refunded.op_id,
        outcome: "refunded",
        of: &refunded.of,
        refunded: refunded.refunded,
        balance: refunded.balance,
        available: refunded.available,
        replayed,
    });
    Ok(answer.replayed(replayed))
}
