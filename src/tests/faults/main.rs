//! Random faults on real processes: sidecars, redis-server and database servers are killed, frozen, cut
//! off and set back while clients go on, and whatever the clients were told must be true in the end.
//!
//! A seed decides what is done and when (`plan`, `fault`, `dice`); the machine decides what that meets.
//! Clients keep journals (`client`, `story`, `journal`), which together with the stores' contents
//! (`snapshot`) must satisfy the invariants (`check`). `QUOTAD_FAULT_SEED=7` runs one seed and says what
//! happens, `QUOTAD_FAULT_SEEDS=2000` that many.

mod check;
mod client;
mod dice;
mod fault;
#[path = "../harness/http.rs"]
mod http;
mod inject;
mod journal;
#[path = "../harness/loopback.rs"]
mod loopback;
mod mutants;
mod patience;
mod plan;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/proxy.rs"]
mod proxy;
mod redis_files;
#[path = "../harness/redis_server.rs"]
mod redis_server;
mod rest;
mod run;
mod sidecar;
mod snapshot;
#[path = "../harness/socket.rs"]
mod socket;
mod sql;
#[path = "../harness/sql_server.rs"]
mod sql_server;
mod story;
mod summary;
mod windows;
mod world;

use std::sync::Arc;

/// Seeds of `make test`.
const SEEDS: u64 = 50;
/// Seeds at once: they mostly wait.
const AT_ONCE: u64 = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_faults() {
    if let Some(seed) = number("QUOTAD_FAULT_SEED") {
        let outcome = run::seed(plan::Plan::draw(seed), &Arc::default());
        println!("{}", outcome.story);
        assert!(outcome.violations.is_empty(), "seed {seed}");
        return;
    }
    let first = number("QUOTAD_FAULT_FIRST").unwrap_or(1);
    let seeds = number("QUOTAD_FAULT_SEEDS").unwrap_or(SEEDS);
    let at_once = number("QUOTAD_FAULT_AT_ONCE").unwrap_or(AT_ONCE);
    let summary = summary::run(first..first + seeds, at_once);
    println!("{summary}");
    assert_eq!(summary.violations(), 0, "see above");
}
