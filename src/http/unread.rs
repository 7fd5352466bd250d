//! Requests whose head cannot be read never reach a handler: hyper answers 400, 414 or 431 with
//! nothing in it. Every answer of ours has an `X-Request-Id` and says what is wrong, so that one
//! is exchanged on its way to the socket.

use super::{
    error::Problem,
    request_id::{self, X_REQUEST_ID},
};
use crate::{metrics, quota::verdict::Code};

/// The answer to send instead of `head`, when that is one of hyper's own.
pub(super) fn exchanged(head: &[u8]) -> Option<Vec<u8>> {
    let status = match head.get(..13)? {
        b"HTTP/1.1 400 " => 400,
        b"HTTP/1.1 414 " => 414,
        b"HTTP/1.1 431 " => 431,
        _ => return None,
    };
    // Ours are told by their request id, which they have always.
    let is_ours = head.windows(X_REQUEST_ID.as_str().len()).any(|bytes| bytes == X_REQUEST_ID.as_str().as_bytes());
    if is_ours || !head.ends_with(b"\r\n\r\n") {
        return None;
    }
    let (reason, detail) = match status {
        400 => ("Bad Request", "the head of the request is not HTTP/1.1"),
        414 => ("URI Too Long", "the path of the request is too long"),
        _ => ("Request Header Fields Too Large", "the request has too many or too long header fields"),
    };
    let problem = Problem { status, ..Problem::of(Code::InvalidRequest, detail) };
    metrics::answered("other", problem.word.as_str());
    let (body, id) = (problem.body(), request_id::fresh());
    let id = String::from_utf8_lossy(id.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\nx-request-id: {id}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_heads_are_exchanged() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let text = String::from_utf8(exchanged(own).unwrap()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 ") && head.contains("\r\nx-request-id: "), "{head}");
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["status"], &body["code"]), (&431.into(), &"invalid_request".into()));
        for other in [
            &b"HTTP/1.1 400 Bad Request\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"{}",
            b"",
        ] {
            assert_eq!(exchanged(other), None);
        }
    }
}
