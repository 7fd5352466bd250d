//! quotad as it is measured: SQLite with write-back on, and a fresh Redis with the settings that the
//! others' has too.

use std::{
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Method, body::Bytes};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{task::JoinSet, time::sleep};

use super::{
    redis::Redis,
    seed::{self, Seed},
};
use crate::{
    client::{Client, Target, Waits},
    spawn::Server,
};

/// Operations in one call of `/v1/batch`, and such calls at once, where accounts are brought in.
const BATCH: u64 = 256;
const AT_ONCE: usize = 4;
const WAITS: Waits = Waits { attempt: Duration::from_secs(60), patience: Duration::from_secs(60) };
/// A batch with an operation that was not decided in time is sent again: ids make that safe.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Tombstones that go after a second or so, a million of them.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(120);
/// Keys with a time to live that are always there.
const LEASES_MAX: u64 = 8;

/// A running quotad with its Redis; the files go when this goes.
pub struct Quotad {
    server: Server,
    pub redis: Redis,
    pub client: Arc<Client>,
    _folder: TempDir,
}

#[derive(Deserialize)]
struct Answers {
    ops: Vec<OpAnswer>,
}

#[derive(Deserialize)]
struct OpAnswer {
    status: u16,
}

impl Quotad {
    /// Settings are names and values of those that differ from the defaults.
    ///
    /// # Errors
    /// A sentence when something does not start.
    pub async fn start(program: &Path, seed: &Seed, settings: &[(&str, String)]) -> Result<Self, String> {
        Prepared::new(seed).await?.start(program, settings).await
    }

    /// Of its HTTP listener for gateways.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.server.gateway {
            Target::Tcp(address) | Target::Unix(address) => address.clone(),
        }
    }

    /// Loads accounts of that letter and begins their windows: each reserves and releases.
    ///
    /// # Errors
    /// A sentence when an account cannot be loaded.
    pub async fn warm(&self, letter: char, accounts: Range<u64>) -> Result<(), String> {
        let first = accounts.start;
        let pair = move |index: u64| {
            let index = first + index;
            let account = seed::account(letter, index);
            format!(
                r#"{{"op":"reserve","account":"{account}","key":"k1","id":"w{index}","platform":"openai","amount":5}},{{"op":"release","account":"{account}","id":"w{index}"}}"#
            )
        };
        self.each(accounts.end - first, BATCH / 2, pair).await
    }

    /// Does operation `0..count` in batches, a few at once.
    ///
    /// # Errors
    /// A sentence when one of them is refused.
    pub async fn each(
        &self,
        count: u64,
        per_batch: u64,
        op: impl Fn(u64) -> String + Copy + Send + Sync + 'static,
    ) -> Result<(), String> {
        let mut tasks = JoinSet::new();
        for start in (0..count).step_by(usize::try_from(per_batch).unwrap_or(1)) {
            if tasks.len() >= AT_ONCE {
                done(tasks.join_next().await)?;
            }
            let client = Arc::clone(&self.client);
            tasks.spawn(async move {
                let ops: Vec<String> = (start..count.min(start + per_batch)).map(op).collect();
                send(&client, ops).await
            });
        }
        while !tasks.is_empty() {
            done(tasks.join_next().await)?;
        }
        Ok(())
    }

    /// Waits until Redis has forgotten what ended: only accounts, live holds, their deadlines (some bytes of ended ones among
    /// them) and leases are left.
    ///
    /// # Errors
    /// A sentence when that takes too long.
    pub async fn forgotten(&self) -> Result<(), String> {
        let mut redis = self.redis.connect().await?;
        let until = Instant::now() + FORGOTTEN_WITHIN;
        loop {
            let info = redis.ask(&["INFO", "keyspace"]).await?;
            let expiring = info.split(',').find_map(|field| field.strip_prefix("expires=")?.parse::<u64>().ok());
            match expiring.unwrap_or(0) {
                0..=LEASES_MAX => return Ok(()),
                keys if Instant::now() > until => return Err(format!("{keys} keys do not go from Redis")),
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// Resident memory of the sidecar in bytes.
    ///
    /// # Errors
    /// A sentence where the system does not tell.
    pub async fn resident(&self) -> Result<u64, String> {
        let id = self.server.process_id().await.ok_or("quotad has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).map_err(|error| error.to_string())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| "the system tells no VmRSS".to_owned())
    }

    /// Ends both at once: what they kept is thrown away.
    ///
    /// # Errors
    /// A sentence when quotad cannot be ended.
    pub async fn stop(self) -> Result<(), String> {
        let killed = self.server.kill().await;
        self.redis.stop().await;
        killed
    }
}

/// All that quotad needs to be started.
pub struct Prepared {
    folder: TempDir,
    redis: Redis,
    database: String,
}

impl Prepared {
    /// # Errors
    /// A sentence when the database cannot be copied or Redis does not start.
    pub async fn new(seed: &Seed) -> Result<Self, String> {
        let folder = TempDir::with_prefix("quotad-peers-").map_err(|error| format!("no folder: {error}"))?;
        let database = format!("sqlite://{}", seed.copy_to(folder.path())?.display());
        Ok(Self { redis: Redis::start(folder.path()).await?, folder, database })
    }

    /// Starts quotad and waits until it is ready.
    ///
    /// # Errors
    /// A sentence when it does not start.
    pub async fn start(self, program: &Path, settings: &[(&str, String)]) -> Result<Quotad, String> {
        let redis_url = format!("redis://{}", self.redis.address());
        let flags = ["--redis-url", &redis_url, "--database-url", &self.database].map(str::to_owned);
        let mut environment = vec![("QUOTAD_LOG_LEVEL".to_owned(), "error".to_owned())];
        environment
            .extend(settings.iter().map(|(name, value)| (format!("QUOTAD_{}", name.to_uppercase()), value.clone())));
        let server = Server::start_with(program, &flags, environment).await?;
        let client = Arc::new(Client::new(server.gateway.clone(), None, AT_ONCE, WAITS));
        Ok(Quotad { server, redis: self.redis, client, _folder: self.folder })
    }
}

async fn send(client: &Client, ops: Vec<String>) -> Result<(), String> {
    let body = Bytes::from(format!(r#"{{"ops":[{}]}}"#, ops.join(",")));
    let mut undecided = 0;
    for _ in 0..ATTEMPTS {
        let reply = client.call(Method::POST, "/v1/batch", Some(body.clone())).await.map_err(|doubt| doubt.0)?;
        let answers: Answers = reply.json()?;
        // 409: done by an earlier attempt, and released since.
        let refused = |answer: &&OpAnswer| !matches!(answer.status, 200 | 409 | 503);
        if let Some(refused) = answers.ops.iter().find(refused) {
            return Err(format!("an operation of a batch was answered {}", refused.status));
        }
        undecided = answers.ops.iter().filter(|answer| answer.status == 503).count();
        if undecided == 0 {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    Err(format!("{undecided} operations of a batch were not decided after {ATTEMPTS} attempts"))
}

fn done(task: Option<Result<Result<(), String>, tokio::task::JoinError>>) -> Result<(), String> {
    task.map_or(Ok(()), |joined| joined.map_err(|error| error.to_string())?)
}
