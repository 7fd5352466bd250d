//! `POST /v1/extend`.

use super::{done, id_of, payer, required};
use crate::{
    engine::extend::{Estimate, Extend},
    http::{
        Service,
        answer::{Answer, Handled},
        error::Problem,
        wire::{answer::Extended, gateway},
    },
};

pub(super) async fn answer(service: &Service, ask: gateway::Extend, header: Option<&str>) -> Handled {
    let id = required("id", id_of("id", ask.id, header)?)?;
    if ask.amount.is_none() && ask.ttl_ms.is_none() && ask.group.is_none() {
        return Err(Problem::invalid("amount", "amount, ttl_ms or group is required"));
    }
    let ask = Extend {
        payer: payer(ask.account, ask.api_key)?,
        id,
        amount: ask.amount.map(|amount| amount.0),
        ttl_ms: ask.ttl_ms.map(|ttl| ttl.0),
        group: ask.group.map(|group| group.0),
        model: ask.model,
        estimate: ask.estimate.map(|estimate| Estimate {
            prompt_tokens: estimate.prompt_tokens.0,
            max_tokens: estimate.max_tokens.map(|tokens| tokens.0),
        }),
    };
    let (extended, replayed) = done(service.engine.extend(&ask).await)?;
    let degraded = extended.balance.is_none();
    let answer = Answer::ok(&Extended {
        id: &extended.id,
        outcome: "extended",
        held: extended.held,
        expires_at: extended.expires_at,
        balance: extended.balance,
        available: extended.available,
        group: extended.group.as_deref(),
        degraded,
        replayed,
    });
    Ok(answer.replayed(replayed).degraded(degraded))
}
