//! Random sequences of calls against the real scripts and the in-memory model: every answer, every
//! counter and, at the end, the whole ledger must agree. Prints its seed; `QUOTAD_SEED` repeats a
//! run's calls (their timing, and with it expiries and rolling windows, is the machine's),
//! `QUOTAD_OPERATIONS` makes it longer.

mod model;
#[path = "harness/shard.rs"]
mod shard;

use std::collections::BTreeMap;

use model::{
    audit,
    driver::{Driver, OPENING},
    server::{GENERATION, Server, attach, real},
};
use quotad::{
    engine::ports::{Position, ShardMeta},
    quota::clock::local_now,
};
use shard::Shard;

/// Drivers run at the same time, each with accounts of its own on the same server.
const DRIVERS: u64 = 4;
const OPERATIONS: u64 = 100_000;

/// What a run of full length meets many times; a driver that no longer does tests less than it says.
const MET: &str = "
    ReserveCall: Done Replayed Conflict AlreadySettled AlreadyReleased Denied InsufficientBalance KeyExhausted
                 LimitExceeded Stale Window Absent
    SettleCall:  Done Replayed Conflict AlreadySettled AlreadyReleased Decreasing Reprice Unknown Absent
    ExtendCall:  Done AlreadySettled AlreadyReleased Decreasing Denied InsufficientBalance KeyExhausted LimitExceeded
    ChargeCall:  Done Replayed Conflict AlreadySettled AlreadyReleased Idle InsufficientBalance LimitExceeded
    RefundCall:  Done Replayed RefundExceedsCharge Unknown
    AdjustCall:  Done Replayed Conflict Idle InsufficientBalance
    ResetCall:   Done
    UndoCall:    Done Replayed
    unload:      Done Idle
    expire:      Done Idle
    release:     Done Replayed AlreadySettled
";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    number("QUOTAD_SEED").unwrap_or_else(|| local_now().0.unsigned_abs() & 0xffff_ffff)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_agree_with_the_model() {
    let seed = seed();
    let operations = number("QUOTAD_OPERATIONS").unwrap_or(OPERATIONS);
    println!("QUOTAD_SEED={seed} QUOTAD_OPERATIONS={operations}");
    let server = Server::start();
    let real = real(&server.socket()).await;
    let drivers: Vec<_> = (0..DRIVERS)
        .map(|number| {
            let real = real.clone();
            tokio::spawn(async move {
                let mut driver = Driver::new(number, seed, real).await;
                for _ in 0..operations.div_ceil(DRIVERS) {
                    driver.step().await;
                }
                driver.compare_everything().await;
                (driver.model, driver.seen)
            })
        })
        .collect();
    let (mut models, mut seen) = (Vec::new(), BTreeMap::<(String, String), u64>::new());
    for driver in drivers {
        let (model, counts) = driver.await.expect("a driver found a difference, see above");
        models.push(model);
        for (what, count) in counts {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    for ((verb, status), count) in &seen {
        println!("{count:>7} {verb} {status}");
    }
    if operations >= OPERATIONS {
        let mut verb = "";
        for word in MET.split_whitespace() {
            match word.strip_suffix(':') {
                Some(name) => verb = name,
                None => assert!(seen.contains_key(&(verb.into(), word.into())), "no {verb} was answered {word}"),
            }
        }
    }
    let ledger = audit::read_ledger(&real).await;
    for model in &models {
        audit::audit(&real, model, &ledger, OPENING).await;
    }
}

/// Copies taken from a working server, and how long it went on after each.
const COPIES: u64 = 12;
const OPERATIONS_BETWEEN: u64 = 250;

/// A server that lost its last writes has what the ledger's rows say, once they were done again: every
/// counter, record and tombstone is what it would be had nothing been lost, but for holds, which no
/// ledger knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_redo_the_ledger_is_to_have_done_it() {
    let seed = seed();
    println!("QUOTAD_SEED={seed}");
    let server = Server::start();
    let real = real(&server.socket()).await;
    let mut driver = Driver::new(0, seed, real.clone()).await;
    let mut redone = 0;
    for _ in 0..COPIES {
        for _ in 0..OPERATIONS_BETWEEN {
            driver.step().await;
        }
        let behind = Server::start();
        shard::copy(&mut server.connect(), &mut behind.connect());
        for _ in 0..OPERATIONS_BETWEEN {
            driver.step().await;
        }
        let late = attach(&behind.socket()).await;
        for number in 0..real.counters.shards() {
            let (mut here, mut there) = (behind.connect(), server.connect());
            let before = Shard::read(&mut here, number);
            before.check_holds();
            let meta = late.stream.meta(number).await.unwrap().unwrap();
            let mut fence = ShardMeta { open: false, ..meta };
            assert!(late.stream.set_meta(number, Some(&meta), &fence).await.unwrap());
            let from = Position { generation: GENERATION, seq: meta.top.seq + 1 };
            for row in real.stream.read(number, from, 10_000).await.unwrap() {
                fence = late.stream.redo(number, &fence, &row).await.unwrap().expect("nobody else moves the meta");
                assert_eq!((fence.top, fence.digest, fence.open), (row.at, row.digest, false));
                redone += 1;
            }
            let original = Shard::read(&mut there, number);
            original.check_holds();
            Shard::read(&mut here, number).check_redone(&before, &original);
        }
    }
    assert!(redone > COPIES * OPERATIONS_BETWEEN / 10, "only {redone} rows were there to be redone");
}
