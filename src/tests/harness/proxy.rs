//! A breakable TCP proxy between a sidecar and its Redis.
#![allow(dead_code, reason = "each test uses another part of it")]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
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
    open: Mutex<Vec<TcpStream>>,
}

/// Listens on a port of its own and passes to a Unix socket.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn start(upstream: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            mode: AtomicU8::new(Mode::Pass as u8),
            upstream: Mutex::new(upstream),
            ended: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                if shared.is(Mode::Stop) {
                    let _ = client.shutdown(Shutdown::Both);
                    continue;
                }
                let Ok(server) = UnixStream::connect(shared.upstream()) else { continue };
                connect(client, server, &shared);
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address for `--redis-url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
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
        for stream in self.shared.open.lock().expect("no thread panics with it").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // The listener notices with its next connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn upstream(&self) -> PathBuf {
        self.upstream.lock().expect("no thread panics with it").clone()
    }

    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::SeqCst) == mode as u8
    }
}

fn connect(client: TcpStream, server: UnixStream, shared: &Arc<Shared>) {
    let clone = || Some((client.try_clone().ok()?, client.try_clone().ok()?, server.try_clone().ok()?));
    let Some((kept, answers_to, requests_to)) = clone() else { return };
    shared.open.lock().expect("no thread panics with it").push(kept);
    std::thread::spawn(move || {
        let end = requests_to.try_clone();
        copy(client, requests_to, || true);
        // The other direction must end too, else a cut connection would linger at the server.
        if let Ok(end) = end {
            let _ = end.shutdown(Shutdown::Both);
        }
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let end = answers_to.try_clone();
        copy(server, answers_to, || !shared.is(Mode::SwallowAnswers));
        if let Ok(end) = end {
            let _ = end.shutdown(Shutdown::Both);
        }
    });
}

fn copy(mut from: impl Read, mut to: impl Write, passes: impl Fn() -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || (passes() && to.write_all(&buffer[..length]).is_err()) {
            return;
        }
    }
}
