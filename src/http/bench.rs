//! A door for `benches/`: parts of the hot path that have no name outside this room. Nothing that is
//! shipped calls it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};

use super::{
    Service,
    answer::Answer,
    gateway::{reserve, settle},
    ratelimit,
    route::{self, Route, Side},
    wire::{
        gateway::{Reserve, Settle},
        read,
    },
};
use crate::{
    engine::{reserve::Reserved, settle::Settled},
    quota::{clock::Millis, verdict::LimitState},
};

/// Answers a request of the gateway listener.
pub async fn serve(service: &Arc<Service>, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
    route::serve(service, Side::Gateway, request).await
}

/// Whether the gateway listener has a resource of this path.
#[must_use]
pub fn finds(path: &str) -> bool {
    Route::find(Side::Gateway, path).is_some()
}

/// Reads the body of a reserve; whether it is one.
#[must_use]
pub fn reads_reserve(body: &[u8]) -> bool {
    read::body::<Reserve>(body).is_ok()
}

/// Reads the body of a settle; whether it is one.
#[must_use]
pub fn reads_settle(body: &[u8]) -> bool {
    read::body::<Settle>(body).is_ok()
}

/// Writes the answer of a reserve.
#[must_use]
pub fn write_reserved(reserved: &Reserved, verbose: bool, now: Millis) -> Response<Full<Bytes>> {
    reserve::shown(reserved, false, verbose, now).into_response()
}

/// Writes the answer of a settle.
#[must_use]
pub fn write_settled(settled: &Settled) -> Response<Full<Bytes>> {
    settle::shown(settled, false).into_response()
}

/// Writes the RateLimit fields; how many there are.
#[must_use]
pub fn write_limits(limits: &[LimitState], now: Millis) -> usize {
    let mut answer = Answer::nothing();
    ratelimit::describe(&mut answer, limits, now);
    answer.headers.len()
}
