//! A shard's two sides, compared. Pure: what was read goes in, what to do comes out. Whoever acts on
//! it does so by compare-and-set against what was read, so that acting on something old changes
//! nothing.
//!
//! Because a digest covers everything before it, two equal digests are one history, whatever their
//! places are called.

use super::checkpoint::Text;
use crate::{
    engine::ports::{Cause, Mark, NO_DIGEST, Opened, Position, ShardMeta},
    faults::{self, Mutant},
    quota::clock::Millis,
};

/// What SQL and Redis say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Same generation and server, Redis at the mark or ahead of it: serve. Where it is ahead, the
    /// stream must be asked first whether it follows from the mark.
    Agree,
    /// Neither side knows the shard, or Redis forgot it: put an empty fence where its meta was.
    Missing,
    /// Open, but not to be served as it is: fence it.
    Fence,
    /// An empty fence that is not at the mark: put it there.
    Misplaced,
    /// Fenced, and SQL has nothing to gain or to give: open the next generation in SQL.
    Next(Cause),
    /// Fenced, with entries that SQL does not have: post them, if they follow from the mark.
    Ahead,
    /// Fenced below the mark: when the ledger has this digest there, bring Redis up; else a branch.
    Behind,
    /// Fenced at the mark with another digest: a branch of its own.
    Branch,
    /// Fenced at SQL's history, and SQL has opened the next generation: open, as it is.
    Reopen,
    /// Fenced and worth nothing, and SQL has opened the next generation: wipe, restore, open.
    Rebuild,
    /// SQL knows nothing of what Redis holds: call for help.
    Unknown(String),
}

/// Compares. The mark must have been read before the meta: then a healthy Redis is never behind it.
pub(super) fn compare(opened: Option<&Opened>, meta: Option<&ShardMeta>, run_id: &str) -> Standing {
    match (opened, meta) {
        (_, None) => Standing::Missing,
        (None, Some(meta)) if !meta.open && meta.top == Position::default() => Standing::Next(Cause::First),
        (None, Some(_)) => Standing::Unknown(
            "Redis holds a history that this database knows nothing of; check that both belong together".into(),
        ),
        (Some(opened), Some(meta)) if meta.open => compare_open(opened, meta, run_id),
        (Some(opened), Some(meta)) if is_empty(meta) => compare_empty(opened, meta, run_id),
        (Some(opened), Some(meta)) => compare_fenced(opened, meta, run_id),
    }
}

fn compare_open(opened: &Opened, meta: &ShardMeta, run_id: &str) -> Standing {
    let mark = &opened.mark;
    let same_life = meta.top.generation == mark.at.generation && opened.run_id == run_id;
    let agrees = meta.top > mark.at || (meta.top == mark.at && is_same(mark, meta));
    if same_life && agrees { Standing::Agree } else { Standing::Fence }
}

fn compare_empty(opened: &Opened, meta: &ShardMeta, run_id: &str) -> Standing {
    let mark = &opened.mark;
    let cause = if meta.top == Position::default() { Cause::First } else { Cause::Missing };
    if is_next(mark, meta) {
        // Opened for another server: entries of its life may still be on their way into SQL.
        return if opened.run_id == run_id { Standing::Rebuild } else { Standing::Next(cause) };
    }
    if meta.top == mark.at && is_same(mark, meta) { Standing::Next(cause) } else { Standing::Misplaced }
}

fn compare_fenced(opened: &Opened, meta: &ShardMeta, run_id: &str) -> Standing {
    let mark = &opened.mark;
    if is_same(mark, meta) {
        return if is_settled(opened, meta, run_id) { Standing::Reopen } else { Standing::Next(Cause::Restarted) };
    }
    match meta.top.cmp(&mark.at) {
        std::cmp::Ordering::Greater => Standing::Ahead,
        std::cmp::Ordering::Less => Standing::Behind,
        std::cmp::Ordering::Equal => Standing::Branch,
    }
}

/// Whether both sides have the same history.
pub(super) fn is_same(mark: &Mark, meta: &ShardMeta) -> bool {
    if faults::is(Mutant::SeqWithoutDigest) {
        return mark.at.seq == 0 || mark.at.seq == meta.top.seq;
    }
    if faults::is(Mutant::NoRedo) && meta.top < mark.at {
        return true;
    }
    meta.digest == mark.digest
}

/// Whether SQL has opened the next generation for a fence, and nothing came after that.
fn is_next(mark: &Mark, meta: &ShardMeta) -> bool {
    mark.at.seq == 0 && mark.at.generation > meta.top.generation
}

/// Whether SQL has closed the generation of a fence, for this server: no write-back of an earlier
/// life can move the mark any more.
pub(super) fn is_settled(opened: &Opened, meta: &ShardMeta, run_id: &str) -> bool {
    is_next(&opened.mark, meta) && opened.run_id == run_id
}

/// The fence for a shard whose memory is worth nothing: it stands where SQL stands, for there is
/// nothing to save.
pub(super) fn empty_fence(mark: Option<&Mark>) -> ShardMeta {
    let (top, digest) = mark.map_or((Position::default(), NO_DIGEST), |mark| (mark.at, mark.digest));
    ShardMeta { top, digest, open: false, now: Millis(0) }
}

/// Whether a fence says that what is behind it is worth nothing: no clock ever ran under it.
pub(super) fn is_empty(fence: &ShardMeta) -> bool {
    fence.now == Millis(0)
}

/// The fence for a shard whose memory is kept.
pub(super) fn fence(meta: &ShardMeta) -> ShardMeta {
    ShardMeta { open: false, now: meta.now.max(Millis(1)), ..*meta }
}

