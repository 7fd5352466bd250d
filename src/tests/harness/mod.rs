//! Runs the real `quotad` as its users do: a process of its own, on its own ports and directory,
//! asked over HTTP. Nothing in here knows the library.
#![allow(dead_code, reason = "each test binary uses another part of it")]

pub mod aof;
pub mod audit;
pub mod http;
pub mod link;
pub mod loopback;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod sidecar;
pub mod socket;
pub mod sql_client;
pub mod sql_server;
pub mod table;

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

pub use http::{Answer, Http};
pub use sidecar::{Setup, Sidecar};

/// Units of one dollar.
pub const USD: i64 = 100_000_000;

/// Asks until the answer is yes.
#[track_caller]
pub fn eventually(what: &str, within: Duration, mut ask: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ask() {
        assert!(begun.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs `count` calls at the same moment, each on a thread and a connection of its own.
pub fn at_once<T: Send>(count: usize, call: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        let run = |number| {
            let (start, call) = (&start, &call);
            move || {
                start.wait();
                call(number)
            }
        };
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(run(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a call panicked")).collect()
    })
}
