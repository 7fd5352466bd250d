//! Processes by number: finding those that a sidecar started, and sending signals.
#![allow(dead_code, reason = "each test uses another part of it")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// `signal` as `kill` names it: `KILL`, `TERM`, `STOP`, `CONT`.
pub fn send(signal: &str, pid: u32) {
    // The process may have ended by itself, which is as good.
    let _ = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).output();
}

/// Whether the process runs (a zombie does not).
pub fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// The Redis servers that work inside a folder, which is the test's own.
pub fn redis_servers_in(folder: &Path) -> Vec<u32> {
    let folder = folder.canonicalize().unwrap_or_else(|_| PathBuf::from(folder));
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            (name.starts_with("redis-") || name.starts_with("valkey-")) && cwd.starts_with(&folder)
        })
        .filter(|pid| runs(*pid))
        .collect()
}
