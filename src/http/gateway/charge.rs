//! `POST /v1/charge`.

use super::{done, id_of, made_up_id, payer, reserve::estimated, settle};
use crate::{
    engine::{
        charge::Charge,
        reserve::Mode,
        settle::{Price, Settle},
    },
    http::{
        Service,
        answer::Handled,
        error::Problem,
        wire::{estimate::LongText, gateway},
    },
};

pub(super) async fn answer(service: &Service, ask: gateway::Charge, header: Option<&str>) -> Handled {
    let (mut charge, text) = asked(ask, header)?;
    settle::count(service, &mut charge.settle, text).await?;
    let (settled, replayed) = done(service.engine.charge(&charge).await)?;
    Ok(settle::shown(&settled, replayed))
}

/// The charge and, where nothing else says the price, the text whose tokens do.
fn asked(ask: gateway::Charge, header: Option<&str>) -> Result<(Charge, Option<LongText>), Problem> {
    // A charge holds nothing: the fields of reserve that shape a hold are taken and mean nothing.
    let _ = (ask.ttl_ms, ask.on_expiry, ask.verbose);
    if ask.last == Some(false) {
        return Err(Problem::invalid("final", "a charge is final"));
    }
    if ask.mode.is_some_and(|mode| mode.0 != Mode::Strict) {
        return Err(Problem::invalid("mode", "a charge takes all or nothing"));
    }
    if ask.estimate.is_some() && ask.tokens.is_some() {
        return Err(Problem::invalid("tokens", "an estimate brings its own tokens"));
    }
    let price = settle::priced(ask.amount, ask.usage, ask.model.is_some())?;
    settle::check_text(ask.response_text.as_ref(), &price, ask.model.is_some())?;
    let estimate = estimated(None, ask.estimate, ask.model.is_some())?;
    match (price != Price::Unsaid || ask.response_text.is_some(), &estimate) {
        (false, None) => {
            return Err(Problem::invalid("amount", "amount, usage, response_text or estimate is required"));
        }
        (false, Some(_)) | (true, None) => {}
        (true, Some(_)) => {
            let sentence = "amount, usage, response_text and estimate exclude each other";
            return Err(Problem::invalid("estimate", sentence));
        }
    }
    let counted = [ask.prompt_tokens, ask.completion_tokens, ask.cached_tokens];
    let charge = Charge {
        settle: Settle {
            payer: payer(ask.account, ask.api_key)?,
            id: id_of("id", ask.id, header)?.unwrap_or_else(made_up_id),
            price,
            last: true,
            outcome: ask.outcome.map(|outcome| outcome.0),
            key: ask.key,
            platform: ask.platform,
            model: ask.model,
            group: ask.group.map(|group| group.0),
            log: settle::logged(counted, ask.duration_ms, ask.stream, ask.ip, ask.meta),
        },
        estimate,
        tokens: ask.tokens.map(|tokens| tokens.0),
        client_ip: ask.client_ip.map(|ip| ip.0),
        force: ask.force.unwrap_or(false),
    };
    Ok((charge, ask.response_text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::read;

    #[test]
    fn a_charge_needs_one_price_and_is_final() {
        let field = |text: &str| {
            let read = read::body(text.as_bytes()).map_err(Problem::from).and_then(|ask| asked(ask, None));
            read.err().and_then(|problem| problem.field).map(String::from)
        };
        assert_eq!(field(r#"{"account":"a","amount":1}"#), None);
        assert_eq!(field(r#"{"account":"a","model":"m","estimate":{"prompt_tokens":5}}"#), None);
        assert_eq!(field(r#"{"account":"a"}"#).as_deref(), Some("amount"));
        assert_eq!(field(r#"{"account":"a","amount":1,"final":false}"#).as_deref(), Some("final"));
        assert_eq!(field(r#"{"account":"a","amount":1,"mode":"check_only"}"#).as_deref(), Some("mode"));
        let text = r#"{"account":"a","model":"m","response_text":"hi""#;
        assert_eq!(field(&format!("{text}}}")), None);
        assert_eq!(field(&format!(r#"{text},"amount":1}}"#)).as_deref(), Some("response_text"));
        assert_eq!(field(&format!(r#"{text},"estimate":{{"prompt_tokens":5}}}}"#)).as_deref(), Some("estimate"));
        assert_eq!(field(r#"{"account":"a","response_text":"hi"}"#).as_deref(), Some("model"));
        let both = r#"{"account":"a","model":"m","amount":1,"estimate":{"prompt_tokens":5}}"#;
        assert_eq!(field(both).as_deref(), Some("estimate"));
    }
}
