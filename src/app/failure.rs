//! Why the process ends, and with which code. The sentences go to standard error as they are.

use std::fmt;

use crate::embedded::{self, lock::LockError};

/// The exit codes are documented in `--help` and README.
#[derive(Debug)]
pub enum Failure {
    /// Sentences about the configuration.
    Config(Vec<String>),
    /// Redis or SQL cannot be reached, or must not be used as they are.
    Backend(Vec<String>),
    /// Another quotad runs on the data directory.
    Taken(String),
    Other(String),
}

impl Failure {
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Config(_) => 2,
            Failure::Backend(_) => 3,
            Failure::Taken(_) => 4,
            Failure::Other(_) => 1,
        }
    }

    pub(super) fn backend(sentence: impl fmt::Display) -> Self {
        Failure::Backend(vec![sentence.to_string()])
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Config(sentences) | Failure::Backend(sentences) => {
                write!(f, "quotad: {}", sentences.join("\nquotad: "))
            }
            Failure::Taken(sentence) | Failure::Other(sentence) => write!(f, "quotad: {sentence}"),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Taken { .. } => Failure::Taken(error.to_string()),
            LockError::Unusable { .. } => Failure::Config(vec![error.to_string()]),
        }
    }
}

impl From<embedded::Error> for Failure {
    fn from(error: embedded::Error) -> Self {
        Failure::backend(error)
    }
}
