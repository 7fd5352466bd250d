//! The last step of a recovery: the shard is fenced and SQL has opened its next generation. What Redis
//! still holds of it is removed, the memory of recent reservations comes back from the ledger (it is
//! part of the balance: without it a retry is charged twice), and the shard opens. Accounts follow
//! when they are asked for.

use std::collections::HashSet;

use tracing::debug;

use super::{concurrent, poster::Poster};
use crate::{
    engine::ports::{Mark, ShardMeta, Unavailable},
    quota::{
        clock::Millis,
        entry::{Entry, Kind, LogFields},
        id::{AccountId, ReservationId},
        reservation::{Record, State},
    },
};

/// Ledger rows read at once, and records restored at once.
const PAGE_ROWS: u32 = 1000;
const RESTORES_AT_ONCE: usize = 8;

/// Wipes, restores and opens a fenced shard. False when somebody else moved its meta meanwhile.
pub(super) async fn rebuild(poster: &Poster, shard: u16, fence: &ShardMeta, mark: &Mark) -> Result<bool, Unavailable> {
    let stream = &poster.ports.stream;
    let wiped = stream.wipe(shard).await?;
    let records = recent_records(poster, shard).await?;
    let fenced_out = !restore(poster, &records).await?;
    let open = ShardMeta { top: mark.at, digest: mark.digest, open: true, now: fence.now };
    if !stream.set_meta(shard, Some(fence), &open).await? {
        return Ok(false);
    }
    stream.serve(shard, Some(mark.at.generation));
    if fenced_out {
        // Redis takes records of open shards only. What is asked for before they are in is caught by
        // the ledger's unique key.
        restore(poster, &records).await?;
    }
    debug!(shard, wiped, restored = records.len(), generation = mark.at.generation, "a shard was rebuilt");
    Ok(true)
}

type Tombstone = (AccountId, ReservationId, Record);

/// False when the fence keeps records out.
async fn restore(poster: &Poster, records: &[Tombstone]) -> Result<bool, Unavailable> {
    let counters = &poster.ports.counters;
    let answers = concurrent::map(records.iter().cloned(), RESTORES_AT_ONCE, |(account, id, record)| {
        let counters = counters.clone();
        async move { counters.restore_record(&account, &id, &record).await }
    })
    .await;
    for answer in answers {
        match answer {
            Ok(()) => {}
            Err(Unavailable::Recovering) => return Ok(false),
            Err(reason) => return Err(reason),
        }
    }
    Ok(true)
}

/// The latest record of every reservation whose ledger row is no older than a tombstone lives.
async fn recent_records(poster: &Poster, shard: u16) -> Result<Vec<Tombstone>, Unavailable> {
    let ttl_ms = i64::try_from(poster.settings.tombstone_ttl.as_millis()).unwrap_or(i64::MAX);
    let since = Millis(poster.ports.clock.now().0.saturating_sub(ttl_ms));
    let (mut records, mut seen) = (Vec::new(), HashSet::new());
    let mut before = None;
    loop {
        let page = poster.ports.posting.recent(shard, before, PAGE_ROWS).await?;
        let Some(oldest) = page.last() else { return Ok(records) };
        before = Some(oldest.at);
        let mut young = false;
        for raw in &page {
            let entry = Entry::unpack(&raw.payload)
                .map_err(|_| Unavailable::Corrupt(format!("a ledger row of shard {shard} cannot be read")))?;
            if entry.at < since {
                continue;
            }
            young = true;
            if let Some((account, id, record)) = tombstone(entry)
                && seen.insert((account.clone(), id.clone()))
            {
                records.push((account, id, record));
            }
        }
        if !young {
            return Ok(records);
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
    Some((entry.account, ReservationId::new(id).ok()?, record))
}
