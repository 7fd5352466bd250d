//! A small HTTP/1.1 client over plain sockets: one connection per call, no retries, no opinions.
//! What a well-behaved client would never send goes out through [`Http::raw`].
#![allow(dead_code, reason = "each test uses another part of it")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Longer than anything may take; a call that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where to call, and as whom.
#[derive(Clone, Debug)]
pub struct Http {
    pub address: SocketAddr,
    pub token: Option<String>,
    /// For each step of a call; without an answer in this time it has failed.
    patience: Duration,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when there is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The problem's code; empty when it is no problem.
    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts the status, answers the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.json()
    }

    /// Asserts a problem: status, code, and the form every problem has.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self}");
        let body = self.json();
        assert_eq!(body["status"], status, "{self}");
        for text in ["type", "title", "detail"] {
            assert!(body[text].as_str().is_some_and(|text| !text.is_empty()), "{text} of {self}");
        }
        if matches!(status, 429 | 503) {
            let seconds = self.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
            assert!(seconds.is_some_and(|seconds| seconds >= 1), "Retry-After of {self}");
        }
        body
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

impl Http {
    pub fn new(address: SocketAddr, token: Option<&str>) -> Self {
        Self { address, token: token.map(str::to_owned), patience: PATIENCE }
    }

    /// The same with less patience.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[], body.to_string().as_bytes())
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, &[], body.to_string().as_bytes())
    }

    /// A body as it stands, which need not be JSON.
    pub fn post_text(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, &[], body.as_bytes())
    }

    /// One call; panics when there is no answer.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_call(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path} on {}: {error}", self.address))
    }

    /// One call.
    ///
    /// # Errors
    /// When the connection fails or ends before the whole answer.
    pub fn try_call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: quotad\r\nConnection: close\r\n");
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT") {
            head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut stream = self.connect()?;
        // The server may refuse a large body before it has read it all: then there is an answer
        // to read although the rest cannot be written.
        let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let answer = read_answer(&mut stream);
        match (answer, written) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    /// A connection for whatever bytes a test wants to send.
    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends bytes as they are and reads answers until the server closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> Vec<Answer> {
        let mut stream = self.connect().expect("a connection");
        stream.write_all(bytes).expect("bytes are sent");
        let mut answers = Vec::new();
        while let Ok(answer) = read_answer(&mut stream) {
            answers.push(answer);
        }
        answers
    }
}

/// Reads one answer off a connection.
///
/// # Errors
/// When the connection ends before it does.
pub fn read_answer(stream: &mut impl Read) -> std::io::Result<Answer> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(|_| bad("a head that is not UTF-8"))?;
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    if answer.header("transfer-encoding").is_some() {
        return Err(bad("a chunked answer, which nothing here should send"));
    }
    let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    answer.body = vec![0; length];
    stream.read_exact(&mut answer.body)?;
    Ok(answer)
}
