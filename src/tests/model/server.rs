//! A redis-server of the test's own on a Unix socket, and the one place that knows how the real
//! counters are built.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use quotad::engine::ports::{Counters, Position, ShardMeta, Stream};

/// Few, so that accounts share them.
const SHARDS: u16 = 5;
/// The generation that the test opens every shard with.
pub const GENERATION: u32 = 1;

pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server that keeps nothing on disk and waits until it accepts connections.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the socket");
        let socket = folder.path().join("redis.sock");
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"])
            .args(["--unixsocket".as_ref(), socket.as_os_str()])
            .args(["--dir".as_ref(), folder.path().as_os_str()])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(child.try_wait().expect("a child can be asked").is_none(), "redis-server ended at once");
            assert!(begun.elapsed() < Duration::from_secs(10), "redis-server does not accept connections");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }
}

impl Server {
    /// A plain blocking connection.
    pub fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(format!("unix://{}", self.socket().display())).expect("a client");
        client.get_connection().expect("a connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real implementation: its counters, and the stream that they write.
#[derive(Clone)]
pub struct Real {
    pub counters: Arc<dyn Counters>,
    pub stream: Arc<dyn Stream>,
}

/// Connects to a new server and opens all its shards.
pub async fn real(socket: &Path) -> Real {
    let (counters, stream) = connect(socket).await;
    for shard in 0..counters.shards() {
        let meta = ShardMeta {
            top: Position { generation: GENERATION, seq: 0 },
            digest: [b'0'; 40],
            open: true,
            now: quotad::quota::clock::Millis(0),
        };
        assert!(stream.set_meta(shard, None, &meta).await.expect("the shard is written"), "the shard is new");
        stream.serve(shard, GENERATION, counters.era());
    }
    Real { counters, stream }
}

/// Connects to a server whose shards are there.
pub async fn attach(socket: &Path) -> Real {
    let (counters, stream) = connect(socket).await;
    Real { counters, stream }
}

async fn connect(socket: &Path) -> (Arc<dyn Counters>, Arc<dyn Stream>) {
    let config = quotad::redis::Config {
        url: format!("unix://{}", socket.display()),
        shards: SHARDS,
        // The test is about what is decided; a busy machine may take its time.
        call_timeout: Duration::from_secs(20),
        ..quotad::redis::Config::default()
    };
    let redis = quotad::redis::build(&config).await.expect("the room is built");
    (redis.clone(), redis)
}
