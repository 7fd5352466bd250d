//! `POST /v1/reserve`.

use super::{done, id_of, made_up_id, payer};
use crate::{
    engine::reserve::{Ask, Mode, Reserve, Reserved},
    http::{
        Service,
        answer::{Answer, Handled},
        error::Problem,
        ratelimit,
        wire::{answer, gateway, limit::LimitLive, word::Expiry},
    },
    quota::clock::Millis,
};

pub(super) async fn answer(service: &Service, ask: gateway::Reserve, header: Option<&str>) -> Handled {
    let verbose = ask.verbose.unwrap_or(false);
    let now = service.engine.clock.now();
    let (reserved, replayed) = match self::ask(service, ask, header).await {
        Ok(granted) => granted,
        Err(problem) => {
            let mut answer = problem.answer();
            ratelimit::describe(&mut answer, &problem.violated, now);
            return Ok(answer);
        }
    };
    Ok(shown(&reserved, replayed, verbose, now))
}

pub(in crate::http) fn shown(reserved: &Reserved, replayed: bool, verbose: bool, now: Millis) -> Answer {
    let degraded = reserved.balance.is_none();
    let mut answer = Answer::ok(&answer::Reserved {
        id: &reserved.id,
        outcome: "granted",
        held: reserved.held,
        trusted: reserved.trusted,
        expires_at: reserved.expires_at,
        balance: reserved.balance,
        available: reserved.available,
        group: reserved.group.as_deref(),
        degraded,
        limits: verbose.then(|| reserved.limits.iter().map(LimitLive::from).collect()),
        replayed,
    });
    ratelimit::describe(&mut answer, &reserved.limits, now);
    answer.replayed(replayed).degraded(degraded)
}

/// The engine's answer, and whether it is a repeated one.
pub(super) async fn ask(
    service: &Service,
    ask: gateway::Reserve,
    header: Option<&str>,
) -> Result<(Reserved, bool), Problem> {
    done(service.engine.reserve(&asked(ask, header)?).await)
}

/// The request as the engine takes it.
fn asked(ask: gateway::Reserve, header: Option<&str>) -> Result<Reserve, Problem> {
    if ask.estimate.is_some() && ask.tokens.is_some() {
        return Err(Problem::invalid("tokens", "an estimate brings its own tokens"));
    }
    let sum = estimated(ask.amount.map(|amount| amount.0), ask.estimate, ask.model.is_some())?;
    let mode = ask.mode.map_or(Mode::Strict, |mode| mode.0);
    if ask.min_amount.is_some() && mode != Mode::BestEffort {
        return Err(Problem::invalid("min_amount", "min_amount belongs to the mode best_effort"));
    }
    Ok(Reserve {
        payer: payer(ask.account, ask.api_key)?,
        key: ask.key,
        id: id_of("id", ask.id, header)?.unwrap_or_else(made_up_id),
        platform: ask.platform,
        model: ask.model,
        ask: sum.unwrap_or(Ask::Default),
        tokens: ask.tokens.map(|tokens| tokens.0),
        ttl_ms: ask.ttl_ms.map(|ttl| ttl.0),
        client_ip: ask.client_ip.map(|ip| ip.0),
        group: ask.group.map(|group| group.0),
        mode,
        min_amount: ask.min_amount.map(|amount| amount.0),
        charge_on_expiry: ask.on_expiry.is_some_and(|on_expiry| on_expiry.0 == Expiry::Charge),
    })
}

/// An amount or an estimate, not both; an estimate needs a model to be priced by.
pub(super) fn estimated(
    amount: Option<i64>,
    estimate: Option<gateway::Estimate>,
    has_model: bool,
) -> Result<Option<Ask>, Problem> {
    match (amount, estimate) {
        (Some(_), Some(_)) => Err(Problem::invalid("estimate", "amount and estimate exclude each other")),
        (Some(units), None) => Ok(Some(Ask::Units(units))),
        (None, Some(_)) if !has_model => Err(Problem::invalid("model", "an estimate is priced by its model")),
        (None, Some(estimate)) => Ok(Some(Ask::Estimate {
            prompt_tokens: estimate.prompt_tokens.0,
            max_tokens: estimate.max_tokens.map(|tokens| tokens.0),
        })),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::read;

    fn read(text: &str) -> Result<Reserve, Problem> {
        asked(read::body(text.as_bytes())?, None)
    }

    fn field(text: &str) -> Option<String> {
        read(text).unwrap_err().field.map(Into::into)
    }

    #[test]
    fn everything_arrives_in_its_place() {
        let ask = read(
            r#"{"account":"a","key":"k","id":"r","platform":"openai","model":"gpt-4o","amount":"12","tokens":7,
            "ttl_ms":1000,"client_ip":"::1","mode":"best_effort","min_amount":3,"on_expiry":"charge","verbose":true}"#,
        )
        .unwrap();
        assert_eq!((ask.ask, ask.tokens, ask.ttl_ms), (Ask::Units(12), Some(7), Some(1000)));
        assert_eq!((ask.mode, ask.min_amount, ask.charge_on_expiry), (Mode::BestEffort, Some(3), true));
        assert_eq!(ask.id.as_str(), "r");
        let bare = read(r#"{"account":"a"}"#).unwrap();
        assert_eq!((bare.ask, bare.mode, bare.charge_on_expiry), (Ask::Default, Mode::Strict, false));
        assert!(bare.id.as_str().starts_with("q-"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let both = r#"{"account":"a","model":"m","amount":1,"estimate":{"prompt_tokens":1}}"#;
        assert_eq!(field(both).as_deref(), Some("estimate"));
        assert_eq!(field(r#"{"account":"a","estimate":{"prompt_tokens":1}}"#).as_deref(), Some("model"));
        let tokens = r#"{"account":"a","model":"m","estimate":{"prompt_tokens":1},"tokens":1}"#;
        assert_eq!(field(tokens).as_deref(), Some("tokens"));
        assert_eq!(field(r#"{"account":"a","amount":1,"min_amount":1}"#).as_deref(), Some("min_amount"));
        assert_eq!(field(r#"{"amount":1}"#).as_deref(), Some("account"));
    }
}
