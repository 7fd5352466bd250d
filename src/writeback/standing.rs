//! A shard's two sides, compared. Pure: what was read goes in, what to do comes out. Whoever acts on
//! it does so by compare-and-set against what was read, so that acting on something old changes
//! nothing.

use super::checkpoint::{NO_DIGEST, Text};
use crate::{
    engine::ports::{Digest, Mark, Position, ShardMeta},
    quota::clock::Millis,
};

/// What SQL and Redis say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Same history, Redis at the mark or ahead of it: serve. The stream must be asked for the
    /// mark's entry first, unless the mark is the beginning of its generation.
    Agree,
    /// Neither side knows the shard, or Redis forgot it: put a fence where its meta was.
    Missing,
    /// Redis is an older state of the same history, provided that the ledger has this digest at its
    /// top: fence it.
    Behind,
    /// Fenced, with entries that SQL does not have: post them.
    FencedAhead,
    /// Fenced, and all that can be saved is saved: open the next generation in SQL.
    FencedDone,
    /// Fenced, and SQL has the next generation: wipe, restore, open.
    FencedEmpty,
    /// Two histories: serve neither, call for help.
    Diverged(String),
}

/// Compares. The mark must have been read before the meta: then a healthy Redis is never behind it.
pub(super) fn compare(mark: Option<&Mark>, meta: Option<&ShardMeta>) -> Standing {
    match (mark, meta) {
        (_, None) => Standing::Missing,
        (None, Some(meta)) if !meta.open && meta.top == Position::default() => Standing::FencedDone,
        (None, Some(_)) => Standing::Diverged(
            "Redis holds a history that this database knows nothing of; check that both belong together".into(),
        ),
        (Some(mark), Some(meta)) if meta.top.generation > mark.at.generation => Standing::Diverged(format!(
            "Redis is at {}, a later generation than the database at {}; was the database restored from a copy?",
            Text(meta.top),
            Text(mark.at)
        )),
        (Some(mark), Some(meta)) if meta.open => compare_open(mark, meta),
        (Some(mark), Some(meta)) => compare_fenced(mark, meta),
    }
}

fn compare_open(mark: &Mark, meta: &ShardMeta) -> Standing {
    if meta.top < mark.at {
        return Standing::Behind;
    }
    if meta.top == mark.at && meta.digest != mark.digest {
        return Standing::Diverged(differs(mark));
    }
    Standing::Agree
}

fn compare_fenced(mark: &Mark, meta: &ShardMeta) -> Standing {
    if meta.top > mark.at {
        return Standing::FencedAhead;
    }
    // A generation with entries was not opened for this fence: Redis is an old copy.
    if mark.at.generation > meta.top.generation && mark.at.seq == 0 {
        return Standing::FencedEmpty;
    }
    Standing::FencedDone
}

/// Whether Redis' top, behind the mark, is a place in SQL's history: its digest is the ledger's, or
/// nothing was written in its generation.
pub(super) fn is_past(meta: &ShardMeta, in_ledger: Option<&Digest>) -> bool {
    match in_ledger {
        Some(digest) => *digest == meta.digest,
        None => meta.top.seq == 0 && meta.digest == NO_DIGEST,
    }
}

pub(super) fn differs(mark: &Mark) -> String {
    format!("Redis and the database have different histories at {}", Text(mark.at))
}

/// The fence for a shard without meta: it stands where SQL stands, for there is nothing to save.
pub(super) fn fence_for(mark: Option<&Mark>) -> ShardMeta {
    let (top, digest) = mark.map_or((Position::default(), NO_DIGEST), |mark| (mark.at, mark.digest));
    ShardMeta { top, digest, open: false, now: Millis(0) }
}

/// Whether a fence was put up where there was no meta: no clock ever ran under it.
pub(super) fn is_empty(fence: &ShardMeta) -> bool {
    fence.now == Millis(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(generation: u32, seq: u64, open: bool) -> ShardMeta {
        ShardMeta { top: Position { generation, seq }, digest: digest(seq), open, now: Millis(0) }
    }

    fn mark(generation: u32, seq: u64) -> Mark {
        Mark { at: Position { generation, seq }, digest: digest(seq), fence: 1 }
    }

    fn digest(seq: u64) -> Digest {
        format!("{seq:040}").as_bytes().try_into().unwrap()
    }

    #[test]
    fn every_pair_has_its_standing() {
        let at = |mark: Option<Mark>, meta: Option<ShardMeta>| match compare(mark.as_ref(), meta.as_ref()) {
            Standing::Diverged(_) => "diverged",
            Standing::Agree => "agree",
            Standing::Missing => "missing",
            Standing::Behind => "behind",
            Standing::FencedAhead => "fenced ahead",
            Standing::FencedDone => "fenced done",
            Standing::FencedEmpty => "fenced empty",
        };
        for (mark, meta, expected) in [
            (None, None, "missing"),
            (Some(mark(1, 5)), None, "missing"),
            (None, Some(fence_for(None)), "fenced done"),
            (None, Some(meta(1, 0, true)), "diverged"),
            (None, Some(meta(1, 3, false)), "diverged"),
            (Some(mark(1, 0)), Some(meta(1, 0, true)), "agree"),
            (Some(mark(1, 5)), Some(meta(1, 5, true)), "agree"),
            (Some(mark(1, 5)), Some(meta(1, 9, true)), "agree"),
            (Some(mark(1, 5)), Some(ShardMeta { digest: digest(9), ..meta(1, 5, true) }), "diverged"),
            (Some(mark(1, 5)), Some(meta(1, 4, true)), "behind"),
            (Some(mark(2, 0)), Some(meta(1, 9, true)), "behind"),
            (Some(mark(1, 5)), Some(meta(2, 0, true)), "diverged"),
            (Some(mark(1, 5)), Some(meta(2, 0, false)), "diverged"),
            (Some(mark(1, 5)), Some(meta(1, 9, false)), "fenced ahead"),
            (Some(mark(1, 5)), Some(meta(1, 5, false)), "fenced done"),
            (Some(mark(1, 5)), Some(meta(1, 4, false)), "fenced done"),
            (Some(mark(2, 0)), Some(meta(1, 5, false)), "fenced empty"),
            (Some(mark(1, 0)), Some(fence_for(None)), "fenced empty"),
            (Some(mark(2, 7)), Some(meta(1, 5, false)), "fenced done"),
        ] {
            assert_eq!(at(mark, meta), expected, "{mark:?} {meta:?}");
        }
    }

    #[test]
    fn an_older_state_is_told_by_its_digest() {
        assert!(is_past(&meta(1, 3, true), Some(&digest(3))));
        assert!(!is_past(&meta(1, 3, true), Some(&digest(4))));
        assert!(!is_past(&meta(1, 3, true), None), "not in the ledger: a branch of its own");
        assert!(is_past(&ShardMeta { digest: NO_DIGEST, ..meta(1, 0, true) }, None));
    }
}
