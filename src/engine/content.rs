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

/// Room for eight numbers and seven commas.
const SHORT: usize = 168;

/// A text, on the stack unless it is long.
enum Text {
    Short([u8; SHORT], usize),
    Long(String),
}

/// Writes to the stack, as far as there is room.
struct Short {
    bytes: [u8; SHORT],
    len: usize,
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Text {
    fn of(value: impl fmt::Display) -> Self {
        let mut text = Short { bytes: [0; SHORT], len: 0 };
        match write!(text, "{value}") {
            Ok(()) => Self::Short(text.bytes, text.len),
            Err(_) => Self::Long(value.to_string()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Short(bytes, len) => std::str::from_utf8(&bytes[..*len]).unwrap_or_default(),
            Self::Long(text) => text,
        }
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

/// Eight numbers, and after them what few usages have, where it is not 0: so that what was reported
/// before such kinds were told apart reads the same.
struct UsageText<'a>(&'a Usage);

impl fmt::Display for UsageText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { input, cache_write_5m, cache_write_1h, audio_in, image_in, audio_out, .. } = self.0;
        let (cached, output) = (self.0.cached_tokens(), self.0.completion_tokens().saturating_sub(*audio_out));
        write!(f, "{input},{cached},{cache_write_5m},{cache_write_1h},{audio_in},{image_in},{output},{audio_out}")?;
        let Usage { cache_read_audio, cache_read_image, reasoning, image_out, .. } = self.0;
        let Usage { millis_in, millis_out, images_in, images_out, requests, .. } = self.0;
        let tokens = [('a', cache_read_audio), ('i', cache_read_image), ('r', reasoning), ('o', image_out)];
        let pieces = [('s', millis_in), ('t', millis_out), ('p', images_in), ('q', images_out), ('c', requests)];
        let more = tokens.into_iter().chain(pieces).filter(|(_, count)| **count != 0);
        more.into_iter().try_for_each(|(kind, count)| write!(f, ",{kind}{count}"))
    }
}

fn usage_text(usage: &Usage) -> Text {
    Text::of(UsageText(usage))
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
        Price::Text { prompt_tokens: None, completion_tokens } => {
            (Some(Text::of(format_args!("t{completion_tokens}"))), "response_text")
        }
        Price::Text { prompt_tokens: Some(prompt), completion_tokens } => {
            (Some(Text::of(format_args!("t{completion_tokens},{prompt}"))), "response_text")
        }
        Price::Unsaid => (None, "amount"),
    }
}

fn str(text: &Option<Text>) -> Option<&str> {
    text.as_ref().map(Text::as_str)
}

/// The last field came later than the others: a call without it is what it was before.
fn known<'f, 't>(fields: &'f [Option<&'t str>]) -> &'f [Option<&'t str>] {
    match fields {
        [before @ .., None] => before,
        all => all,
    }
}

pub(crate) fn of_reserve(ask: &Reserve, key: Option<&KeyId>) -> Content<11> {
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
        ask.group.as_deref(),
    ];
    let names = [
        "key",
        "platform",
        "model",
        amount_name,
        "tokens",
        "ttl_ms",
        "client_ip",
        "mode",
        "min_amount",
        "on_expiry",
        "group",
    ];
    Content { fingerprint: Fingerprint::of("reserve", known(&fields)), names }
}

pub(crate) fn of_settle(ask: &Settle, key: Option<&KeyId>) -> Content<7> {
    let (price, price_name) = price_text(&ask.price);
    let fields = [
        str(&price),
        ask.model.as_ref().map(Model::as_str),
        (!ask.last).then_some("false"),
        ask.outcome.map(Outcome::as_str),
        key.map(KeyId::as_str),
        ask.platform.as_ref().map(Platform::as_str),
        ask.group.as_deref(),
    ];
    let names = [price_name, "model", "final", "outcome", "key", "platform", "group"];
    Content { fingerprint: Fingerprint::of("settle", known(&fields)), names }
}

pub(crate) fn of_charge(ask: &Charge, key: Option<&KeyId>) -> Content<9> {
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
        ask.settle.group.as_deref(),
    ];
    let names = ["key", "platform", "model", price_name, "tokens", "client_ip", "outcome", "force", "group"];
    Content { fingerprint: Fingerprint::of("charge", known(&fields)), names }
}

/// Of a refund (`of`, `amount`), a credit (`amount`, `kind`) or a debit (`amount`, `force`).
pub(crate) fn of_operation(verb: &str, names: [&'static str; 2], fields: [&str; 2]) -> Content<2> {
    Content { fingerprint: Fingerprint::of(verb, &fields.map(Some)), names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_written_in_full() {
        let most = i64::MAX;
        let ask = reserve::Ask::Estimate { prompt_tokens: most, max_tokens: Some(most) };
        assert_eq!(ask_text(ask).0.unwrap().as_str().len(), 40);
        assert_eq!(Text::of(std::net::Ipv6Addr::from([0xfe; 16])).as_str().len(), 39);
        let long = "x".repeat(SHORT + 1);
        assert_eq!(Text::of(&long).as_str(), long);
    }

    /// The first eight numbers are those of builds that knew no other kinds.
    #[test]
    fn a_usage_says_all_its_kinds() {
        let text = |usage: Usage| usage_text(&usage).as_str().to_owned();
        let plain = Usage { input: 1, cache_read: 2, cache_write_5m: 3, cache_write_1h: 4, ..Usage::default() };
        let plain = Usage { audio_in: 5, image_in: 6, output: 7, audio_out: 8, ..plain };
        assert_eq!(text(plain), "1,2,3,4,5,6,7,8");
        let told_apart = Usage { cache_read_audio: 10, cache_read_image: 20, reasoning: 30, image_out: 40, ..plain };
        assert_eq!(text(told_apart), "1,32,3,4,5,6,77,8,a10,i20,r30,o40");
        let pieces = Usage { millis_in: 1, millis_out: 2, images_in: 3, images_out: 4, requests: 5, ..plain };
        assert_eq!(text(pieces), "1,2,3,4,5,6,7,8,s1,t2,p3,q4,c5");
    }
}
