//! Watches the server and starts it again when it dies, until it is told to stop.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tracing::{error, warn};

use super::{
    Config, Error, ask,
    launch::{self, OCCUPIED_WAIT, Running, Server},
    place::Place,
};

/// Pause before the second, third … start in a row; the first is at once.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A server that lived this long is not part of a row of failures.
const STABLE_AFTER: Duration = Duration::from_secs(2);
/// A server that has not stopped by then is killed; its append-only file is as good as after a crash.
const STOP_WAIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether the private Redis is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Up { run_id: String, pid: u32 },
    Down,
}

/// The private Redis. Dropping it leaves the server running, for the next sidecar to adopt;
/// [`Embedded::stop`] ends it.
#[derive(Debug)]
pub struct Embedded {
    place: Place,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), Error>>,
}

/// Adopts or starts the server; returns when it answers.
///
/// # Errors
/// [`Error`], each a sentence for the operator.
pub async fn start(config: Config) -> Result<Embedded, Error> {
    let embedded = start_unless(config, std::future::pending::<()>()).await?;
    Ok(embedded.expect("nothing asked to give up"))
}

/// Like [`start`], but gives up when `stop` resolves before the server answers: then the half-started
/// server is stopped too, and the answer is `None`.
///
/// # Errors
/// [`Error`], each a sentence for the operator.
pub async fn start_unless(config: Config, stop: impl Future<Output = ()>) -> Result<Option<Embedded>, Error> {
    let place = Place::prepare(&config.dir, &std::env::temp_dir())?;
    let running = tokio::select! {
        running = launch::bring_up(&config, &place, OCCUPIED_WAIT) => running?,
        () = stop => return shut_down(&place, None).await.map(|()| None),
    };
    let (state_sender, state) = watch::channel(up(&running));
    let (stop, stop_receiver) = watch::channel(false);
    let watching = Supervisor { config, place: place.clone(), state: state_sender, stop: stop_receiver };
    let task = tokio::spawn(watching.run(running));
    Ok(Some(Embedded { place, state, stop, task }))
}

impl Embedded {
    /// Where the server listens: `unix:///…/redis.sock`. The same for as long as this lives.
    #[must_use]
    pub fn url(&self) -> String {
        self.place.url()
    }

    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Stops the server and waits for its end.
    ///
    /// # Errors
    /// [`Error::NotStopped`] when an adopted server does not end.
    pub async fn stop(mut self) -> Result<(), Error> {
        let _ = self.stop.send(true);
        match (&mut self.task).await {
            Ok(result) => result,
            Err(panic) => Err(Error::Place { path: self.place.dir.clone(), reason: panic.to_string() }),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn up(running: &Running) -> State {
    State::Up { run_id: running.identity.run_id.clone(), pid: running.identity.pid }
}

struct Supervisor {
    config: Config,
    place: Place,
    state: watch::Sender<State>,
    stop: watch::Receiver<bool>,
}

impl Supervisor {
    async fn run(mut self, mut running: Running) -> Result<(), Error> {
        let mut backoff = Duration::ZERO;
        loop {
            let since = Instant::now();
            let how = tokio::select! {
                how = running.ended(&self.place.socket) => how,
                () = told(&mut self.stop) => return shut_down(&self.place, Some(running)).await,
            };
            self.state.send_replace(State::Down);
            if since.elapsed() >= STABLE_AFTER {
                backoff = Duration::ZERO;
            }
            warn!(pid = running.identity.pid, %how, "the private redis-server ended; it is started again");
            running = tokio::select! {
                again = restart(&self.config, &self.place, &mut backoff) => again,
                () = told(&mut self.stop) => return shut_down(&self.place, None).await,
            };
            self.state.send_replace(up(&running));
        }
    }
}

/// Resolves when [`Embedded::stop`] asks. A dropped [`Embedded`] asks for nothing.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Tries until a server is up.
async fn restart(config: &Config, place: &Place, backoff: &mut Duration) -> Running {
    loop {
        sleep(*backoff).await;
        *backoff = (*backoff * 2).clamp(BACKOFF_FIRST, BACKOFF_MAX);
        match launch::bring_up(config, place, OCCUPIED_WAIT).await {
            Ok(running) => return running,
            Err(reason) => error!(%reason, again_in = ?*backoff, "the private redis-server cannot be started again"),
        }
    }
}

/// Asks until the server is gone, which a free lock tells. A child of ours that does not go is killed.
async fn shut_down(place: &Place, running: Option<Running>) -> Result<(), Error> {
    let deadline = Instant::now() + STOP_WAIT;
    let mut child = match running.map(|running| running.server) {
        Some(Server::Child(child)) => Some(child),
        Some(Server::Adopted(_)) | None => None,
    };
    loop {
        // It answers by closing the connection, or with an error when it cannot save: then again.
        let _ = ask::command(&place.socket, &["SHUTDOWN"]).await;
        let reaped = child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_))));
        if reaped && launch::try_lock(place)?.is_some() && ask::identity(&place.socket).await.is_none() {
            break;
        }
        if Instant::now() >= deadline {
            let Some(child) = &mut child else {
                return Err(Error::NotStopped { seconds: STOP_WAIT.as_secs(), log: place.log.clone() });
            };
            warn!("the private redis-server did not stop when asked; it is killed");
            let _ = child.kill().await;
            break;
        }
        sleep(LOOK_AGAIN).await;
    }
    if let Some(short) = &place.short_dir {
        // Only tidiness: the next start would use it again.
        let _ = std::fs::remove_file(&place.socket);
        let _ = std::fs::remove_dir(short);
    }
    Ok(())
}
