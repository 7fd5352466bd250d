//! Refusals and errors on the wire: RFC 9457 problem details. The one place that knows which
//! status number a code has. The client gets the code and a sentence; causes go to the log.

use hyper::{
    StatusCode,
    header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    answer::{Answer, Media},
    wire::{limit::LimitLive, read::Bad},
};
use crate::{
    engine::ports::Unavailable,
    quota::verdict::{Code, LimitState, Refusal},
};

/// What went wrong: the protocol's codes, and the four that belong to HTTP itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Quota(Code),
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    /// A handler panicked: a bug.
    Internal,
}

impl Word {
    #[cfg(test)]
    pub(crate) fn all() -> impl Iterator<Item = Word> {
        let own = [Word::NotFound, Word::MethodNotAllowed, Word::RequestTimeout, Word::Internal];
        Code::ALL.into_iter().map(Word::Quota).chain(own)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Word::Quota(code) => code.as_str(),
            Word::NotFound => "not_found",
            Word::MethodNotAllowed => "method_not_allowed",
            Word::RequestTimeout => "request_timeout",
            Word::Internal => "internal",
        }
    }

    pub(crate) fn status(self) -> u16 {
        match self {
            Word::Quota(code) => match code {
                Code::InvalidRequest | Code::ModelNotPriced => 400,
                Code::Unauthorized => 401,
                Code::InsufficientBalance | Code::KeyExhausted => 402,
                Code::AccountDisabled
                | Code::AccountRestricted
                | Code::KeyNotFound
                | Code::KeyDisabled
                | Code::KeyExpired
                | Code::IpNotAllowed
                | Code::ModelNotAllowed
                | Code::GroupNotAllowed
                | Code::PlatformDisabled
                | Code::CodeDisabled
                | Code::CodeExpired => 403,
                Code::AccountNotFound | Code::ReservationNotFound | Code::CodeNotFound => 404,
                Code::Conflict
                | Code::CodeUsed
                | Code::AlreadySettled
                | Code::AlreadyReleased
                | Code::RefundExceedsCharge => 409,
                Code::PayloadTooLarge => 413,
                Code::LimitExceeded | Code::TooManyAttempts => 429,
                Code::Unavailable => 503,
            },
            Word::NotFound => 404,
            Word::MethodNotAllowed => 405,
            Word::RequestTimeout => 408,
            Word::Internal => 500,
        }
    }

    /// RFC 9457's `title`: the same sentence for every occurrence.
    fn title(self) -> &'static str {
        match self {
            Word::Quota(code) => match code {
                Code::Unauthorized => "The credential is missing or wrong",
                Code::InvalidRequest => "The request is malformed",
                Code::PayloadTooLarge => "The body is too large",
                Code::AccountNotFound => "There is no such account",
                Code::ReservationNotFound => "There is no such reservation",
                Code::CodeNotFound => "There is no such code",
                Code::CodeUsed => "The code is used",
                Code::CodeDisabled => "The code is disabled",
                Code::CodeExpired => "The code has expired",
                Code::Conflict => "The id was used with other content",
                Code::AlreadySettled => "The reservation is settled already",
                Code::AlreadyReleased => "The reservation is released already",
                Code::RefundExceedsCharge => "The refund is more than was charged",
                Code::AccountDisabled => "The account is disabled",
                Code::AccountRestricted => "The account is restricted",
                Code::KeyNotFound => "The account has no such key",
                Code::KeyDisabled => "The key is disabled",
                Code::KeyExpired => "The key has expired",
                Code::IpNotAllowed => "The client's address is not allowed",
                Code::ModelNotAllowed => "The key does not allow the model",
                Code::GroupNotAllowed => "The group may not be used",
                Code::PlatformDisabled => "The platform is disabled",
                Code::ModelNotPriced => "The model has no price",
                Code::InsufficientBalance => "The balance is not sufficient",
                Code::KeyExhausted => "The key's allowance is used up",
                Code::LimitExceeded => "A limit is exceeded",
                Code::TooManyAttempts => "Too many attempts failed",
                Code::Unavailable => "The state of the account cannot be told now",
            },
            Word::NotFound => "There is no such resource",
            Word::MethodNotAllowed => "The resource has no such method",
            Word::RequestTimeout => "The request came too slowly",
            Word::Internal => "The server failed",
        }
    }
}

/// Why a call is not answered with 2xx.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) word: Word,
    pub(crate) status: u16,
    pub(crate) detail: Box<str>,
    pub(crate) field: Option<Box<str>>,
    pub(crate) requested: Option<i64>,
    pub(crate) available: Option<i64>,
    pub(crate) violated: Box<[LimitState]>,
    pub(crate) retry_after_ms: Option<u64>,
    /// Methods that the resource has, for 405.
    pub(crate) allow: Option<&'static str>,
}

