//! quotad: a quota sidecar for API gateways. A gateway asks before each request (`reserve`) and
//! reports after it (`settle`, `release`); this file is the map of the house.
//!
//! Two ideas carry everything. **Policy in Rust, counters in Redis, glued by a version**: what is
//! allowed is plain Rust over a cached [`quota::policy::Policy`]; what must be exact under
//! concurrency lives in one Redis slot per account and changes only inside a Lua script, which
//! answers `stale` when it was called with another policy version. **Redis decides, the ledger
//! remembers**: every change of money appends one entry to a stream in the same script, and
//! write-back applies the entries to SQL exactly once in effect.
//!
//! | floor | room | knows |
//! |---|---|---|
//! | 0 | [`quota`] | the rules: pure, no async, no I/O |
//! | 1 | [`engine`] | the use cases, and the ports they need |
//! | 2 | [`redis`] | the scripts and the connections; the only room that knows Redis |
//! | 2 | [`sql`] | the only room that knows SQL |
//! | 2 | [`writeback`] | stream → batches → SQL, attach |
//! | 2 | [`embedded`] | the private redis-server of the default mode |
//! | 2 | [`spool`] | what is answered without Redis, kept on disk until Redis knows it |
//! | 3 | [`http`] | the wire: gateway and admin listeners |
//! | top | [`app`] | the composition root: the only file that knows all rooms |
//!
//! Imports go downward only; `tests/tidy.rs` holds that. [`metrics`] may be called from every
//! floor but 0, and [`config`] belongs to the top.

pub mod app;
pub mod cli;
pub mod config;
pub mod embedded;
pub mod engine;
pub mod faults;
pub mod http;
pub mod metrics;
pub mod quota;
pub mod redis;
pub mod spool;
pub mod sql;
pub mod writeback;
