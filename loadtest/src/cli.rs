//! The command line: what was typed, turned into what the run shall do.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    client::{Target, Waits},
    drive::{Extent, Pace},
    peers::args::PeersArgs,
    profile::Profile,
};

const EXIT_CODES: &str = "\
Exit codes: 0 exact to the unit; 1 the audit or an answer is wrong (account and both numbers are printed); \
2 the run could not be made.";

#[derive(Debug, Parser)]
#[command(name = "quotad-loadtest", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replays a trace against a server and audits every account at the end.
    Run(Box<RunArgs>),
    /// Measures what the scripts of each verb cost in Redis.
    RedisCost(Box<RedisCostArgs>),
    /// Measures quotad against nginx + Lua, webdis and a bare Redis, all started for it.
    Peers(Box<PeersArgs>),
}

/// Where the server is.
#[derive(Args, Debug)]
pub struct ServerArgs {
    /// Gateway listener: http://host:port or unix:/path.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8787")]
    pub gateway: String,
    /// Admin listener.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8788")]
    pub admin: String,
    /// Token of the admin API.
    #[arg(long, value_name = "TOKEN", env = "QUOTAD_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// File with the token of the admin API (the server makes `<data>/admin.token`).
    #[arg(long, value_name = "FILE", conflicts_with = "admin_token")]
    pub admin_token_file: Option<PathBuf>,
    /// Token that gateways must send, if the server wants one.
    #[arg(long, value_name = "TOKEN", env = "QUOTAD_GATEWAY_TOKEN", hide_env_values = true)]
    pub gateway_token: Option<String>,
    /// Start this quotad on free ports and an empty directory, and stop it at the end. With --gateway
    /// unix:/path it serves that socket too, and the calls go there.
    #[arg(long, value_name = "PATH")]
    pub spawn: Option<PathBuf>,
    /// One more argument for the server that --spawn starts (repeatable).
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, requires = "spawn")]
    pub spawn_arg: Vec<String>,
    /// Redis of the server, for its statistics: unix:/path or host:port [default with --spawn: its private one].
    #[arg(long, value_name = "ADDR")]
    pub redis: Option<String>,
    /// A call that nobody answers is sent again for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub patience: u64,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// conv, code, or the path of a profile.
    #[arg(long, default_value = "conv")]
    pub profile: String,
    /// open: at the trace's times or a fixed rate. closed: as fast as answers come.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// How many times faster than it happened; `max` is a closed loop [default: the profile's].
    #[arg(long, value_name = "N|max", value_parser = Speed::parse)]
    pub speed: Option<Speed>,
    /// Calls per second, evenly, instead of the trace's times.
    #[arg(long, value_name = "N", conflicts_with = "speed", value_parser = positive)]
    pub rate: Option<f64>,
    /// Begin no call after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub duration: Option<f64>,
    /// So many calls [default: those of the trace, or no end when --duration is given].
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    #[arg(long, value_name = "N")]
    pub accounts: Option<u32>,
    /// The same seed makes the same calls.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Accounts are named load-<RUN>-<n> [default: eight random digits].
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Write the result there as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write every booked step there, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// The server's SQLite file: its ledger is summed up and compared [default with --spawn: its own].
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
    /// Also show how often scripts ran in Redis during the run, and for how long.
    #[arg(long)]
    pub redis_stats: bool,
    /// Kill this again and again while calls are made: `sidecar` (needs --spawn), `redis`, or a shell command
    /// that kills and starts something, such as the database.
    #[arg(long, value_name = "VICTIM")]
    pub kill: Option<String>,
    /// Seconds between two kills.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = positive, requires = "kill")]
    pub kill_every: f64,
    /// Holds must have ended and SQL caught up within so many seconds after the last call.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub audit_deadline: u64,
    /// Threads of this program; more than one takes processor time from a server on the same machine.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
}

#[derive(Args, Debug)]
pub struct RedisCostArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Calls of each verb.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub requests: u64,
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub accounts: u32,
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub connections: u32,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the result there as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    Times(f64),
    Max,
}

impl Speed {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "max" { Ok(Self::Max) } else { positive(text).map(Self::Times) }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| *number > 0.0 && number.is_finite()).ok_or_else(|| "must be a number above 0".into())
}

impl ServerArgs {
    /// The admin token, from wherever it was given.
    ///
    /// # Errors
    /// A sentence when there is none, or its file cannot be read.
    pub fn admin_token(&self) -> Result<String, String> {
        match (&self.admin_token, &self.admin_token_file) {
            (Some(token), _) => Ok(token.clone()),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map(|token| token.trim().to_owned())
                .map_err(|error| format!("the admin token {} cannot be read: {error}", path.display())),
            (None, None) => {
                Err("no admin token: give --admin-token-file, --admin-token or QUOTAD_ADMIN_TOKEN, or --spawn".into())
            }
        }
    }

