//! Write-back and attach against a real SQLite file and a small in-memory stream that can lose its
//! memory, its tail, its answers and its temper.

mod attach;
mod budget;
mod dying;
mod fake_counters;
mod fake_posting;
mod fake_stream;
mod posting;
mod recovery;
#[path = "../harness/redis_server.rs"]
mod redis_server;
mod scene;
mod unload;
