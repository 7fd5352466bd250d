//! The child's configuration file, written anew at every start.

use std::{ffi::OsStr, fmt::Write, os::unix::ffi::OsStrExt};

use super::{Fsync, place::Place};

/// What the file says. No port: only who may enter the directory can connect. No snapshots: the
/// append-only file is what survives. Never evict: an evicted balance would be lost money.
pub(super) fn render(place: &Place, fsync: Fsync) -> String {
    let mut conf = String::from("# Written by quotad at every start; changes are lost.\n");
    for (key, path) in
        [("dir", &place.dir), ("unixsocket", &place.socket), ("logfile", &place.log), ("pidfile", &place.pid)]
    {
        let _ = writeln!(conf, "{key} {}", quote(path.as_os_str()));
    }
    for (key, value) in [
        ("port", "0"),
        ("unixsocketperm", "700"),
        ("protected-mode", "yes"),
        ("daemonize", "no"),
        ("supervised", "no"),
        ("timeout", "0"),
        ("databases", "1"),
        ("save", "\"\""),
        ("appendonly", "yes"),
        ("appendfsync", fsync.as_str()),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
    ] {
        let _ = writeln!(conf, "{key} {value}");
    }
    conf
}

/// Redis' own quoting: anything but plain characters as `\xHH`.
fn quote(text: &OsStr) -> String {
    let mut quoted = String::from("\"");
    for byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => quoted.push(*byte as char),
            _ => {
                let _ = write!(quoted, "\\x{byte:02x}");
            }
        }
    }
    quoted.push('"');
    quoted
}
