//! Thousands of clients that only sit there, or send a byte now and then.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{database::Backend, world::World};

/// Or as many as this machine lets a process open.
const CONNECTIONS: usize = 10_000;
/// Files that the sidecar and the test need beside them.
const SPARE: usize = 500;

fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}

#[test]
fn ten_thousand_idle_and_dribbling_connections_keep_nobody_waiting() {
    let count = CONNECTIONS.min(open_files_max().saturating_sub(SPARE));
    let world = World::with(Backend::Sqlite, |setup| {
        let setup = setup.set("max_connections", "12000").set("idle_timeout_ms", "60000");
        setup.set("header_timeout_ms", "60000")
    });
    let mut connections: Vec<TcpStream> = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = world.quotad.gateway.connect().expect("a connection");
        // Every second one begins a request that never ends.
        if number % 2 == 0 {
            stream.write_all(b"POST /v1/charge HTTP/1.1\r\nHost: q\r\nX-A: ").expect("a beginning");
        }
        connections.push(stream);
    }
    for number in 0..30 {
        for stream in connections.iter_mut().step_by(2).skip(number * 50).take(50) {
            stream.write_all(b"b").expect("still served");
        }
        let begun = Instant::now();
        world.charge_new(&format!("c{number}"), 1);
        assert!(begun.elapsed() < Duration::from_secs(1), "c{number} took {:?}", begun.elapsed());
    }
    assert!(world.metric("quotad_connections") >= count as f64, "all of them are open");
    drop(connections);
    world.audit();
}
