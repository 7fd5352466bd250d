//! The threads that serve gateways. Each has a runtime of its own, with the connections that were given
//! to it and one to Redis: a request, its call and the answer meet on one thread, nobody is woken on
//! another, and what came in at once goes to Redis in one write.

use std::{io, thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// How long what runs on a thread may take to let go when it ends.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// More serve no more: one Redis is busy with the calls of a few of them.
const DEFAULT_MAX: usize = 4;

/// Ends its threads when it is dropped.
#[derive(Debug)]
pub(super) struct Threads {
    handles: Vec<Handle>,
    running: Vec<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Threads {
    /// As many as told; without a number, half of the cores: Redis and the gateway need the others.
    pub(super) fn start(count: Option<usize>) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = count.unwrap_or((cores / 2).clamp(1, DEFAULT_MAX));
        let mut threads = Self { handles: Vec::with_capacity(count), running: Vec::with_capacity(count) };
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            threads.handles.push(runtime.handle().clone());
            let (stop, stopped) = oneshot::channel::<()>();
            let serve = move || {
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(STOP_WITHIN);
            };
            threads.running.push((stop, thread::Builder::new().name(format!("gateway-{number}")).spawn(serve)?));
        }
        Ok(threads)
    }

    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for (stop, thread) in self.running.drain(..) {
            drop(stop);
            let _ = thread.join();
        }
    }
}
