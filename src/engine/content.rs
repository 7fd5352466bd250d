//! What makes two calls the same call: the content fields of each verb, in an order that must
//! never change, because fingerprints of earlier calls are compared by position.

use std::fmt::{self, Write as _};

use super::{
    charge::Charge,
    reserve::{self, Mode, Reserve},
    settle::{Outcome, Price, Settle},
};
use crate::quota::{
    fingerprint::Fingerprint,
    id::{KeyId, Model, Platform},
    usage::Usage,
};

/// A verb's content: its fingerprint, and the names of its fields in the same order.
pub(crate) struct Content<const N: usize> {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) names: [&'static str; N],
}

/// A short text on the stack; eight numbers and seven commas at most.
struct Text {
    bytes: [u8; 168],
    len: usize,
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Text {
    fn of(value: impl fmt::Display) -> Self {
        let mut text = Self { bytes: [0; 168], len: 0 };
        // All that is written here is numbers and addresses, which fit.
        let fits = write!(text, "{value}");
        debug_assert!(fits.is_ok());
        text
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ClientAbort => "client_abort",
            Outcome::UpstreamError => "upstream_error",
            Outcome::Unknown => "unknown",
        }
    }
}

fn usage_text(usage: &Usage) -> Text {
    let Usage { input, cache_read, cache_write_5m, cache_write_1h, audio_in, image_in, output, audio_out } = usage;
    Text::of(format_args!(
        "{input},{cache_read},{cache_write_5m},{cache_write_1h},{audio_in},{image_in},{output},{audio_out}"
    ))
}

/// The text of an amount or of what stands for it, and the name of the field it came in.
fn ask_text(ask: reserve::Ask) -> (Option<Text>, &'static str) {
    match ask {
        reserve::Ask::Units(units) => (Some(Text::of(units)), "amount"),
        reserve::Ask::Estimate { prompt_tokens, max_tokens: None } => {
            (Some(Text::of(format_args!("e{prompt_tokens}"))), "estimate")
        }
        reserve::Ask::Estimate { prompt_tokens, max_tokens: Some(max) } => {
            (Some(Text::of(format_args!("e{prompt_tokens},{max}"))), "estimate")
        }
        reserve::Ask::Default => (None, "amount"),
    }
}

fn price_text(price: &Price) -> (Option<Text>, &'static str) {
    match price {
        Price::Units(units) => (Some(Text::of(units)), "amount"),
        Price::Usage(usage) => (Some(usage_text(usage)), "usage"),
        Price::Unsaid => (None, "amount"),
    }
}

fn str(text: &Option<Text>) -> Option<&str> {
    text.as_ref().map(Text::as_str)
}

pub(crate) fn of_reserve(ask: &Reserve, key: Option<&KeyId>) -> Content<10> {
    let (amount, amount_name) = ask_text(ask.ask);
    let (tokens, ttl_ms) = (ask.tokens.map(Text::of), ask.ttl_ms.map(Text::of));
    let (client_ip, min_amount) = (ask.client_ip.map(Text::of), ask.min_amount.map(Text::of));
    let mode = match ask.mode {
        Mode::Strict => None,
        Mode::BestEffort => Some("best_effort"),
        Mode::CheckOnly => Some("check_only"),
    };
    let fields = [
        key.map(KeyId::as_str),
        ask.platform.as_ref().map(Platform::as_str),
        ask.model.as_ref().map(Model::as_str),
        str(&amount),
        str(&tokens),
        str(&ttl_ms),
        str(&client_ip),
        mode,
        str(&min_amount),
        ask.charge_on_expiry.then_some("charge"),
    ];
    let names =
        ["key", "platform", "model", amount_name, "tokens", "ttl_ms", "client_ip", "mode", "min_amount", "on_expiry"];
    Content { fingerprint: Fingerprint::of("reserve", &fields), names }
}

pub(crate) fn of_settle(ask: &Settle, key: Option<&KeyId>) -> Content<6> {
    let (price, price_name) = price_text(&ask.price);
    let fields = [
        str(&price),
        ask.model.as_ref().map(Model::as_str),
        (!ask.last).then_some("false"),
        ask.outcome.map(Outcome::as_str),
        key.map(KeyId::as_str),
        ask.platform.as_ref().map(Platform::as_str),
    ];
    let names = [price_name, "model", "final", "outcome", "key", "platform"];
    Content { fingerprint: Fingerprint::of("settle", &fields), names }
}

pub(crate) fn of_charge(ask: &Charge, key: Option<&KeyId>) -> Content<8> {
    let (price, price_name) = match (&ask.settle.price, ask.estimate) {
        (Price::Unsaid, Some(estimate)) => ask_text(estimate),
        (price, _) => price_text(price),
    };
    let (tokens, client_ip) = (ask.tokens.map(Text::of), ask.client_ip.map(Text::of));
    let fields = [
        key.map(KeyId::as_str),
        ask.settle.platform.as_ref().map(Platform::as_str),
        ask.settle.model.as_ref().map(Model::as_str),
        str(&price),
        str(&tokens),
        str(&client_ip),
        ask.settle.outcome.map(Outcome::as_str),
        ask.force.then_some("true"),
    ];
    let names = ["key", "platform", "model", price_name, "tokens", "client_ip", "outcome", "force"];
    Content { fingerprint: Fingerprint::of("charge", &fields), names }
}

/// Of a refund (`of`, `amount`), a credit (`amount`, `kind`) or a debit (`amount`, `force`).
pub(crate) fn of_operation(verb: &str, names: [&'static str; 2], fields: [&str; 2]) -> Content<2> {
    Content { fingerprint: Fingerprint::of(verb, &fields.map(Some)), names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_contents_fit() {
        let most = i64::MAX;
        let usage = Usage {
            input: most,
            cache_read: most,
            cache_write_5m: most,
            cache_write_1h: most,
            audio_in: most,
            image_in: most,
            output: most,
            audio_out: most,
        };
        assert_eq!(usage_text(&usage).len, 8 * 19 + 7);
        let ask = reserve::Ask::Estimate { prompt_tokens: most, max_tokens: Some(most) };
        assert_eq!(ask_text(ask).0.unwrap().len, 40);
        assert_eq!(Text::of(std::net::Ipv6Addr::from([0xfe; 16])).len, 39);
    }
}
