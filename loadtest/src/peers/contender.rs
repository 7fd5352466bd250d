//! Who is measured against whom with wrk. Every measurement starts the contender and its Redis anew,
//! so that nothing of one measurement weighs on the next: no holds that end, no entries to post.

use std::time::Duration;

use super::{
    lean::{Job, Pace, drive},
    plain::{Caller, Plain},
    quotad::Quotad,
    seed::{ORDINARY, TRUSTED},
    talk::PlainReserve,
    world::{ACCOUNTS, World, scripts},
    wrk::Script,
};

/// Ids begin here; all have nine digits, and the warm-up's come before.
pub const FIRST_ID: u64 = 200_000_000;
/// How long holds live: longer than a measurement, so that none ends while it runs.
pub const TTL_MS: u64 = 60_000;
/// Operations in one call of the batch line.
pub const BATCH: u32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// quotad, asked to reserve; the server makes the ids.
    Reserve,
    /// The same with ids of the client.
    ReserveWithIds,
    /// quotad with accounts that have a trust threshold.
    Trust,
    /// Reserve and settle, two calls; counted are pairs.
    Pair,
    /// Batches of reserves; counted are operations.
    Batch,
    NginxReserve,
    NginxPair,
    WebdisReserve,
    /// The plain reserve, without anybody between the client and Redis.
    BareRedis,
}

impl Contender {
    /// Starts it, measures it, stops it: operations per second.
    ///
    /// # Errors
    /// A sentence when it does not work as it must.
    pub async fn measure(self, world: &World) -> Result<f64, String> {
        let figure = match self {
            Contender::Reserve => quotad(world, ORDINARY, reserve(ORDINARY, false)).await,
            Contender::ReserveWithIds => quotad(world, ORDINARY, reserve(ORDINARY, true)).await,
            Contender::Trust => quotad(world, TRUSTED, reserve(TRUSTED, false)).await,
            Contender::Pair => {
                let script = scripts::pair().with("ACCOUNTS", ACCOUNTS).with("FIRST", FIRST_ID);
                quotad(world, ORDINARY, script).await.map(|calls| calls / 2.0)
            }
            Contender::Batch => {
                let script = scripts::batch().with("ACCOUNTS", ACCOUNTS).with("FIRST", FIRST_ID).with("SIZE", BATCH);
                quotad(world, ORDINARY, script).await.map(|calls| calls * f64::from(BATCH))
            }
            Contender::NginxReserve => plain(world, Caller::Nginx, "/reserve").await,
            Contender::NginxPair => plain(world, Caller::Nginx, "/pair").await,
            Contender::WebdisReserve => plain(world, Caller::Webdis, "/").await,
            Contender::BareRedis => bare_redis(world).await,
        };
        let figure = figure.map_err(|problem| format!("{self:?}: {problem}"))?;
        eprintln!("    {self:?}: {figure:.0}/s");
        Ok(figure)
    }
}

/// Reserves for all accounts with that letter.
#[must_use]
pub fn reserve(letter: char, ids: bool) -> Script {
    scripts::reserve()
        .with("LETTER", letter)
        .with("ACCOUNTS", ACCOUNTS)
        .with("FIRST", FIRST_ID)
        .with("TTL_MS", TTL_MS)
        .with("IDS", u8::from(ids))
}

async fn quotad(world: &World, letter: char, script: Script) -> Result<f64, String> {
    let quotad = Quotad::start(world.program(), world.few().await?, &[]).await?;
    quotad.warm(letter, 0..u64::from(ACCOUNTS)).await?;
    let mut redis = quotad.redis.connect().await?;
    redis.reset_stats().await?;
    let shot = world.wrk().measure(&format!("http://{}/", quotad.address()), &script).await?;
    let scripts: u64 = redis.script_stats().await?.values().map(|stat| stat.calls).sum();
    quotad.stop().await?;
    eprintln!("    {:.2} scripts in Redis for each request", scripts as f64 / (shot.requests + shot.warmed_up) as f64);
    shot.good()
}

async fn plain(world: &World, caller: Caller, path: &str) -> Result<f64, String> {
    let plain = Plain::start(caller).await?;
    let script = match caller {
        Caller::Webdis => scripts::webdis().with("RESERVE_SHA", &plain.reserve),
        Caller::Nginx | Caller::Nobody => scripts::fixed(),
    };
    let shot = world.wrk().measure(&format!("http://{}{path}", plain.address()), &script).await;
    plain.stop().await;
    shot?.good()
}

async fn bare_redis(world: &World) -> Result<f64, String> {
    let plain = Plain::start(Caller::Nobody).await?;
    let job = Job {
        address: plain.redis.address(),
        connections: world.args.connections,
        pace: Pace::Closed,
        warm_up: Duration::from_secs(1),
        counted: Duration::from_secs(world.args.seconds),
    };
    let seen = drive(job, PlainReserve { sha: plain.reserve.clone() }).await;
    plain.stop().await;
    seen.map(|seen| seen.per_second)
}
