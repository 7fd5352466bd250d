//! Rebuild: the shard is fenced, what Redis holds of it is worth nothing, and SQL has opened its next
//! generation. What is there is removed, the memory of recent reservations comes back from the ledger
//! (it is part of the balance: without it a retry is charged twice), and the shard opens. Accounts
//! follow when they are asked for.

use std::collections::HashSet;

use tracing::debug;

use super::{poster::Poster, standing::open_at};
use crate::{
    engine::ports::{Mark, ShardMeta, Tombstone, Unavailable},
    faults::{self, Mutant},
    quota::{
        clock::Millis,
        entry::{Entry, Kind, LogFields},
        id::ReservationId,
        reservation::State,
    },
};

/// Ledger rows read at once, and records restored at once.
const PAGE_ROWS: u32 = 1000;
const RESTORES_AT_ONCE: usize = 200;

/// Wipes, restores and opens a fenced shard. False when somebody else moved its meta meanwhile.
pub(super) async fn rebuild(poster: &Poster, shard: u16, fence: &ShardMeta, mark: &Mark) -> Result<bool, Unavailable> {
    let stream = &poster.ports.stream;
    if !stream.wipe(shard, fence).await? {
        return Ok(false);
    }
    crate::fail_point!("wiped");
    let (newest, tombstones) = recent(poster, shard).await?;
    if !faults::is(Mutant::RebuildWithoutRecords) {
        // Every chunk under the fence: a slow caller must not restore what another one wiped again.
        for chunk in tombstones.chunks(RESTORES_AT_ONCE) {
            if !stream.restore(shard, fence, chunk).await? {
                return Ok(false);
            }
        }
    }
    crate::fail_point!("restored");
    if !stream.set_meta(shard, Some(fence), &open_at(mark, newest)).await? {
        return Ok(false);
    }
    debug!(shard, restored = tombstones.len(), generation = mark.at.generation, "a shard was rebuilt");
    Ok(true)
}

/// When the newest entry of the ledger was made (time must not go back in a shard), and the latest
/// record of every reservation whose row is no older than a tombstone lives.
async fn recent(poster: &Poster, shard: u16) -> Result<(Millis, Vec<Tombstone>), Unavailable> {
    let ttl_ms = i64::try_from(poster.settings.tombstone_ttl.as_millis()).unwrap_or(i64::MAX);
    let since = Millis(poster.ports.clock.now().0.saturating_sub(ttl_ms));
    let (mut newest, mut tombstones, mut seen) = (Millis(0), Vec::new(), HashSet::new());
    let mut before = None;
    loop {
        let page = poster.ports.posting.recent(shard, before, PAGE_ROWS).await?;
        let Some(oldest) = page.last() else { return Ok((newest, tombstones)) };
        before = Some(oldest.at);
        let mut young = false;
        for raw in &page {
            let entry = Entry::unpack(&raw.payload)
                .map_err(|_| Unavailable::Corrupt(format!("a ledger row of shard {shard} cannot be read")))?;
            newest = newest.max(entry.at);
            if entry.at < since {
                continue;
            }
            young = true;
            if let Some(tombstone) = tombstone(entry)
                && seen.insert((tombstone.account.clone(), tombstone.id.clone()))
            {
                tombstones.push(tombstone);
            }
        }
        if !young {
            return Ok((newest, tombstones));
        }
    }
}

/// What Redis should remember of the reservation an entry is about. A hold that was charged in part
/// is gone with the shard's memory: it comes back as expired, so that its final settle charges the
/// difference and not the whole once more.
fn tombstone(entry: Entry) -> Option<Tombstone> {
    let mut record = entry.record?;
    let id = match entry.kind {
        Kind::Settle | Kind::Partial | Kind::Charge | Kind::Expire => entry.op_id.as_str().to_owned(),
        Kind::Refund => serde_json::from_slice::<LogFields>(&entry.log).ok()?.of?,
        Kind::Credit | Kind::Debit | Kind::Reset | Kind::Initial | Kind::Close => return None,
    };
    if record.state == State::Held {
        record.state = State::Expired;
    }
    Some(Tombstone { account: entry.account, id: ReservationId::new(id).ok()?, record })
}
