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
    let process = PROCESS.get_or_init(|| random() as u64);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut text = [b'-'; 33];
    hex(&mut text[..16], (*process).into());
    hex(&mut text[17..], count.into());
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// Fills `text` with the last digits of a number.
pub(super) fn hex(text: &mut [u8], mut number: u128) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// Unguessable bits from a generator of this thread, which takes its seed from the operating system: a
/// system call for every id would cost more than the id.
///
/// # Panics
/// When there is no seed: a server that cannot make unguessable ids must not go on.
pub(super) fn random() -> u128 {
    rand::random()
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
