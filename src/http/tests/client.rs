//! A client that writes bytes as they are given, so that a test can be as rude as it must.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

pub(super) struct Client<S> {
    pub(super) socket: S,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    pub(super) async fn ask(&mut self, text: &str) -> Got {
        self.send(text).await;
        self.read().await
    }

    /// Of a HEAD request: its answer has a length and no body.
    pub(super) async fn ask_head(&mut self, text: &str) -> Got {
        self.send(text).await;
        self.head().await.0
    }

    pub(super) async fn read(&mut self) -> Got {
        let (mut got, length) = self.head().await;
        while self.buffer.len() < length {
            self.more().await;
        }
        got.body = self.buffer.drain(..length).collect();
        got
    }

    async fn head(&mut self) -> (Got, usize) {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await;
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let headers: Vec<_> = lines.map(header).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
        (Got { status, headers, body: Vec::new() }, length)
    }

    async fn more(&mut self) {
        let read = self.socket.read_buf(&mut self.buffer);
        let read = tokio::time::timeout(std::time::Duration::from_secs(20), read).await.expect("an answer in time");
        assert_ne!(read.unwrap(), 0, "closed after {:?}", String::from_utf8_lossy(&self.buffer));
    }
}

/// One POST over HTTP/2 without an upgrade.
pub(super) async fn h2(address: std::net::SocketAddr, path: &str, body: &str) -> Got {
    let socket = hyper_util::rt::TokioIo::new(TcpStream::connect(address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, socket).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = hyper::Request::post(format!("http://{address}{path}")).body(Full::new(Bytes::from(body.to_owned())));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let (status, headers) = (response.status().as_u16(), response.headers().iter().map(header).collect());
    let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    driver.abort();
    Got { status, headers, body }
}
