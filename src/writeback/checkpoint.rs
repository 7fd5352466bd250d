//! Does what a stream says follow from the mark? Pure. Sequence numbers can be used twice (an
//! append-only file that lost its tail, a failover to a lagging replica), so a number proves nothing:
//! the digest at the mark must be the mark's, and every further one must follow from the one before.

use sha1::{Digest as _, Sha1};

use crate::{
    engine::ports::{Batch, Digest, Line, Mark, NO_DIGEST, Position, RawEntry},
    faults::{self, Mutant},
    quota::entry::Entry,
};

/// Why a stream does not continue what SQL has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Divergence {
    #[error("the stream does not hold the entry {0} that was posted last")]
    NoOverlap(Text),
    #[error("the entry {0} is another one in the stream than in the ledger")]
    Overlap(Text),
    #[error("the stream goes on with {found} where {expected} should be")]
    Gap { expected: Text, found: Text },
    #[error("the digest of the entry {0} does not follow from the one before it")]
    Chain(Text),
    #[error("the entry {0} cannot be read")]
    Payload(Text),
}

/// A position in a sentence: `<generation>-<seq>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub Position);

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0.generation, self.0.seq)
    }
}

/// The digest of an entry: sha1 over the digest before it and its payload, in hex.
#[must_use]
pub fn chain(previous: &Digest, payload: &[u8]) -> Digest {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut hash = Sha1::new();
    hash.update(previous);
    hash.update(payload);
    let mut digest = NO_DIGEST;
    for (pair, byte) in digest.chunks_exact_mut(2).zip(hash.finalize()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    digest
}

/// What a stream says that follows the mark.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    Nothing,
    /// Entries of the mark's generation.
    Batch(Batch),
    /// The next entry begins this later generation, which SQL does not have: it was restored from an
    /// older copy, or this mark is an old one. The chain runs on from it.
    Generation(Mark, u32),
}

/// What a stream read from the mark (inclusive) makes of it.
pub(crate) fn next(shard: u16, mark: &Mark, stream: &[RawEntry]) -> Result<Next, Divergence> {
    let mut to = *mark;
    let mut entries = Vec::with_capacity(stream.len());
    let mut is_checked = !faults::is(Mutant::NoOverlapCheck);
    for raw in after_overlap(mark, stream)? {
        if std::mem::replace(&mut is_checked, true) {
            follow(&to.at, &to.digest, raw)?;
        }
        if raw.at.generation > to.at.generation {
            if entries.is_empty() {
                return Ok(Next::Generation(*mark, raw.at.generation));
            }
            break;
        }
        entries.push(Line { at: raw.at, digest: raw.digest, entry: unpack(raw)?, payload: raw.payload.clone() });
        (to.at, to.digest) = (raw.at, raw.digest);
    }
    Ok(if entries.is_empty() { Next::Nothing } else { Next::Batch(Batch { shard, from: *mark, to, entries }) })
}

/// Whether an entry is the one after a place: the next number, or the first of a later generation, and
/// a digest that runs on.
pub(crate) fn follow(at: &Position, digest: &Digest, raw: &RawEntry) -> Result<(), Divergence> {
    let expected = at.following();
    let is_first = raw.at.seq == 1 && raw.at.generation > at.generation;
    if raw.at != expected && !is_first {
        return Err(Divergence::Gap { expected: Text(expected), found: Text(raw.at) });
    }
    if raw.digest != chain(digest, &raw.payload) && !faults::is(Mutant::SeqWithoutDigest) {
        return Err(Divergence::Chain(Text(raw.at)));
    }
    Ok(())
}

/// The entry in a payload, which packs to the same bytes again: the ledger keeps it packed, under the
/// digest of these.
pub(crate) fn unpack(raw: &RawEntry) -> Result<Entry, Divergence> {
    match Entry::unpack(&raw.payload) {
        Ok(entry) if entry.pack() == raw.payload => Ok(entry),
        Ok(_) | Err(_) => Err(Divergence::Payload(Text(raw.at))),
    }
}

