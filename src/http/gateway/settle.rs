//! `POST /v1/settle`.

use super::{done, id_of, payer, required};
use crate::{
    engine::settle::{Price, Settle, Settled},
    http::{
        Service,
        answer::{Answer, Handled},
        error::Problem,
        wire::{answer, estimate::LongText, gateway, meta::Meta, scalar},
    },
    metrics,
    quota::entry::LogFields,
};

pub(super) async fn answer(service: &Service, ask: gateway::Settle, header: Option<&str>) -> Handled {
    let (mut settle, text) = asked(ask, header)?;
    count(service, &mut settle, text).await?;
    let (settled, replayed) = done(service.engine.settle(&settle).await)?;
    Ok(shown(&settled, replayed))
}

/// Prices a settle or charge by its text, if it has one.
pub(super) async fn count(service: &Service, settle: &mut Settle, text: Option<LongText>) -> Result<(), Problem> {
    let Some(LongText(text)) = text else { return Ok(()) };
    let model = settle.model.as_ref().ok_or_else(|| Problem::invalid("model", "a text is priced by its model"))?;
    let completion_tokens = Box::pin(service.engine.count_tokens(model, text)).await?;
    settle.price = Price::Text { prompt_tokens: settle.log.prompt_tokens, completion_tokens };
    Ok(())
}

/// The answer of settle and charge.
pub(in crate::http) fn shown(settled: &Settled, replayed: bool) -> Answer {
    if settled.clamped && !replayed {
        metrics::settle_clamped();
    }
    let degraded = settled.balance.is_none();
    let answer = Answer::ok(&answer::Settled {
        id: &settled.id,
        outcome: if settled.last { "settled" } else { "held" },
        charged: settled.charged,
        returned: settled.returned,
        overdraft: settled.overdraft,
        late: settled.late,
        unreserved: settled.unreserved,
        clamped: settled.clamped,
        balance: settled.balance,
        available: settled.available,
        degraded,
        replayed,
    });
    answer.replayed(replayed).degraded(degraded)
}

/// The settle and, where nothing else says the price, the text whose tokens do.
fn asked(ask: gateway::Settle, header: Option<&str>) -> Result<(Settle, Option<LongText>), Problem> {
    let price = priced(ask.amount, ask.usage, ask.model.is_some())?;
    let last = ask.last.unwrap_or(true);
    check_text(ask.response_text.as_ref(), &price, ask.model.is_some())?;
    if !last && price == Price::Unsaid && ask.response_text.is_none() {
        return Err(Problem::invalid("amount", "a settle that is not final says what was spent so far"));
    }
    let counted = [ask.prompt_tokens, ask.completion_tokens, ask.cached_tokens];
    let settle = Settle {
        payer: payer(ask.account, ask.api_key)?,
        id: required("id", id_of("id", ask.id, header)?)?,
        price,
        last,
        outcome: ask.outcome.map(|outcome| outcome.0),
        key: ask.key,
        platform: ask.platform,
        model: ask.model,
        group: ask.group.map(|group| group.0),
        log: logged(counted, ask.duration_ms, ask.stream, ask.ip, ask.meta),
    };
    Ok((settle, ask.response_text))
}

/// A text is the only price there is, and needs a model to be counted and priced by.
pub(super) fn check_text(text: Option<&LongText>, price: &Price, has_model: bool) -> Result<(), Problem> {
    match text {
        Some(_) if *price != Price::Unsaid => {
            Err(Problem::invalid("response_text", "amount, usage and response_text exclude each other"))
        }
        Some(_) if !has_model => Err(Problem::invalid("model", "a text is priced by its model")),
        _ => Ok(()),
    }
}

/// An amount or a usage, not both; a usage needs a model to be priced by.
pub(super) fn priced(
    amount: Option<scalar::Units>,
    usage: Option<scalar::Usage>,
    has_model: bool,
) -> Result<Price, Problem> {
    match (amount, usage) {
        (Some(_), Some(_)) => Err(Problem::invalid("usage", "amount and usage exclude each other")),
        (Some(amount), None) => Ok(Price::Units(amount.0)),
        (None, Some(_)) if !has_model => Err(Problem::invalid("model", "a usage is priced by its model")),
        (None, Some(usage)) => Ok(Price::Usage(usage.0)),
        (None, None) => Ok(Price::Unsaid),
    }
}

