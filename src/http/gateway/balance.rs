//! `GET /v1/accounts/{account}/balance`.

use super::done;
use crate::{
    engine::Payer,
    http::{
        Service,
        answer::{Answer, Handled},
        path,
        wire::{
            answer::{Balance, KeyBalance},
            limit::LimitLive,
        },
    },
    quota::id::AccountId,
};

pub(super) async fn answer(service: &Service, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let (sheet, _) = done(service.engine.balance(&Payer::Account(account)).await)?;
    let keys = sheet.keys.iter().map(|key| KeyBalance {
        key: &key.key,
        status: key.standing.as_str(),
        left: key.left,
        used: key.used,
        held: key.held,
        requests: key.requests,
    });
    Ok(Answer::ok(&Balance {
        account: &sheet.account,
        balance: sheet.balance,
        held: sheet.held,
        available: sheet.available,
        credit_limit: sheet.credit_limit,
        used: sheet.used,
        requests: sheet.requests,
        keys: keys.collect(),
        limits: sheet.limits.iter().map(LimitLive::from).collect(),
    }))
}
