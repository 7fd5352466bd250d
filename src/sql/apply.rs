//! The transaction that posts: batches of many shards into the ledger, the sums beside them, and their
//! marks, all or nothing.
//!
//! An operation that was posted before (its tombstone in Redis was gone when it was repeated) is kept
//! as a rejected row and reported. Its amounts count like any other's, because Redis counted them:
//! what undoes it is a ledger entry of its own, which moves both sides by the same amount. So SQL is
//! the sum of all its ledger rows, and equals Redis, before and after that entry.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    Store,
    bulk::{self, Table, Type},
    ledger::{LEDGER, LedgerRow, known, operation},
    marks,
    policy_rows::corrupt,
    redeem::{credits_of_codes, mark_redeemed},
    session::{Dialect, Session, Value},
    sums::Sums,
};
use crate::{
    engine::ports::{Applied, Batch, Mark, Position, StoreError},
    faults::{self, Mutant},
};

pub(super) const KEY_USAGE: Table<4> = Table {
    name: "key_usage",
    columns: "account, key_id, used, requests",
    types: [Type::Text, Type::Text, Type::Int, Type::Int],
};
pub(super) const WINDOWS: Table<5> = Table {
    name: "windows",
    columns: "account, field, code, start_s, used",
    types: [Type::Text, Type::Text, Type::Int, Type::Int, Type::Int],
};

pub(super) async fn apply(store: &Store, batches: &[Batch]) -> Result<Vec<Applied>, StoreError> {
    batches.iter().try_for_each(check)?;
    let mut applied = vec![Applied::default(); batches.len()];
    // In order of shards, so that two posters never wait for each other in a circle.
    let mut order: Vec<usize> = (0..batches.len()).collect();
    order.sort_by_key(|place| batches[*place].shard);
    let shards: BTreeSet<u16> = batches.iter().map(|batch| batch.shard).collect();
    let shards: Vec<u16> = shards.into_iter().collect();
    let dialect = store.backend.dialect();
    let mut session = store.write().await?;
    let mut marks = marks::lock(&mut *session, dialect, &shards).await?;
    order.retain(|place| {
        let batch = &batches[*place];
        let stands = marks.get(&batch.shard) == Some(&batch.from);
        if stands {
            marks.insert(batch.shard, batch.to);
        }
        stands
    });
    if order.is_empty() {
        return Ok(applied);
    }
    let moved: Vec<&Batch> = order.iter().map(|place| &batches[*place]).collect();
    marks.retain(|shard, _| moved.iter().any(|batch| batch.shard == *shard));
    let duplicates = post(&mut *session, dialect, &moved).await?;
    let mark_outside = faults::is(Mutant::MarkOutsideTransaction);
    if !mark_outside {
        move_marks(&mut *session, dialect, &marks).await?;
    }
    crate::fail_point!("posting-before-commit");
    session.commit().await?;
    crate::fail_point!("posting-committed");
    if mark_outside {
        crate::fail_point!("mark-outside");
        let mut session = store.write().await?;
        move_marks(&mut *session, dialect, &marks).await?;
        session.commit().await?;
    }
    for place in order {
        let batch = &batches[place];
        let ours = |at: &&(u16, Position)| at.0 == batch.shard && at.1 > batch.from.at && at.1 <= batch.to.at;
        let duplicates = duplicates.iter().filter(ours).map(|(_, at)| *at).collect();
        applied[place] = Applied { moved: true, duplicates };
    }
    Ok(applied)
}

/// A batch that does not lead from its `from` to its `to` is the caller's mistake.
fn check(batch: &Batch) -> Result<(), StoreError> {
    let (from, to) = (&batch.from, &batch.to);
    let seqs = batch.entries.iter().map(|line| line.at);
    let expected = (from.at.seq + 1..).map(|seq| Position { generation: from.at.generation, seq });
    let ends_at_mark = batch.entries.last().is_some_and(|line| line.at == to.at && line.digest == to.digest);
    if from.fence == to.fence && ends_at_mark && seqs.zip(expected).all(|(at, expected)| at == expected) {
        return Ok(());
    }
    let detail = format!("the batch of shard {} does not lead from its first mark to its second", batch.shard);
    Err(StoreError::Refused { field: "batch", detail })
}

async fn move_marks(
    session: &mut dyn Session,
    dialect: &Dialect,
    marks: &BTreeMap<u16, Mark>,
) -> Result<(), StoreError> {
    marks::replace(session, dialect, marks.iter().map(|(shard, mark)| (*shard, mark))).await
}

/// Ledger rows and sums; the places of entries whose operation was posted before.
async fn post(
    session: &mut dyn Session,
    dialect: &Dialect,
    batches: &[&Batch],
) -> Result<Vec<(u16, Position)>, StoreError> {
    let lines = || batches.iter().flat_map(|batch| batch.entries.iter().map(|line| (batch.shard, line)));
    let rows: Vec<LedgerRow<'_>> =
        lines().map(|(shard, line)| LedgerRow::new(shard, line)).collect::<Result<_, _>>()?;
    let credits = credits_of_codes(lines().map(|(_, line)| &line.entry));
    let sums = Sums::of(lines().map(|(_, line)| &line.entry))?;
    let duplicates = match dialect.skip_posted {
        Some(end) => insert_skipping(session, dialect, end, batches, &rows).await?,
        None => insert_or_look(session, dialect, &rows).await?,
    };
    add_sums(session, dialect, &sums).await?;
    // Last: whoever holds a code's lock waits for none of the above.
    mark_redeemed(session, dialect, credits).await?;
    Ok(duplicates)
}

