//! Kills a part of the server again and again while calls are made, and measures how long it takes
//! until a call is answered again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::{process::Command, time::sleep};

use crate::{client::Client, resp::Resp, run::Place};

/// How often the answers are looked at after a kill.
const LOOK: Duration = Duration::from_millis(1);
/// Longer than this nobody waits for an answer: the run has failed, and its audit says how.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The server that --spawn started, with SIGKILL; it is started again at once.
    Sidecar,
    /// Its Redis, with SIGKILL; somebody else starts it again: the server does with its private one.
    Redis,
    /// Whatever this shell command kills and starts again.
    Command(String),
}

impl Victim {
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "sidecar" => Self::Sidecar,
            "redis" => Self::Redis,
            command => Self::Command(command.to_owned()),
        }
    }

    /// Redis tells its process; asked before the kill, for an answer that comes meanwhile says nothing.
    async fn aim(&self, place: &Place) -> Result<Option<Pid>, String> {
        if *self != Victim::Redis {
            return Ok(None);
        }
        let target = place.redis.as_ref().ok_or("--kill redis needs --redis or --spawn")?;
        let pid = Resp::connect(target).await?.process_id().await?;
        Pid::from_raw(pid).ok_or_else(|| "Redis names no process".to_owned()).map(Some)
    }

    async fn kill(&self, place: &Place, redis: Option<Pid>) -> Result<(), String> {
        match self {
            Victim::Sidecar => place.spawned.as_ref().ok_or("--kill sidecar needs --spawn")?.kill_and_start().await,
            Victim::Redis => {
                let pid = redis.ok_or("Redis names no process")?;
                kill_process(pid, Signal::KILL).map_err(|error| format!("Redis cannot be killed: {error}"))
            }
            Victim::Command(command) => {
                let status = Command::new("sh").args(["-c", command]).status().await;
                let status = status.map_err(|error| format!("`{command}` cannot be run: {error}"))?;
                if status.success() { Ok(()) } else { Err(format!("`{command}` ended with {status}")) }
            }
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Kills {
    pub victim: String,
    pub every_s: f64,
    /// From each kill to the first good answer to a call sent after it, in milliseconds.
    pub answered_after_ms: Vec<u64>,
}

impl Kills {
    /// Median and worst, in milliseconds; `None` without a kill.
    #[must_use]
    pub fn median_and_worst(&self) -> Option<(u64, u64)> {
        let mut sorted = self.answered_after_ms.clone();
        sorted.sort_unstable();
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }
}

/// Kills every so often until `stop`; the last kill is seen to its end.
///
/// # Errors
/// A sentence when the victim cannot be killed or started, or nobody answers any more.
pub async fn keep_killing(
    victim: &Victim,
    every: Duration,
    place: &Place,
    gateway: &Client,
    stop: &Arc<AtomicBool>,
) -> Result<Kills, String> {
    let name = match victim {
        Victim::Sidecar => "sidecar",
        Victim::Redis => "redis",
        Victim::Command(command) => command,
    };
    let mut kills = Kills { victim: name.to_owned(), every_s: every.as_secs_f64(), answered_after_ms: Vec::new() };
    loop {
        let next = Instant::now() + every;
        while Instant::now() < next {
            if stop.load(Ordering::Relaxed) {
                return Ok(kills);
            }
            sleep(LOOK * 20).await;
        }
        let redis = victim.aim(place).await?;
        let killed = Instant::now();
        let (killing, answered) = tokio::join!(victim.kill(place, redis), answer_after(killed, gateway, stop));
        killing?;
        match answered? {
            Some(after) => kills.answered_after_ms.push(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            None => return Ok(kills),
        }
    }
}

/// `None` when no more calls are made.
async fn answer_after(killed: Instant, gateway: &Client, stop: &AtomicBool) -> Result<Option<Duration>, String> {
    while killed.elapsed() < ANSWER_WITHIN {
        if let Some(answered) = gateway.answered_since(killed) {
            return Ok(Some(answered - killed));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        sleep(LOOK).await;
    }
    Err(format!("nobody answered within {ANSWER_WITHIN:?} after a kill"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_worst() {
        let kills = |times: &[u64]| Kills { victim: "redis".into(), every_s: 1.0, answered_after_ms: times.to_vec() };
        assert_eq!(kills(&[]).median_and_worst(), None);
        assert_eq!(kills(&[9, 1, 5]).median_and_worst(), Some((5, 9)));
        assert_eq!(Victim::parse("redis"), Victim::Redis);
        assert_eq!(Victim::parse("pg_ctl restart"), Victim::Command("pg_ctl restart".into()));
    }
}
