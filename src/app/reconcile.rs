//! `quotad reconcile`: asks a running quotad, page by page, and prints what it finds as it comes.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    ask::runtime,
    client::{Answer, Client, Place},
    failure::Failure,
};
use crate::config::Config;

/// Accounts on one page.
const PAGE: u32 = 50;
/// How long quotad may take to compare a page.
const PAGE_MAX: Duration = Duration::from_secs(300);
/// A page is asked for again so often while a shard recovers.
const ATTEMPTS: u32 = 10;
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What to ask, and whom.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Absent: all accounts.
    pub account: Option<String>,
    pub repair: bool,
    /// One JSON object per line instead of sentences.
    pub json: bool,
    pub place: Place,
}

/// What was found in all.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    accounts: u64,
    moving: u64,
    differences: u64,
    repaired: u64,
}

/// Runs to the last page. `print` gets lines as they come.
///
/// # Errors
/// [`Failure::Other`] when differences are left; [`Failure::Config`] for what cannot be asked;
/// [`Failure::Backend`] when nobody answers.
pub fn run(config: &Config, ask: &Ask, print: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    runtime()?.block_on(walk(config, ask, print))
}

async fn walk(config: &Config, ask: &Ask, mut print: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut client = Client::connect(config, &ask.place).await?;
    let mut found = Found::default();
    let mut body = match &ask.account {
        Some(account) => json!({"account": account, "repair": ask.repair}),
        None => json!({"limit": PAGE, "repair": ask.repair}),
    };
    loop {
        let page = page(&mut client, &body).await?;
        let number = |field: &str| page[field].as_u64().unwrap_or(0);
        found.accounts += number("accounts");
        found.moving += number("moving");
        for one in page["differences"].as_array().into_iter().flatten() {
            found.differences += 1;
            found.repaired += u64::from(one["repaired"] == json!(true));
            print(&if ask.json { format!("{one}\n") } else { line(one) })?;
        }
        if page["next"].is_null() {
            break;
        }
        body["cursor"] = page["next"].clone();
    }
    print(&found.summary(ask.json))?;
    match found.differences - found.repaired {
        0 => Ok(()),
        left => Err(Failure::Other(format!("{left} differences are left"))),
    }
}

impl Found {
    fn summary(self, json: bool) -> String {
        let Self { accounts, moving, differences, repaired } = self;
        if json {
            return format!(
                "{}\n",
                json!({"accounts": accounts, "moving": moving, "differences": differences, "repaired": repaired})
            );
        }
        let mut said = format!("{accounts} accounts compared, {differences} differences");
        if repaired > 0 {
            said.push_str(&format!(", {repaired} repaired"));
        }
        if moving > 0 {
            said.push_str(&format!("; {moving} accounts moved all the time, their holds could not be compared"));
        }
        said.push('\n');
        said
    }
}

/// `acme  balance  redis 90  sql 100  expected 100  repaired`
fn line(one: &Value) -> String {
    let text = |field: &str| one[field].as_str().unwrap_or("?").to_owned();
    let mut said = format!("{}  {}", text("account"), text("what"));
    for field in ["redis", "sql", "expected"] {
        let number = one[field].as_i64().map_or("none".to_owned(), |number| number.to_string());
        said.push_str(&format!("  {field} {number}"));
    }
    match one["repaired"].as_bool() {
        Some(true) => said.push_str("  repaired"),
        Some(false) => said.push_str("  not repaired"),
        None => {}
    }
    said.push('\n');
    said
}

/// One page, asked for again while a shard recovers.
async fn page(client: &mut Client, body: &Value) -> Result<Value, Failure> {
    let mut attempt = 1;
    loop {
        let Answer { status, body } = client.ask(&Method::POST, "/admin/v1/reconcile", Some(body), PAGE_MAX).await?;
        match status {
            StatusCode::OK => return Ok(body),
            StatusCode::SERVICE_UNAVAILABLE if attempt < ATTEMPTS => {}
            status if status.is_client_error() && status != StatusCode::UNAUTHORIZED => {
                return Err(Failure::Config(vec![client.refusal(status, &body)]));
            }
            status => return Err(client.failure(status, &body)),
        }
        attempt += 1;
        sleep(ASK_AGAIN).await;
    }
}
