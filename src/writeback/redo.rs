//! Redo: Redis is an older state of SQL's history. The ledger's rows after its top are applied to it
//! again, in order and under their own ids, each checked by its digest here and in the script. What
//! Redis holds besides (live holds, tombstones) is kept.

use super::{
    checkpoint::{self, Text},
    poster::Poster,
};
use crate::engine::ports::{Mark, Position, ShardMeta, Unavailable};

/// Ledger rows read at once.
const PAGE_ROWS: u32 = 500;

/// How a redo ended.
pub(super) enum Redo {
    /// Redis stands where SQL stands.
    Done,
    /// Somebody else moved the fence, or there is more to do: look again.
    Again,
    Refused(String),
}

/// How many rows a redo has to apply; `None` when they are more than may be.
pub(super) async fn rows_after(
    poster: &Poster,
    shard: u16,
    top: Position,
    mark: &Mark,
) -> Result<Option<u64>, Unavailable> {
    let most = poster.settings.redo_rows_max;
    if top.generation == mark.at.generation {
        let rows = mark.at.seq.saturating_sub(top.seq);
        return Ok((rows <= most).then_some(rows));
    }
    let (mut rows, mut after) = (0, top);
    loop {
        let page = poster.ports.posting.rows_after(shard, after, PAGE_ROWS).await?;
        let Some(last) = page.last() else { return Ok(Some(rows)) };
        (rows, after) = (rows + page.len() as u64, last.at);
        if rows > most {
            return Ok(None);
        }
    }
}

/// Applies one page of rows to the fenced shard.
pub(super) async fn redo_page(
    poster: &Poster,
    shard: u16,
    fence: &ShardMeta,
    mark: &Mark,
) -> Result<Redo, Unavailable> {
    let mut fence = *fence;
    let page = poster.ports.posting.rows_after(shard, fence.top, PAGE_ROWS).await?;
    if page.is_empty() {
        return Ok(Redo::Refused(format!("the ledger ends at {}, before its mark {}", Text(fence.top), Text(mark.at))));
    }
    for row in &page {
        if let Err(divergence) = checkpoint::follow(&fence.top, &fence.digest, row) {
            return Ok(Redo::Refused(format!("the ledger is not whole: {divergence}")));
        }
        match poster.ports.stream.redo(shard, &fence, row).await? {
            Some(after) => fence = after,
            None => return Ok(Redo::Again),
        }
        crate::fail_point!("redo-one");
    }
    Ok(if fence.digest == mark.digest { Redo::Done } else { Redo::Again })
}
