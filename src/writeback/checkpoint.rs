//! Does what a stream says follow from the mark? Pure. Sequence numbers can be used twice (an
//! append-only file that lost its tail, a failover to a lagging replica), so a number proves nothing:
//! the digest at the mark must be the mark's, and every further one must follow from the one before.

use sha1::{Digest as _, Sha1};

use crate::{
    engine::ports::{Batch, Digest, Mark, Position, RawEntry},
    quota::entry::Entry,
};

/// The digest before the first entry of a generation.
pub(crate) const NO_DIGEST: Digest = [b'0'; 40];

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

/// The batch that a stream read from the mark (inclusive) makes; `None` when nothing follows it.
pub(crate) fn batch(shard: u16, mark: &Mark, stream: &[RawEntry]) -> Result<Option<Batch>, Divergence> {
    let mut to = *mark;
    let mut entries = Vec::with_capacity(stream.len());
    for raw in after_overlap(mark, stream)? {
        let expected = Position { seq: to.at.seq + 1, ..to.at };
        if raw.at != expected {
            return Err(Divergence::Gap { expected: Text(expected), found: Text(raw.at) });
        }
        if raw.digest != chain(&to.digest, &raw.payload) {
            return Err(Divergence::Chain(Text(raw.at)));
        }
        let entry = Entry::unpack(&raw.payload).map_err(|_| Divergence::Payload(Text(raw.at)))?;
        entries.push((raw.at, raw.digest, entry));
        (to.at, to.digest) = (raw.at, raw.digest);
    }
    Ok((!entries.is_empty()).then_some(Batch { shard, from: *mark, to, entries }))
}

/// What follows the mark's own entry. At the beginning of a generation there is none to find.
pub(crate) fn after_overlap<'a>(mark: &Mark, stream: &'a [RawEntry]) -> Result<&'a [RawEntry], Divergence> {
    if mark.at.seq == 0 {
        return Ok(stream);
    }
    match stream.split_first() {
        Some((first, rest)) if first.at == mark.at => {
            if first.digest == mark.digest {
                Ok(rest)
            } else {
                Err(Divergence::Overlap(Text(mark.at)))
            }
        }
        _ => Err(Divergence::NoOverlap(Text(mark.at))),
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

    #[test]
    fn a_batch_is_what_follows_the_mark() {
        let stream = stream(3, 5);
        for posted in 0..5 {
            let mark = mark_at(&stream, posted);
            let read = &stream[posted.saturating_sub(1)..];
            let batch = batch(7, &mark, read).unwrap().unwrap();
            assert_eq!((batch.shard, batch.from, batch.to), (7, mark, mark_at(&stream, 5)));
            assert_eq!(batch.entries.len(), 5 - posted);
        }
        assert!(batch(7, &mark_at(&stream, 5), &stream[4..]).unwrap().is_none());
        assert!(batch(7, &mark_at(&stream, 0), &[]).unwrap().is_none());
    }

    #[test]
    fn histories_that_differ_are_told_apart() {
        let good = stream(1, 5);
        let check = |seq: usize, read: &[RawEntry]| batch(0, &mark_at(&good, seq), read).unwrap_err();
        let at = |seq: u64| Text(Position { generation: 1, seq });
        assert_eq!(check(2, &good[2..]), Divergence::NoOverlap(at(2)));
        assert_eq!(check(2, &[]), Divergence::NoOverlap(at(2)));
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
        let next = stream(2, 1);
        let found = Text(next[0].at);
        assert_eq!(check(0, &next), Divergence::Gap { expected: at(1), found });
    }
}
