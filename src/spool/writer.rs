//! The one thread that writes: it takes all that waits, writes it at once and syncs once (group
//! commit), and only then answers anybody.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Error, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};

use super::{Config, Shared, line, segment};
use crate::engine::ports::SpoolError;

/// A file that has grown beyond this is followed by a new one, so that files can go one by one.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Orders taken up at once.
const GROUP: usize = 256;

type Told = oneshot::Sender<Result<(), SpoolError>>;

pub(super) enum Order {
    Append {
        record: Vec<u8>,
        done: Told,
    },
    Refuse {
        record: Arc<[u8]>,
        reason: String,
        done: Told,
    },
    /// Nothing in the file is left to do.
    Remove {
        segment: u64,
    },
}

pub(super) struct Writer {
    config: Config,
    shared: Arc<Shared>,
    active: Option<Active>,
    next: u64,
}

struct Active {
    number: u64,
    file: File,
    bytes: u64,
}

impl Writer {
    pub(super) fn new(config: Config, shared: Arc<Shared>, next: u64) -> Self {
        Self { config, shared, active: None, next }
    }

    /// Until nobody can give orders any more.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Order>) {
        let mut orders = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut orders, GROUP) > 0 {
            let mut group: Vec<(Vec<u8>, Told)> = Vec::new();
            for order in orders.drain(..) {
                match order {
                    Order::Append { record, done } => group.push((record, done)),
                    Order::Refuse { record, reason, done } => {
                        let _ = done.send(self.refuse(&record, &reason).map_err(failed));
                    }
                    Order::Remove { segment } => self.remove(segment),
                }
            }
            self.append(group);
        }
    }

    /// Takes what fits; the rest is told that it does not.
    fn append(&mut self, group: Vec<(Vec<u8>, Told)>) {
        let mut room = self.config.bytes_max.saturating_sub(self.shared.state().bytes());
        let (mut lines, mut taken) = (Vec::new(), Vec::new());
        for (record, done) in group {
            let before = lines.len();
            line::write(&record, &mut lines);
            let bytes = (lines.len() - before) as u64;
            if bytes <= room {
                room -= bytes;
                taken.push((record, bytes, done));
            } else {
                lines.truncate(before);
                let _ = done.send(Err(SpoolError::Full(self.config.bytes_max)));
            }
        }
        if taken.is_empty() {
            return;
        }
        let result = self.write(&lines);
        for (record, bytes, done) in taken {
            let told = match &result {
                Ok(number) => {
                    self.shared.state().add(*number, &record, bytes);
                    Ok(())
                }
                Err(error) => Err(SpoolError::Io(error.to_string())),
            };
            // Whoever has gone meanwhile asks again; what is kept is replayed once all the same.
            let _ = done.send(told);
        }
    }

    /// Writes and syncs; the number of the file.
    fn write(&mut self, lines: &[u8]) -> Result<u64, Error> {
        let mut active = match self.active.take() {
            Some(active) if active.bytes < SEGMENT_BYTES => active,
            Some(_) | None => self.begin()?,
        };
        let written = active.file.write_all(lines).and_then(|()| {
            crate::fail_point!("spool-after-write");
            active.file.sync_data()
        });
        match written {
            Ok(()) => {
                active.bytes += lines.len() as u64;
                let number = active.number;
                self.active = Some(active);
                Ok(number)
            }
            Err(error) => {
                // The file is given up, with what is whole in it: after a failed sync nobody knows what
                // the disk has. What was torn is cut now, or else by the next process.
                let _ = active.file.set_len(active.bytes).and_then(|()| active.file.sync_all());
                self.remove(active.number);
                Err(error)
            }
        }
    }

    fn begin(&mut self) -> Result<Active, Error> {
        let folder = &self.config.folder;
        if !folder.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            if let Some(parent) = folder.parent() {
                segment::sync_folder(parent)?;
            }
        }
        let number = self.next;
        let path = segment::path(folder, number);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        // The name must last as long as what is in the file.
        segment::sync_folder(folder)?;
        self.next += 1;
        Ok(Active { number, file, bytes: 0 })
    }

    fn refuse(&self, record: &[u8], reason: &str) -> Result<(), Error> {
        let path = segment::refused(&self.config.folder);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let said = serde_json::json!({"reason": reason, "record": String::from_utf8_lossy(record)});
        file.write_all(format!("{said}\n").as_bytes())?;
        file.sync_all()?;
        segment::sync_folder(&self.config.folder)
    }

    /// Removes a file unless lines have come to it since.
    fn remove(&mut self, number: u64) {
        {
            let mut state = self.shared.state();
            if state.segments.get(&number).is_some_and(|segment| segment.left > 0) {
                return;
            }
            state.segments.remove(&number);
        }
        self.active.take_if(|active| active.number == number);
        let folder = &self.config.folder;
        let removed = fs::remove_file(segment::path(folder, number)).and_then(|()| segment::sync_folder(folder));
        if let Err(error) = removed {
            tracing::warn!(number, %error, "a spool file that is done could not be removed: it is replayed once more");
        }
    }
}

fn failed(error: Error) -> SpoolError {
    SpoolError::Io(error.to_string())
}