/// What follows the mark's own entry, which must be the mark's. A stream that begins right after it
/// (trimmed, or of a new generation) proves as much by the first digest.
pub(crate) fn after_overlap<'a>(mark: &Mark, stream: &'a [RawEntry]) -> Result<&'a [RawEntry], Divergence> {
    match stream.split_first() {
        Some((first, rest)) if first.at == mark.at => {
            let same = first.digest == mark.digest
                || faults::is(Mutant::NoOverlapCheck)
                || faults::is(Mutant::SeqWithoutDigest);
            if same { Ok(rest) } else { Err(Divergence::Overlap(Text(mark.at))) }
        }
        Some((first, _))
            if mark.at.seq > 0
                && follow(&mark.at, &mark.digest, first).is_err()
                && !faults::is(Mutant::NoOverlapCheck) =>
        {
            Err(Divergence::NoOverlap(Text(mark.at)))
        }
        _ => Ok(stream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{
        clock::Millis,
        entry::Kind,
        id::{AccountId, OpId},
    };

    fn entry(number: u64) -> Entry {
        Entry {
            kind: Kind::Credit,
            at: Millis(1_795_168_800_000),
            balance: 1,
            used: 0,
            requests: 0,
            tokens: 0,
            account: AccountId::new("a").unwrap(),
            op_id: OpId::new(format!("c{number}")).unwrap(),
            record: None,
            windows: Vec::new(),
            log: Vec::new(),
        }
    }

    fn stream(generation: u32, length: u64) -> Vec<RawEntry> {
        let mut digest = NO_DIGEST;
        (1..=length)
            .map(|seq| {
                let payload = entry(seq).pack();
                digest = chain(&digest, &payload);
                RawEntry { at: Position { generation, seq }, payload, digest }
            })
            .collect()
    }

    fn mark_at(stream: &[RawEntry], seq: usize) -> Mark {
        let start = (Position { generation: stream[0].at.generation, seq: 0 }, NO_DIGEST);
        let (at, digest) = if seq == 0 { start } else { (stream[seq - 1].at, stream[seq - 1].digest) };
        Mark { at, digest, fence: 1 }
    }

    #[test]
    fn a_digest_is_sha1_in_hex_over_the_one_before_and_the_payload() {
        // printf '0%.0s' {1..40} | sed 's/$/abc/' | tr -d '\n' | sha1sum
        assert_eq!(&chain(&NO_DIGEST, b"abc"), b"186e4f2d5680c456187cdf4b30f05c44ee1ef11f");
    }

    fn batch(mark: &Mark, stream: &[RawEntry]) -> Option<Batch> {
        match next(7, mark, stream).unwrap() {
            Next::Batch(batch) => Some(batch),
            Next::Nothing => None,
            Next::Generation(_, generation) => panic!("generation {generation}"),
        }
    }

    #[test]
    fn a_batch_is_what_follows_the_mark() {
        let stream = stream(3, 5);
        for posted in 0..5 {
            let mark = mark_at(&stream, posted);
            let read = &stream[posted.saturating_sub(1)..];
            let batch = batch(&mark, read).unwrap();
            assert_eq!((batch.shard, batch.from, batch.to), (7, mark, mark_at(&stream, 5)));
            assert_eq!(batch.entries.len(), 5 - posted);
        }
        assert!(batch(&mark_at(&stream, 5), &stream[4..]).is_none());
        assert!(batch(&mark_at(&stream, 0), &[]).is_none());
        assert!(batch(&mark_at(&stream, 5), &[]).is_none());
    }

    #[test]
    fn a_first_entry_whose_digest_runs_on_needs_no_entry_before_it() {
        let good = stream(1, 5);
        assert_eq!(batch(&mark_at(&good, 2), &good[2..]).unwrap().entries.len(), 3);
        let mut changed = good.clone();
        changed[2].payload = entry(9).pack();
        let divergence = next(0, &mark_at(&good, 2), &changed[2..]).unwrap_err();
        assert_eq!(divergence, Divergence::NoOverlap(Text(good[1].at)));
    }

    #[test]
    fn a_batch_ends_where_a_generation_does_and_the_chain_runs_on() {
        let mut two = stream(1, 5);
        for (seq, raw) in (1..).zip(&mut two[3..]) {
            raw.at = Position { generation: 4, seq };
        }
        let first = batch(&mark_at(&two, 1), &two).unwrap();
        assert_eq!((first.to.at, first.entries.len()), (Position { generation: 1, seq: 3 }, 2));
        assert!(matches!(next(7, &first.to, &two[2..]), Ok(Next::Generation(_, 4))));
        assert!(matches!(next(7, &first.to, &two[3..]), Ok(Next::Generation(_, 4))), "without the entry before it");
        let begun = Mark { at: Position { generation: 4, seq: 0 }, ..first.to };
        assert_eq!(batch(&begun, &two[3..]).unwrap().entries.len(), 2);
        let other = Mark { digest: NO_DIGEST, ..begun };
        assert_eq!(next(7, &other, &two[3..]).unwrap_err(), Divergence::Chain(Text(two[3].at)));
        let later = Mark { at: Position { generation: 5, seq: 0 }, ..first.to };
        assert!(next(7, &later, &two[3..]).is_err(), "back to an older generation");
    }

    #[test]
    fn histories_that_differ_are_told_apart() {
        let good = stream(1, 5);
        let check = |seq: usize, read: &[RawEntry]| next(0, &mark_at(&good, seq), read).unwrap_err();
        let at = |seq: u64| Text(Position { generation: 1, seq });
        assert_eq!(check(2, &good[3..]), Divergence::NoOverlap(at(2)));
        let mut other = good.clone();
        other[1].digest = NO_DIGEST;
        assert_eq!(check(2, &other[1..]), Divergence::Overlap(at(2)));
        let mut gap = good.clone();
        gap.remove(3);
        assert_eq!(check(2, &gap[1..]), Divergence::Gap { expected: at(4), found: at(5) });
        let mut changed = good.clone();
        changed[3].payload = entry(9).pack();
        assert_eq!(check(2, &changed[1..]), Divergence::Chain(at(4)));
        let mut garbage = good.clone();
        garbage[3].payload = b"?".to_vec();
        garbage[3].digest = chain(&garbage[2].digest, b"?");
        assert_eq!(check(2, &garbage[1..]), Divergence::Payload(at(4)));
        let second = &stream(2, 2)[1..];
        assert_eq!(check(0, second), Divergence::Gap { expected: at(1), found: Text(second[0].at) });
    }
}