/// An open shard at the mark. Its clock goes on from `now`.
pub(super) fn open_at(mark: &Mark, now: Millis) -> ShardMeta {
    ShardMeta { top: mark.at, digest: mark.digest, open: true, now: now.max(Millis(1)) }
}

pub(super) fn differs(mark: &Mark, meta: &ShardMeta) -> String {
    format!("Redis (at {}) and the database (at {}) have different histories", Text(meta.top), Text(mark.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ports::Digest;

    const HERE: &str = "here";

    /// A place as `generation-seq` and a letter for its digest: two letters are two histories.
    fn place(text: &str) -> (Position, Digest) {
        let (at, digest) = text.split_once(' ').unwrap();
        let (generation, seq) = at.split_once('-').unwrap();
        let at = Position { generation: generation.parse().unwrap(), seq: seq.parse().unwrap() };
        (at, [digest.as_bytes()[0]; 40])
    }

    /// `<place> <digest> <run>`.
    fn opened(text: &str) -> Option<Opened> {
        let (text, run) = text.rsplit_once(' ')?;
        let (at, digest) = place(text);
        Some(Opened { shard: 0, mark: Mark { at, digest, fence: 1 }, run_id: run.to_owned() })
    }

    /// `<place> <digest> <open|fenced|empty>`.
    fn meta(text: &str) -> Option<ShardMeta> {
        let (text, state) = text.rsplit_once(' ')?;
        let (top, digest) = place(text);
        let now = Millis(if state == "empty" { 0 } else { 7 });
        Some(ShardMeta { top, digest, open: state == "open", now })
    }

    #[test]
    fn every_pair_has_its_standing() {
        use Cause::{First, Missing, Restarted};
        for (sql, redis, expected) in [
            ("", "", Standing::Missing),
            ("1-5 a here", "", Standing::Missing),
            ("", "0-0 0 empty", Standing::Next(First)),
            // Open and healthy.
            ("1-0 0 here", "1-0 0 open", Standing::Agree),
            ("1-5 a here", "1-5 a open", Standing::Agree),
            ("1-5 a here", "1-9 b open", Standing::Agree),
            // Open, but something happened.
            ("1-5 a gone", "1-5 a open", Standing::Fence),
            ("1-5 a gone", "1-9 b open", Standing::Fence),
            ("1-5 a here", "1-5 b open", Standing::Fence),
            ("1-5 a here", "1-4 b open", Standing::Fence),
            ("2-0 a here", "1-9 b open", Standing::Fence),
            ("2-0 a here", "1-9 a open", Standing::Fence),
            ("1-5 a here", "2-0 a open", Standing::Fence),
            ("1-5 a here", "2-3 b open", Standing::Fence),
            // Empty fences.
            ("1-5 a here", "1-5 a empty", Standing::Next(Missing)),
            ("1-5 a gone", "1-5 a empty", Standing::Next(Missing)),
            ("2-0 a here", "1-5 a empty", Standing::Rebuild),
            ("2-0 b here", "1-5 a empty", Standing::Rebuild),
            ("2-0 a gone", "1-5 a empty", Standing::Next(Missing)),
            ("1-0 0 here", "0-0 0 empty", Standing::Rebuild),
            ("1-0 0 gone", "0-0 0 empty", Standing::Next(First)),
            ("1-6 b here", "1-5 a empty", Standing::Misplaced),
            ("1-5 b here", "1-5 a empty", Standing::Misplaced),
            ("1-4 b here", "1-5 a empty", Standing::Misplaced),
            ("2-7 b here", "1-5 a empty", Standing::Misplaced),
            ("1-4 b here", "2-0 b empty", Standing::Misplaced),
            // Fenced at SQL's history.
            ("1-5 a here", "1-5 a fenced", Standing::Next(Restarted)),
            ("1-5 a gone", "1-5 a fenced", Standing::Next(Restarted)),
            ("2-0 a here", "1-5 a fenced", Standing::Reopen),
            ("2-0 a gone", "1-5 a fenced", Standing::Next(Restarted)),
            ("4-0 a here", "1-5 a fenced", Standing::Reopen),
            ("2-0 a here", "2-0 a fenced", Standing::Next(Restarted)),
            ("1-5 a here", "2-0 a fenced", Standing::Next(Restarted)),
            // Fenced elsewhere.
            ("1-5 a here", "1-9 b fenced", Standing::Ahead),
            ("1-5 a here", "2-3 b fenced", Standing::Ahead),
            ("2-0 a here", "2-3 b fenced", Standing::Ahead),
            ("1-5 a here", "1-4 b fenced", Standing::Behind),
            ("2-0 a here", "1-4 b fenced", Standing::Behind),
            ("2-7 a here", "1-9 b fenced", Standing::Behind),
            ("1-5 a here", "1-5 b fenced", Standing::Branch),
        ] {
            let found = compare(opened(sql).as_ref(), meta(redis).as_ref(), HERE);
            assert_eq!(found, expected, "SQL `{sql}` Redis `{redis}`");
        }
        for redis in ["1-0 0 open", "1-3 a open", "1-3 a fenced", "1-3 a empty"] {
            assert!(matches!(compare(None, meta(redis).as_ref(), HERE), Standing::Unknown(_)), "{redis}");
        }
    }

    #[test]
    fn only_a_shard_that_lost_its_meta_has_an_empty_fence() {
        let never_written = ShardMeta { now: Millis(0), ..meta("1-0 0 open").unwrap() };
        assert!(!is_empty(&fence(&never_written)), "its holds are worth keeping");
        let mark = opened("1-5 a here").unwrap().mark;
        assert!(is_empty(&empty_fence(Some(&mark))) && is_empty(&empty_fence(None)));
        assert!(!is_empty(&fence(&open_at(&mark, Millis(0)))));
    }
}
