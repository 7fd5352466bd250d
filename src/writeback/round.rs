//! One transaction for many shards. When SQL refuses it, shard by shard, so that only the bad one
//! stops.

use std::sync::Arc;

use super::{
    checkpoint::Next,
    concurrent,
    poster::{Held, PostError, Poster, Step, refused},
};
use crate::engine::ports::{Applied, Batch, Position};

/// Entries of one transaction: a bound on how long drains wait for the database.
const ENTRIES_MAX: u64 = 4096;
/// Streams read at once.
const READS_AT_ONCE: usize = 16;

/// A shard that seems to have entries to post.
pub(super) struct Behind {
    pub shard: u16,
    pub top: Position,
    /// `None`: nobody has looked yet.
    pub posted: Option<Position>,
}

/// What came of a transaction, by shard.
pub(super) struct Round {
    pub steps: Vec<(u16, Result<Step, PostError>)>,
    /// Shards were left out for lack of room.
    pub more: bool,
}

type Read = (Held, Batch);

impl Round {
    /// Posts a batch of each shard, as far as one transaction goes.
    pub async fn post(poster: &Arc<Poster>, behind: Vec<Behind>) -> Self {
        let most = poster.settings.batch_entries_max;
        let (chosen, more) = choose(behind, most as u64);
        // A shard that a drain is at work on needs nobody else.
        let held: Vec<_> = chosen.into_iter().filter_map(|shard| Some((shard, poster.try_hold(shard)?))).collect();
        let reads = concurrent::map(held, READS_AT_ONCE, |(shard, mut held)| {
            let poster = poster.clone();
            async move {
                let read = match poster.read(shard, &mut held, most).await {
                    Ok(Next::Batch(batch)) => return (shard, Ok((held, batch))),
                    Ok(Next::Nothing) => Ok(Step::Idle),
                    Ok(Next::Generation(mark, generation)) => {
                        poster.open(shard, &mark, generation).await.map_err(PostError::from)
                    }
                    Err(error) => Err(error),
                };
                (shard, Err(read))
            }
        });
        let mut round = Self { steps: Vec::new(), more };
        let mut batches: Vec<Read> = Vec::new();
        for (shard, read) in reads.await {
            match read {
                Ok(read) => batches.push(read),
                Err(step) => round.steps.push((shard, step)),
            }
        }
        if !batches.is_empty() {
            crate::fail_point!("batch-read");
            round.apply(poster, batches, most).await;
        }
        round
    }

    async fn apply(&mut self, poster: &Arc<Poster>, reads: Vec<Read>, most: usize) {
        let (held, batches): (Vec<Held>, Vec<Batch>) = reads.into_iter().unzip();
        let mut answers: Vec<Result<Applied, PostError>> = match poster.ports.posting.apply(&batches).await {
            Ok(applied) => applied.into_iter().map(Ok).collect(),
            Err(error) => {
                let all = batches.iter().map(|batch| Err(refused(batch, error.clone())));
                all.collect()
            }
        };
        let is_refused = answers.iter().any(|answer| matches!(answer, Err(PostError::Stopped(_))));
        if is_refused && batches.len() > 1 {
            answers.clear();
            for batch in &batches {
                let applied = poster.ports.posting.apply(std::slice::from_ref(batch)).await;
                let applied = applied.map(|mut applied| applied.pop().unwrap_or_default());
                answers.push(applied.map_err(|error| refused(batch, error)));
            }
        }
        crate::fail_point!("after-commit-before-trim");
        let done = batches.into_iter().zip(held).zip(answers);
        let steps = concurrent::map(done, READS_AT_ONCE, |((batch, mut held), applied)| {
            let poster = poster.clone();
            async move {
                let step = match applied {
                    Ok(applied) => poster.posted_batch(&mut held, &batch, &applied, most).await,
                    Err(error) => Err(error),
                };
                (batch.shard, step)
            }
        });
        self.steps.extend(steps.await);
    }
}

/// As many shards, in their order, as fit one transaction; whether some were left out.
fn choose(behind: Vec<Behind>, most: u64) -> (Vec<u16>, bool) {
    let (mut room, mut chosen, count) = (ENTRIES_MAX, Vec::new(), behind.len());
    for Behind { shard, top, posted } in behind {
        if room == 0 {
            break;
        }
        let entries = match posted {
            Some(posted) if posted.generation == top.generation => top.seq.saturating_sub(posted.seq),
            Some(_) | None => most,
        };
        room = room.saturating_sub(entries.min(most));
        chosen.push(shard);
    }
    let more = chosen.len() < count;
    (chosen, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_takes_as_many_shards_as_fit() {
        let behind = |entries: &[u64]| {
            let shards = (0..).zip(entries).map(|(shard, entries)| Behind {
                shard,
                top: Position { generation: 1, seq: 100 + entries },
                posted: Some(Position { generation: 1, seq: 100 }),
            });
            shards.collect::<Vec<_>>()
        };
        assert_eq!(choose(behind(&[1, 2, 3]), 512), (vec![0, 1, 2], false));
        assert_eq!(choose(behind(&[9000; 10]), 512), ((0..8).collect(), true), "8 × 512");
        assert_eq!(choose(behind(&[9000, 9000]), 5000), (vec![0], true));
        assert_eq!(choose(behind(&[]), 512), (vec![], false));
    }
}