    #[must_use]
    pub fn waits(&self) -> Waits {
        Waits { attempt: Duration::from_secs(10), patience: Duration::from_secs(self.patience) }
    }

    /// Gateway and admin listener.
    ///
    /// # Errors
    /// A sentence when an address is none.
    pub fn targets(&self) -> Result<(Target, Target), String> {
        Ok((Target::parse(&self.gateway)?, Target::parse(&self.admin)?))
    }
}

impl RunArgs {
    /// The profile with what flags change of it. A closed loop has no time between reserve and
    /// settle: it asks how much the server can take.
    ///
    /// # Errors
    /// A sentence when there is no such profile or its numbers make no sense.
    pub fn profile(&self) -> Result<Profile, String> {
        let mut profile = Profile::load(&self.profile)?;
        profile.accounts = self.accounts.unwrap_or(profile.accounts);
        profile.connections = self.connections.unwrap_or(profile.connections);
        if let Some(Speed::Times(speed)) = self.speed {
            profile.speed = speed;
        }
        if self.is_closed()? {
            profile.token_ms = 0.0;
        }
        profile.check()?;
        Ok(profile)
    }

    /// # Errors
    /// A sentence when flags contradict each other.
    pub fn pace(&self, profile: &Profile) -> Result<Pace, String> {
        if self.is_closed()? {
            return Ok(Pace::Closed { callers: profile.connections });
        }
        Ok(self.rate.map_or(Pace::Trace { speed: profile.speed }, |per_second| Pace::Rate { per_second }))
    }

    /// How much there is to do, for a trace of so many rows.
    #[must_use]
    pub fn extent(&self, rows: usize) -> Extent {
        let unsaid = if self.duration.is_some() { u64::MAX } else { rows as u64 };
        Extent { calls: self.requests.unwrap_or(unsaid), duration: self.duration.map(Duration::from_secs_f64) }
    }

    fn is_closed(&self) -> Result<bool, String> {
        let by_speed = self.speed == Some(Speed::Max);
        let paced = self.rate.is_some() || matches!(self.speed, Some(Speed::Times(_)));
        match self.mode {
            Some(Mode::Open) if by_speed => Err("--speed max is a closed loop; leave --mode open out".into()),
            Some(Mode::Closed) if paced => Err("a closed loop has no --rate or --speed but max".into()),
            Some(Mode::Open) => Ok(false),
            Some(Mode::Closed) => Ok(true),
            None => Ok(by_speed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> RunArgs {
        let words = ["quotad-loadtest", "run"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => *args,
            Command::RedisCost(_) | Command::Peers(_) => unreachable!("the line begins with run"),
        }
    }

    #[test]
    fn flags_decide_the_pace() {
        let pace = |line| {
            let args = args(line);
            args.pace(&args.profile()?)
        };
        assert_eq!(pace("--profile conv"), Ok(Pace::Trace { speed: 60.0 }));
        assert_eq!(pace("--speed 2.5"), Ok(Pace::Trace { speed: 2.5 }));
        assert_eq!(pace("--rate 500"), Ok(Pace::Rate { per_second: 500.0 }));
        assert_eq!(pace("--speed max --connections 7"), Ok(Pace::Closed { callers: 7 }));
        assert_eq!(pace("--mode closed"), Ok(Pace::Closed { callers: 64 }));
        assert!(pace("--mode open --speed max").is_err());
        assert!(pace("--mode closed --rate 5").is_err());
        assert!(pace("--accounts 0").is_err());
        for bad in ["--speed 0", "--rate -1", "--rate 5 --speed 3", "--duration x", "--spawn-arg x"] {
            let words = ["quotad-loadtest", "run"].into_iter().chain(bad.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_an_end_the_trace_is_played_once() {
        assert_eq!(args("").extent(9), Extent { calls: 9, duration: None });
        assert_eq!(args("--requests 4").extent(9).calls, 4);
        let timed = args("--duration 1.5").extent(9);
        assert_eq!((timed.calls, timed.duration), (u64::MAX, Some(Duration::from_millis(1500))));
    }

    #[test]
    fn the_token_may_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let line = format!("--admin-token-file {}", file.path().display());
        assert_eq!(args(&line).server.admin_token(), Ok("secret".into()));
        assert!(args("--admin-token-file /no/such").server.admin_token().is_err());
    }
}
