//! Connections: accepts them up to a cap, serves HTTP/1.1 keep-alive and h2c on each, cuts the slow
//! and the idle, and drains when told to stop. The caller owns the sockets and the signal.

use std::{future::poll_fn, io, pin::pin, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Config, Service,
    guard::{self, Activity, Times, Watched},
    route::{self, Side},
};
use crate::metrics;

/// Admin connections; few, and apart from the gateway's, so that probes get through.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Header fields of a request.
const HEADERS_MAX: usize = 64;
/// After an accept that failed for want of something (file descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The sockets to serve.
#[derive(Debug, Default)]
pub struct Listeners {
    pub gateway: Option<TcpListener>,
    pub gateway_unix: Option<UnixListener>,
    pub admin: Option<TcpListener>,
    /// Runtimes that serve the gateway's connections, in turn; without any, the one that accepts.
    pub threads: Vec<Handle>,
}

/// A listening socket.
trait Accept: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The stream on its way to the runtime that serves it.
    type Bare: Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Bare>> + Send;
    /// To be called where it is served.
    fn arrive(bare: Self::Bare) -> io::Result<Self::Stream>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Bare = std::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Bare> {
        let (stream, _) = TcpListener::accept(self).await?;
        // Answers are one write each: waiting to fill a segment only costs time.
        let _ = stream.set_nodelay(true);
        stream.into_std()
    }

    fn arrive(bare: Self::Bare) -> io::Result<TcpStream> {
        TcpStream::from_std(bare)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    type Bare = std::os::unix::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Bare> {
        UnixListener::accept(self).await?.0.into_std()
    }

    fn arrive(bare: Self::Bare) -> io::Result<UnixStream> {
        UnixStream::from_std(bare)
    }
}

/// Serves until `shutdown` resolves, then drains: no new connections, open requests are answered
/// (with `Connection: close`), and what is left at the deadline is cut.
pub async fn run(listeners: Listeners, service: Arc<Service>, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(false);
    let gateway_gate = Arc::new(Semaphore::new(service.config.connections_max));
    let admin_gate = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let here = vec![Handle::current()];
    let threads = if listeners.threads.is_empty() { here.clone() } else { listeners.threads };
    let gateway = Room { side: Side::Gateway, threads, gate: gateway_gate, service: service.clone(), stop: stopped };
    let admin = Room { side: Side::Admin, threads: here, gate: admin_gate, ..gateway.clone() };
    let mut tasks = JoinSet::new();
    if let Some(listener) = listeners.gateway_unix {
        tasks.spawn(listen(listener, gateway.clone()));
    }
    if let Some(listener) = listeners.gateway {
        tasks.spawn(listen(listener, gateway));
    }
    if let Some(listener) = listeners.admin {
        tasks.spawn(listen(listener, admin));
    }
    shutdown.await;
    service.health.set_draining();
    let _ = stop.send(true);
    while tasks.join_next().await.is_some() {}
}

/// Where a listener's connections are served, and how many at once.
#[derive(Clone)]
struct Room {
    side: Side,
    threads: Vec<Handle>,
    gate: Arc<Semaphore>,
    service: Arc<Service>,
    stop: watch::Receiver<bool>,
}

async fn listen<L: Accept>(listener: L, room: Room) {
    let Room { side, threads, gate, service, mut stop } = room;
    let mut connections = JoinSet::new();
    let mut turns = threads.iter().cycle();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.changed() => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, listener = side.as_str(), "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // At the cap this one waits, the next ones in the kernel's backlog. The permit is taken after
        // the accept: listeners share a gate, and a quiet one must not sit on a permit.
        let permit = tokio::select! {
            permit = admitted(&gate, side) => permit,
            _ = stop.changed() => break,
        };
        let (service, stop) = (service.clone(), stop.clone());
        let served = async move {
            match L::arrive(stream) {
                Ok(stream) => connection(stream, side, service, permit, stop).await,
                Err(error) => tracing::warn!(%error, listener = side.as_str(), "a connection got lost"),
            }
        };
        match turns.next() {
            Some(thread) => connections.spawn_on(served, thread),
            None => connections.spawn(served),
        };
    }
    drop(listener);
    let deadline = Instant::now() + service.config.drain_deadline;
    while let Ok(Some(_)) = timeout_at(deadline, connections.join_next()).await {}
    for _ in 0..connections.len() {
        metrics::connection_cut("drain");
    }
    connections.shutdown().await;
}

/// A place under the cap on connections.
async fn admitted(gate: &Arc<Semaphore>, side: Side) -> OwnedSemaphorePermit {
    if let Ok(permit) = gate.clone().try_acquire_owned() {
        return permit;
    }
    metrics::accept_paused(side.as_str());
    // The semaphore is never closed.
    gate.clone().acquire_owned().await.expect("the gate is open")
}

fn builder(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The guard does it, with one clock for heads and another for idleness.
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        // hyper takes no less than 8 KiB. `pipeline_flush` stays off: it swallows the 400 and 431 of
        // heads that cannot be read.
        .max_buf_size(config.header_bytes_max.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX);
    builder
}

async fn connection<S>(
    socket: S,
    side: Side,
    service: Arc<Service>,
    permit: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let counted = metrics::connection(side.as_str());
    let activity = Activity::new();
    let times = Times { head: service.config.header_timeout, idle: service.config.idle_timeout };
    let builder = builder(&service.config);
    let handler = service_fn(|request| {
        let (service, busy) = (service.clone(), activity.request());
        async move {
            let response = route::serve(&service, side, request).await;
            drop(busy);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let socket = TokioIo::new(Watched::new(socket, activity.clone()));
    let mut connection = pin!(builder.serve_connection(socket, handler));
    let mut clock = pin!(sleep(times.head));
    let mut stopping = *stop.borrow();
    if stopping {
        connection.as_mut().graceful_shutdown();
    }
    let ended = loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| guard::poll(connection.as_mut(), clock.as_mut(), &activity, &times, cx)) => break ended,
            _ = stop.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    match ended {
        Err(reason) => metrics::connection_cut(reason),
        // What a peer does to its own connection (reset, garbage) is not ours to warn about.
        Ok(Err(error)) => tracing::debug!(error, "a connection ended early"),
        Ok(Ok(())) => {}
    }
    drop((counted, permit));
}
