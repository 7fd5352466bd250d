//! `POST /v1/estimate`.

use super::{done, payer};
use crate::{
    engine::estimate::{Estimate, Estimated, Prompt},
    http::{
        Service,
        answer::{Answer, Handled},
        error::Problem,
        wire::{answer, estimate::Estimation},
    },
};

pub(super) async fn answer(service: &Service, ask: Estimation) -> Handled {
    let model = ask.model.clone();
    let (estimated, _) = done(service.engine.estimate(asked(ask)?).await)?;
    let Estimated { counted_by, prompt_tokens, max_tokens, prompt_cost, held, free, .. } = estimated;
    let Estimated { group, version, ratio, rates, .. } = estimated;
    Ok(Answer::ok(&answer::Estimated {
        model: model.as_str(),
        counted_by,
        prompt_tokens,
        max_tokens,
        tokens: prompt_tokens.saturating_add(max_tokens),
        prompt_cost,
        held,
        free,
        group: group.as_deref(),
        tariff: version,
        ratio: ratio.to_string(),
        prices: (&rates).into(),
    }))
}

fn asked(ask: Estimation) -> Result<Estimate, Problem> {
    let given = [ask.prompt_tokens.is_some(), ask.text.is_some(), ask.messages.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        let sentence = "prompt_tokens, text and messages exclude each other";
        return Err(Problem::invalid(if ask.messages.is_some() { "messages" } else { "text" }, sentence));
    }
    let mut images = ask.images.map(|images| images.0).unwrap_or_default();
    let prompt = match (ask.text, ask.messages) {
        (Some(text), _) => Prompt::Texts { texts: vec![text.0], messages: 0 },
        (None, Some(chat)) => {
            images.extend(chat.images);
            Prompt::Texts { texts: chat.texts, messages: chat.messages }
        }
        (None, None) => Prompt::Tokens(ask.prompt_tokens.map_or(0, |tokens| tokens.0)),
    };
    let payer = match (ask.account, ask.api_key) {
        (None, None) if ask.key.is_some() => return Err(Problem::invalid("account", "a key is an account's")),
        (None, None) => None,
        (account, api_key) => Some(payer(account, api_key)?),
    };
    Ok(Estimate {
        payer,
        key: ask.key,
        group: ask.group.map(|group| group.0),
        model: ask.model,
        prompt,
        images,
        audio_millis: ask.audio_seconds.map_or(0, |seconds| seconds.0),
        max_tokens: ask.max_tokens.map(|tokens| tokens.0),
        output_images: ask.output_images.map_or(0, |images| images.0),
        output_millis: ask.output_seconds.map_or(0, |seconds| seconds.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::read;

    fn read(text: &str) -> Result<Estimate, Problem> {
        asked(read::body(text.as_bytes())?)
    }

    #[test]
    fn everything_arrives_in_its_place() {
        let ask = read(
            r#"{"account":"a","key":"k","model":"gpt-4o","messages":[{"role":"user","content":[{"type":"image"}]}],
            "images":[{"width":3,"height":4}],"audio_seconds":1.5,"max_tokens":7,"output_images":2,"output_seconds":3}"#,
        )
        .unwrap();
        assert!(matches!(&ask.prompt, Prompt::Texts { texts, messages: 1 } if texts == &["user"]));
        assert_eq!((ask.images.len(), ask.audio_millis, ask.max_tokens), (2, 1_500, Some(7)));
        assert_eq!((ask.output_images, ask.output_millis), (2, 3_000));
        let bare = read(r#"{"model":"m"}"#).unwrap();
        assert!(bare.payer.is_none() && matches!(bare.prompt, Prompt::Tokens(0)));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let field = |text: &str| read(text).unwrap_err().field.map(String::from);
        assert_eq!(field(r#"{"text":"x"}"#).as_deref(), Some("model"));
        assert_eq!(field(r#"{"model":"m","text":"x","prompt_tokens":1}"#).as_deref(), Some("text"));
        assert_eq!(field(r#"{"model":"m","text":"x","messages":[]}"#).as_deref(), Some("messages"));
        assert_eq!(field(r#"{"model":"m","key":"k"}"#).as_deref(), Some("account"));
        assert_eq!(field(r#"{"model":"m","account":"a","api_key":"s"}"#).as_deref(), Some("api_key"));
        assert_eq!(field(r#"{"model":"m","txt":"x"}"#).as_deref(), Some("txt"));
    }
}
