//! The values of requests: amounts, counts, names, addresses, instants. Each is checked as it is
//! read, from its own JSON text.

use std::net::IpAddr;

use ipnet::IpNet;

use super::read::{Bad, Value, string};
use crate::quota::{
    amount::{Amount, COUNTER_MAX},
    clock::Millis,
    group::{NAME_RULE, is_name},
    id::{AccountId, BadId, KeyId, Model, OpId, Platform, ReservationId},
    limit::Period,
    usage::Usage as Tokens,
    window::Zone,
};

/// Token counts and durations end here; no call has a billion tokens.
pub(crate) const COUNT_MAX: i64 = 1_000_000_000;
/// Entries on one page.
pub(crate) const PAGE_MAX: i64 = 1_000;
pub(crate) const TTL_MS_MIN: i64 = 1_000;
pub(crate) const TTL_MS_MAX: i64 = 86_400_000;
/// Characters of free text (names, notes, reasons) and of a caller's secret.
pub(crate) const TEXT_CHARS_MAX: usize = 512;

/// An amount: JSON integer or decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units(pub(crate) i64);

/// A number that lives beside balances, so it keeps within their range: 2^52.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level(pub(crate) i64);

/// An amount, or null where null says "without".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cap(pub(crate) Option<i64>);

/// A count of tokens or milliseconds: `0 ..= 10^9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TtlMs(pub(crate) u32);

/// How many to put on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageLimit(pub(crate) u32);

/// Free text without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Box<str>);

/// Free text, or null to clear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextOrNull(pub(crate) Option<Box<str>>);

/// The name of a price group, or null to have none of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupOrNull(pub(crate) Option<Box<str>>);

/// The name of a price group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupName(pub(crate) Box<str>);

/// A caller's secret. Never printed.
pub(crate) struct Secret(pub(crate) Box<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ip(pub(crate) IpAddr);

/// An address or a CIDR block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(pub(crate) IpNet);

/// An instant in RFC 3339, or null for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstantOrNull(pub(crate) Option<Millis>);

#[derive(Clone, Debug)]
pub(crate) struct TimeZone(pub(crate) Zone);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sha256(pub(crate) [u8; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Period);

/// An upstream's usage object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage(pub(crate) Tokens);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

fn amount(raw: &str) -> Result<i64, Bad> {
    let digits = if raw.starts_with('"') { string(raw)? } else { raw.into() };
    Amount::parse(&digits).map(Amount::units).map_err(|bad| Bad::value(bad.to_string()))
}

fn integer(raw: &str, least: i64, most: i64) -> Result<i64, Bad> {
    let number = Amount::parse(raw).ok().map(Amount::units).filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Bad::value(format!("must be a whole number from {least} to {most}")))
}

fn free_text(raw: &str) -> Result<Box<str>, Bad> {
    let text = string(raw)?;
    if text.chars().any(char::is_control) || text.chars().count() > TEXT_CHARS_MAX {
        return Err(Bad::value(format!(
            "must be at most {TEXT_CHARS_MAX} characters, none of them a control character"
        )));
    }
    Ok(text.into())
}

impl Value for Units {
    fn read(raw: &str) -> Result<Self, Bad> {
        amount(raw).map(Self)
    }
}

impl Value for Level {
    fn read(raw: &str) -> Result<Self, Bad> {
        match amount(raw)? {
            units if units <= COUNTER_MAX => Ok(Self(units)),
            _ => Err(Bad::value(format!("must be at most {COUNTER_MAX}"))),
        }
    }
}

impl Value for Cap {
    fn read(raw: &str) -> Result<Self, Bad> {
        if raw == "null" { Ok(Self(None)) } else { amount(raw).map(|units| Self(Some(units))) }
    }
}

impl Value for Count {
    fn read(raw: &str) -> Result<Self, Bad> {
        integer(raw, 0, COUNT_MAX).map(Self)
    }
}

impl Value for TtlMs {
    fn read(raw: &str) -> Result<Self, Bad> {
        integer(raw, TTL_MS_MIN, TTL_MS_MAX).map(|ttl| Self(ttl as u32))
    }
}

impl Value for PageLimit {
    fn read(raw: &str) -> Result<Self, Bad> {
        integer(raw, 1, PAGE_MAX).map(|limit| Self(limit as u32))
    }
}

impl Value for bool {
    fn read(raw: &str) -> Result<Self, Bad> {
        match raw {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Bad::value("must be true or false")),
        }
    }
}

