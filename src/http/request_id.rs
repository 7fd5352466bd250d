//! `X-Request-Id`: the caller's when it is sane, else a new one, so that one line of a log can be
//! found from the other end.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id to answer with.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(|byte| (0x20..=0x7e).contains(byte))
    };
    headers.get(X_REQUEST_ID).filter(sane).cloned().unwrap_or_else(fresh)
}

/// Random per process, then counted: unique without asking the kernel for every request.
pub(super) fn fresh() -> HeaderValue {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(|| u64::from_le_bytes(random()));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::try_from(format!("{process:016x}-{count:x}")).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// Random bytes from the operating system.
///
/// # Panics
/// When there are none: a server that cannot make unguessable ids must not go on.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_another_replaced() {
        let with = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            of(&HeaderMap::from_iter([(X_REQUEST_ID, value)]))
        };
        assert_eq!(with(b"abc 1"), "abc 1");
        assert_ne!(with(&[b'a'; 129]), HeaderValue::from_bytes(&[b'a'; 129]).unwrap());
        assert_ne!(with(b"\xff"), HeaderValue::from_bytes(b"\xff").unwrap());
        assert_ne!(with(b""), "");
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}
