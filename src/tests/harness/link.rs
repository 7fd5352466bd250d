//! A TCP link that can be cut, held, made deaf, or pointed elsewhere: between a sidecar and its Redis or
//! its SQL server, and between a Redis and its replica. Knows bytes, no protocol.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flow {
    Pass,
    /// Connections are cut, new ones closed at once.
    Cut,
    /// Bytes wait on their way until this changes.
    Hold,
    /// Bytes vanish, both ways; connections stay.
    Lose,
}

/// Where a link leads.
#[derive(Clone, Debug)]
pub enum Target {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

struct Shared {
    flow: AtomicU8,
    target: Mutex<Target>,
    open: Mutex<Vec<Socket>>,
    /// When a client sends these bytes, the answer to them is swallowed and the connection cut; once.
    swallow: Mutex<Option<Vec<u8>>>,
    swallowed: AtomicU32,
}

/// Listens on a port of its own. Its threads end with the test's process.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Link {
    pub fn to(target: Target) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            flow: AtomicU8::new(Flow::Pass as u8),
            target: Mutex::new(target),
            open: Mutex::default(),
            swallow: Mutex::default(),
            swallowed: AtomicU32::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.is(Flow::Cut) {
                    let _ = client.shutdown(Shutdown::Both);
                    continue;
                }
                let Ok(server) = Socket::connect(&lock(&accepting.target)) else { continue };
                let _ = client.set_nodelay(true);
                join(Socket::Tcp(client), server, &accepting);
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, flow: Flow) {
        self.shared.flow.store(flow as u8, Ordering::SeqCst);
        if flow == Flow::Cut {
            self.cut();
        }
    }

    /// Cuts every open connection; new ones are as the flow says.
    pub fn cut(&self) {
        for socket in lock(&self.shared.open).drain(..) {
            socket.end();
        }
    }

    /// From now on it leads elsewhere; open connections are cut.
    pub fn lead_to(&self, target: Target) {
        *lock(&self.shared.target) = target;
        self.cut();
    }

    /// The next request that holds these bytes is done, and its answer never arrives.
    pub fn swallow_answer_to(&self, bytes: &[u8]) {
        *lock(&self.shared.swallow) = Some(bytes.to_vec());
    }

    /// How many answers were swallowed.
    pub fn swallowed(&self) -> u32 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn is(&self, flow: Flow) -> bool {
        self.flow.load(Ordering::SeqCst) == flow as u8
    }
}

/// Either kind, with what both can do.
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    fn connect(target: &Target) -> std::io::Result<Self> {
        Ok(match target {
            Target::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
        })
    }

    fn twin(&self) -> std::io::Result<Self> {
        Ok(match self {
            Socket::Unix(stream) => Socket::Unix(stream.try_clone()?),
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone()?),
        })
    }

    fn end(&self) {
        let _ = match self {
            Socket::Unix(stream) => stream.shutdown(Shutdown::Both),
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.read(buffer),
            Socket::Tcp(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Socket::Unix(stream) => stream.write_all(bytes),
            Socket::Tcp(stream) => stream.write_all(bytes),
        }
    }
}

fn join(client: Socket, server: Socket, shared: &Arc<Shared>) {
    let twins = || Some((client.twin().ok()?, client.twin().ok()?, server.twin().ok()?));
    let Some((kept, answers_to, requests_to)) = twins() else { return };
    lock(&shared.open).push(kept);
    let deaf = Arc::new(AtomicU8::new(0));
    let (requests, requests_deaf) = (Arc::clone(shared), Arc::clone(&deaf));
    std::thread::spawn(move || {
        copy(client, requests_to, &requests, |bytes| {
            let mut swallow = lock(&requests.swallow);
            if swallow.as_ref().is_some_and(|wanted| bytes.windows(wanted.len()).any(|window| window == *wanted)) {
                *swallow = None;
                requests_deaf.store(1, Ordering::SeqCst);
            }
            true
        });
    });
    let answers = Arc::clone(shared);
    std::thread::spawn(move || {
        copy(server, answers_to, &answers, |_| {
            let swallowed = deaf.load(Ordering::SeqCst) == 1;
            answers.swallowed.fetch_add(u32::from(swallowed), Ordering::SeqCst);
            !swallowed
        });
    });
}

/// Until one side ends, or `may_pass` says no; then both sides end.
fn copy(mut from: Socket, mut to: Socket, shared: &Shared, may_pass: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || !may_pass(&buffer[..length]) {
            break;
        }
        while shared.is(Flow::Hold) {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !shared.is(Flow::Lose) && to.write(&buffer[..length]).is_err() {
            break;
        }
    }
    from.end();
    to.end();
}