/// What is only logged, of settle and charge. `counted`: tokens of the prompt, of the completion, cached.
pub(super) fn logged(
    counted: [Option<scalar::Count>; 3],
    duration_ms: Option<scalar::Count>,
    stream: Option<bool>,
    ip: Option<scalar::Ip>,
    meta: Option<Meta>,
) -> LogFields {
    let [prompt_tokens, completion_tokens, cached_tokens] = counted.map(|tokens| tokens.map(|count| count.0));
    LogFields {
        prompt_tokens,
        completion_tokens,
        cached_tokens,
        duration_ms: duration_ms.map(|count| count.0),
        stream,
        ip: ip.map(|ip| ip.0.to_string()),
        meta: meta.map(|meta| meta.0),
        ..LogFields::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::settle::Outcome, http::wire::read};

    fn read(text: &str, header: Option<&str>) -> Result<Settle, Problem> {
        asked(read::body(text.as_bytes())?, header).map(|(settle, _)| settle)
    }

    #[test]
    fn everything_arrives_in_its_place() {
        let ask = read(
            r#"{"api_key":"sk-1","amount":5,"final":false,"outcome":"client_abort","key":"k","platform":"p",
            "model":"m","prompt_tokens":1,"completion_tokens":2,"cached_tokens":3,"duration_ms":4,"stream":true,
            "ip":"10.0.0.1","meta":{"a":[1,2.5]}}"#,
            Some("r-9"),
        )
        .unwrap();
        assert_eq!((ask.id.as_str(), ask.last, ask.price), ("r-9", false, Price::Units(5)));
        assert_eq!(ask.outcome, Some(Outcome::ClientAbort));
        let log = serde_json::to_value(&ask.log).unwrap();
        let expected = serde_json::json!({"prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 3,
            "duration_ms": 4, "stream": true, "ip": "10.0.0.1", "meta": {"a": [1, 2.5]}});
        assert_eq!(log, expected);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let field = |text: &str| read(text, None).unwrap_err().field.map(String::from);
        assert_eq!(field(r#"{"account":"a"}"#).as_deref(), Some("id"));
        assert_eq!(field(r#"{"account":"a","id":"r","final":false}"#).as_deref(), Some("amount"));
        assert_eq!(read(r#"{"account":"a","id":"r"}"#, None).unwrap().price, Price::Unsaid);
        let text = r#"{"account":"a","id":"r","response_text":"hi""#;
        assert_eq!(field(&format!("{text}}}")).as_deref(), Some("model"));
        assert_eq!(field(&format!(r#"{text},"model":"m","amount":1}}"#)).as_deref(), Some("response_text"));
        assert!(read(&format!(r#"{text},"model":"m","final":false}}"#), None).is_ok(), "so far, as an amount");
    }

    #[test]
    fn a_replay_says_so_twice() {
        let settled = Settled {
            account: crate::quota::id::AccountId::new("a").unwrap(),
            id: crate::quota::id::ReservationId::new("r").unwrap(),
            charged: Some(1),
            returned: Some(2),
            overdraft: 0,
            late: false,
            unreserved: false,
            clamped: false,
            last: true,
            balance: Some(3),
            available: Some(4),
        };
        let fresh = shown(&settled, false);
        let text = String::from_utf8(fresh.body.clone()).unwrap();
        let exact = r#"{"id":"r","outcome":"settled","charged":1,"returned":2,"overdraft":0,"late":false,"unreserved":false,"balance":3,"available":4}"#;
        assert_eq!((text.as_str(), fresh.find("idempotency-replayed")), (exact, None));
        let again = shown(&settled, true);
        assert_eq!(again.find("idempotency-replayed"), Some("true"));
        assert!(String::from_utf8(again.body).unwrap().ends_with(r#""available":4,"replayed":true}"#));
    }
}
