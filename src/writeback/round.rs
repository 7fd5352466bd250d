//! One transaction for many shards. When SQL refuses it, shard by shard, so that only the bad one
//! stops.

use super::{
    checkpoint::Next,
    poster::{Held, PostError, Poster, Start, Step, read_most, refused},
};
use crate::engine::ports::{Applied, Batch, Position};

/// Entries of one transaction: a bound on how long drains wait for the database.
const ENTRIES_MAX: u64 = 4096;
/// Entries asked for in one exchange: Redis answers nobody else meanwhile, for less than a millisecond.
const EXCHANGE_ENTRIES_MAX: u64 = 1024;

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

/// A stream to be read.
struct Read {
    shard: u16,
    /// So many entries are expected.
    entries: u64,
    held: Held,
    start: Start,
}

impl Round {
    /// Posts a batch of each shard, as far as one transaction goes.
    pub async fn post(poster: &Poster, behind: Vec<Behind>) -> Self {
        let most = poster.settings.batch_entries_max;
        let (chosen, more) = choose(behind, most as u64);
        let mut round = Self { steps: Vec::new(), more };
        let mut reads = Vec::with_capacity(chosen.len());
        for (shard, entries) in chosen {
            // A shard that a drain is at work on needs nobody else.
            let Some(mut held) = poster.try_hold(shard) else { continue };
            match poster.start(shard, &mut held).await {
                Ok(start) => reads.push(Read { shard, entries, held, start }),
                Err(reason) => round.steps.push((shard, Err(reason.into()))),
            }
        }
        let mut batches = Vec::with_capacity(reads.len());
        while !reads.is_empty() {
            let exchange = reads.split_off(reads.len() - one_exchange(&reads));
            round.read(poster, exchange, most, &mut batches).await;
        }
        if !batches.is_empty() {
            crate::fail_point!("batch-read");
            round.apply(poster, batches, most).await;
        }
        round
    }

    /// Reads some streams in one exchange; what is to be posted of them goes to `batches`.
    async fn read(&mut self, poster: &Poster, reads: Vec<Read>, most: usize, batches: &mut Vec<(Held, Batch)>) {
        let places: Vec<(u16, Position)> = reads.iter().map(|read| (read.shard, read.start.mark.at)).collect();
        let streams = match poster.ports.stream.read_many(&places, read_most(most)).await {
            Ok(streams) => streams,
            Err(reason) => {
                self.steps.extend(places.iter().map(|(shard, _)| (*shard, Err(reason.clone().into()))));
                return;
            }
        };
        for (Read { shard, mut held, start, .. }, stream) in reads.into_iter().zip(streams) {
            let followed = match stream {
                Ok(stream) => poster.follow(shard, &mut held, &start, &stream, most).await,
                Err(reason) => Err(reason.into()),
            };
            let next = match followed {
                Ok(Some(next)) => Ok(next),
                Ok(None) => poster.read(shard, &mut held, most).await,
                Err(error) => Err(error),
            };
            let step = match next {
                Ok(Next::Batch(batch)) => {
                    batches.push((held, batch));
                    continue;
                }
                Ok(Next::Nothing) => Ok(Step::Idle),
                Ok(Next::Generation(mark, generation)) => {
                    poster.open(shard, &mark, generation).await.map_err(PostError::from)
                }
                Err(error) => Err(error),
            };
            self.steps.push((shard, step));
        }
    }

    async fn apply(&mut self, poster: &Poster, reads: Vec<(Held, Batch)>, most: usize) {
        let (mut held, batches): (Vec<Held>, Vec<Batch>) = reads.into_iter().unzip();
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
                let alone = poster.ports.posting.apply(std::slice::from_ref(batch)).await;
                let alone = alone.map(|mut applied| applied.pop().unwrap_or_default());
                answers.push(alone.map_err(|error| refused(batch, error)));
            }
        }
        crate::fail_point!("after-commit-before-trim");
        for ((batch, held), applied) in batches.iter().zip(&mut held).zip(answers) {
            let step = match applied {
                Ok(applied) => Ok(poster.posted_batch(held, batch, &applied, most).await),
                Err(error) => Err(error),
            };
            self.steps.push((batch.shard, step));
        }
        poster.trim(batches.iter().map(|batch| batch.shard).zip(held.iter_mut().map(|held| &mut **held))).await;
    }
}

/// How many of the last reads go into one exchange: one at least, and no more than keep Redis busy for a moment.
fn one_exchange(reads: &[Read]) -> usize {
    let mut room = EXCHANGE_ENTRIES_MAX;
    let fits = |read: &&Read| {
        let had_room = room > 0;
        room = room.saturating_sub(read.entries);
        had_room
    };
    reads.iter().rev().take_while(fits).count()
}

/// As many shards, in their order, as fit one transaction, and how many entries are expected of each; whether some
/// shards were left out.
fn choose(behind: Vec<Behind>, most: u64) -> (Vec<(u16, u64)>, bool) {
    let (mut room, mut chosen, count) = (ENTRIES_MAX, Vec::new(), behind.len());
    for Behind { shard, top, posted } in behind {
        if room == 0 {
            break;
        }
        let entries = match posted {
            Some(posted) if posted.generation == top.generation => top.seq.saturating_sub(posted.seq),
            Some(_) | None => most,
        };
        let entries = entries.min(most);
        room = room.saturating_sub(entries);
        chosen.push((shard, entries));
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
        assert_eq!(choose(behind(&[1, 2, 3]), 512), (vec![(0, 1), (1, 2), (2, 3)], false));
        assert_eq!(choose(behind(&[9000; 10]), 512), ((0..8).map(|shard| (shard, 512)).collect(), true), "8 × 512");
        assert_eq!(choose(behind(&[9000, 9000]), 5000), (vec![(0, 5000)], true));
        assert_eq!(choose(behind(&[]), 512), (vec![], false));
    }
}
