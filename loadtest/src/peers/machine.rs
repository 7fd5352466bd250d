//! On what it was measured, for the head of the table.

use std::{path::Path, process::Command};

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub memory_gib: f64,
    /// What each program says of itself.
    pub versions: Vec<String>,
}

impl Machine {
    /// Whatever can be found out; what cannot stays empty.
    #[must_use]
    pub fn look(quotad: &Path) -> Self {
        let quotad = quotad.display().to_string();
        let programs = [(quotad.as_str(), "version"), ("redis-server", "--version"), ("nginx", "-v"), ("wrk", "-v")];
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            memory_gib: field("/proc/meminfo", "MemTotal").and_then(|text| kib(&text)).unwrap_or(0.0) / 1_048_576.0,
            versions: programs.iter().filter_map(|(program, flag)| version(program, flag)).collect(),
        }
    }

    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{} cores ({}), {:.0} GiB; {}", self.cores, self.processor, self.memory_gib, self.versions.join("; "))
    }
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let found = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
    found.map(|(_, value)| value.trim().to_owned())
}

fn kib(text: &str) -> Option<f64> {
    text.strip_suffix("kB")?.trim().parse().ok()
}

/// The first line that it prints, up to what only its maker understands.
fn version(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let line = text.lines().next()?.split([',', '[']).next()?.split(" sha=").next()?;
    Some(line.trim().to_owned())
}
