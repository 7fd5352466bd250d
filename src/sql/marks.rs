//! How far each shard's stream is posted, and the generations that it went through. A mark moves by
//! compare-and-set only: its row is locked, compared, and replaced in one transaction.

use std::collections::BTreeMap;

use super::{
    Store, bulk,
    bulk::{Table, Type},
    ledger::{digest_text, read_digest},
    session::{Dialect, Row, Session, Value},
};
use crate::{
    engine::ports::{Digest, Mark, NO_DIGEST, Opened, Opening, Position, StoreError},
    quota::clock::local_now,
};

const SHARDS: Table<5> = Table {
    name: "shards",
    columns: "shard, generation, seq, digest, fence",
    types: [Type::Int, Type::Int, Type::Int, Type::Text, Type::Int],
};
const OPENED: &str = "SELECT s.shard, s.generation, s.seq, s.digest, s.fence, g.run_id FROM shards s \
     LEFT JOIN generations g ON g.shard = s.shard AND g.generation = s.generation";

pub(super) async fn opened(session: &mut dyn Session, shard: u16) -> Result<Option<Opened>, StoreError> {
    let rows = session.fetch(format!("{OPENED} WHERE s.shard = ?").into(), &[shard.into()]).await?;
    rows.first().map(read_opened).transpose()
}

pub(super) async fn all_opened(session: &mut dyn Session) -> Result<Vec<Opened>, StoreError> {
    let rows = session.fetch(format!("{OPENED} ORDER BY s.shard").into(), &[]).await?;
    rows.iter().map(read_opened).collect()
}

fn read_opened(row: &Row) -> Result<Opened, StoreError> {
    let (shard, mark) = read_mark(row)?;
    Ok(Opened { shard, mark, run_id: row.opt_text(5)?.unwrap_or_default().to_owned() })
}

fn read_mark(row: &Row) -> Result<(u16, Mark), StoreError> {
    let at = Position { generation: row.number(1)?, seq: row.number(2)? };
    Ok((row.number(0)?, Mark { at, digest: read_digest(row.text(3)?)?, fence: row.number(4)? }))
}

/// The marks of some shards, locked until the transaction ends. `shards` is sorted, so that everybody
/// locks in the same order.
pub(super) async fn lock(
    session: &mut dyn Session,
    dialect: &Dialect,
    shards: &[u16],
) -> Result<BTreeMap<u16, Mark>, StoreError> {
    let (list, values) = bulk::list(shards);
    let sql = format!(
        "SELECT shard, generation, seq, digest, fence FROM shards WHERE shard IN {list} ORDER BY shard{}",
        dialect.for_update
    );
    session.fetch(sql.into(), &values).await?.iter().map(read_mark).collect()
}

/// Replaces marks that [`lock`] has locked.
pub(super) async fn replace<'m>(
    session: &mut dyn Session,
    dialect: &Dialect,
    marks: impl Iterator<Item = (u16, &'m Mark)>,
) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for (shard, mark) in marks {
        rows.push(mark_row(shard, mark)?);
    }
    bulk::insert(session, dialect, &SHARDS, &rows, dialect.replace_mark).await?;
    Ok(())
}

fn mark_row(shard: u16, mark: &Mark) -> Result<[Value<'_>; 5], StoreError> {
    let (seq, fence) = (mark.at.seq as i64, mark.fence as i64);
    Ok([shard.into(), mark.at.generation.into(), seq.into(), digest_text(&mark.digest)?.into(), fence.into()])
}

pub(super) async fn open_generation(
    store: &Store,
    shard: u16,
    expected: Option<&Mark>,
    opening: &Opening,
) -> Result<Option<Mark>, StoreError> {
    let generation = opening.generation;
    if expected.map_or(0, |mark| mark.at.generation) >= generation {
        let detail = format!("generation {generation} of shard {shard} is not newer than the one before it");
        return Err(StoreError::Refused { field: "generation", detail });
    }
    let opened = Mark {
        at: Position { generation, seq: 0 },
        digest: expected.map_or(NO_DIGEST, |mark| mark.digest),
        fence: expected.map_or(0, |mark| mark.fence) + 1,
    };
    let dialect = store.backend.dialect();
    let mut session = store.write().await?;
    // A shard without a mark gets one that nobody ever sees, so that there is a row to lock.
    let nowhere = Mark { at: Position { generation: 0, seq: 0 }, digest: NO_DIGEST, fence: 0 };
    if expected.is_none() {
        let end = (dialect.keep_first)("shard");
        let sql = format!("INSERT INTO shards ({}) VALUES (?, ?, ?, ?, ?){end}", SHARDS.columns);
        session.execute(sql.into(), &mark_row(shard, &nowhere)?).await?;
    }
    if lock(&mut *session, dialect, &[shard]).await?.get(&shard) != Some(expected.unwrap_or(&nowhere)) {
        return Ok(None);
    }
    replace(&mut *session, dialect, [(shard, &opened)].into_iter()).await?;
    if let Some(mark) = expected {
        close_generation(&mut *session, shard, mark).await?;
    }
    add_generation(&mut *session, shard, &opened, opening).await?;
    session.commit().await?;
    crate::fail_point!("generation-committed");
    Ok(Some(opened))
}

async fn close_generation(session: &mut dyn Session, shard: u16, mark: &Mark) -> Result<(), StoreError> {
    let sql = "UPDATE generations SET last_seq = ?, closed_at = ? WHERE shard = ? AND generation = ?";
    let values = [(mark.at.seq as i64).into(), local_now().0.into(), shard.into(), mark.at.generation.into()];
    session.execute(sql.into(), &values).await?;
    Ok(())
}

async fn add_generation(
    session: &mut dyn Session,
    shard: u16,
    opened: &Mark,
    opening: &Opening,
) -> Result<(), StoreError> {
    let seen = opening.seen.map(|at| format!("{}-{}", at.generation, at.seq));
    session
        .execute(
            "INSERT INTO generations (shard, generation, opened_at, start_digest, run_id, cause, redone, merged, seen, \
             kept_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                .into(),
            &[
                shard.into(),
                opening.generation.into(),
                local_now().0.into(),
                digest_text(&opened.digest)?.into(),
                opening.run_id.as_str().into(),
                opening.cause.as_str().into(),
                (opening.redone as i64).into(),
                (opening.merged as i64).into(),
                seen.as_deref().into(),
                opening.kept_until.map(|at| at.0).into(),
            ],
        )
        .await?;
    Ok(())
}

pub(super) async fn digest_at(
    session: &mut dyn Session,
    shard: u16,
    at: Position,
) -> Result<Option<Digest>, StoreError> {
    let seq = i64::try_from(at.seq).unwrap_or(i64::MAX);
    let rows = if seq == 0 {
        let sql = "SELECT start_digest FROM generations WHERE shard = ? AND generation = ?";
        session.fetch(sql.into(), &[shard.into(), at.generation.into()]).await?
    } else {
        let sql = "SELECT digest FROM ledger WHERE shard = ? AND generation = ? AND seq = ?";
        session.fetch(sql.into(), &[shard.into(), at.generation.into(), seq.into()]).await?
    };
    rows.first().map(|row| read_digest(row.text(0)?)).transpose()
}
