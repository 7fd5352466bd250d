//! One operation, two effects: its tombstone in Redis was gone when it was repeated, so Redis did it
//! again, and SQL found its name taken. Redis' second effect is in both sums by then; one entry named
//! after it takes all of it out of both. The name makes that happen once, however many sidecars try.
//! What a crash right after the commit leaves undone stays visible: a rejected ledger row without an
//! operation of that name, found by [`compensate_left`].

use tracing::{error, warn};

use super::{checkpoint, gauges, poster::Poster};
use crate::{
    engine::ports::{Counters, Load, Position, Status, Unavailable, UndoCall, compensation_id},
    quota::{
        entry::{Entry, LogFields},
        fingerprint::Fingerprint,
        id::OpId,
    },
};

/// Attempts at one compensation; the call is safe to repeat.
const ATTEMPTS: u32 = 3;
/// Rejected rows looked at in one pass.
const ROWS_MAX: u32 = 256;

/// Takes a duplicate back as soon as it was seen. An account that is not loaded, and whatever else
/// fails, is left to [`compensate_left`].
pub(super) async fn compensate(counters: &dyn Counters, shard: u16, at: Position, entry: &Entry) {
    let id = compensation_id(shard, at);
    let (account, op, kind) = (entry.account.as_str(), entry.op_id.as_str(), entry.kind.as_str());
    warn!(account, op, kind, id, units = entry.balance, "an operation was done twice; its second effect is taken back");
    match undo(counters, shard, at, entry).await {
        Ok(Status::Done | Status::Replayed | Status::Absent) => {}
        Ok(status) => failed(&id, account, &format!("Redis answered {status:?}")),
        // Redis went away, or is being recovered.
        Err(reason) => warn!(id, %reason, "an operation done twice is compensated later"),
    }
}

/// Compensates what is still to be: after a crash, and for accounts that were not loaded. How many
/// were; one that cannot be now does not keep the others.
pub(super) async fn compensate_left(poster: &Poster, loader: &dyn Load) -> Result<usize, Unavailable> {
    let counters = &*poster.ports.counters;
    let rows = poster.ports.posting.uncompensated(ROWS_MAX).await?;
    let mut done = Ok(0);
    for (shard, raw) in &rows {
        let id = compensation_id(*shard, raw.at);
        let Ok(entry) = checkpoint::unpack(raw) else {
            failed(&id, "", "the ledger's row cannot be read");
            continue;
        };
        match undo_loaded(counters, loader, *shard, raw.at, &entry).await {
            Ok(Status::Done) => done = done.map(|done| done + 1),
            // Not posted yet.
            Ok(Status::Replayed) => {}
            Ok(status) => failed(&id, entry.account.as_str(), &format!("Redis answered {status:?}")),
            Err(reason) => done = Err(reason),
        }
    }
    done
}

async fn undo_loaded(
    counters: &dyn Counters,
    loader: &dyn Load,
    shard: u16,
    at: Position,
    entry: &Entry,
) -> Result<Status, Unavailable> {
    match undo(counters, shard, at, entry).await? {
        Status::Absent => {
            loader.load(&entry.account).await?;
            undo(counters, shard, at, entry).await
        }
        status => Ok(status),
    }
}

fn failed(id: &str, account: &str, reason: &str) {
    gauges::uncompensated();
    error!(account, id, reason, "an operation done twice could not be compensated");
}

async fn undo(counters: &dyn Counters, shard: u16, at: Position, entry: &Entry) -> Result<Status, Unavailable> {
    let id = compensation_id(shard, at);
    let op_id = OpId::new(&id).map_err(|_| Unavailable::Corrupt(format!("`{id}` is no id")))?;
    let note = Some(format!("{} {} was done twice", entry.kind.as_str(), entry.op_id));
    let log = serde_json::to_vec(&LogFields { note, ..LogFields::default() }).unwrap_or_default();
    let call = UndoCall { op_id: &op_id, entry, fingerprint: Fingerprint::of("duplicate", &[Some(&id)]), log: &log };
    let mut attempt = 1;
    loop {
        match counters.undo(&call).await {
            Ok(reply) => return Ok(reply.status),
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            Err(unavailable) => return Err(unavailable),
        }
    }
}
