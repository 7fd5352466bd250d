//! Failover to a replica that lags: a link between the two servers loses bytes, then the replica is made
//! the master.

use std::time::Duration;

use serde_json::json;

use super::{
    database::Backend,
    world::{WRITTEN, World},
};
use crate::harness::{
    eventually,
    link::{Flow, Link, Target},
    redis::Redis,
};

const SOON: Duration = Duration::from_secs(20);

on_every_backend!(
    failover_to_a_lagging_replica_redoes_what_was_posted,
    failover_to_a_lagging_replica_reports_what_was_not_posted,
    branch_of_the_old_master_is_merged_when_it_comes_back,
    half_a_merge_continues,
);

struct Pair {
    world: World,
    /// From the sidecar to whoever is the master.
    link: Link,
    replica: Redis,
    /// From the replica to the master.
    replication: Link,
}

fn pair(backend: Backend) -> Pair {
    let master = Redis::with(&[&WRITTEN[..], &["--repl-diskless-sync-delay", "0"]].concat());
    let replication = Link::to(Target::Unix(master.socket()));
    let replica = Redis::with(&WRITTEN);
    let address = replication.address();
    replica.ask::<()>(&format!("REPLICAOF {} {}", address.ip(), address.port()));
    let link = Link::to(Target::Unix(master.socket()));
    let url = format!("redis://{}", link.address());
    let world = World::on(backend, master, &url, |setup| setup);
    Pair { world, link, replica, replication }
}

impl Pair {
    /// Until the replica has what the master has of that charge.
    fn wait_replicated(&self, id: &str) {
        let exists = format!("EXISTS q{{0}}r/a/{id}");
        eventually(&format!("{id} is replicated"), SOON, || self.replica.ask::<i64>(&exists) == 1);
    }

    /// The replica is the master now, and the sidecar is led to it.
    fn fail_over(&self) {
        self.replica.ask::<()>("REPLICAOF NO ONE");
        self.link.lead_to(Target::Unix(self.replica.socket()));
    }
}

fn failover_to_a_lagging_replica_redoes_what_was_posted(backend: Backend) {
    let pair = pair(backend);
    let world = &pair.world;
    world.charge_new("both", 10);
    pair.wait_replicated("both");
    pair.replication.set(Flow::Lose);
    world.charge_new("master-alone", 20);
    world.wait_posted("a", "master-alone");
    pair.fail_over();
    world.charge_again("master-alone", 20);
    world.charge_again("both", 10);
    world.charge_new("after", 30);
    world.audit();
}

fn failover_to_a_lagging_replica_reports_what_was_not_posted(backend: Backend) {
    let mut pair = pair(backend);
    pair.world.charge_new("both", 10);
    pair.world.wait_posted("a", "both");
    pair.wait_replicated("both");
    pair.replication.set(Flow::Lose);
    pair.world.charge_unposted(&[("master-alone", 20)]);
    pair.fail_over();
    pair.world.journal.strike("a", "master-alone");
    pair.world.quotad = pair.world.setup.start();
    let world = &pair.world;
    world.charge_again("both", 10);
    eventually("a metric tells", SOON, || world.metric("quotad_recoveries_total") >= 1.0);
    world.charge_new("master-alone", 20);
    world.audit();
}

/// The old master went on alone while the new one was counted on: both spent, so both count. In the end
/// the sidecar is led to the old one.
fn diverged(backend: Backend) -> Pair {
    let mut pair = pair(backend);
    pair.world.charge_new("both", 10);
    pair.world.wait_posted("a", "both");
    pair.wait_replicated("both");
    pair.replication.set(Flow::Lose);
    // Acknowledged by the old master, never seen by SQL nor by the replica.
    pair.world.charge_unposted(&[("branch-1", 20), ("branch-2", 30), ("branch-3", 5)]);
    pair.fail_over();
    pair.world.quotad = pair.world.setup.start();
    pair.world.charge_new("trunk", 40);
    // One of the lost ones is told again: it is charged here as well.
    pair.world.charge_new("branch-2", 30);
    pair.world.wait_posted("a", "branch-2");
    pair
}

fn merged(pair: &Pair) {
    let world = &pair.world;
    for (id, amount) in [("branch-1", 20), ("branch-2", 30), ("branch-3", 5), ("trunk", 40)] {
        world.charge_again(id, amount);
    }
    world.charge_new("after", 50);
    world.audit();
    let ledger = world.ledger();
    assert_eq!(ledger.of("a", "branch-2").len(), 1, "what the ledger has already is left out");
    assert!(ledger.generations.iter().any(|one| one.cause == "diverged"), "{:?}", ledger.generations);
    assert_eq!(world.quotad.balance("a")["requests"], json!(6));
}

fn branch_of_the_old_master_is_merged_when_it_comes_back(backend: Backend) {
    let pair = diverged(backend);
    pair.link.lead_to(Target::Unix(pair.world.redis.socket()));
    merged(&pair);
}

fn half_a_merge_continues(backend: Backend) {
    let mut pair = diverged(backend);
    pair.world.quotad.kill();
    pair.link.lead_to(Target::Unix(pair.world.redis.socket()));
    pair.world.run_until("merge-appended=panic");
    pair.world.run_until("wiped=panic");
    pair.world.quotad = pair.world.setup.start();
    merged(&pair);
}
