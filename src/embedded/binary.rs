//! Which redis-server to start: found in `PATH` or named, and new enough.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use super::Error;

/// What to do when there is none; the same on every platform we know packages of.
const INSTALL: &str = "Install it: `apt-get install redis-server` (Debian, Ubuntu), `dnf install valkey` (Fedora), \
    `apk add redis` (Alpine), `brew install redis` (macOS); or let the setting redis_url name a running one";

/// A server's version and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub valkey: bool,
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// Scripts begin with `#!lua`, which Redis knows since 7.0; of Valkey there is nothing older
    /// than 7.2.
    pub(super) fn is_enough(self) -> bool {
        (self.major, self.minor) >= if self.valkey { (7, 2) } else { (7, 0) }
    }

    /// Reads `7.0.15`.
    pub(super) fn parse(valkey: bool, text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        Some(Self { valkey, major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }

    /// Reads what `--version` prints: `Redis server v=7.0.15 sha=…`.
    fn of_output(output: &str) -> Option<Self> {
        let version = output.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
        Self::parse(output.to_ascii_lowercase().contains("valkey"), version)
    }
}

/// The program to start: `wanted` when given, else the first usable one in `path` (the variable).
///
/// # Errors
/// A sentence that says what was found, what is needed, and how to install it.
pub(super) fn find(wanted: Option<&Path>, path: &OsStr) -> Result<PathBuf, Error> {
    let candidates: Vec<PathBuf> = match wanted {
        Some(program) if program.components().count() > 1 => vec![program.to_owned()],
        Some(name) => in_path(name.as_os_str(), path),
        None => ["redis-server", "valkey-server"].iter().flat_map(|name| in_path(OsStr::new(name), path)).collect(),
    };
    let mut rejected = Vec::new();
    for candidate in candidates {
        match version_of(&candidate) {
            Ok(version) if version.is_enough() => return Ok(candidate),
            Ok(version) => rejected.push(format!(
                "{} is version {}.{}; Redis 7.0 or Valkey 7.2 is the oldest that will do",
                candidate.display(),
                version.major,
                version.minor
            )),
            Err(reason) => rejected.push(format!("{} {reason}", candidate.display())),
        }
    }
    let found = match (rejected.is_empty(), wanted) {
        (false, _) => rejected.join("; "),
        (true, Some(name)) => format!("`redis_server` is {}, which is not in PATH", name.display()),
        (true, None) => "neither redis-server nor valkey-server is in PATH".to_owned(),
    };
    Err(Error::Binary(format!("The private Redis cannot be started: {found}. {INSTALL}.")))
}

fn in_path(name: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(name)).filter(|file| file.is_file()).take(1).collect()
}

fn version_of(program: &Path) -> Result<Version, String> {
    let output = Command::new(program).arg("--version").output().map_err(|error| format!("cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Version::of_output(&text).ok_or_else(|| "does not answer --version as a Redis server does".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(dir: &Path, name: &str, says: &str) -> PathBuf {
        let program = dir.join(name);
        std::fs::write(&program, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn versions_read() {
        let of = |text| Version::of_output(text).map(|v| (v.valkey, v.major, v.minor, v.is_enough()));
        assert_eq!(of("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0"), Some((false, 7, 0, true)));
        assert_eq!(of("Redis server v=6.2.14 sha=0:0"), Some((false, 6, 2, false)));
        assert_eq!(of("Valkey server v=8.1.0 sha=0:0"), Some((true, 8, 1, true)));
        assert_eq!(of("Redis server v=10.0.0 sha=0:0"), Some((false, 10, 0, true)));
        assert_eq!(of("hello"), None);
    }

    #[test]
    fn a_missing_server_is_a_sentence_with_the_install_command() {
        let empty = tempfile::tempdir().unwrap();
        let said = find(None, empty.path().as_os_str()).unwrap_err().to_string();
        assert!(said.contains("neither redis-server nor valkey-server is in PATH"), "{said}");
        for command in ["apt-get install redis-server", "dnf install", "apk add redis", "brew install redis"] {
            assert!(said.contains(command), "{said}");
        }
        let said = find(Some(Path::new("/nowhere/redis")), empty.path().as_os_str()).unwrap_err().to_string();
        assert!(said.contains("/nowhere/redis cannot be run"), "{said}");
        let said = find(Some(Path::new("redis-42")), empty.path().as_os_str()).unwrap_err().to_string();
        assert!(said.contains("`redis_server` is redis-42, which is not in PATH"), "{said}");
    }

    #[test]
    fn an_old_redis_makes_way_for_a_valkey() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), "redis-server", "Redis server v=6.0.16 sha=0:0");
        let said = find(None, dir.path().as_os_str()).unwrap_err().to_string();
        assert!(said.contains("is version 6.0; Redis 7.0 or Valkey 7.2 is the oldest"), "{said}");
        let valkey = fake(dir.path(), "valkey-server", "Valkey server v=7.2.5 sha=0:0");
        assert_eq!(find(None, dir.path().as_os_str()).unwrap(), valkey);
    }
}
