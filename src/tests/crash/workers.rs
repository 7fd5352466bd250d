//! Two sidecars on the same servers: one writes back, the other takes over, and never both in effect.

use std::time::{Duration, Instant};

use super::{database::Backend, world::World};
use crate::harness::{Sidecar, eventually, process};

const SOON: Duration = Duration::from_secs(20);

on_every_backend!(
    killed_holder_hands_over_within_two_seconds,
    holder_stopped_past_its_lease_posts_nothing_twice,
    holder_that_sleeps_with_a_batch_in_hand_posts_nothing_twice,
);

/// Who holds the lease now; a name of the sidecar's own making.
fn holder(world: &World) -> Option<String> {
    world.redis.ask::<Option<String>>("GET q-lease/writeback")
}

/// The first sidecar writes back, the second waits.
fn two(backend: Backend) -> (World, Sidecar) {
    let world = World::new(backend);
    world.charge_new("before", 1);
    world.wait_posted("a", "before");
    let second = world.another().start();
    (world, second)
}

fn killed_holder_hands_over_within_two_seconds(backend: Backend) {
    let (mut world, second) = two(backend);
    let first = holder(&world).expect("somebody writes back");
    world.quotad.kill();
    let killed = Instant::now();
    world.charge_at(&second.gateway, "after", 1);
    world.wait_posted("a", "after");
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(2), "the hand-over took {took:?}");
    assert_ne!(holder(&world), Some(first));
    world.audit_through(&second);
}

/// Wherever it is when it is stopped: entries come all the time.
fn holder_stopped_past_its_lease_posts_nothing_twice(backend: Backend) {
    let (world, second) = two(backend);
    let mut sidecars = [&world.quotad, &second];
    for round in 0..3 {
        let [stopped, other] = sidecars;
        for number in 0..20 {
            world.charge_at(&other.gateway, &format!("c{round}-{number}"), 1);
        }
        let writer = holder(&world);
        process::send("STOP", stopped.pid());
        eventually("another holds the lease", SOON, || {
            let now = holder(&world);
            now.is_some() && now != writer
        });
        let meanwhile = format!("meanwhile-{round}");
        world.charge_at(&other.gateway, &meanwhile, 1);
        process::send("CONT", stopped.pid());
        world.wait_posted("a", &meanwhile);
        world.charge_at(&stopped.gateway, &format!("again-{round}"), 1);
        sidecars.reverse();
    }
    world.audit_through(&second);
    world.audit();
}

/// The slow one comes too late with what it had read: the mark has moved.
fn holder_that_sleeps_with_a_batch_in_hand_posts_nothing_twice(backend: Backend) {
    let mut world = World::new(backend);
    world.quotad.kill();
    world.quotad = world.setup.clone().variable("FAILPOINTS", "batch-read=1*sleep(4000)").start();
    let first = eventually_some(|| holder(&world));
    let second = world.another().start();
    world.charge("in-hand", 1);
    eventually("the other one took over", SOON, || holder(&world).is_some_and(|now| now != first));
    world.wait_posted("a", "in-hand");
    for number in 0..10 {
        world.charge_at(&second.gateway, &format!("c{number}"), 1);
    }
    let awake = || world.quotad.said().contains("another sidecar took over the write-back");
    eventually("the slow one is awake", SOON, awake);
    world.audit_through(&second);
    world.audit();
    assert!(world.ledger().rows.iter().all(|row| row.posted), "nothing came twice");
}

fn eventually_some<T>(ask: impl Fn() -> Option<T>) -> T {
    let mut found = None;
    eventually("there is one", SOON, || {
        found = ask();
        found.is_some()
    });
    found.expect("there is one")
}
