//! The HTTP side: a bounded pool of keep-alive connections to one listener, TCP or Unix socket, and
//! calls that are repeated until somebody answers them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Where a listener is: `http://host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tcp(String),
    Unix(String),
}

impl Target {
    /// # Errors
    /// A sentence when the address has neither form.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.to_owned()));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
        if port.is_some_and(|port| port.parse::<u16>().is_ok()) {
            return Ok(Self::Tcp(address.to_owned()));
        }
        Err(format!("{text:?} is no address; give http://host:port or unix:/path"))
    }

    fn host(&self) -> &str {
        match self {
            Target::Tcp(address) => address,
            Target::Unix(_) => "localhost",
        }
    }
}

/// How often calls had to be repeated, and why.
#[derive(Debug, Default)]
pub struct Retries {
    /// 503: the server could not tell.
    pub unavailable: AtomicU64,
    /// Another 5xx.
    pub server_error: AtomicU64,
    /// No connection, a broken one, or no answer in time.
    pub connection: AtomicU64,
}

impl Retries {
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        [
            ("unavailable", self.unavailable.load(Ordering::Relaxed)),
            ("server_error", self.server_error.load(Ordering::Relaxed)),
            ("connection", self.connection.load(Ordering::Relaxed)),
        ]
    }
}

/// An answer below 500.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
    /// How often the call was sent until it was answered; 1 when nothing went wrong.
    pub attempts: u32,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// A sentence with the beginning of the body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| {
            format!("status {} with a body that cannot be read ({error}): {}", self.status, self.text())
        })
    }

    /// The beginning of the body, for people.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(400).collect()
    }
}

/// Nobody answered for as long as we wanted to wait: whether the call was done is unknown.
#[derive(Debug)]
pub struct InDoubt(pub String);

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For one answer; then the connection is given up and the call sent again.
    pub attempt: Duration,
    /// For a call to be answered at all, however often it is sent.
    pub patience: Duration,
}

type Sender = SendRequest<Full<Bytes>>;

/// A pool of connections to one listener.
#[derive(Debug)]
pub struct Client {
    target: Target,
    bearer: Option<String>,
    waits: Waits,
    slots: Semaphore,
    idle: Mutex<Vec<Sender>>,
    pub retries: Retries,
    /// The attempt that was sent last of those answered below 500: when it was sent, and when answered.
    newest: Mutex<Option<(Instant, Instant)>>,
}

impl Client {
    /// At most `connections` at once.
    #[must_use]
    pub fn new(target: Target, token: Option<&str>, connections: usize, waits: Waits) -> Self {
        Self {
            target,
            bearer: token.map(|token| format!("Bearer {token}")),
            waits,
            slots: Semaphore::new(connections),
            idle: Mutex::new(Vec::new()),
            retries: Retries::default(),
            newest: Mutex::default(),
        }
    }

    /// When a call sent after that instant was answered below 500, if one was.
    #[must_use]
    pub fn answered_since(&self, since: Instant) -> Option<Instant> {
        let newest = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.filter(|(sent, _)| *sent > since).map(|(_, answered)| answered)
    }

    fn note_answer(&self, sent: Instant) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_none_or(|(before, _)| before < sent) {
            *newest = Some((sent, Instant::now()));
        }
    }

    /// Sends the call until it is answered with something below 500. All calls made here may be
    /// repeated: they carry an id, or only read.
    ///
    /// # Errors
    /// [`InDoubt`] when nobody answered.
    pub async fn call(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Reply, InDoubt> {
        let begun = Instant::now();
        let mut pause = BACKOFF_FIRST;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let sent = Instant::now();
            let trouble = match self.attempt(&method, path, body.clone()).await {
                Ok((status, body)) if !status.is_server_error() => {
                    self.note_answer(sent);
                    return Ok(Reply { status, body, attempts });
                }
                Ok((status, body)) => {
                    let unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
                    let count = if unavailable { &self.retries.unavailable } else { &self.retries.server_error };
                    count.fetch_add(1, Ordering::Relaxed);
                    format!("status {status}: {}", String::from_utf8_lossy(&body))
                }
                Err(problem) => {
                    self.retries.connection.fetch_add(1, Ordering::Relaxed);
                    problem
                }
            };
            if begun.elapsed() + pause > self.waits.patience {
                return Err(InDoubt(format!(
                    "{method} {path} was sent {attempts} times without an answer; last: {trouble}"
                )));
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Sends a call once; the body of an answer 200.
    ///
    /// # Errors
    /// A sentence when there is no such answer.
    pub async fn try_once(&self, method: Method, path: &str) -> Result<Bytes, String> {
        match self.attempt(&method, path, None).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(format!("{method} {path} was answered {status}")),
        }
    }

    async fn attempt(&self, method: &Method, path: &str, body: Option<Bytes>) -> Result<(StatusCode, Bytes), String> {
        let _slot = self.slots.acquire().await.map_err(|error| error.to_string())?;
        timeout(self.waits.attempt, self.exchange(method, path, body))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.waits.attempt)))
    }

    async fn exchange(&self, method: &Method, path: &str, body: Option<Bytes>) -> Result<(StatusCode, Bytes), String> {
        let mut sender = match self.pooled() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.target.host());
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default())).map_err(|error| error.to_string())?;
        sender.ready().await.map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok((status, body))
    }

    fn pooled(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // What the server closed meanwhile is dropped.
        std::iter::from_fn(|| idle.pop()).find(|sender| !sender.is_closed())
    }

    async fn connect(&self) -> Result<Sender, String> {
        let failed = |error: std::io::Error| format!("{:?} cannot be reached: {error}", self.target);
        match &self.target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                handshake(TokioIo::new(stream)).await
            }
            Target::Unix(path) => handshake(TokioIo::new(UnixStream::connect(path).await.map_err(failed)?)).await,
        }
    }
}

async fn handshake<S>(stream: S) -> Result<Sender, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream).await.map_err(|error| error.to_string())?;
    // Ends with its connection, which ends with its sender; what goes wrong there the sender reports.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(Target::parse("http://127.0.0.1:8787/"), Ok(Target::Tcp("127.0.0.1:8787".into())));
        assert_eq!(Target::parse("localhost:1"), Ok(Target::Tcp("localhost:1".into())));
        assert_eq!(Target::parse("unix:/run/quotad.sock"), Ok(Target::Unix("/run/quotad.sock".into())));
        for bad in ["", "unix:", "http://", "https://a", "http://a:b", ":80"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
