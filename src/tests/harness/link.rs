//! A TCP link that can be cut, held, made deaf, or pointed elsewhere: between a sidecar and its Redis or
//! its SQL server, and between a Redis and its replica. Knows bytes, no protocol.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    loopback::Loopback,
    socket::{Listener, Socket},
};

pub use super::socket::Target;

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

struct Shared {
    flow: AtomicU8,
    target: Mutex<Target>,
    open: Mutex<Vec<Socket>>,
    /// When a client sends these bytes, the answer to them is swallowed and the connection cut; once.
    swallow: Mutex<Option<Vec<u8>>>,
    swallowed: AtomicU32,
}

/// Listens on an address of its own. Its threads end with the test's process.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    _loopback: Loopback,
}

impl Link {
    pub fn to(target: Target) -> Self {
        let loopback = Loopback::claim();
        let listener = TcpListener::bind(loopback.any_port()).expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            flow: AtomicU8::new(Flow::Pass as u8),
            target: Mutex::new(target),
            open: Mutex::default(),
            swallow: Mutex::default(),
            swallowed: AtomicU32::new(0),
        });
        let accepting = Arc::clone(&shared);
        let listener = Listener::Tcp(listener);
        std::thread::spawn(move || {
            loop {
                let Ok(client) = listener.accept() else { continue };
                if accepting.is(Flow::Cut) {
                    client.end();
                    continue;
                }
                let Ok(server) = Socket::connect(&lock(&accepting.target)) else { continue };
                join(client, server, &accepting);
            }
        });
        Self { address, shared, _loopback: loopback }
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
        if !shared.is(Flow::Lose) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    from.end();
    to.end();
}
