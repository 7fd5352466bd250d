//! Floor 3: the wire. Two listeners (gateway, also on a Unix socket, and admin) speak the protocol
//! over HTTP/1.1 and h2c; [`run`] serves them until told to stop, and drains.
//!
//! A request passes [`server`] (connections), [`route`] (which handler, which credential, which
//! body) and a handler of [`gateway`] or [`admin`], which reads it with [`wire`], asks the engine
//! and answers. Status numbers live in [`error`] alone. Nothing here decides about money.

mod admin;
mod answer;
mod auth;
#[doc(hidden)]
pub mod bench;
mod body;
mod error;
mod gateway;
mod guard;
mod health;
mod openapi;
mod panic;
mod path;
mod ratelimit;
mod request_id;
mod route;
mod server;
mod unread;
mod wire;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use auth::Tokens;
pub use health::Health;
pub use openapi::document;
pub use server::{Listeners, run};

use crate::{
    engine::{Engine, codes::Codes},
    metrics::Exporter,
    quota::tariff::Draft,
};

/// The room's settings. Sockets are bound by the caller.
#[derive(Clone, Debug)]
pub struct Config {
    /// Without any the gateway listener is open; only sane on loopback, which `config.rs` sees to.
    pub gateway_tokens: Tokens,
    /// Without any the admin API refuses everybody.
    pub admin_tokens: Tokens,
    /// Which entry of `X-Forwarded-For` is the client's, from the right and from 1.
    pub trusted_hops: usize,
    pub body_bytes_max: usize,
    pub batch_body_bytes_max: usize,
    /// Of a request's head; also the most that a connection buffers.
    pub header_bytes_max: usize,
    /// From a request's first byte, or from connecting, to the end of its head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// How long a keep-alive connection may be quiet.
    pub idle_timeout: Duration,
    /// Open connections of the gateway listeners together; then accepting pauses and the kernel's
    /// backlog fills.
    pub connections_max: usize,
    /// How long open requests may go on after shutdown begins.
    pub drain_deadline: Duration,
    /// The whole of a gateway call; then 503. Longer than the engine's own time budgets: it bounds a batch.
    pub request_budget: Duration,
    /// The whole of an admin call, but a comparison of accounts; then 503, while it goes on.
    pub admin_budget: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gateway_tokens: Tokens::default(),
            admin_tokens: Tokens::default(),
            trusted_hops: 1,
            body_bytes_max: 64 << 10,
            batch_body_bytes_max: 1 << 20,
            header_bytes_max: 16 << 10,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            connections_max: 10_000,
            drain_deadline: Duration::from_secs(10),
            request_budget: Duration::from_secs(10),
            admin_budget: Duration::from_secs(10),
        }
    }
}

/// What an import changes, as `POST /admin/v1/tariffs` answers it.
#[must_use]
pub fn tariff_difference(base: u32, version: Option<u32>, draft: &Draft) -> serde_json::Value {
    serde_json::to_value(admin::imported(base, version, draft)).unwrap_or_default()
}

/// What the handlers work with; one per process.
#[derive(Clone)]
pub struct Service {
    pub config: Config,
    pub engine: Arc<Engine>,
    pub codes: Arc<Codes>,
    pub health: Arc<Health>,
    /// `None`: `/metrics` is 404.
    pub exporter: Option<Exporter>,
}
