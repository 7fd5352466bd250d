//! Servers started for the comparison: each in its own folder, killed when it goes out of scope. All of
//! them are single processes, so that nothing is left over.

use std::{
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

const LISTENS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// One running server.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a program in `folder` and waits until it listens on `port`. What it prints goes to
    /// `<folder>/<name>.log`.
    ///
    /// # Errors
    /// A sentence when it cannot be started, ends, or does not listen in time.
    pub async fn start(program: &str, arguments: &[&str], folder: &Path, port: u16) -> Result<Self, String> {
        let log = folder.join(format!("{program}.log"));
        let output = || std::fs::File::options().create(true).append(true).open(&log).map(Stdio::from);
        let (stdout, stderr) = (output(), output());
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(stdout.map_err(|error| error.to_string())?)
            .stderr(stderr.map_err(|error| error.to_string())?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let until = Instant::now() + LISTENS_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || Instant::now() > until {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{program} does not listen on port {port}: {}", said.trim()));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(Self(child))
    }

    /// Ends it at once, and waits for the end.
    pub async fn stop(mut self) {
        // It may have ended by itself: gone is gone.
        let _ = self.0.kill().await;
    }
}

/// A port that nobody listened on a moment ago.
///
/// # Errors
/// A sentence when there is none.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_ends_or_is_absent_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let ended = Process::start("false", &[], folder.path(), port).await.err().unwrap();
        assert!(ended.contains("does not listen"), "{ended}");
        let absent = Process::start("no-such-server", &[], folder.path(), port).await.err().unwrap();
        assert!(absent.contains("cannot be started"), "{absent}");
    }
}
