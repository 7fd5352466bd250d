//! An answer on its way out: status, headers and a body that is already bytes. A batch takes
//! status and body of its operations' answers; a connection takes all of it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Serialize;

use super::error::Problem;

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Problem,
    Prometheus,
    /// No body.
    Nothing,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) media: Media,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Vec<u8>,
    /// The outcome's word, for metrics: `ok` or a problem's code.
    pub(crate) code: &'static str,
}

/// What a handler returns.
pub(crate) type Handled = Result<Answer, Problem>;

const DEGRADED: HeaderName = HeaderName::from_static("x-quota-degraded");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

impl Answer {
    pub(crate) fn new(status: StatusCode, media: Media, body: Vec<u8>, code: &'static str) -> Self {
        Self { status, media, headers: Vec::new(), body, code }
    }

    /// 200 with JSON.
    pub(crate) fn ok(body: &impl Serialize) -> Self {
        let mut bytes = Vec::with_capacity(512);
        // Writing plain structs into memory cannot fail.
        let _ = serde_json::to_writer(&mut bytes, body);
        Self::new(StatusCode::OK, Media::Json, bytes, "ok")
    }

    /// 204.
    pub(crate) fn nothing() -> Self {
        Self::new(StatusCode::NO_CONTENT, Media::Nothing, Vec::new(), "ok")
    }

    pub(crate) fn header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.push((name, value));
    }

    /// Marks a repeated call's answer.
    pub(crate) fn replayed(mut self, replayed: bool) -> Self {
        if replayed {
            self.header(REPLAYED, HeaderValue::from_static("true"));
        }
        self
    }

    /// Marks an answer that was given without Redis.
    pub(crate) fn degraded(mut self, degraded: bool) -> Self {
        if degraded {
            self.header(DEGRADED, HeaderValue::from_static("true"));
        }
        self
    }

    pub(crate) fn created(mut self, created: bool) -> Self {
        if created {
            self.status = StatusCode::CREATED;
        }
        self
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let media = match self.media {
            Media::Json => Some("application/json"),
            Media::Problem => Some("application/problem+json"),
            Media::Prometheus => Some("text/plain; version=0.0.4; charset=utf-8"),
            Media::Nothing => None,
        };
        let headers = response.headers_mut();
        if let Some(media) = media {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        }
        headers.extend(self.headers);
        response
    }

    #[cfg(test)]
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.to_str().ok())
    }
}

impl From<Handled> for Answer {
    fn from(handled: Handled) -> Self {
        handled.unwrap_or_else(|problem| problem.answer())
    }
}
