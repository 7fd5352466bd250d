//! quotad against what one would pick instead, on one machine: nginx + Lua and webdis calling a plain
//! script in Redis, and Redis alone.
//!
//! `contender` starts and measures one of them, `lines` are the questions asked, `figures` what is held
//! against which goal, `table` how it is told. Contenders are measured in turn, round by round, and
//! compared within each round, so that a slow spell of the machine weighs on all of them.

pub mod args;
mod contender;
mod figures;
mod lean;
mod lines;
mod machine;
mod plain;
mod process;
mod quotad;
mod redis;
mod seed;
mod table;
mod talk;
#[cfg(test)]
mod tests;
mod world;
mod wrk;

use args::PeersArgs;
use figures::Row;
use machine::Machine;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use world::World;

/// All that was measured, for `--json`.
#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    arguments: &'a PeersArgs,
    rows: &'a [Row],
}

/// Measures and prints; whether every line could be measured. Goals that are missed are shown, and no
/// failure.
///
/// # Errors
/// A sentence when nothing can be measured, or a signal ends it.
pub async fn run(args: PeersArgs) -> Result<bool, String> {
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    // What is dropped unfinished kills the processes that it started.
    tokio::select! {
        done = measure(args) => done,
        _ = tokio::signal::ctrl_c() => Err("interrupted; everything started is stopped".to_owned()),
        _ = terminated.recv() => Err("terminated; everything started is stopped".to_owned()),
    }
}

async fn measure(mut args: PeersArgs) -> Result<bool, String> {
    args.quotad = std::fs::canonicalize(&args.quotad)
        .map_err(|error| format!("{} cannot be found: {error}", args.quotad.display()))?;
    let machine = Machine::look(&args.quotad);
    let world = World::new(args)?;
    let mut rows = Vec::new();
    let mut complete = true;
    for line in world.args.lines() {
        eprintln!("{line:?}");
        match lines::measure(&world, line).await {
            Ok(measured) => rows.extend(measured),
            Err(problem) => {
                eprintln!("  {problem}");
                complete = false;
                rows.push(Row::skipped(line, problem));
            }
        }
    }
    print(&world.args, &machine, &rows);
    if let Some(path) = &world.args.json {
        let report = Report { machine: &machine, arguments: &world.args, rows: &rows };
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(complete)
}

fn print(args: &PeersArgs, machine: &Machine, rows: &[Row]) {
    let (rounds, seconds, connections) = (args.rounds, args.seconds, args.connections);
    let settings = format!(
        "Rounds: {rounds}, each measurement {seconds} s after 1 s of warm-up; {connections} connections, one wrk thread; the client shares the \
         machine. Every measurement has a fresh Redis of the same settings: no append-only file, no snapshots. quotad: as by \
         default, SQLite (`synchronous = FULL`) with write-back running, 10 000 loaded accounts with one key and three cost windows. nginx: \
         one worker; webdis: one thread; both with the plain script. A result is the median of the rounds' ratios."
    );
    if args.markdown {
        println!("{}.\n\n{settings}\n\n{}", machine.sentence(), table::markdown(rows));
    } else {
        println!("\n{}\n{settings}\n\n{}", machine.sentence(), table::plain(rows));
    }
}
