//! Scenarios as text: one call per line, what it must answer after the arrow.
//!
//! ```text
//! account a initial_balance=1000                 => 201
//! reserve r1 amount=400                          => 200 held=400 balance=1000 available=600
//! reserve r1 amount=400                          => 200 replayed held=400
//! reserve r1 amount=401                          => 409 conflict field=amount
//! settle r1 amount=150                           => 200 charged=150 returned=250 overdraft=0
//! balance                                        => 200 balance=850 held=0 available=850 used=150
//! wait r1 expired
//! ```
//!
//! `account` also sets who pays in the lines below it. Values are JSON, or text where they are no
//! JSON, and hold no spaces. Of an answer only the named fields are compared, but `replayed` must
//! be named exactly when it is there. `!name` says that a field is absent.

use serde_json::{Map, Value};

use super::{Answer, Sidecar};

impl Sidecar {
    /// Plays a scenario and stops at the first line that is answered otherwise.
    #[track_caller]
    pub fn play(&self, table: &str) {
        let mut account = String::new();
        for (number, line) in table.lines().enumerate() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("line {}: {line}", number + 1);
            if let Some(wait) = line.strip_prefix("wait ") {
                let (id, state) = wait.split_once(' ').unwrap_or_else(|| panic!("{place}: wait <id> <state>"));
                self.wait_state(&account, id.trim(), state.trim());
                continue;
            }
            let (call, expected) = line.split_once("=>").unwrap_or_else(|| panic!("{place}: no arrow"));
            let mut words = call.split_whitespace();
            let verb = words.next().unwrap_or_else(|| panic!("{place}: no verb"));
            let words: Vec<&str> = words.collect();
            if verb == "account" {
                account = words.first().unwrap_or_else(|| panic!("{place}: no account")).to_string();
            }
            let answer = self.line(&account, verb, &words);
            check(&place, &answer, expected);
        }
    }

    fn line(&self, account: &str, verb: &str, words: &[&str]) -> Answer {
        let named = words.iter().filter_map(|word| word.split_once('='));
        let mut body: Map<String, Value> = named.map(|(name, value)| (name.to_owned(), parse(value))).collect();
        let first = words.first().filter(|word| !word.contains('=')).copied();
        let admin = format!("/admin/v1/accounts/{account}");
        let mut give = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                body.entry(name).or_insert_with(|| value.into());
            }
        };
        let (http, method, path) = match verb {
            "account" => (&self.admin, "PUT", admin),
            "key" => (&self.admin, "PUT", format!("{admin}/keys/{}", first.unwrap_or_default())),
            "credit" | "debit" => {
                give("op_id", first);
                (&self.admin, "POST", format!("{admin}/{verb}"))
            }
            "reset" => (&self.admin, "POST", format!("{admin}/reset")),
            "balance" => (&self.gateway, "GET", format!("/v1/accounts/{account}/balance")),
            "reservation" => {
                let path = format!("/admin/v1/reservations/{account}/{}", first.unwrap_or_default());
                (&self.admin, "GET", path)
            }
            "refund" => {
                give("account", Some(account));
                give("op_id", first);
                (&self.gateway, "POST", "/v1/refund".to_owned())
            }
            verb => {
                give("account", Some(account));
                give("id", first);
                (&self.gateway, "POST", format!("/v1/{verb}"))
            }
        };
        let body = if method == "GET" { String::new() } else { Value::Object(body).to_string() };
        http.call(method, &path, &[], body.as_bytes())
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

#[track_caller]
fn check(place: &str, answer: &Answer, expected: &str) {
    let mut words = expected.split_whitespace();
    let status: u16 = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{place}: no status"));
    assert_eq!(answer.status, status, "{place}\n  {answer}");
    let body = answer.json();
    let mut replayed = false;
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => assert_eq!(body[name], parse(value), "{name} of {place}\n  {answer}"),
            None if word == "replayed" => replayed = true,
            None => match word.strip_prefix('!') {
                Some(name) => assert!(body.get(name).is_none(), "{name} is there: {place}\n  {answer}"),
                None => assert_eq!(body["code"], word, "{place}\n  {answer}"),
            },
        }
    }
    assert_eq!(body["replayed"] == true, replayed, "replayed of {place}\n  {answer}");
    let header = answer.header("idempotency-replayed") == Some("true");
    assert_eq!(header, replayed, "header Idempotency-Replayed of {place}\n  {answer}");
    if status >= 400 {
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        answer.clone().problem(status, &code);
    }
}
