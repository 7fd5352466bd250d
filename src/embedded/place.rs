//! Where the child keeps its files and its socket.

use std::{
    fs::{DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::Error;

/// The longest path a Unix socket can have: the kernel's field less its final zero.
pub const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The child's files. All paths are absolute, because redis-server changes into its directory.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub dir: PathBuf,
    pub socket: PathBuf,
    pub conf: PathBuf,
    pub log: PathBuf,
    pub pid: PathBuf,
    /// Locked as long as a redis-server works on the directory.
    pub lock: PathBuf,
    /// A directory of the socket's own, outside the data directory.
    pub short_dir: Option<PathBuf>,
}

impl Place {
    /// Makes the directories, for their owner alone. When the socket's path would be too long
    /// inside `dir`, the socket goes to `<temp>/quotad-<hash of dir>/`.
    pub(super) fn prepare(dir: &Path, temp: &Path) -> Result<Self, Error> {
        let refuse = |path: &Path, reason: String| Error::Place { path: path.to_owned(), reason };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| refuse(dir, e.to_string()))?;
        let dir = dir.canonicalize().map_err(|e| refuse(dir, e.to_string()))?;
        std::fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(|e| refuse(&dir, e.to_string()))?;
        let mut socket = dir.join("redis.sock");
        let mut short_dir = None;
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            let short = temp.join(format!("quotad-{:016x}", xxh3_64(dir.as_os_str().as_encoded_bytes())));
            own_directory(&short, &dir).map_err(|reason| refuse(&short, reason))?;
            socket = short.join("redis.sock");
            if socket.as_os_str().len() > SOCKET_PATH_MAX {
                let reason = format!("a socket path can have {SOCKET_PATH_MAX} bytes; use a shorter TMPDIR or --data");
                return Err(refuse(&short, reason));
            }
            short_dir = Some(short);
        }
        Ok(Self {
            conf: dir.join("redis.conf"),
            log: dir.join("redis.log"),
            pid: dir.join("redis.pid"),
            lock: dir.join("server.lock"),
            dir,
            socket,
            short_dir,
        })
    }

    /// The socket as a URL, percent-encoded.
    pub(super) fn url(&self) -> String {
        let mut url = "unix://".to_owned();
        for byte in self.socket.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => url.push(*byte as char),
                _ => url.push_str(&format!("%{byte:02X}")),
            }
        }
        url
    }

    /// The last lines of the child's log, for a sentence.
    pub(super) fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(600)..]).into_owned();
        let lines: Vec<&str> = tail.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

/// Others can write to the temporary directory, so one that is already there must be a real
/// directory of the same owner as the data, closed to everybody else.
fn own_directory(path: &Path, like: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let found = path.symlink_metadata().map_err(|e| e.to_string())?;
            let owner = like.metadata().map_err(|e| e.to_string())?.uid();
            if found.is_dir() && found.uid() == owner && found.mode() & 0o077 == 0 {
                Ok(())
            } else {
                Err("it is there already, and is not a directory of ours alone".to_owned())
            }
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_keeps_the_socket_with_the_data() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::prepare(&temp.path().join("a b%/redis"), temp.path()).unwrap();
        assert!(place.socket.ends_with("a b%/redis/redis.sock") && place.short_dir.is_none());
        assert!(place.url().ends_with("/a%20b%25/redis/redis.sock"), "{}", place.url());
        assert_eq!(place.dir.metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_long_path_moves_the_socket_to_a_directory_of_our_own() {
        let temp = tempfile::tempdir().unwrap();
        let long = temp.path().join("d".repeat(90)).join("redis");
        let place = Place::prepare(&long, temp.path()).unwrap();
        let short = place.short_dir.clone().unwrap();
        assert_eq!(place.socket, short.join("redis.sock"));
        assert_eq!(short.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(Place::prepare(&long, temp.path()).unwrap().socket, place.socket, "the same again");

        std::fs::set_permissions(&short, Permissions::from_mode(0o755)).unwrap();
        let said = Place::prepare(&long, temp.path()).unwrap_err().to_string();
        assert!(said.contains("not a directory of ours alone"), "{said}");
        std::fs::remove_dir(&short).unwrap();
        std::os::unix::fs::symlink(temp.path(), &short).unwrap();
        assert!(Place::prepare(&long, temp.path()).is_err(), "a planted link must not be followed");
    }
}
