//! A load harness for quotad: a plain HTTP client that replays real LLM traces, keeps its own books,
//! and at the end audits every account to the unit. It shares no code with the server.
//!
//! `workload` decides the calls, `drive` makes them happen, `life` lives each one, `journal` keeps
//! the books, `audit` compares them with the server's.

mod answers;
mod audit;
mod cli;
mod client;
mod denial;
mod drive;
#[cfg(test)]
mod fake;
mod journal;
mod kill;
mod lag;
mod ledger;
mod life;
mod meter;
mod peers;
mod price;
mod profile;
mod redis_cost;
mod report;
mod resp;
mod run;
mod schedule;
mod setup;
mod spawn;
#[cfg(test)]
mod tests;
mod trace;
mod usage;
mod wire;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let threads = match &cli.command {
        Command::Run(args) => args.threads.max(1),
        Command::RedisCost(_) | Command::Peers(_) => 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let result = runtime.map_err(|error| format!("no runtime: {error}")).and_then(|runtime| {
        // On a worker, so that the calls run where the client's connections do.
        let work = runtime.spawn(async move {
            match cli.command {
                Command::Run(args) => run::run(&args).await,
                Command::RedisCost(args) => redis_cost::run(&args).await.map(|()| true),
                Command::Peers(args) => peers::run(*args).await,
            }
        });
        runtime.block_on(work).map_err(|error| format!("the run ended badly: {error}"))?
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(problem) => {
            eprintln!("quotad-loadtest: {problem}");
            ExitCode::from(2)
        }
    }
}