/// Inserts all rows as posted; those that were skipped are inserted as rejected.
async fn insert_skipping(
    session: &mut dyn Session,
    dialect: &Dialect,
    end: &str,
    batches: &[&Batch],
    rows: &[LedgerRow<'_>],
) -> Result<Vec<(u16, Position)>, StoreError> {
    let posted: Vec<_> = rows.iter().map(LedgerRow::posted).collect();
    let inserted = bulk::insert(session, dialect, &LEDGER, &posted, end).await?;
    if inserted == rows.len() as u64 {
        return Ok(Vec::new());
    }
    let mut present = HashSet::with_capacity(rows.len());
    for batch in batches {
        present.extend(present_in(session, batch).await?);
    }
    let skipped = || rows.iter().filter(|row| !present.contains(&(row.shard, row.at)));
    let rejected: Vec<_> = skipped().map(LedgerRow::rejected).collect();
    bulk::insert(session, dialect, &LEDGER, &rejected, "").await?;
    Ok(skipped().map(|row| (row.shard, row.at)).collect())
}

/// Inserts all rows as posted, chunk by chunk; where that is refused, looks which were posted before.
async fn insert_or_look(
    session: &mut dyn Session,
    dialect: &Dialect,
    rows: &[LedgerRow<'_>],
) -> Result<Vec<(u16, Position)>, StoreError> {
    let mut duplicates = Vec::new();
    for chunk in bulk::chunks(rows, dialect, LEDGER.types.len()) {
        let posted: Vec<_> = chunk.iter().map(LedgerRow::posted).collect();
        let Err(refusal) = bulk::insert(session, dialect, &LEDGER, &posted, "").await else { continue };
        if !matches!(refusal, StoreError::Refused { .. }) {
            return Err(refusal);
        }
        let entries: Vec<_> = chunk.iter().map(|row| row.entry).collect();
        let mut before = known(session, dialect, &entries).await?;
        let mut here = HashSet::new();
        for (known, entry) in before.iter_mut().zip(&entries) {
            *known |= !here.insert(operation(entry));
        }
        let places = chunk.iter().zip(&before).filter(|(_, known)| **known).map(|(row, _)| (row.shard, row.at));
        let found = duplicates.len();
        duplicates.extend(places);
        if found == duplicates.len() {
            return Err(refusal);
        }
        let mut judged = Vec::with_capacity(chunk.len());
        for (row, known) in chunk.iter().zip(&before) {
            judged.push(if *known { row.rejected() } else { row.posted() });
        }
        bulk::insert(session, dialect, &LEDGER, &judged, "").await?;
    }
    Ok(duplicates)
}

async fn add_sums(session: &mut dyn Session, dialect: &Dialect, sums: &Sums<'_>) -> Result<(), StoreError> {
    let mut accounts: Vec<[Value<'_>; 4]> = Vec::with_capacity(sums.accounts.len());
    for (account, [balance, used, requests]) in &sums.accounts {
        accounts.push([(*account).into(), (*balance).into(), (*used).into(), (*requests).into()]);
    }
    let types = [Type::Text, Type::Int, Type::Int, Type::Int];
    let changed = bulk::execute_over(session, dialect, &types, &accounts, dialect.sum_accounts).await?;
    if changed != accounts.len() as u64 {
        return Err(unknown_account(session, sums).await);
    }
    let mut keys: Vec<[Value<'_>; 4]> = Vec::with_capacity(sums.keys.len());
    for ((account, key), [used, requests]) in &sums.keys {
        keys.push([(*account).into(), (*key).into(), (*used).into(), (*requests).into()]);
    }
    bulk::insert(session, dialect, &KEY_USAGE, &keys, dialect.add_key_usage).await?;
    let mut windows: Vec<[Value<'_>; 5]> = Vec::with_capacity(sums.windows.len());
    for ((account, field, code), (start_s, used)) in &sums.windows {
        windows.push([(*account).into(), (*field).into(), (*code).into(), (*start_s).into(), (*used).into()]);
    }
    bulk::insert(session, dialect, &WINDOWS, &windows, dialect.add_windows).await?;
    Ok(())
}

/// The sentence that names the first account of a batch that SQL does not know.
async fn unknown_account(session: &mut dyn Session, sums: &Sums<'_>) -> StoreError {
    for account in sums.accounts.keys() {
        match session.fetch("SELECT 1 FROM accounts WHERE account = ?".into(), &[(*account).into()]).await {
            Ok(rows) if rows.is_empty() => {
                let detail = format!("the ledger names account {account}, which the database does not know");
                return StoreError::Refused { field: "account", detail };
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
    corrupt("the sums of a batch changed another number of accounts than it names")
}

/// Places of the batch that are in the ledger.
async fn present_in(session: &mut dyn Session, batch: &Batch) -> Result<Vec<(u16, Position)>, StoreError> {
    let rows = session
        .fetch(
            "SELECT seq FROM ledger WHERE shard = ? AND generation = ? AND seq > ? AND seq <= ?".into(),
            &[
                batch.shard.into(),
                batch.from.at.generation.into(),
                (batch.from.at.seq as i64).into(),
                (batch.to.at.seq as i64).into(),
            ],
        )
        .await?;
    let generation = batch.from.at.generation;
    rows.iter().map(|row| Ok((batch.shard, Position { generation, seq: row.number(0)? }))).collect()
}