impl Value for Text {
    fn read(raw: &str) -> Result<Self, Bad> {
        free_text(raw).map(Self)
    }
}

impl Value for TextOrNull {
    fn read(raw: &str) -> Result<Self, Bad> {
        if raw == "null" { Ok(Self(None)) } else { free_text(raw).map(|text| Self(Some(text))) }
    }
}

impl Value for GroupName {
    fn read(raw: &str) -> Result<Self, Bad> {
        let name = string(raw)?;
        let sentence = || format!("must be {NAME_RULE}");
        if is_name(&name) { Ok(Self(name.into())) } else { Err(Bad::value(sentence())) }
    }
}

impl Value for GroupOrNull {
    fn read(raw: &str) -> Result<Self, Bad> {
        if raw == "null" { Ok(Self(None)) } else { GroupName::read(raw).map(|name| Self(Some(name.0))) }
    }
}

impl Value for Secret {
    fn read(raw: &str) -> Result<Self, Bad> {
        let text = string(raw)?;
        if text.is_empty() || text.len() > TEXT_CHARS_MAX {
            return Err(Bad::value(format!("must be 1 to {TEXT_CHARS_MAX} bytes")));
        }
        Ok(Self(text.into()))
    }
}

macro_rules! id_value {
    ($($kind:ident),*) => {$(
        impl Value for $kind {
            fn read(raw: &str) -> Result<Self, Bad> {
                $kind::new(string(raw)?).map_err(|bad: BadId| Bad::value(bad.to_string()))
            }
        }
    )*};
}

id_value!(AccountId, KeyId, ReservationId, OpId, Platform, Model);

impl Value for Ip {
    fn read(raw: &str) -> Result<Self, Bad> {
        string(raw)?.parse().map(Self).map_err(|_| Bad::value("must be an IPv4 or IPv6 address"))
    }
}

impl Value for Network {
    fn read(raw: &str) -> Result<Self, Bad> {
        let text = string(raw)?;
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.map(|network| Self(network.trunc())).ok_or_else(|| Bad::value("must be an IP address or a CIDR block"))
    }
}

impl Value for InstantOrNull {
    fn read(raw: &str) -> Result<Self, Bad> {
        if raw == "null" {
            return Ok(Self(None));
        }
        let at: Option<jiff::Timestamp> = string(raw)?.parse().ok();
        let at = at.map(jiff::Timestamp::as_millisecond).filter(|ms| *ms >= 0);
        at.map(|ms| Self(Some(Millis(ms)))).ok_or_else(|| Bad::value("must be an RFC 3339 instant from 1970 to 9999"))
    }
}

impl Value for TimeZone {
    fn read(raw: &str) -> Result<Self, Bad> {
        Zone::parse(&string(raw)?).map(Self).map_err(|bad| Bad::value(bad.to_string()))
    }
}

impl Value for Sha256 {
    fn read(raw: &str) -> Result<Self, Bad> {
        let text = string(raw)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let bytes: Option<Vec<u8>> =
            text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| Bad::value("must be the 64 hexadecimal digits of a SHA-256"))
    }
}

impl Value for Span {
    fn read(raw: &str) -> Result<Self, Bad> {
        Period::parse(&string(raw)?).map(Self).map_err(|bad| Bad::value(bad.to_string()))
    }
}

impl Value for Usage {
    fn read(raw: &str) -> Result<Self, Bad> {
        if !raw.starts_with('{') {
            return Err(Bad::value("must be an object"));
        }
        Tokens::from_json(raw).map(Self).map_err(|bad| Bad::value(format!("cannot be priced: {bad}")))
    }
}
