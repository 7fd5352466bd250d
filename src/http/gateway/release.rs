//! `POST /v1/release`.

use super::{done, id_of, payer, required};
use crate::{
    engine::release::Release,
    http::{
        Service,
        answer::{Answer, Handled},
        wire::{answer::Released, gateway},
    },
};

pub(super) async fn answer(service: &Service, ask: gateway::Release, header: Option<&str>) -> Handled {
    let id = required("id", id_of("id", ask.id, header)?)?;
    let ask = Release { payer: payer(ask.account, ask.api_key)?, id };
    let (released, replayed) = done(service.engine.release(&ask).await)?;
    let degraded = released.balance.is_none();
    let answer = Answer::ok(&Released {
        id: &released.id,
        outcome: "released",
        returned: released.returned,
        balance: released.balance,
        available: released.available,
        degraded,
        replayed,
    });
    Ok(answer.replayed(replayed).degraded(degraded))
}
