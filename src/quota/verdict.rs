//! What a verb can answer. The order of [`Code`] is the order in which the checks run: the first
//! that fails answers, and a denial changes nothing (protocol, "Denials and errors").

use std::sync::Arc;

use super::{clock::Millis, limit::Limit};

/// The closed list of codes, in order of precedence. HTTP status numbers live in `http/error.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    Unauthorized,
    InvalidRequest,
    PayloadTooLarge,
    AccountNotFound,
    /// Extend, refund and look-up of a reservation nobody knows. An addition to the protocol's table.
    ReservationNotFound,
    /// The codes from here to `CodeExpired`, and `TooManyAttempts`, are of redemption alone, and additions
    /// to the protocol's table.
    CodeNotFound,
    CodeUsed,
    CodeDisabled,
    CodeExpired,
    Conflict,
    AlreadySettled,
    AlreadyReleased,
    RefundExceedsCharge,
    AccountDisabled,
    AccountRestricted,
    KeyNotFound,
    KeyDisabled,
    KeyExpired,
    IpNotAllowed,
    ModelNotAllowed,
    /// The price group that a call names, or that its key is bound to, is not the account's to use, or does not
    /// serve the model. An addition to the protocol's table.
    GroupNotAllowed,
    PlatformDisabled,
    ModelNotPriced,
    InsufficientBalance,
    KeyExhausted,
    LimitExceeded,
    TooManyAttempts,
    Unavailable,
}

impl Code {
    pub const ALL: [Code; 28] = [
        Code::Unauthorized,
        Code::InvalidRequest,
        Code::PayloadTooLarge,
        Code::AccountNotFound,
        Code::ReservationNotFound,
        Code::CodeNotFound,
        Code::CodeUsed,
        Code::CodeDisabled,
        Code::CodeExpired,
        Code::Conflict,
        Code::AlreadySettled,
        Code::AlreadyReleased,
        Code::RefundExceedsCharge,
        Code::AccountDisabled,
        Code::AccountRestricted,
        Code::KeyNotFound,
        Code::KeyDisabled,
        Code::KeyExpired,
        Code::IpNotAllowed,
        Code::ModelNotAllowed,
        Code::GroupNotAllowed,
        Code::PlatformDisabled,
        Code::ModelNotPriced,
        Code::InsufficientBalance,
        Code::KeyExhausted,
        Code::LimitExceeded,
        Code::TooManyAttempts,
        Code::Unavailable,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Unauthorized => "unauthorized",
            Code::InvalidRequest => "invalid_request",
            Code::PayloadTooLarge => "payload_too_large",
            Code::AccountNotFound => "account_not_found",
            Code::ReservationNotFound => "reservation_not_found",
            Code::CodeNotFound => "code_not_found",
            Code::CodeUsed => "code_used",
            Code::CodeDisabled => "code_disabled",
            Code::CodeExpired => "code_expired",
            Code::Conflict => "conflict",
            Code::AlreadySettled => "already_settled",
            Code::AlreadyReleased => "already_released",
            Code::RefundExceedsCharge => "refund_exceeds_charge",
            Code::AccountDisabled => "account_disabled",
            Code::AccountRestricted => "account_restricted",
            Code::KeyNotFound => "key_not_found",
            Code::KeyDisabled => "key_disabled",
            Code::KeyExpired => "key_expired",
            Code::IpNotAllowed => "ip_not_allowed",
            Code::ModelNotAllowed => "model_not_allowed",
            Code::GroupNotAllowed => "group_not_allowed",
            Code::PlatformDisabled => "platform_disabled",
            Code::ModelNotPriced => "model_not_priced",
            Code::InsufficientBalance => "insufficient_balance",
            Code::KeyExhausted => "key_exhausted",
            Code::LimitExceeded => "limit_exceeded",
            Code::TooManyAttempts => "too_many_attempts",
            Code::Unavailable => "unavailable",
        }
    }
}

/// A verb's answer: it was done (now or, as a replay, before), or it was refused.
#[derive(Clone, Debug)]
pub enum Verdict<T> {
    Done { answer: T, replayed: bool },
    Refused(Refusal),
}

/// A refusal: the code, a sentence for people, and what a client needs to act on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: Code,
    pub detail: String,
    /// The offending field, for `invalid_request` and `conflict`.
    pub field: Option<&'static str>,
    /// Units asked for and there, for `insufficient_balance` and `key_exhausted`.
    pub requested: Option<i64>,
    pub available: Option<i64>,
    /// All limits that say no, for `limit_exceeded` and `platform_disabled`.
    pub violated: Vec<LimitState>,
    /// When asking again can make sense, for 429 and 503.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            field: None,
            requested: None,
            available: None,
            violated: Vec::new(),
            retry_after_ms: None,
        }
    }

    /// `invalid_request` naming the field.
    #[must_use]
    pub fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self { field: Some(field), ..Self::new(Code::InvalidRequest, detail) }
    }
}

/// A limit with its live numbers, as answers show it.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitState {
    pub limit: Arc<Limit>,
    /// The key whose limit it is; `None` for the account's own.
    pub key: Option<super::id::KeyId>,
    pub used: i64,
    pub held: i64,
    /// End of the open window; `None` for concurrency, and for a rolling window not begun.
    pub resets_at: Option<Millis>,
}
