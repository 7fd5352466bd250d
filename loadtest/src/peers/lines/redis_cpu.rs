//! What the scripts of reserve and settle cost in Redis, against a script of one HINCRBY; with thousands
//! of live holds, and all scripts coming in over few connections, many at a time.
//!
//! Redis counts all scripts together. So nothing sweeps meanwhile, and what goes on in the background all
//! the same is watched while nobody calls, and taken off.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    peers::{
        args::Name,
        figures::{Goal, Row},
        quotad::Quotad,
        seed::{self, ORDINARY},
        world::{ACCOUNTS, Rows, World},
    },
    resp::Resp,
};

const REFERENCE: &str = "return redis.call('HINCRBY', KEYS[1], 'n', 1)";
/// Calls of each script in a round.
const CALLS: u64 = 20_000;
/// Holds that are live all the time.
const LIVE: u64 = 6000;
const BATCH: u64 = 256;
/// Calls of the reference that are sent at once: as many as a batch of quotad has under way.
const AT_ONCE: usize = 16;
const QUIET: Duration = Duration::from_secs(2);

/// Time in scripts that nobody here called, per second.
#[derive(Clone, Copy)]
struct Background(f64);

pub(in crate::peers) async fn measure(world: &World) -> Rows {
    let settings = [("sweep_interval_ms", "60000".to_owned())];
    let quotad = Quotad::start(world.program(), world.few().await?, &settings).await?;
    quotad.warm(ORDINARY, 0..u64::from(ACCOUNTS)).await?;
    quotad.each(LIVE, BATCH, |index| reserve(0, index)).await?;
    let mut redis = quotad.redis.connect().await?;
    let [mut reserves, mut settles, mut references] = [const { Vec::new() }; 3];
    for round in world.rounds(Name::RedisCpu) {
        let background = Background::watch(&mut redis).await?;
        let begun = restart(&mut redis).await?;
        quotad.each(CALLS, BATCH, move |index| reserve(round, index)).await?;
        let reserved = background.per_call(&mut redis, begun).await?;
        let begun = restart(&mut redis).await?;
        quotad.each(CALLS, BATCH, move |index| settle(round, index)).await?;
        let settled = background.per_call(&mut redis, begun).await?;
        let reference = reference(&mut redis, background).await?;
        eprintln!("    reserve {reserved:.2} µs, settle {settled:.2} µs, one HINCRBY {reference:.2} µs");
        reserves.push(reserved);
        settles.push(settled);
        references.push(reference);
    }
    quotad.stop().await?;
    let row = |what, ours: &[f64], most| {
        Row::ratio(Name::RedisCpu, what, "µs", (ours, &references), Some(Goal::AtMost(most)))
    };
    Ok(vec![
        row("script of reserve : one HINCRBY", &reserves, 4.5),
        row("script of settle : one HINCRBY", &settles, 6.0),
    ])
}

fn reserve(round: u32, index: u64) -> String {
    let account = seed::account(ORDINARY, index % u64::from(ACCOUNTS));
    format!(
        r#"{{"op":"reserve","account":"{account}","key":"k1","id":"r{round}-{index}","platform":"openai","amount":5,"ttl_ms":3600000}}"#
    )
}

fn settle(round: u32, index: u64) -> String {
    let account = seed::account(ORDINARY, index % u64::from(ACCOUNTS));
    format!(r#"{{"op":"settle","account":"{account}","id":"r{round}-{index}","amount":4}}"#)
}

async fn restart(redis: &mut Resp) -> Result<Instant, String> {
    redis.reset_stats().await?;
    Ok(Instant::now())
}

async fn script_micros(redis: &mut Resp) -> Result<f64, String> {
    let stats = redis.script_stats().await?;
    Ok(stats.values().map(|stat| stat.usec as f64).sum())
}

/// One HINCRBY on each of as many hashes as there are accounts, in turn.
async fn reference(redis: &mut Resp, background: Background) -> Result<f64, String> {
    let sha = redis.ask(&["SCRIPT", "LOAD", REFERENCE]).await?;
    let keys: Vec<String> = (0..u64::from(ACCOUNTS)).map(|index| format!("reference:{index}")).collect();
    let commands: Vec<Vec<&str>> = keys.iter().map(|key| vec!["EVALSHA", &sha, "1", key]).collect();
    let begun = restart(redis).await?;
    for _ in 0..CALLS / u64::from(ACCOUNTS) {
        for some in commands.chunks(AT_ONCE) {
            redis.ask_each(some).await?;
        }
    }
    background.per_call(redis, begun).await
}

impl Background {
    async fn watch(redis: &mut Resp) -> Result<Self, String> {
        let begun = restart(redis).await?;
        sleep(QUIET).await;
        Ok(Self(script_micros(redis).await? / begun.elapsed().as_secs_f64()))
    }

    /// Microseconds of each of [`CALLS`] calls since `begun`.
    async fn per_call(self, redis: &mut Resp, begun: Instant) -> Result<f64, String> {
        let own = script_micros(redis).await? - self.0 * begun.elapsed().as_secs_f64();
        Ok(own / CALLS as f64)
    }
}
