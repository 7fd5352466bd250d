//! The verbs of the command line that are calls of the admin API: one call as data, and how its answer is
//! shown. What a verb means is decided by the server; nothing is judged here twice.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::{
    client::{Answer, Client, Place},
    failure::Failure,
    tables,
};
use crate::{config::Config, engine::keys::random_text};

/// Longer than the server takes for an admin call.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Rows on a page when all pages are asked for.
const PAGE: u32 = 500;

/// One call of the admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: Method,
    /// Below `/admin/v1/`, without a query.
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    pub show: Show,
}

/// How an answer is shown to people.
#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    /// An object: a line for each field.
    Record,
    /// The list under this name: a line for each item, with these of its fields. Page after page, unless
    /// the query has a `limit`.
    List(&'static str, &'static [&'static str]),
    /// There is nothing to show: this sentence.
    Sentence(String),
}

impl Call {
    /// A call without query and body, answered by an object.
    #[must_use]
    pub fn new(method: Method, segments: &[&str]) -> Self {
        let path = segments.iter().map(|segment| encoded(segment)).collect::<Vec<_>>().join("/");
        Self { method, path, query: Vec::new(), body: None, show: Show::Record }
    }

    #[must_use]
    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    #[must_use]
    pub fn post(segments: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, segments) }
    }

    #[must_use]
    pub fn put(segments: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, segments) }
    }

    #[must_use]
    pub fn delete(segments: &[&str], said: impl Into<String>) -> Self {
        Self { show: Show::Sentence(said.into()), ..Self::new(Method::DELETE, segments) }
    }

    /// The same with a parameter, when there is a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    #[must_use]
    pub fn listed(self, list: &'static str, columns: &'static [&'static str]) -> Self {
        Self { show: Show::List(list, columns), ..self }
    }

    fn target(&self, query: &[(&str, String)]) -> String {
        let pairs = query.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let pairs = pairs.collect::<Vec<_>>().join("&");
        let mark = if pairs.is_empty() { "" } else { "?" };
        format!("/admin/v1/{}{mark}{pairs}", self.path)
    }
}

/// Makes the call and prints the answer: as it came with `json`, else for people.
///
/// # Errors
/// [`Failure::Config`] for what cannot stand, [`Failure::Backend`] when nobody answers or the server could
/// not tell, [`Failure::Other`] for a refusal.
pub fn run(
    config: &Config,
    place: &Place,
    call: &Call,
    json: bool,
    print: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    runtime()?.block_on(walk(config, place, call, json, print))
}

/// Units of a dollar, as the deployment has them.
///
/// # Errors
/// As [`run`].
pub fn units_per_usd(config: &Config, place: &Place) -> Result<i64, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut client = Client::connect(config, place).await?;
        let call = Call::get(&["tariffs", "current", "models"]).with("limit", Some(1));
        let Answer { status, body } = client.ask(&call.method, &call.target(&call.query), None, ANSWER_MAX).await?;
        if !status.is_success() {
            return Err(client.failure(status, &body));
        }
        body["units_per_usd"]
            .as_i64()
            .ok_or_else(|| Failure::Other("quotad does not tell what a dollar is: say the amount in units".to_owned()))
    })
}

/// For a command that asks a server and ends.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("no runtime: {error}")))
}

async fn walk(
    config: &Config,
    place: &Place,
    call: &Call,
    json: bool,
    mut print: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut client = Client::connect(config, place).await?;
    let mut query = call.query.clone();
    let all_pages = matches!(call.show, Show::List(..))
        && call.method == Method::GET
        && !query.iter().any(|(name, _)| *name == "limit");
    if all_pages {
        query.push(("limit", PAGE.to_string()));
    }
    let mut first = true;
    loop {
        let Answer { status, body } =
            client.ask(&call.method, &call.target(&query), call.body.as_ref(), ANSWER_MAX).await?;
        if !status.is_success() {
            return Err(client.failure(status, &body));
        }
        if json {
            print(&if body.is_null() { String::new() } else { format!("{body:#}\n") })?;
        } else {
            print(&shown(&call.show, &body, first, all_pages))?;
        }
        match body["next_cursor"].as_str() {
            Some(next) if all_pages => {
                query.retain(|(name, _)| *name != "cursor");
                query.push(("cursor", next.to_owned()));
            }
            _ => return Ok(()),
        }
        first = false;
    }
}

/// A name for an operation that was given none.
///
/// # Errors
/// [`Failure::Other`] when the system has no random numbers.
pub fn random_op_id() -> Result<String, Failure> {
    let random = random_text(20).map_err(|error| Failure::Other(error.to_string()))?;
    Ok(format!("cli:{random}"))
}

fn shown(show: &Show, body: &Value, first: bool, all_pages: bool) -> String {
    match show {
        Show::Record => tables::record(body),
        Show::List(list, columns) => {
            let rows = body[list].as_array().map_or(&[][..], Vec::as_slice);
            let mut said = tables::table(columns, rows, first);
            if let (Some(next), false) = (body["next_cursor"].as_str(), all_pages) {
                said.push_str(&format!("more with --cursor {next}\n"));
            }
            said
        }
        Show::Sentence(said) => format!("{said}\n"),
    }
}

/// A path segment or a query's value, percent-encoded but for what means itself everywhere.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_reaches_the_server_as_it_is() {
        let call = Call::get(&["accounts", "a b/é?", "keys"]).with("cursor", Some("x&y=z")).with("limit", None::<u32>);
        assert_eq!(call.target(&call.query), "/admin/v1/accounts/a%20b%2F%C3%A9%3F/keys?cursor=x%26y%3Dz");
        assert_eq!(Call::get(&["accounts", "a:b@c.d_e-f"]).target(&[]), "/admin/v1/accounts/a:b@c.d_e-f");
    }
}
