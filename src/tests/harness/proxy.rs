//! A breakable proxy in front of a Redis: on a Unix socket for a sidecar, on TCP for a replica, which
//! knows nothing else. Its place is its owner's alone, so that nobody who still dials a proxy of another
//! test comes out here.
#![allow(dead_code, reason = "each test uses another part of it")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::JoinHandle,
};

use super::{
    loopback::Loopback,
    socket::{Listener, Socket, Target},
};

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    Pass,
    /// Connections are cut, new ones closed at once.
    Stop,
    /// Requests pass, answers are swallowed: the work is done and nobody hears of it.
    SwallowAnswers,
}

struct Shared {
    mode: AtomicU8,
    /// Where new connections go.
    upstream: Mutex<PathBuf>,
    /// No more connections: the proxy was dropped.
    ended: AtomicBool,
    /// Client sides of the open connections.
    open: Mutex<Vec<Socket>>,
}

/// Passes to a Unix socket. It listens until it is dropped: drop it after those that dial it have ended.
pub struct Proxy {
    place: Target,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// On a socket in a folder that outlives it.
    pub fn in_folder(folder: &Path, upstream: PathBuf) -> Self {
        let place = folder.join("proxy.sock");
        let listener = UnixListener::bind(&place).expect("a place for a socket");
        Self::run(Listener::Unix(listener), Target::Unix(place), upstream)
    }

    /// On a port.
    pub fn on(loopback: &Loopback, upstream: PathBuf) -> Self {
        let listener = TcpListener::bind(loopback.any_port()).expect("a free port");
        let place = Target::Tcp(listener.local_addr().expect("a bound port"));
        Self::run(Listener::Tcp(listener), place, upstream)
    }

    fn run(listener: Listener, place: Target, upstream: PathBuf) -> Self {
        let shared = Arc::new(Shared {
            mode: AtomicU8::new(Mode::Pass as u8),
            upstream: Mutex::new(upstream),
            ended: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
        });
        let served = Arc::clone(&shared);
        let accepting = Some(std::thread::spawn(move || serve(&listener, &served)));
        Self { place, shared, accepting }
    }

    /// Where it listens, if that is a port.
    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Target::Tcp(address) => *address,
            Target::Unix(path) => panic!("{} is no port", path.display()),
        }
    }

    /// Address for `--redis-url`.
    pub fn url(&self) -> String {
        match &self.place {
            Target::Tcp(address) => format!("redis://{address}"),
            Target::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Ordering::SeqCst);
        if mode == Mode::Stop {
            self.cut();
        }
    }

    /// From now on to another server; the connections to the former are cut.
    pub fn lead_to(&self, upstream: PathBuf) {
        *self.shared.upstream.lock().expect("no thread panics with it") = upstream;
        self.cut();
    }

    /// Cuts every open connection; new ones are as the mode says.
    pub fn cut(&self) {
        for socket in self.shared.open.lock().expect("no thread panics with it").drain(..) {
            socket.end();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // The listener notices with its next connection.
        if Socket::connect(&self.place).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn upstream(&self) -> Target {
        Target::Unix(self.upstream.lock().expect("no thread panics with it").clone())
    }

    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::SeqCst) == mode as u8
    }
}

fn serve(listener: &Listener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = accepted else { continue };
        if shared.is(Mode::Stop) {
            client.end();
            continue;
        }
        let Ok(server) = Socket::connect(&shared.upstream()) else { continue };
        connect(client, server, shared);
    }
}

fn connect(client: Socket, server: Socket, shared: &Arc<Shared>) {
    let twins = || Some((client.twin().ok()?, client.twin().ok()?, server.twin().ok()?));
    let Some((kept, answers_to, requests_to)) = twins() else { return };
    shared.open.lock().expect("no thread panics with it").push(kept);
    std::thread::spawn(move || copy(client, requests_to, || true));
    let shared = Arc::clone(shared);
    std::thread::spawn(move || copy(server, answers_to, || !shared.is(Mode::SwallowAnswers)));
}

/// Until one side ends; then the other one must end too, else a cut connection would linger at the server.
fn copy(mut from: Socket, mut to: Socket, passes: impl Fn() -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || (passes() && to.write_all(&buffer[..length]).is_err()) {
            break;
        }
    }
    to.end();
}
