//! The command line's way to a running quotad: its admin listener, found as configured or as told.

use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::{admin_token, failure::Failure};
use crate::config::{Config, secret::Secret};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Larger answers are none of ours.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Whom to ask, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// `http://host:port` of the admin listener; absent: as configured.
    pub url: Option<String>,
    /// File with the admin token; absent: as configured.
    pub token_file: Option<PathBuf>,
    /// Who makes a change, for the audit; absent: `admin`.
    pub actor: Option<String>,
}

/// What quotad answered; the body is null when there is none.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

/// A connection to quotad's admin listener.
pub(super) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    authority: String,
    token: Secret,
    actor: Option<String>,
}

impl Client {
    /// # Errors
    /// [`Failure::Config`] for what cannot be asked, [`Failure::Backend`] when nobody answers.
    pub async fn connect(config: &Config, place: &Place) -> Result<Self, Failure> {
        let token = match &place.token_file {
            Some(path) => admin_token::read(path)?,
            None => admin_token::find(config.http.admin_token.as_ref(), &config.data)?,
        };
        let authority = authority(config, place.url.as_deref())?;
        let unreachable = |why: &dyn Display| unreachable(&authority, why);
        let socket = timeout(CONNECT_MAX, TcpStream::connect(&authority))
            .await
            .map_err(|_| unreachable(&"does not answer"))?
            .map_err(|error| unreachable(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| unreachable(&error))?;
        tokio::spawn(connection);
        Ok(Self { sender, authority, token, actor: place.actor.clone() })
    }

    /// One call; waits so long for the whole answer.
    pub async fn ask(
        &mut self,
        method: &Method,
        target: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        if let Some(actor) = &self.actor {
            request = request.header("X-Quota-Actor", actor);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let content = body.map_or_else(String::new, Value::to_string);
        let request = request
            .body(Full::from(content))
            .map_err(|error| Failure::Config(vec![format!("this cannot be asked: {error}")]))?;
        let answered = timeout(within, self.send(request)).await;
        let answered = answered.map_err(|_| "does not answer".to_owned()).and_then(|answer| answer);
        answered.map_err(|why| unreachable(&self.authority, &why))
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let text = |error: &dyn Display| error.to_string();
        self.sender.ready().await.map_err(|error| text(&error))?;
        let response = self.sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = response.status();
        let content =
            Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| text(&error))?;
        let content = content.to_bytes();
        if content.is_empty() {
            return Ok(Answer { status, body: Value::Null });
        }
        let body = serde_json::from_slice(&content).map_err(|_| format!("answers {status} and no JSON"))?;
        Ok(Answer { status, body })
    }

    /// What quotad said against a call, as a sentence.
    pub fn refusal(&self, status: StatusCode, body: &Value) -> String {
        let detail = body["detail"].as_str().unwrap_or("no reason is given");
        match (status, body["code"].as_str()) {
            (StatusCode::UNAUTHORIZED, _) => format!("quotad does not know the admin token: {detail}"),
            (_, Some(code)) => format!("{detail} ({code})"),
            (status, None) => format!("{detail} ({status})"),
        }
    }

    /// The failure that an answer other than 2xx is: 2 for what was asked wrongly, 3 where it could not be
    /// told, 1 for a refusal.
    pub fn failure(&self, status: StatusCode, body: &Value) -> Failure {
        let said = self.refusal(status, body);
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::PAYLOAD_TOO_LARGE => {
                Failure::Config(vec![said])
            }
            status if status.is_client_error() => Failure::Other(said),
            _ => Failure::backend(format!("quotad at {}: {said}", self.authority)),
        }
    }
}

fn unreachable(authority: &str, why: &dyn Display) -> Failure {
    Failure::backend(format!("quotad at {authority}: {why}"))
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
