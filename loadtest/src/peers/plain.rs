//! The alternatives: nginx + Lua and webdis, each with a Redis of its own that holds the plain scripts
//! and 10 000 accounts; and that Redis alone.

use tempfile::TempDir;

use super::{
    process::{Process, free_port},
    redis::Redis,
};

/// As many as `nginx.conf` and `webdis.wrk.lua` choose from.
const ACCOUNTS: &str = "10000";
const RESERVE: &str = include_str!("../../peers/plain_reserve.lua");
const SETTLE: &str = include_str!("../../peers/plain_settle.lua");
const SEED: &str = include_str!("../../peers/plain_seed.lua");
const NGINX: &str = include_str!("../../peers/nginx.conf");
const WEBDIS: &str = include_str!("../../peers/webdis.json");

/// Who calls the plain scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Nginx,
    Webdis,
    /// Whoever connects to Redis.
    Nobody,
}

/// A running alternative; the files go when this goes.
#[derive(Debug)]
pub struct Plain {
    caller: Option<Process>,
    pub redis: Redis,
    port: u16,
    /// SHA1 of the plain reserve.
    pub reserve: String,
    _folder: TempDir,
}

impl Plain {
    /// # Errors
    /// A sentence when something does not start.
    pub async fn start(caller: Caller) -> Result<Self, String> {
        let folder = TempDir::with_prefix("quotad-peers-").map_err(|error| format!("no folder: {error}"))?;
        let redis = Redis::start(folder.path()).await?;
        let mut resp = redis.connect().await?;
        resp.ask(&["EVAL", SEED, "0", ACCOUNTS]).await?;
        let reserve = resp.ask(&["SCRIPT", "LOAD", RESERVE]).await?;
        let settle = resp.ask(&["SCRIPT", "LOAD", SETTLE]).await?;
        let port = free_port()?;
        let configure = |name: &str, template: &str| {
            let text = template
                .replace("@PORT@", &port.to_string())
                .replace("@REDIS_PORT@", &redis.port.to_string())
                .replace("@RESERVE_SHA@", &reserve)
                .replace("@SETTLE_SHA@", &settle);
            std::fs::write(folder.path().join(name), text).map_err(|error| format!("{name} cannot be written: {error}"))
        };
        let prefix = folder.path().display().to_string();
        let process = match caller {
            Caller::Nginx => {
                configure("nginx.conf", NGINX)?;
                Some(Process::start("nginx", &["-p", &prefix, "-c", "nginx.conf"], folder.path(), port).await?)
            }
            Caller::Webdis => {
                configure("webdis.json", WEBDIS)?;
                Some(Process::start("webdis", &["webdis.json"], folder.path(), port).await?)
            }
            Caller::Nobody => None,
        };
        Ok(Self { caller: process, redis, port, reserve, _folder: folder })
    }

    /// Of its HTTP listener.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub async fn stop(self) {
        if let Some(caller) = self.caller {
            caller.stop().await;
        }
        self.redis.stop().await;
    }
}
