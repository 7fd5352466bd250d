//! A server of our own: started on free ports and an empty data directory, stopped with SIGTERM.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::client::{Client, Target, Waits};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running server and its files; the files go when this goes.
pub struct Server {
    child: Mutex<Child>,
    program: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
    folder: TempDir,
    pub gateway: Target,
    pub admin: Target,
    pub admin_token: String,
}

impl Server {
    /// Starts `quotad serve` and waits until it is ready.
    ///
    /// # Errors
    /// A sentence when it cannot be started, ends, or is not ready in time.
    pub async fn start(program: &Path, more: &[String]) -> Result<Self, String> {
        Self::start_with(program, more, Vec::new()).await
    }

    /// The same with settings that have no flag, as environment variables.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(
        program: &Path,
        more: &[String],
        mut settings: Vec<(String, String)>,
    ) -> Result<Self, String> {
        let folder = TempDir::with_prefix("quotad-loadtest-").map_err(|error| format!("no data directory: {error}"))?;
        // Both ports are taken at the same time, so that they differ; a moment later the server has them.
        let ports = [free_port()?, free_port()?];
        let addresses = ports.each_ref().map(|listener| listener.local_addr().map(|address| address.to_string()));
        drop(ports);
        let [gateway, admin] = addresses;
        let gateway = gateway.map_err(|error| error.to_string())?;
        let admin = admin.map_err(|error| error.to_string())?;
        let admin_token = format!("load-{:032x}", rand::random::<u128>());
        let mut arguments: Vec<String> =
            ["serve", "--gateway-listen", &gateway, "--admin-listen", &admin].map(str::to_owned).into();
        arguments.extend_from_slice(more);
        settings.push(("QUOTAD_ADMIN_TOKEN".to_owned(), admin_token.clone()));
        let child = spawn(program, &arguments, folder.path(), &settings)?;
        let server = Self {
            child: Mutex::new(child),
            program: program.to_owned(),
            arguments,
            settings,
            folder,
            gateway: Target::Tcp(gateway),
            admin: Target::Tcp(admin),
            admin_token,
        };
        server.wait_ready().await?;
        Ok(server)
    }

    /// SIGKILL, and a new process on the same files and ports; it is not waited for.
    ///
    /// # Errors
    /// A sentence when it cannot be started again.
    pub async fn kill_and_start(&self) -> Result<(), String> {
        let mut child = self.child.lock().await;
        child.kill().await.map_err(|error| format!("the server cannot be killed: {error}"))?;
        *child = spawn(&self.program, &self.arguments, self.folder.path(), &self.settings)?;
        Ok(())
    }

    /// The process, while it runs.
    pub async fn process_id(&self) -> Option<u32> {
        self.child.lock().await.id()
    }

    /// SIGKILL, and the end is waited for.
    ///
    /// # Errors
    /// A sentence when it cannot be killed.
    pub async fn kill(self) -> Result<(), String> {
        self.child.into_inner().kill().await.map_err(|error| format!("the server cannot be killed: {error}"))
    }

    async fn wait_ready(&self) -> Result<(), String> {
        let until = Instant::now() + READY_WITHIN;
        let waits = Waits { attempt: Duration::from_secs(2), patience: Duration::ZERO };
        let client = Client::new(self.gateway.clone(), None, 1, waits);
        loop {
            if let Some(status) = self.child.lock().await.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("the server ended while starting, with {status}"));
            }
            let last = match client.call(Method::GET, "/readyz", None).await {
                Ok(reply) if reply.status == 200 => return Ok(()),
                Ok(reply) => format!("{} {}", reply.status, reply.text()),
                Err(doubt) => doubt.0,
            };
            if Instant::now() > until {
                return Err(format!("the server was not ready within {READY_WITHIN:?}: {last}"));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The database file that the server made; `None` when it was given another database.
    #[must_use]
    pub fn database(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("quotad.db")).filter(|path| path.exists())
    }

    /// The socket of the private Redis that the server started.
    #[must_use]
    pub fn redis(&self) -> PathBuf {
        self.folder.path().join("redis").join("redis.sock")
    }

    /// Stops the server and waits for its end.
    ///
    /// # Errors
    /// A sentence when it does not end in time, or not well.
    pub async fn stop(self) -> Result<(), String> {
        let mut child = self.child.into_inner();
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or("the server ended before it was told to")?;
        kill_process(pid, Signal::TERM).map_err(|error| format!("the server cannot be told to stop: {error}"))?;
        match timeout(STOP_WITHIN, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the server stopped with {status}")),
            Ok(Err(error)) => Err(format!("the server's end cannot be seen: {error}")),
            Err(_) => Err(format!("the server did not stop within {STOP_WITHIN:?}")),
        }
    }
}

fn spawn(program: &Path, arguments: &[String], data: &Path, settings: &[(String, String)]) -> Result<Child, String> {
    Command::new(program)
        .args(arguments)
        .arg("--data")
        .arg(data)
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        // Its addresses; standard output is for results.
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", program.display()))
}

fn free_port() -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("no free port: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_ends_is_reported() {
        let ended = Server::start(Path::new("/bin/false"), &[]).await.err().unwrap();
        assert!(ended.contains("ended while starting"), "{ended}");
        let absent = Server::start(Path::new("/no/such/quotad"), &[]).await.err().unwrap();
        assert!(absent.contains("cannot be started"), "{absent}");
    }
}
