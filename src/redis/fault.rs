//! What went wrong with a command, as far as the caller must act on it.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::engine::ports::Unavailable;

/// A failed command, sorted by what has to happen next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The script is not there: the server may be new.
    #[error("the script is not there")]
    NoScript,
    /// The connection is gone.
    #[error("{0}")]
    Lost(String),
    /// The server cannot serve (loading, a replica, its master is down): attach again.
    #[error("{0}")]
    NotServing(String),
    /// The server refuses just now (out of memory, cannot persist, busy script).
    #[error("{0}")]
    Refused(String),
    /// A bug of ours or state that breaks an invariant.
    #[error("{0}")]
    Corrupt(String),
    /// The client gave up waiting.
    #[error("not answered in time")]
    Timeout,
    /// More waits on the connection than may.
    #[error("too much waits on the connection")]
    Overloaded,
}

impl Fault {
    pub(crate) fn of(error: &RedisError) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => return Self::NoScript,
            ErrorKind::Server(
                ServerErrorKind::BusyLoading | ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown,
            ) => return Self::NotServing(text),
            _ => {}
        }
        match error.code() {
            // READONLY, LOADING and others raised by a command within a script keep their code.
            Some("READONLY" | "LOADING" | "MASTERDOWN") => Self::NotServing(text),
            Some("OOM") => Self::Refused("its memory is full (maxmemory), so it takes no new holds".to_owned()),
            Some("MISCONF" | "NOREPLICAS" | "BUSY" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK") => {
                Self::Refused(text)
            }
            // Every other code is an answer of a server that is there and did not like the question.
            Some(_) => Self::Corrupt(text),
            None => Self::Lost(text),
        }
    }

    pub(crate) fn into_unavailable(self) -> Unavailable {
        match self {
            Self::NoScript => Unavailable::Recovering,
            Self::Lost(text) | Self::NotServing(text) | Self::Refused(text) => Unavailable::Connection(text),
            Self::Corrupt(text) => Unavailable::Corrupt(text),
            Self::Timeout => Unavailable::Timeout,
            Self::Overloaded => Unavailable::Overloaded,
        }
    }
}