/// The body of a problem, `application/problem+json`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Shown<'a> {
    /// `/problems/<code>`, a reference that only names the problem.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    /// The field that is wrong or differs; nested ones as a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// Units asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<i64>,
    /// Units there.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<i64>,
    /// Every limit that says no.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    violated: Vec<LimitLive<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Problem {
    pub(crate) fn new(word: Word, detail: impl Into<Box<str>>) -> Self {
        Self {
            word,
            status: word.status(),
            detail: detail.into(),
            field: None,
            requested: None,
            available: None,
            violated: Box::default(),
            retry_after_ms: None,
            allow: None,
        }
    }

    pub(crate) fn of(code: Code, detail: impl Into<Box<str>>) -> Self {
        Self::new(Word::Quota(code), detail)
    }

    pub(crate) fn unauthorized(detail: &'static str) -> Self {
        Self::of(Code::Unauthorized, detail)
    }

    pub(crate) fn invalid(field: &'static str, detail: impl Into<Box<str>>) -> Self {
        Self { field: Some(field.into()), ..Self::of(Code::InvalidRequest, detail) }
    }

    pub(crate) fn too_large(most: usize) -> Self {
        Self::of(Code::PayloadTooLarge, format!("the body is larger than {most} bytes"))
    }

    pub(crate) fn unavailable(detail: &'static str) -> Self {
        Self { retry_after_ms: Some(1000), ..Self::of(Code::Unavailable, detail) }
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let problem = Self::new(Word::MethodNotAllowed, format!("this resource has {allow}"));
        Self { allow: Some(allow), ..problem }
    }

    /// The admin API looks keys up by name: one that is not there is a 404, not a denial.
    pub(crate) fn missing(mut self) -> Self {
        if self.word == Word::Quota(Code::KeyNotFound) {
            self.status = 404;
        }
        self
    }

    /// A denial or clash that a proxy must hear as 403 (`?deny=403`); malformed requests, missing
    /// credentials and 503 stay what they are.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self.status, 402 | 403 | 404 | 409 | 429)
    }

    /// Appends the problem as JSON.
    pub(crate) fn body(&self) -> Vec<u8> {
        let code = self.word.as_str();
        let shown = Shown {
            kind: format!("/problems/{code}"),
            title: self.word.title(),
            status: self.status,
            detail: &self.detail,
            code,
            field: self.field.as_deref(),
            requested: self.requested,
            available: self.available,
            violated: self.violated.iter().map(LimitLive::from).collect(),
            retry_after_ms: self.retry_after_ms,
        };
        let mut body = Vec::with_capacity(256 + 256 * self.violated.len());
        // Writing plain structs into memory cannot fail.
        let _ = serde_json::to_writer(&mut body, &shown);
        body
    }

    pub(crate) fn answer(&self) -> Answer {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = Answer::new(status, Media::Problem, self.body(), self.word.as_str());
        if let Some(seconds) = self.retry_after_s() {
            answer.header(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            answer.header(ALLOW, HeaderValue::from_static(allow));
        }
        if self.word.status() == 401 {
            answer.header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"quotad\""));
        }
        answer
    }

    /// Whole seconds, at least 1, whenever the code is 429 or 503.
    fn retry_after_s(&self) -> Option<u64> {
        match self.word.status() {
            429 | 503 => Some(self.retry_after_ms.unwrap_or(1000).div_ceil(1000).max(1)),
            _ => None,
        }
    }
}

impl From<Bad> for Problem {
    fn from(bad: Bad) -> Self {
        if bad.path.is_empty() {
            return Self::of(Code::InvalidRequest, bad.detail);
        }
        let detail = format!("{} {}", bad.path, bad.detail);
        Self { field: Some(bad.path.into()), ..Self::of(Code::InvalidRequest, detail) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            field: refusal.field.map(Into::into),
            requested: refusal.requested,
            available: refusal.available,
            violated: refusal.violated.into(),
            retry_after_ms: refusal.retry_after_ms,
            ..Self::of(refusal.code, refusal.detail)
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(cause: Unavailable) -> Self {
        let sentence = match &cause {
            Unavailable::Timeout => "the call was not decided in time",
            Unavailable::Overloaded => "too many calls are in flight",
            Unavailable::Connection(_) => "Redis cannot be reached",
            Unavailable::Recovering => "the account's shard is being recovered",
            Unavailable::Store(_) => "the database cannot be reached",
            Unavailable::Behind => "the database is too far behind to take on more",
            Unavailable::Corrupt(_) => "the account's state cannot be read",
        };
        if matches!(cause, Unavailable::Corrupt(_)) {
            tracing::error!(%cause, "a call met corrupt state");
        } else {
            // Outages are logged where they are found; a line per call would drown them.
            tracing::debug!(%cause, "a call could not be decided");
        }
        let retry_after_ms = u64::try_from(cause.retry_after().as_millis()).unwrap_or(1000);
        Self { retry_after_ms: Some(retry_after_ms), ..Self::of(Code::Unavailable, sentence) }
    }
}

#[cfg(test)]
mod tests;
