//! Redis is there, but not well: it stands still, is busy, full, out of disk, forgetful, or not what it was.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    database::Backend,
    world::{World, told},
};
use crate::harness::{Answer, at_once, eventually};

const SOON: Duration = Duration::from_secs(20);

/// With the time budget that users have.
fn hurried() -> World {
    World::with(Backend::Sqlite, |setup| setup.set("time_budget_ms", "250"))
}

fn ask(world: &World, verb: &str, body: &Value) -> Answer {
    let begun = Instant::now();
    let answer = world.quotad.gateway.post(&format!("/v1/{verb}"), body);
    assert!(begun.elapsed() < Duration::from_secs(1), "answered after {:?}: {answer}", begun.elapsed());
    answer
}

fn reserve(id: &str) -> Value {
    json!({"account": "a", "id": id, "amount": 100})
}

fn settle(id: &str) -> Value {
    json!({"account": "a", "id": id, "amount": 60})
}

#[track_caller]
fn settled(world: &World, id: &str) {
    told(&world.quotad.gateway, "/v1/settle", &settle(id)).expect(200);
    world.journal.note("a", id, -60);
}

#[track_caller]
fn refused(world: &World, verb: &str, body: &Value) {
    ask(world, verb, body).problem(503, "unavailable");
}

/// A held reservation, then the fault, then the way back.
#[track_caller]
fn served_again(world: &World) {
    let served = || world.quotad.gateway.post("/v1/reserve", &reserve("during")).status == 200;
    eventually("served again", SOON, served);
    world.quotad.wait_ready();
    settled(world, "during");
    world.charge_new("after", 10);
    world.audit();
}

#[test]
fn hung_redis_costs_the_time_budget_and_nothing_else() {
    let world = hurried();
    ask(&world, "reserve", &reserve("before")).expect(200);
    world.redis.freeze();
    at_once(10, |number| refused(&world, "reserve", &reserve(&format!("hung-{number}"))));
    refused(&world, "settle", &settle("before"));
    eventually("readyz tells", SOON, || !world.quotad.ready());
    world.redis.thaw();
    settled(&world, "before");
    for number in 0..10 {
        let id = format!("hung-{number}");
        told(&world.quotad.gateway, "/v1/reserve", &reserve(&id)).expect(200);
        settled(&world, &id);
    }
    served_again(&world);
}

#[test]
fn busy_script_is_waited_out() {
    let world = hurried();
    world.redis.ask::<()>("CONFIG SET busy-reply-threshold 50");
    ask(&world, "reserve", &reserve("before")).expect(200);
    let mut elsewhere = world.redis.connect();
    std::thread::scope(|scope| {
        let busy = scope.spawn(move || {
            ::redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut elsewhere).expect_err("it is killed")
        });
        eventually("Redis is busy", SOON, || world.redis.try_ask::<String>("PING").is_err());
        for number in 0..5 {
            refused(&world, "reserve", &reserve(&format!("busy-{number}")));
        }
        refused(&world, "settle", &settle("before"));
        world.redis.ask::<()>("SCRIPT KILL");
        busy.join().expect("the script has ended");
    });
    settled(&world, "before");
    served_again(&world);
}

#[test]
fn out_of_memory_refuses_reserves_and_takes_settles() {
    let world = hurried();
    ask(&world, "reserve", &reserve("before")).expect(200);
    ask(&world, "reserve", &reserve("given-back")).expect(200);
    world.redis.ask::<()>("CONFIG SET maxmemory 1");
    for number in 0..3 {
        refused(&world, "reserve", &reserve(&format!("full-{number}")));
    }
    // What records truth or gives back goes on.
    settled(&world, "before");
    ask(&world, "release", &json!({"account": "a", "id": "given-back"})).expect(200);
    ask(&world, "refund", &json!({"account": "a", "op_id": "f", "of": "before", "amount": 10})).expect(200);
    world.journal.note("a", "f", 10);
    world.wait_posted("a", "f");
    world.redis.ask::<()>("CONFIG SET maxmemory 0");
    served_again(&world);
}

#[test]
fn full_disk_of_redis_refuses_until_there_is_room() {
    let world = hurried();
    ask(&world, "reserve", &reserve("before")).expect(200);
    world.redis.limit_files(Some(1));
    eventually("Redis cannot write", SOON, || {
        let answer = world.quotad.gateway.post("/v1/reserve", &reserve("during"));
        answer.status == 503
    });
    refused(&world, "settle", &settle("before"));
    eventually("readyz tells", SOON, || !world.quotad.ready());
    world.redis.limit_files(None);
    settled(&world, "before");
    served_again(&world);
}

#[test]
fn scripts_flushed_in_a_loop_lose_no_call() {
    let world = World::new(Backend::Sqlite);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let world = &world;
                scope.spawn(move || {
                    for number in 0..40 {
                        let id = format!("w{worker}-{number}");
                        told(&world.quotad.gateway, "/v1/reserve", &reserve(&id)).expect(200);
                        settled(world, &id);
                    }
                })
            })
            .collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            world.redis.ask::<()>("SCRIPT FLUSH");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(world.quotad.balance("a")["held"], 0);
    world.audit();
}

#[test]
fn eviction_allowed_at_run_time_is_noticed_and_refused() {
    let world = hurried();
    ask(&world, "reserve", &reserve("before")).expect(200);
    world.redis.ask::<()>("CONFIG SET maxmemory-policy allkeys-lru");
    eventually("noticed within ten seconds", Duration::from_secs(10), || !world.quotad.ready());
    eventually("refused", Duration::from_secs(5), || {
        world.quotad.gateway.post("/v1/reserve", &reserve("during")).status == 503
    });
    world.redis.ask::<()>("CONFIG SET maxmemory-policy noeviction");
    settled(&world, "before");
    served_again(&world);
}

#[test]
fn redis_made_a_replica_at_run_time_is_refused_until_it_is_a_master_again() {
    let world = hurried();
    ask(&world, "reserve", &reserve("before")).expect(200);
    // Of nobody: the data stays.
    world.redis.ask::<()>("REPLICAOF 127.0.0.1 1");
    refused(&world, "reserve", &reserve("during"));
    refused(&world, "settle", &settle("before"));
    eventually("readyz tells", SOON, || !world.quotad.ready());
    world.redis.ask::<()>("REPLICAOF NO ONE");
    settled(&world, "before");
    served_again(&world);
}
