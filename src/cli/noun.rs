//! What the nouns of the command line share: where to ask, pages, and how fields are typed.

use std::{cell::Cell, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{Flags, print};
use crate::{
    app::{
        ask::{self, Call},
        client,
        failure::Failure,
    },
    config,
};

/// The verbs of a noun. Each is one call of the admin API.
pub trait Verbs {
    /// # Errors
    /// [`Failure::Config`] for what cannot be asked.
    fn call(&self, rate: &Rate) -> Result<Call, Failure>;
}

/// Units of a dollar, where the call goes: this machine's own configuration may say another number, and a credit
/// by that would be another amount of money.
#[derive(Debug, Default)]
pub struct Rate {
    units_per_usd: Option<i64>,
    wanted: Cell<bool>,
}

impl Rate {
    fn of(units_per_usd: i64) -> Self {
        Self { units_per_usd: Some(units_per_usd), ..Self::default() }
    }

    /// Units of `7` or `5 USD`; `None` for what is neither, and for dollars while the rate is unknown, which is
    /// remembered.
    fn units(&self, text: &str) -> Option<i64> {
        match self.units_per_usd {
            Some(units_per_usd) => config::units(text, units_per_usd),
            None if is_dollars(text) => {
                self.wanted.set(true);
                None
            }
            None => config::units(text, 1),
        }
    }
}

fn is_dollars(text: &str) -> bool {
    text.trim_end().ends_with("USD")
}

/// A noun: one of its verbs, and whom to ask.
#[derive(Args, Debug)]
pub struct Noun<V: Subcommand> {
    #[command(subcommand)]
    verb: V,
    #[command(flatten)]
    at: At,
}

impl<V: Subcommand + Verbs> Noun<V> {
    pub(super) fn run(&self) -> Result<(), Failure> {
        self.at.run(&self.verb)
    }
}

/// Whom to ask, and how to print.
#[derive(Args, Debug)]
pub struct At {
    /// Where the admin API is, http://host:port [default: as configured].
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// File that holds the admin token [default: as configured, or <data>/admin.token].
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Who makes the change, for the audit [default: admin].
    #[arg(long, value_name = "ID", global = true)]
    actor: Option<String>,
    /// The answer as it came.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

impl At {
    pub(super) fn run(&self, verbs: &impl Verbs) -> Result<(), Failure> {
        let config = self.flags.load()?.config;
        let place =
            client::Place { url: self.url.clone(), token_file: self.token_file.clone(), actor: self.actor.clone() };
        let unknown = Rate::default();
        let mut call = verbs.call(&unknown)?;
        if unknown.wanted.get() {
            call = verbs.call(&Rate::of(ask::units_per_usd(&config, &place)?))?;
        }
        ask::run(&config, &place, &call, self.json, print)
    }
}

/// A part of a list.
#[derive(Args, Debug, Default)]
pub struct Page {
    /// One page of so many [default: all pages].
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Goes on after this, which the page before said.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl Page {
    pub(super) fn of(&self, call: Call) -> Call {
        call.with("limit", self.limit).with("cursor", self.cursor.as_ref())
    }
}

/// Money as it is typed: units, or dollars such as `5 USD`. What is neither goes to the server as it is, which
/// names the field.
pub(super) fn units(text: &str, rate: &Rate) -> Value {
    rate.units(text).map_or_else(|| text.into(), Into::into)
}

/// Fields as they are typed, `name=value`: JSON where it is JSON, dollars as units, else text.
pub(super) fn fields(typed: &[String], rate: &Rate) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    for pair in typed {
        let refuse = |why: &str| Failure::Config(vec![format!("`{pair}` {why}")]);
        let (name, text) = pair.split_once('=').ok_or_else(|| refuse("must be FIELD=VALUE"))?;
        let dollars = is_dollars(text).then(|| rate.units(text)).flatten();
        let value = match dollars {
            Some(units) => units.into(),
            None => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        if fields.insert(name.to_owned(), value).is_some() {
            return Err(refuse("is given twice"));
        }
    }
    Ok(fields)
}

/// An id for an operation that was given none.
pub(super) fn op_id(given: Option<&str>) -> Result<String, Failure> {
    given.map_or_else(ask::random_op_id, |id| Ok(id.to_owned()))
}

/// The fields, and those of the options that were given.
pub(super) fn object<const N: usize>(options: [(&str, Option<Value>); N]) -> Map<String, Value> {
    options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// A text as JSON.
pub(super) fn text(value: Option<&String>) -> Option<Value> {
    value.map(|value| value.as_str().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_json_dollars_or_text() {
        let typed = ["a=1", "b=true", "c=null", "d=[1]", "e=Europe/Berlin", "f=1.5 USD", "g=x=y", "h=\"7\"", "i="];
        let fields = fields(&typed.map(str::to_owned), &Rate::of(100)).unwrap();
        let expected = json!({"a": 1, "b": true, "c": null, "d": [1], "e": "Europe/Berlin", "f": 150, "g": "x=y",
            "h": "7", "i": ""});
        assert_eq!(Value::from(fields), expected);
        for bad in [&["a"][..], &["a=1", "a=2"]] {
            let typed: Vec<String> = bad.iter().map(|&pair| pair.to_owned()).collect();
            assert!(super::fields(&typed, &Rate::default()).is_err(), "{bad:?}");
        }
        assert_eq!(
            ["5 USD", "7", "0.001 USD"].map(|text| units(text, &Rate::of(100))),
            [json!(500), json!(7), json!("0.001 USD")]
        );
    }

    #[test]
    fn the_rate_is_asked_for_when_there_are_dollars() {
        for (text, wanted) in [("7", false), ("free", false), ("5 USD", true), ("5USD ", true)] {
            let rate = Rate::default();
            units(text, &rate);
            assert_eq!(rate.wanted.get(), wanted, "{text}");
        }
    }
}
