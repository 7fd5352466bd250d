//! `POST /v1/redeem`.

use super::{done, payer};
use crate::{
    engine::codes,
    http::{
        Service,
        answer::{Answer, Handled},
        wire::codes::{Redeem, Redeemed},
    },
};

pub(super) async fn answer(service: &Service, ask: Redeem) -> Handled {
    let payer = payer(ask.account, ask.api_key)?;
    let (redeemed, replayed) = done(service.codes.redeem(&payer, &ask.code).await)?;
    Ok(shown(&redeemed, replayed))
}

pub(in crate::http) fn shown(redeemed: &codes::Redeemed, replayed: bool) -> Answer {
    let answer = Answer::ok(&Redeemed {
        account: &redeemed.account,
        id: &redeemed.code,
        outcome: "redeemed",
        amount: redeemed.amount,
        balance: redeemed.balance,
        available: redeemed.available,
        replayed,
    });
    answer.replayed(replayed)
}
