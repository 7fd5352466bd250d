//! The clock of the Redis host jumps by an hour: a library in front of libc's, compiled here, adds what a
//! file says.

use std::{os::unix::fs::FileExt, path::PathBuf, process::Command, time::Duration};

use serde_json::json;

use super::{
    database::Backend,
    world::{WRITTEN, World},
};
use crate::harness::{eventually, redis::Redis};

const HOUR_S: i64 = 3600;

/// A Redis whose clock the test sets.
struct Clock {
    _folder: tempfile::TempDir,
    offset: std::fs::File,
}

impl Clock {
    fn redis() -> (Self, Redis) {
        let folder = tempfile::tempdir().expect("a folder");
        let (library, file) = (folder.path().join("clock_shim.so"), folder.path().join("offset"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/crash/clock_shim.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.expect("cc is installed").success());
        std::fs::write(&file, 0_i64.to_ne_bytes()).expect("the offset");
        let offset = std::fs::OpenOptions::new().write(true).open(&file).expect("the offset");
        let variables: Vec<(&str, PathBuf)> = vec![("LD_PRELOAD", library), ("CLOCK_OFFSET_FILE", file)];
        let redis = Redis::with_variables(&WRITTEN, variables);
        (Self { _folder: folder, offset }, redis)
    }

    fn set(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).expect("the offset");
    }
}

fn redis_time(redis: &Redis) -> i64 {
    redis.ask::<(i64, i64)>("TIME").0
}

#[test]
fn the_clock_of_redis_can_be_set() {
    let (clock, redis) = Clock::redis();
    let before = redis_time(&redis);
    for (offset, expected) in [(HOUR_S, HOUR_S), (-HOUR_S, -HOUR_S), (0, 0)] {
        clock.set(offset);
        let moved = redis_time(&redis) - before;
        assert!((expected..expected + 60).contains(&moved), "{offset}: moved by {moved}");
    }
}

/// Time never goes back: a hold outlives neither its deadline nor a second hour, and a window that an hour
/// ahead has closed stays closed.
#[test]
fn an_hour_forth_and_back_resets_a_window_once() {
    let (clock, redis) = Clock::redis();
    let url = redis.url();
    let world = World::on(Backend::Sqlite, redis, &url, |setup| setup);
    let limits = json!([{"metric": "cost", "period": "rolling:1800", "cap": 1000}]);
    world.quotad.admin.put("/admin/v1/accounts/a", &json!({"limits": limits})).expect(200);
    let used = || world.quotad.balance("a")["limits"][0]["used"].as_i64().expect("a number");
    world.charge_new("before", 600);
    assert_eq!(used(), 600);
    let begun = redis_time(&world.redis);
    clock.set(HOUR_S);
    eventually("Redis is an hour ahead", Duration::from_secs(5), || redis_time(&world.redis) >= begun + HOUR_S);
    assert_eq!(used(), 0, "the window has closed");
    world.charge_new("ahead", 500);
    assert_eq!(used(), 500);
    let ahead = shard_now(&world);
    for (round, offset) in [0, -HOUR_S, 0].into_iter().enumerate() {
        clock.set(offset);
        let id = format!("back-{round}");
        world.charge_new(&id, 100);
        assert_eq!(used(), 600 + 100 * round as i64, "the closed window did not come back, the open one went on");
        assert!(shard_now(&world) >= ahead, "time went back");
    }
    world.audit();
}

/// When the shard's last entry was written, as the ledger tells.
fn shard_now(world: &World) -> i64 {
    world.quotad.assert_reconciled();
    let mut client = world.database.client();
    let sql = format!("SELECT {} FROM ledger", client.text("MAX(at)"));
    client.ask(&sql)[0][0].parse().expect("an instant")
}

#[test]
fn a_hold_ends_at_its_deadline_once_though_the_clock_jumps() {
    let (clock, redis) = Clock::redis();
    let url = redis.url();
    let world = World::on(Backend::Sqlite, redis, &url, |setup| setup);
    let hold = |id: &str, ttl_ms: u64| {
        let body = json!({"account": "a", "id": id, "amount": 100, "ttl_ms": ttl_ms, "on_expiry": "charge"});
        world.quotad.reserve(body).expect(200);
    };
    hold("short", 60_000);
    hold("long", 7_200_000);
    clock.set(-HOUR_S);
    // No deadline has passed, whatever the clock says now.
    world.quotad.play("account a => 200\nreserve probe amount=1 => 200\nrelease probe => 200 returned=1");
    assert_eq!(world.quotad.reservation("a", "short")["state"], "held");
    clock.set(HOUR_S);
    world.quotad.wait_state("a", "short", "expired");
    world.journal.note("a", "short", -100);
    assert_eq!(world.quotad.reservation("a", "long")["state"], "held", "its deadline is an hour away");
    clock.set(-HOUR_S);
    // The settle is late although the clock is before the deadline again, and replaces the charge.
    world.quotad.play("account a => 200\nsettle short amount=70 => 200 charged=70 late=true");
    world.journal.note("a", "short", -70);
    world.quotad.play("account a => 200\nsettle long amount=50 => 200 charged=50 late=false");
    world.journal.note("a", "long", -50);
    world.audit();
}
