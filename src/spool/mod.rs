//! The spool: operations that were answered while Redis was away, on this machine's disk until Redis
//! knows them. Files of checksummed lines in `<data>/spool`, written by one thread, which syncs once
//! for all that wait at the same time.
//!
//! Nothing is ever appended to a file of an earlier process, so that a line torn by a crash is the
//! last of its file, where it is recognised and cut. A file goes when all of its lines are done; until
//! then a crash shows all of them again, which the replay does not mind.

mod line;
mod segment;
mod writer;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::engine::ports::{Spool, SpoolError};
use writer::{Order, Writer};

/// Calls that wait for the writer at once; more wait their turn to wait.
const QUEUE: usize = 1024;

/// The room's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Made when there is something to keep.
    pub folder: PathBuf,
    /// Bytes of all files that still have something to be done; more is refused.
    pub bytes_max: u64,
}

/// The spool's files. One per data directory: the lock on it keeps others away.
pub struct Files {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    orders: Option<mpsc::Sender<Order>>,
    writer: Option<JoinHandle<()>>,
}

/// The writer ends with what it was told so far.
impl Drop for Files {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// What waits, by ticket; tickets grow.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Waiting>,
    /// Lines of each file that are not done, and its length.
    segments: BTreeMap<u64, Segment>,
    next_ticket: u64,
}

#[derive(Clone)]
struct Waiting {
    segment: u64,
    record: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Segment {
    left: usize,
    bytes: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, segment: u64, record: &[u8], bytes: u64) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket, Waiting { segment, record: record.into() });
        let segment = self.segments.entry(segment).or_default();
        segment.left += 1;
        segment.bytes += bytes;
    }

    /// The file that has nothing left to do because of this.
    fn take(&mut self, ticket: u64) -> Option<u64> {
        let waiting = self.waiting.remove(&ticket)?;
        let segment = self.segments.get_mut(&waiting.segment)?;
        segment.left -= 1;
        (segment.left == 0).then_some(waiting.segment)
    }

    fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }
}

/// Reads what an earlier process left, and starts the writer, which ends with the last [`Files`].
///
/// # Errors
/// When the folder is there and cannot be read, or no thread can be had.
pub fn open(config: Config) -> std::io::Result<Arc<Files>> {
    let shared = Arc::new(Shared::default());
    let next = segment::read_all(&config.folder, &mut shared.state())?;
    let left = shared.state().waiting.len();
    if left > 0 {
        tracing::warn!(left, "operations answered without Redis wait in the spool: they are replayed");
    }
    let (orders, queue) = mpsc::channel(QUEUE);
    let writer = Writer::new(config, shared.clone(), next);
    let writer = std::thread::Builder::new().name("spool".into()).spawn(move || writer.run(queue))?;
    Ok(Arc::new(Files { shared, orders: Some(orders), writer: Some(writer) }))
}

impl Files {
    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), SpoolError>>) -> Order,
    ) -> Result<(), SpoolError> {
        let gone = || SpoolError::Io("its writer has ended".into());
        let (done, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        orders.send(order(done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Spool for Files {
    async fn append(&self, record: Vec<u8>) -> Result<(), SpoolError> {
        self.order(|done| Order::Append { record, done }).await
    }

    fn waiting(&self) -> Vec<(u64, Arc<[u8]>)> {
        let state = self.shared.state();
        state.waiting.iter().map(|(ticket, waiting)| (*ticket, waiting.record.clone())).collect()
    }

    async fn done(&self, ticket: u64) {
        let ended = self.shared.state().take(ticket);
        if let (Some(segment), Some(orders)) = (ended, &self.orders) {
            // Without a writer nothing is removed, and the next process replays it.
            let _ = orders.send(Order::Remove { segment }).await;
        }
    }

    async fn refuse(&self, ticket: u64, reason: &str) -> Result<(), SpoolError> {
        let record = self.shared.state().waiting.get(&ticket).map(|waiting| waiting.record.clone());
        let Some(record) = record else { return Ok(()) };
        let reason = reason.to_owned();
        self.order(|done| Order::Refuse { record, reason, done }).await?;
        self.done(ticket).await;
        Ok(())
    }

    fn entries(&self) -> usize {
        self.shared.state().waiting.len()
    }
}

#[cfg(test)]
mod tests;
