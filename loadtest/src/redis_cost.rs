//! What the scripts of each verb cost in Redis. Redis counts all scripts together, so the verbs are
//! done one after the other, with the counters set to 0 before each; what happens in the background
//! is seen in a phase in which nobody calls. A script of one HINCRBY is the measure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{Method, body::Bytes};
use serde::Serialize;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    cli::RedisCostArgs,
    client::Client,
    journal::Journal,
    profile::Profile,
    resp::Resp,
    run::Place,
    setup, wire,
    workload::{Call, Fate, Workload},
};

const REFERENCE: &str = "return redis.call('HINCRBY', KEYS[1], 'n', 1)";
const REFERENCE_KEY: &str = "quotad-loadtest:reference";
const REFERENCE_CALLS: usize = 50_000;
const REFERENCE_PIPELINE: usize = 500;
/// How long the background is watched.
const QUIET: Duration = Duration::from_secs(3);

/// One phase.
#[derive(Debug, Serialize)]
pub struct Phase {
    pub phase: &'static str,
    pub requests: u64,
    pub seconds: f64,
    /// Script calls that Redis counted, and its time for each.
    pub script_calls: u64,
    pub usec_per_call: f64,
    /// How many times the reference that is.
    pub times_reference: f64,
}

struct Bench {
    workload: Workload,
    accounts: Vec<String>,
    client: Client,
}

/// Measures all verbs and prints them.
///
/// # Errors
/// A sentence when something does not answer as it must.
pub async fn run(args: &RedisCostArgs) -> Result<(), String> {
    let place = Place::find(&args.server).await?;
    let phases = measure(args, &place).await;
    let stopped = place.leave().await;
    let phases = phases?;
    stopped?;
    print(&phases);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&phases).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(())
}

async fn measure(args: &RedisCostArgs, place: &Place) -> Result<Vec<Phase>, String> {
    let target = place.redis.as_ref().ok_or("redis-cost needs --redis or --spawn")?;
    let mut redis = Resp::connect(target).await?;
    let bench = Arc::new(prepare(args, place).await?);
    let (count, accounts) = (args.requests, u64::from(args.accounts));
    // Every account is loaded before anything is counted.
    for verb in ["/v1/reserve", "/v1/release"] {
        bench.all(verb, 0..accounts, args.connections).await?;
    }
    let first = accounts..accounts + count;
    let second = accounts + count..accounts + 2 * count;

    let mut phases = Vec::new();
    redis.reset_stats().await?;
    let begun = Instant::now();
    sleep(QUIET).await;
    phases.push(phase("(nobody calls)", 0, begun, &mut redis).await?);
    for (name, verb, calls) in [
        ("reserve", "/v1/reserve", first.clone()),
        ("settle", "/v1/settle", first),
        ("reserve again", "/v1/reserve", second.clone()),
        ("release", "/v1/release", second),
    ] {
        redis.reset_stats().await?;
        let begun = Instant::now();
        bench.all(verb, calls, args.connections).await?;
        phases.push(phase(name, count, begun, &mut redis).await?);
    }
    phases.push(reference(&mut redis).await?);
    let unit = phases.last().map_or(0.0, |reference| reference.usec_per_call);
    for phase in &mut phases {
        phase.times_reference = if unit > 0.0 { phase.usec_per_call / unit } else { 0.0 };
    }
    Ok(phases)
}

async fn prepare(args: &RedisCostArgs, place: &Place) -> Result<Bench, String> {
    let mut profile = Profile::load("conv")?;
    profile.accounts = args.accounts;
    profile.connections = args.connections;
    profile.shares.tight_accounts = 0.0;
    let workload = Workload::new(profile, args.seed)?;
    let run = format!("{:08x}", rand::random::<u32>());
    let journal = Journal::open(&workload, &run, None)?;
    let token = args.server.gateway_token.as_deref();
    let client = Client::new(place.gateway.clone(), token, args.connections as usize, args.server.waits());
    setup::create(&place.admin, &client, &workload, &journal, || ()).await?;
    Ok(Bench { workload, accounts: journal.names().to_vec(), client })
}

impl Bench {
    /// Makes one request of a verb for each call, so many at a time.
    async fn all(
        self: &Arc<Self>,
        verb: &'static str,
        calls: std::ops::Range<u64>,
        callers: u32,
    ) -> Result<(), String> {
        let next = Arc::new(AtomicU64::new(calls.start));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (bench, next) = (Arc::clone(self), Arc::clone(&next));
            tasks.spawn(async move {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= calls.end {
                        return Ok::<(), String>(());
                    }
                    bench.one(verb, index).await?;
                }
            });
        }
        tasks.join_all().await.into_iter().collect()
    }

    async fn one(&self, verb: &'static str, index: u64) -> Result<(), String> {
        let account = (index % self.accounts.len() as u64) as usize;
        let call = Call { account, fate: Fate::Settle, ..self.workload.call(index) };
        let name = &self.accounts[account];
        let body: Bytes = match verb {
            "/v1/reserve" => wire::reserve(&self.workload, name, &call),
            "/v1/settle" => wire::last_step(&self.workload, name, &call).1,
            _ => wire::release(name, &call),
        };
        let reply = self.client.call(Method::POST, verb, Some(body)).await.map_err(|doubt| doubt.0)?;
        if reply.status == 200 { Ok(()) } else { Err(format!("{verb} was answered {} {}", reply.status, reply.text())) }
    }
}

async fn phase(name: &'static str, requests: u64, begun: Instant, redis: &mut Resp) -> Result<Phase, String> {
    let seconds = begun.elapsed().as_secs_f64();
    let stats = redis.script_stats().await?;
    let script_calls = stats.values().map(|stat| stat.calls).sum();
    let usec: u64 = stats.values().map(|stat| stat.usec).sum();
    let usec_per_call = if script_calls == 0 { 0.0 } else { usec as f64 / script_calls as f64 };
    Ok(Phase { phase: name, requests, seconds, script_calls, usec_per_call, times_reference: 0.0 })
}

async fn reference(redis: &mut Resp) -> Result<Phase, String> {
    let sha = redis.ask(&["SCRIPT", "LOAD", REFERENCE]).await?;
    redis.reset_stats().await?;
    let begun = Instant::now();
    for _ in 0..REFERENCE_CALLS / REFERENCE_PIPELINE {
        redis.ask_many(&["EVALSHA", &sha, "1", REFERENCE_KEY], REFERENCE_PIPELINE).await?;
    }
    let phase = phase("one HINCRBY", REFERENCE_CALLS as u64, begun, redis).await?;
    redis.ask(&["DEL", REFERENCE_KEY]).await?;
    Ok(phase)
}

fn print(phases: &[Phase]) {
    println!(
        "\n{:<16}{:>10}{:>10}{:>14}{:>14}{:>14}",
        "", "requests", "seconds", "script calls", "µs per call", "× HINCRBY"
    );
    for phase in phases {
        println!(
            "{:<16}{:>10}{:>10.2}{:>14}{:>14.2}{:>14.1}",
            phase.phase, phase.requests, phase.seconds, phase.script_calls, phase.usec_per_call, phase.times_reference
        );
    }
    println!("\nEvery phase contains what goes on in the background, shown in the first line.");
}
