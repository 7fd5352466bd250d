//! An address of this machine for one owner alone. Ports of `127.0.0.1` change hands: what listened there is killed, the
//! system gives its port to somebody else, and who still dials it (a process of another test, perhaps one that
//! outlived a test that was cut off) reaches a stranger. All of `127.0.0.0/8` is this machine, so each owner
//! gets an address that nobody else listens on.
#![allow(dead_code, reason = "each test uses another part of it")]

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Who listens here has the address. Not among the ports that the system hands out.
const CLAIM_PORT: u16 = 20_011;
/// 127.64.0.0 to 127.127.255.255: four million, so that none comes twice for a long time.
const FIRST: u32 = 0x7f40_0000;
const COUNT: u32 = 1 << 22;
/// So many addresses in a row are never taken.
const ATTEMPTS: u32 = 1000;

/// Each process begins somewhere else.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(RandomState::new().hash_one(0_u8) as u32));

/// A claimed address; free again when dropped, which must come after the end of all that use it.
pub struct Loopback {
    ip: Ipv4Addr,
    _claim: TcpListener,
}

impl Loopback {
    pub fn claim() -> Self {
        for _ in 0..ATTEMPTS {
            let ip = Ipv4Addr::from_bits(FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
            if let Ok(claim) = TcpListener::bind((ip, CLAIM_PORT)) {
                return Self { ip, _claim: claim };
            }
        }
        panic!("no address of 127.64.0.0/10 can be had");
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Somewhere on it.
    pub fn any_port(&self) -> SocketAddr {
        (self.ip, 0).into()
    }

    /// A port that is free, and stays free until somebody of its owner's takes it.
    pub fn free_port(&self) -> u16 {
        let listener = TcpListener::bind(self.any_port()).expect("a free port");
        listener.local_addr().expect("its address").port()
    }
}
