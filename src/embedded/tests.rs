//! With real servers, each in a directory of its own.

use std::{path::Path, time::Duration};

use super::*;

/// Generous, because test machines are busy; nothing here waits longer than it must.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory whose server does not outlive a failing test.
struct Yard(tempfile::TempDir);

impl Yard {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.path().join("redis/redis.pid")) {
            let _ = std::process::Command::new("kill")
                .args(["-9", pid.trim()])
                .stderr(std::process::Stdio::null())
                .status();
        }
    }
}

fn config(dir: &Path) -> Config {
    Config { dir: dir.join("redis"), binary: None, fsync: Fsync::Everysec }
}

fn place(dir: &Path) -> place::Place {
    place::Place::prepare(&dir.join("redis"), &std::env::temp_dir()).unwrap()
}

fn ident(embedded: &Embedded) -> (String, u32) {
    match embedded.state().borrow().clone() {
        State::Up { run_id, pid } => (run_id, pid),
        State::Down => panic!("not up"),
    }
}

async fn say(dir: &Path, words: &[&str]) -> String {
    ask::command(&place(dir).socket, words).await.unwrap().join(" ")
}

fn kill(pid: u32, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn starts_with_the_settings_that_keep_money_safe_and_stops() {
    let dir = Yard::new();
    let embedded = start(config(dir.path())).await.unwrap();
    for (key, value) in [
        ("maxmemory-policy", "noeviction"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("port", "0"),
        ("save", ""),
    ] {
        assert_eq!(say(dir.path(), &["CONFIG", "GET", key]).await, format!("{key} {value}"));
    }
    assert!(embedded.url().starts_with("unix:///") && embedded.url().ends_with("/redis/redis.sock"));
    let (_, pid) = ident(&embedded);
    let group = std::process::Command::new("ps").args(["-o", "pgid=", "-p", &pid.to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&group.stdout).trim(), pid.to_string(), "Ctrl-C must not reach it");
    say(dir.path(), &["SET", "a", "1"]).await;
    embedded.stop().await.unwrap();
    assert!(ask::identity(&place(dir.path()).socket).await.is_none(), "nothing answers any more");

    let embedded = start(config(dir.path())).await.unwrap();
    assert_eq!(say(dir.path(), &["GET", "a"]).await, "1", "kept over a stop");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_started_again_with_its_data() {
    let dir = Yard::new();
    let embedded = start(config(dir.path())).await.unwrap();
    let (run_id, pid) = ident(&embedded);
    say(dir.path(), &["SET", "a", "1"]).await;
    let mut state = embedded.state();
    kill(pid, "-9");
    let is_new = |state: &State| matches!(state, State::Up { run_id: new, .. } if *new != run_id);
    tokio::time::timeout(PATIENCE, state.wait_for(is_new)).await.expect("restarted in time").unwrap();
    assert_eq!(say(dir.path(), &["GET", "a"]).await, "1");
    assert_ne!(ident(&embedded).1, pid);
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_behind_is_adopted_watched_and_stopped() {
    let dir = Yard::new();
    let embedded = start(config(dir.path())).await.unwrap();
    let first = ident(&embedded);
    drop(embedded);

    let embedded = start(Config { fsync: Fsync::Always, ..config(dir.path()) }).await.unwrap();
    assert_eq!(ident(&embedded), first, "the same server, not a second one");
    assert_eq!(say(dir.path(), &["CONFIG", "GET", "appendfsync"]).await, "appendfsync always");

    // An adopted server is no child of ours, yet its death is seen.
    let mut state = embedded.state();
    say(dir.path(), &["CLIENT", "KILL", "TYPE", "normal"]).await;
    kill(first.1, "-9");
    let is_new = |state: &State| matches!(state, State::Up { run_id, .. } if *run_id != first.0);
    tokio::time::timeout(PATIENCE, state.wait_for(is_new)).await.expect("restarted in time").unwrap();
    let second = ident(&embedded);
    drop(embedded);

    let embedded = start(config(dir.path())).await.unwrap();
    assert_eq!(ident(&embedded), second);
    embedded.stop().await.unwrap();
    assert!(ask::identity(&place(dir.path()).socket).await.is_none(), "an adopted server stops too");
}

#[tokio::test]
async fn a_silent_server_is_not_joined_by_a_second_one() {
    let dir = Yard::new();
    let embedded = start(config(dir.path())).await.unwrap();
    let (_, pid) = ident(&embedded);
    drop(embedded);
    kill(pid, "-STOP");
    let place = place(dir.path());
    let said = launch::bring_up(&config(dir.path()), &place, Duration::ZERO).await.unwrap_err().to_string();
    kill(pid, "-CONT");
    assert!(said.contains(&format!("another redis-server (process {pid}) still works on")), "{said}");
    start(config(dir.path())).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_directory_is_not_adopted() {
    let (mine, other) = (Yard::new(), Yard::new());
    let foreign = start(config(other.path())).await.unwrap();
    let place = place(mine.path());
    // As if a stale link led to somebody else's server.
    std::os::unix::fs::symlink(&self::place(other.path()).socket, &place.socket).unwrap();
    std::fs::write(&place.pid, ident(&foreign).1.to_string()).unwrap();
    let embedded = start(config(mine.path())).await.unwrap();
    assert_ne!(ident(&embedded).0, ident(&foreign).0);
    embedded.stop().await.unwrap();
    assert!(ask::identity(&self::place(other.path()).socket).await.is_some(), "the other one was left alone");
    foreign.stop().await.unwrap();
}

#[tokio::test]
async fn a_long_data_path_works() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("long directory".repeat(9));
    let embedded = start(config(&dir)).await.unwrap();
    let short = place(&dir).short_dir.unwrap();
    assert_eq!(say(&dir, &["PING"]).await, "PONG");
    embedded.stop().await.unwrap();
    assert!(!short.exists(), "the short directory goes with the server");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = Yard::new();
    let appendonly = place(dir.path()).dir.join("appendonlydir");
    std::fs::write(&appendonly, "in the way").unwrap();
    let said = start(config(dir.path())).await.unwrap_err().to_string();
    assert!(said.contains("redis-server ended while it started") && said.contains("redis.log"), "{said}");

    let missing = Config { binary: Some("/nowhere/redis-server".into()), ..config(dir.path()) };
    let said = start(missing).await.unwrap_err().to_string();
    assert!(said.contains("apt-get install redis-server"), "{said}");
}
