//! Merge: after a common place Redis and SQL went different ways, and both are real consumption. The
//! branch that only Redis has is appended to the ledger under a generation of its own, without the
//! operations that the ledger knows; a rebuild from SQL follows.
//!
//! Everything goes through the mark's compare-and-set, and a second run finds the operations known: it
//! may stop anywhere.

use super::{
    checkpoint::{self, Divergence, Text, chain, follow},
    poster::Poster,
};
use crate::{
    engine::ports::{
        Batch, Cause, Digest, Line, Mark, Opening, Position, RawEntry, ShardMeta, StoreError, Unavailable,
    },
    quota::entry::{Entry, Kind},
};

/// Entries read at once, and appended in one transaction.
const PAGE_ENTRIES: usize = 500;

/// How a merge ended.
pub(super) enum Merge {
    /// The ledger has everything; the mark now, and how many entries were added.
    Done {
        mark: Mark,
        merged: u64,
    },
    /// Somebody else moved the mark: look again.
    Again,
    Refused(String),
}

/// Why a branch is not merged.
enum Stop {
    Unavailable(Unavailable),
    Refused(String),
    Again,
}

impl From<Unavailable> for Stop {
    fn from(reason: Unavailable) -> Self {
        Stop::Unavailable(reason)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Stop::Unavailable(error.into()),
            StoreError::Refused { .. } | StoreError::Corrupt(_) => {
                Stop::Refused(format!("the database refuses Redis' branch: {error}"))
            }
        }
    }
}

impl From<Divergence> for Stop {
    fn from(divergence: Divergence) -> Self {
        Stop::Refused(format!("Redis' branch cannot be merged: {divergence}"))
    }
}

/// Merges the branch of a fenced shard. `mark` was read before `fence`; `opening` is the generation to
/// append under, but for the number of entries.
pub(super) async fn merge(
    poster: &Poster,
    shard: u16,
    fence: &ShardMeta,
    mark: &Mark,
    opening: &Opening,
) -> Result<Merge, Unavailable> {
    let branch = Branch { poster, shard, fence };
    match branch.merge(mark, opening).await {
        Ok(merge) => Ok(merge),
        Err(Stop::Again) => Ok(Merge::Again),
        Err(Stop::Refused(sentence)) => Ok(Merge::Refused(sentence)),
        Err(Stop::Unavailable(reason)) => Err(reason),
    }
}

/// The place before an entry, and the digest there.
type Before = (Position, Digest);

struct Branch<'a> {
    poster: &'a Poster,
    shard: u16,
    fence: &'a ShardMeta,
}

