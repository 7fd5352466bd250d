//! `quotad reconcile`: asks a running quotad, page by page, and prints what it finds as it comes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{admin_token, failure::Failure};
use crate::config::{Config, secret::Secret};

/// Accounts on one page.
const PAGE: u32 = 50;
/// How long quotad may take to accept a connection, and to compare a page.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const PAGE_MAX: Duration = Duration::from_secs(300);
/// A page is asked for again so often while a shard recovers.
const ATTEMPTS: u32 = 10;
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Larger answers are none of ours.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What to ask, and whom.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Absent: all accounts.
    pub account: Option<String>,
    pub repair: bool,
    /// One JSON object per line instead of sentences.
    pub json: bool,
    /// `http://host:port` of the admin listener; absent: as configured.
    pub url: Option<String>,
    /// File with the admin token; absent: as configured.
    pub token_file: Option<PathBuf>,
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("no runtime: {error}")))?;
    runtime.block_on(walk(config, ask, print))
}

async fn walk(config: &Config, ask: &Ask, mut print: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let token = match &ask.token_file {
        Some(path) => admin_token::read(path)?,
        None => admin_token::find(config.http.admin_token.as_ref(), &config.data)?,
    };
    let mut client = Client::connect(&authority(config, ask.url.as_deref())?, token).await?;
    let mut found = Found::default();
    let mut body = match &ask.account {
        Some(account) => json!({"account": account, "repair": ask.repair}),
        None => json!({"limit": PAGE, "repair": ask.repair}),
    };
    loop {
        let page = client.page(&body).await?;
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

/// Host and port to connect to. A listener on every address is asked on this machine's own.
fn authority(config: &Config, url: Option<&str>) -> Result<String, Failure> {
    let refuse = |why: String| Failure::Config(vec![why]);
    if let Some(url) = url {
        let uri: hyper::Uri = url.parse().map_err(|error| refuse(format!("`--url {url}`: {error}")))?;
        let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        return match uri.authority() {
            Some(authority) if plain && !authority.as_str().contains('@') => {
                let port = authority.port_u16().unwrap_or(80);
                Ok(format!("{}:{port}", authority.host()))
            }
            _ => Err(refuse(format!("`--url {url}` must be http://host:port"))),
        };
    }
    let listen = config.http.admin_listen;
    if listen.port() == 0 {
        return Err(refuse("`admin_listen` has port 0: name the real one with --url".to_owned()));
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()).to_string())
}

/// A connection to quotad's admin listener.
struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    authority: String,
    token: Secret,
}

impl Client {
    async fn connect(authority: &str, token: Secret) -> Result<Self, Failure> {
        let unreachable = |why: &dyn std::fmt::Display| Failure::backend(format!("quotad at {authority}: {why}"));
        let socket = timeout(CONNECT_MAX, TcpStream::connect(authority))
            .await
            .map_err(|_| unreachable(&"does not answer"))?
            .map_err(|error| unreachable(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| unreachable(&error))?;
        tokio::spawn(connection);
        Ok(Self { sender, authority: authority.to_owned(), token })
    }

    async fn page(&mut self, body: &Value) -> Result<Value, Failure> {
        let mut attempt = 1;
        loop {
            let asked = timeout(PAGE_MAX, self.ask(body)).await;
            let unreachable = |why: String| Failure::backend(format!("quotad at {}: {why}", self.authority));
            let (status, answer) =
                asked.map_err(|_| unreachable("does not answer".to_owned()))?.map_err(unreachable)?;
            let said = || answer["detail"].as_str().unwrap_or("no reason is given").to_owned();
            match status {
                StatusCode::OK => return Ok(answer),
                StatusCode::SERVICE_UNAVAILABLE if attempt < ATTEMPTS => {}
                StatusCode::UNAUTHORIZED => {
                    return Err(Failure::Config(vec![format!("quotad does not know the admin token: {}", said())]));
                }
                status if status.is_client_error() => return Err(Failure::Config(vec![said()])),
                status => return Err(unreachable(format!("answers {status}: {}", said()))),
            }
            attempt += 1;
            sleep(ASK_AGAIN).await;
        }
    }

    async fn ask(&mut self, body: &Value) -> Result<(StatusCode, Value), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        self.sender.ready().await.map_err(|error| text(&error))?;
        let request = Request::post("/admin/v1/reconcile")
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .map_err(|error| text(&error))?;
        let response = self.sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = response.status();
        let content =
            Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| text(&error))?;
        let content = content.to_bytes();
        let answer = serde_json::from_slice(&content).map_err(|_| format!("answers {status} and no JSON"))?;
        Ok((status, answer))
    }
}
