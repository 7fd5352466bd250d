//! Steps of the protocol left out, and directed faults that show what each of them is for. A harness
//! that does not notice proves nothing about the whole protocol either.

use quotad::faults::Mutant;

use super::{
    fault::{Fault, MARK_OUTSIDE},
    plan::Plan,
    run,
};

/// A mutant must be noticed within so many seeds.
const SEEDS_MOST: u64 = 8;
/// Apart from the seeds of the random runs.
const FIRST_SEED: u64 = 900_000;

/// One sidecar, which sees everything, and a Redis that keeps all it acknowledged.
fn directed(seed: u64, mutant: Mutant) -> Plan {
    let mut plan = Plan::calm(seed);
    plan.sidecars = 1;
    plan.shards = 2;
    plan.fsync = "always";
    plan.faults = match mutant {
        // Redis and SQL went different ways, and reached the same numbers.
        Mutant::NoOverlapCheck => vec![
            (0, Fault::CopySql),
            (100, Fault::KillRedis),
            (300, Fault::Quiet(true)),
            (100, Fault::CopyRedis),
            (0, Fault::LoseEverything),
            (0, Fault::Quiet(false)),
            (30, Fault::Quiet(true)),
            (100, Fault::RestoreRedis),
            (0, Fault::Quiet(false)),
        ],
        Mutant::MarkOutsideTransaction => {
            vec![(50, Fault::FailPoint { sidecar: 0, name: MARK_OUTSIDE, after: 2 })]
        }
        Mutant::RebuildWithoutRecords => vec![(300, Fault::TotalLoss)],
        // SQL has what Redis has not.
        Mutant::NoRedo => vec![
            (200, Fault::Quiet(true)),
            (100, Fault::CutBlocks { most: 100, twice: false }),
            (0, Fault::Quiet(false)),
        ],
        // Right after a generation begins, its numbers say nothing about an older Redis.
        Mutant::SeqWithoutDigest => vec![
            (50, Fault::CopyRedis),
            (200, Fault::Quiet(true)),
            (100, Fault::KillRedis),
            (0, Fault::RestoreRedis),
            (0, Fault::Quiet(false)),
        ],
        // What SQL has not seen comes back by half.
        Mutant::NoAofRewrite => {
            plan.poll_ms = 1500;
            vec![(1700, Fault::Quiet(true)), (0, Fault::CutInside), (0, Fault::Quiet(false))]
        }
    };
    plan
}

/// The directed faults with the step left out, until somebody objects; without it, nobody must.
#[test]
fn every_mutant_is_caught() {
    let missed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (name, mutant) in Mutant::ALL {
            let missed = &missed;
            scope.spawn(move || {
                if let Err(sentence) = catch(name, mutant) {
                    missed.lock().expect("a list").push(sentence);
                }
            });
        }
    });
    let missed = missed.into_inner().expect("a list");
    assert!(missed.is_empty(), "{missed:#?}");
}

fn catch(name: &'static str, mutant: Mutant) -> Result<(), String> {
    let servers = std::sync::Arc::default();
    for seed in FIRST_SEED..FIRST_SEED + SEEDS_MOST {
        let plan = directed(seed, mutant);
        let whole = run::seed(plan.clone(), &servers);
        if !whole.violations.is_empty() {
            println!("{}", whole.story);
            return Err(format!("{name}: the whole protocol fails as well, seed {seed}"));
        }
        let outcome = run::seed(Plan { mutant: Some(name), ..plan }, &servers);
        if let Some(sentence) = outcome.violations.first() {
            println!("{name}: seed {seed}: {}", sentence.lines().next().unwrap_or_default());
            return Ok(());
        }
    }
    Err(format!("{name}: not noticed"))
}
