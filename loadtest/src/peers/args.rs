//! What was typed after `peers`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use serde::Serialize;

#[derive(Args, Debug, Serialize)]
pub struct PeersArgs {
    /// The quotad to measure.
    #[arg(long, value_name = "PATH", default_value = "target/release/quotad")]
    pub quotad: PathBuf,
    /// How often everything is measured; the table shows medians.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How long each measurement is, after a second that does not count.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Keep-alive connections.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=256))]
    pub connections: u32,
    /// Only this line (repeatable).
    #[arg(long, value_name = "LINE", value_enum)]
    pub only: Vec<Name>,
    /// What "1 000 000 accounts" is on this machine.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = value_parser!(u32).range(1000..=8_000_000))]
    pub many: u32,
    /// Write every figure there as JSON.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub json: Option<PathBuf>,
    /// Print the table for `loadtest/results/<date>.md`.
    #[arg(long)]
    #[serde(skip)]
    pub markdown: bool,
}

/// The lines of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    Reserve,
    Pair,
    Trust,
    Batch,
    RedisCpu,
    Latency,
    Accounts,
    Memory,
    ColdStart,
}

impl PeersArgs {
    /// The lines asked for.
    pub fn lines(&self) -> impl Iterator<Item = Name> {
        Name::value_variants().iter().copied().filter(|name| self.only.is_empty() || self.only.contains(name))
    }
}