impl Branch<'_> {
    async fn merge(&self, mark: &Mark, opening: &Opening) -> Result<Merge, Stop> {
        let fork = self.fork().await?;
        let merged = self.count(fork).await?;
        if merged == 0 {
            return Ok(Merge::Done { mark: *mark, merged });
        }
        let posting = &self.poster.ports.posting;
        let opening = Opening { cause: Cause::Diverged, merged, ..opening.clone() };
        let Some(opened) = posting.open_generation(self.shard, Some(mark), &opening).await? else {
            return Err(Stop::Again);
        };
        let mark = self.append(fork, opened).await?;
        Ok(Merge::Done { mark, merged })
    }

    /// The last place that both sides have, from which the branch leads.
    async fn fork(&self) -> Result<Before, Stop> {
        let (mut from, mut common) = (Position::default(), None);
        loop {
            let page = self.poster.ports.stream.read(self.shard, from, PAGE_ENTRIES).await?;
            let Some(last) = page.last() else {
                return Err(Stop::Refused(format!(
                    "the stream does not hold Redis' last entry {}",
                    Text(self.fence.top)
                )));
            };
            if self.is_in_ledger(last).await? {
                common = Some((last.at, last.digest));
                from = last.at.following();
                continue;
            }
            // Entries that the ledger has come before those that it has not: digests cover the past.
            let (mut low, mut high) = (0, page.len() - 1);
            while low < high {
                let middle = low.midpoint(high);
                if self.is_in_ledger(&page[middle]).await? { low = middle + 1 } else { high = middle }
            }
            return match (low.checked_sub(1).map(|before| &page[before]), common) {
                (Some(before), _) => Ok((before.at, before.digest)),
                (None, Some(before)) => Ok(before),
                (None, None) => self.place_before(&page[low]).await,
            };
        }
    }

    async fn is_in_ledger(&self, raw: &RawEntry) -> Result<bool, StoreError> {
        Ok(self.poster.ports.posting.digest_at(self.shard, raw.at).await? == Some(raw.digest))
    }

    /// The ledger's place before the stream's first entry, provided that the entry follows from it.
    async fn place_before(&self, first: &RawEntry) -> Result<Before, Stop> {
        let before = Position { seq: first.at.seq.saturating_sub(1), ..first.at };
        let digest = self.poster.ports.posting.digest_at(self.shard, before).await?;
        match digest.filter(|digest| follow(&before, digest, first).is_ok()) {
            Some(digest) => Ok((before, digest)),
            None => Err(Stop::Refused(format!(
                "the stream begins at {}, which follows from nothing in the ledger; was the database restored from too \
                 old a copy?",
                Text(first.at)
            ))),
        }
    }

    /// The next entries of the branch; none at its end.
    async fn page(&self, before: &Before) -> Result<Vec<(RawEntry, Entry)>, Stop> {
        let read = self.poster.ports.stream.read(self.shard, before.0.following(), PAGE_ENTRIES).await?;
        let (mut at, mut digest) = *before;
        let mut page = Vec::with_capacity(read.len());
        for raw in read {
            follow(&at, &digest, &raw)?;
            (at, digest) = (raw.at, raw.digest);
            let entry = checkpoint::unpack(&raw)?;
            page.push((raw, entry));
        }
        if page.is_empty() && digest != self.fence.digest {
            let sentence = format!("the stream ends at {}, before {}", Text(at), Text(self.fence.top));
            return Err(Stop::Refused(sentence));
        }
        Ok(page)
    }

    /// Those of a page that the ledger does not know. A settle in the ledger is the whole cost of its
    /// reservation: what the branch charged for the same one, in part or at its expiry, is in it.
    async fn unknown(&self, page: Vec<(RawEntry, Entry)>) -> Result<Vec<Entry>, Stop> {
        let mut asked: Vec<Entry> = page.into_iter().map(|(_, entry)| entry).collect();
        let count = asked.len();
        let in_part = |entry: &&Entry| matches!(entry.kind, Kind::Partial | Kind::Expire);
        let settles: Vec<Entry> =
            asked.iter().filter(in_part).map(|entry| Entry { kind: Kind::Settle, ..entry.clone() }).collect();
        asked.extend(settles);
        let mut known = self.poster.ports.posting.known(&asked).await?;
        let mut settled = known.split_off(count).into_iter();
        asked.truncate(count);
        let entries = asked.into_iter().zip(known).filter(|(entry, known)| {
            let settled = in_part(&entry) && settled.next() == Some(true);
            !known && !settled
        });
        Ok(entries.map(|(entry, _)| entry).collect())
    }

    async fn count(&self, fork: Before) -> Result<u64, Stop> {
        let (mut before, mut count) = (fork, 0);
        loop {
            let page = self.page(&before).await?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            before = (last.at, last.digest);
            count += self.unknown(page).await?.len() as u64;
        }
    }

    async fn append(&self, fork: Before, opened: Mark) -> Result<Mark, Stop> {
        let (mut before, mut mark) = (fork, opened);
        loop {
            let page = self.page(&before).await?;
            let Some((last, _)) = page.last() else { return Ok(mark) };
            before = (last.at, last.digest);
            // After the mark was read, and before it is moved: what others append meanwhile moves it too.
            let entries = self.unknown(page).await?;
            if entries.is_empty() {
                continue;
            }
            let batch = numbered(self.shard, &mark, entries);
            let applied = self.poster.ports.posting.apply(std::slice::from_ref(&batch)).await?;
            if !applied.first().is_some_and(|applied| applied.moved) {
                return Err(Stop::Again);
            }
            crate::fail_point!("merge-appended");
            mark = batch.to;
        }
    }
}

/// The entries as those after the mark.
fn numbered(shard: u16, mark: &Mark, entries: Vec<Entry>) -> Batch {
    let mut to = *mark;
    let entries = entries.into_iter().map(|entry| {
        to.at = to.at.following();
        let payload = entry.pack();
        to.digest = chain(&to.digest, &payload);
        Line { at: to.at, digest: to.digest, entry, payload }
    });
    let entries = entries.collect();
    Batch { shard, from: *mark, to, entries }
}
