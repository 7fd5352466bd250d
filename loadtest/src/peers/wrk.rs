//! wrk, run as a process; its figures read from what it prints.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

/// The second before each measurement that does not count.
const WARM_UP_SECONDS: u64 = 1;
/// More answers than one in so many that are not 2xx make a measurement void.
const FAILED_ONE_IN: u64 = 1000;

/// A script of `loadtest/peers/`, and what it finds in its environment.
#[derive(Clone, Debug)]
pub struct Script {
    pub name: &'static str,
    pub text: &'static str,
    pub environment: Vec<(&'static str, String)>,
}

impl Script {
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.environment.push((name, value.to_string()));
        self
    }
}

/// What one run of wrk says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shot {
    pub requests: u64,
    pub per_second: f64,
    /// Answers that were not 2xx or 3xx, and broken or silent connections.
    pub failed: u64,
    /// Requests of the warm-up.
    pub warmed_up: u64,
}

/// How far before the first id of a script those of its warm-up begin.
pub const WARM_UP_IDS: u64 = 500_000;

impl Shot {
    /// Good answers per second.
    ///
    /// # Errors
    /// A sentence when too many failed for the figure to mean anything.
    pub fn good(self) -> Result<f64, String> {
        if self.requests == 0 || self.failed > self.requests / FAILED_ONE_IN {
            return Err(format!("{} of {} requests failed", self.failed, self.requests));
        }
        Ok(self.per_second * (1.0 - self.failed as f64 / self.requests as f64))
    }

    fn read(output: &str) -> Option<Self> {
        let after = |mark: &str| output.lines().find_map(|line| line.trim().strip_prefix(mark));
        let counts = |text: &str| -> u64 {
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum()
        };
        let requests = output.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
        Some(Self {
            requests,
            per_second: after("Requests/sec:")?.trim().parse().ok()?,
            failed: after("Non-2xx or 3xx responses:").map_or(0, counts) + after("Socket errors:").map_or(0, counts),
            warmed_up: 0,
        })
    }
}

/// One thread, so many connections.
#[derive(Clone, Copy, Debug)]
pub struct Wrk<'a> {
    pub folder: &'a Path,
    pub connections: u32,
    pub seconds: u64,
}

impl Wrk<'_> {
    /// Warms up, then measures. Ids of `script` begin at its `FIRST`, those of the warm-up [`WARM_UP_IDS`] before.
    ///
    /// # Errors
    /// A sentence when wrk cannot be run or says something else than expected.
    pub async fn measure(self, url: &str, script: &Script) -> Result<Shot, String> {
        let mut warm_up = script.clone();
        for (_, first) in warm_up.environment.iter_mut().filter(|(name, _)| *name == "FIRST") {
            *first = first.parse::<u64>().map_or_else(|_| first.clone(), |first| (first - WARM_UP_IDS).to_string());
        }
        let warmed_up = Wrk { seconds: WARM_UP_SECONDS, ..self }.run(url, &warm_up).await?.requests;
        Ok(Shot { warmed_up, ..self.run(url, script).await? })
    }

    async fn run(self, url: &str, script: &Script) -> Result<Shot, String> {
        let path = self.folder.join(script.name);
        std::fs::write(&path, script.text).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        let output = Command::new("wrk")
            .args([
                "-t1",
                "--timeout",
                "10s",
                &format!("-c{}", self.connections),
                &format!("-d{}s", self.seconds),
                "-s",
            ])
            .arg(&path)
            .arg(url)
            .envs(script.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| format!("wrk cannot be run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let shot = Shot::read(&text).filter(|_| output.status.success());
        shot.ok_or_else(|| {
            format!("wrk ended with {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "Running 1s test @ http://127.0.0.1:8787
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.10ms    1.73ms  38.74ms   97.49%
    Req/Sec    71.20k     4.11k   75.00k    80.00%
  78431 requests in 1.10s, 30.20MB read
";

    #[test]
    fn what_wrk_prints_is_read() {
        let rate = "Requests/sec:  71204.51\nTransfer/sec:     27.41MB\n";
        let shot = Shot::read(&format!("{FINE}{rate}")).unwrap();
        assert_eq!(shot, Shot { requests: 78_431, per_second: 71_204.51, ..Shot::default() });
        let errors = "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 20\n";
        let shot = Shot::read(&format!("{FINE}{errors}{rate}")).unwrap();
        assert_eq!(shot.failed, 27);
        assert!((shot.good().unwrap() - 71_180.0).abs() < 1.0);
        assert_eq!(Shot::read("unable to connect to 127.0.0.1:1 Connection refused"), None);
    }

    #[test]
    fn a_run_that_failed_has_no_figure() {
        assert!(Shot { requests: 1000, per_second: 10.0, failed: 2, warmed_up: 0 }.good().is_err());
        assert!(Shot::default().good().is_err());
    }
}
