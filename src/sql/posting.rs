//! The port `Posting`: batches of ledger entries into SQL, each with the sums beside it and the mark,
//! in one transaction.
//!
//! An operation that was posted before (its tombstone in Redis was gone when it was repeated) is kept
//! as a rejected row and reported. Its amounts count like any other's, because Redis counted them:
//! what undoes it is a ledger entry of its own, which moves both sides by the same amount. So SQL is
//! the sum of all its ledger rows, and equals Redis, before and after that entry.

use async_trait::async_trait;

use super::{
    Store,
    bulk::{chunks, insert},
    ledger::{COLUMNS, LedgerRow, digest_text, read_digest, recent},
    policy_rows::corrupt,
    session::{Session, Value},
    sums::Sums,
};
use crate::{
    engine::ports::{Applied, Batch, Constants, Digest, Mark, Position, Posting, RawEntry, StoreError},
    quota::clock::local_now,
};

/// The digest before the first entry of a generation.
const NO_DIGEST: Digest = [b'0'; 40];

#[async_trait]
impl Posting for Store {
    async fn mark(&self, shard: u16) -> Result<Option<Mark>, StoreError> {
        read_mark(&mut *self.read().await?, shard).await
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        check(batch)?;
        let rows = batch
            .entries
            .iter()
            .map(|(at, digest, entry)| LedgerRow::new(batch.shard, *at, digest, entry))
            .collect::<Result<Vec<_>, _>>()?;
        let sums = Sums::of(batch.entries.iter().map(|(_, _, entry)| entry))?;
        let mut session = self.write().await?;
        if !move_mark(&mut *session, batch.shard, &batch.from, &batch.to).await? {
            return Ok(Applied::default());
        }
        let duplicates = self.insert_rows(&mut *session, batch, &rows).await?;
        self.add_sums(&mut *session, &sums).await?;
        session.commit().await?;
        Ok(Applied { moved: true, duplicates })
    }

    async fn open_generation(
        &self,
        shard: u16,
        expected: Option<&Mark>,
        generation: u32,
    ) -> Result<Option<Mark>, StoreError> {
        if expected.map_or(0, |mark| mark.at.generation) >= generation {
            let detail = format!("generation {generation} of shard {shard} is not newer than the one before it");
            return Err(StoreError::Refused { field: "generation", detail });
        }
        let fence = expected.map_or(0, |mark| mark.fence) + 1;
        let opened = Mark { at: Position { generation, seq: 0 }, digest: NO_DIGEST, fence };
        let now = local_now();
        let mut session = self.write().await?;
        let moved = match expected {
            Some(mark) => move_mark(&mut *session, shard, mark, &opened).await?,
            None => self.first_mark(&mut *session, shard, &opened).await?,
        };
        if !moved {
            return Ok(None);
        }
        if let Some(mark) = expected {
            session
                .execute(
                    "UPDATE generations SET last_seq = ?, closed_at = ? WHERE shard = ? AND generation = ?".into(),
                    &[(mark.at.seq as i64).into(), now.0.into(), shard.into(), mark.at.generation.into()],
                )
                .await?;
        }
        session
            .execute(
                "INSERT INTO generations (shard, generation, opened_at) VALUES (?, ?, ?)".into(),
                &[shard.into(), generation.into(), now.0.into()],
            )
            .await?;
        session.commit().await?;
        Ok(Some(opened))
    }

    async fn constants(&self, wanted: Constants) -> Result<Constants, StoreError> {
        let mut session = self.write().await?;
        let insert = "INSERT INTO constants (one, shards, units_per_usd) VALUES (1, ?, ?)";
        let insert = format!("{insert}{}", self.backend.dialect().keep_first);
        session.execute(insert.into(), &[wanted.shards.into(), wanted.units_per_usd.into()]).await?;
        let rows = session.fetch("SELECT shards, units_per_usd FROM constants".into(), &[]).await?;
        let row = rows.first().ok_or_else(|| corrupt("the constants vanished"))?;
        let stored = Constants { shards: row.number(0)?, units_per_usd: row.int(1)? };
        session.commit().await?;
        Ok(stored)
    }

    async fn last_run_id(&self) -> Result<Option<String>, StoreError> {
        let rows = self.read().await?.fetch("SELECT run_id FROM server".into(), &[]).await?;
        rows.first().map(|row| row.text(0).map(str::to_owned)).transpose()
    }

    async fn set_run_id(&self, run_id: &str) -> Result<(), StoreError> {
        let mut session = self.write().await?;
        let sql = format!("INSERT INTO server (one, run_id) VALUES (1, ?){}", self.backend.dialect().replace_run_id);
        session.execute(sql.into(), &[run_id.into()]).await?;
        session.commit().await
    }

    async fn digest_at(&self, shard: u16, at: Position) -> Result<Option<Digest>, StoreError> {
        let rows = self
            .read()
            .await?
            .fetch(
                "SELECT digest FROM ledger WHERE shard = ? AND generation = ? AND seq = ?".into(),
                &[shard.into(), at.generation.into(), (at.seq as i64).into()],
            )
            .await?;
        rows.first().map(|row| read_digest(row.text(0)?)).transpose()
    }

    async fn recent(&self, shard: u16, before: Option<Position>, most: u32) -> Result<Vec<RawEntry>, StoreError> {
        recent(&mut *self.read().await?, shard, before, most).await
    }
}

/// A batch that does not lead from its `from` to its `to` is the caller's mistake.
fn check(batch: &Batch) -> Result<(), StoreError> {
    let (from, to) = (&batch.from, &batch.to);
    let seqs = batch.entries.iter().map(|(at, _, _)| *at);
    let expected = (from.at.seq + 1..).map(|seq| Position { generation: from.at.generation, seq });
    let ends_at_mark = batch.entries.last().is_some_and(|(at, digest, _)| *at == to.at && *digest == to.digest);
    if from.fence == to.fence && ends_at_mark && seqs.zip(expected).all(|(at, expected)| at == expected) {
        return Ok(());
    }
    let detail = format!("the batch of shard {} does not lead from its first mark to its second", batch.shard);
    Err(StoreError::Refused { field: "batch", detail })
}

async fn read_mark(session: &mut dyn Session, shard: u16) -> Result<Option<Mark>, StoreError> {
    let sql = "SELECT generation, seq, digest, fence FROM shards WHERE shard = ?";
    let rows = session.fetch(sql.into(), &[shard.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Mark {
        at: Position { generation: row.number(0)?, seq: row.number(1)? },
        digest: read_digest(row.text(2)?)?,
        fence: row.number(3)?,
    }))
}

/// Compare-and-set of the mark; the first statement of its transaction, so that a poster that comes
/// second waits here and then does nothing.
async fn move_mark(session: &mut dyn Session, shard: u16, from: &Mark, to: &Mark) -> Result<bool, StoreError> {
    let changed = session
        .execute(
            "UPDATE shards SET generation = ?, seq = ?, digest = ?, fence = ? \
             WHERE shard = ? AND generation = ? AND seq = ? AND digest = ? AND fence = ?"
                .into(),
            &[
                to.at.generation.into(),
                (to.at.seq as i64).into(),
                digest_text(&to.digest)?.into(),
                (to.fence as i64).into(),
                shard.into(),
                from.at.generation.into(),
                (from.at.seq as i64).into(),
                digest_text(&from.digest)?.into(),
                (from.fence as i64).into(),
            ],
        )
        .await?;
    Ok(changed == 1)
}

impl Store {
    async fn first_mark(&self, session: &mut dyn Session, shard: u16, mark: &Mark) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO shards (shard, generation, seq, digest, fence) VALUES (?, ?, 0, ?, ?){}",
            self.backend.dialect().keep_first
        );
        let values =
            [shard.into(), mark.at.generation.into(), digest_text(&mark.digest)?.into(), (mark.fence as i64).into()];
        Ok(session.execute(sql.into(), &values).await? == 1)
    }

    /// Inserts the ledger rows; places of those whose operation was posted before.
    async fn insert_rows(
        &self,
        session: &mut dyn Session,
        batch: &Batch,
        rows: &[LedgerRow<'_>],
    ) -> Result<Vec<Position>, StoreError> {
        let dialect = self.backend.dialect();
        let into = format!("INSERT INTO ledger ({COLUMNS})");
        let posted: Vec<_> = rows.iter().map(|row| row.values(true)).collect();
        let inserted = insert(session, dialect, &into, &posted, dialect.skip_posted).await?;
        if inserted == rows.len() as u64 {
            return Ok(Vec::new());
        }
        let present = present(session, batch).await?;
        let skipped = || rows.iter().filter(|row| present.binary_search(&row.at.seq).is_err());
        let rejected: Vec<_> = skipped().map(|row| row.values(false)).collect();
        insert(session, dialect, &into, &rejected, "").await?;
        Ok(skipped().map(|row| row.at).collect())
    }

    async fn add_sums(&self, session: &mut dyn Session, sums: &Sums<'_>) -> Result<(), StoreError> {
        let dialect = self.backend.dialect();
        let mut accounts: Vec<[Value<'_>; 4]> = Vec::with_capacity(sums.accounts.len());
        for (account, [balance, used, requests]) in &sums.accounts {
            accounts.push([(*account).into(), (*balance).into(), (*used).into(), (*requests).into()]);
        }
        for chunk in chunks(&accounts, dialect.values_max / 4) {
            let changed = session.execute((dialect.sum_accounts)(chunk.len()).into(), chunk.as_flattened()).await?;
            if changed != chunk.len() as u64 {
                return Err(unknown_account(session, sums).await);
            }
        }
        let mut keys: Vec<[Value<'_>; 4]> = Vec::with_capacity(sums.keys.len());
        for ((account, key), [used, requests]) in &sums.keys {
            keys.push([(*account).into(), (*key).into(), (*used).into(), (*requests).into()]);
        }
        let into = "INSERT INTO key_usage (account, key_id, used, requests)";
        insert(session, dialect, into, &keys, dialect.add_key_usage).await?;
        let mut windows: Vec<[Value<'_>; 5]> = Vec::with_capacity(sums.windows.len());
        for ((account, field, code), (start_s, used)) in &sums.windows {
            windows.push([(*account).into(), (*field).into(), (*code).into(), (*start_s).into(), (*used).into()]);
        }
        let into = "INSERT INTO windows (account, field, code, start_s, used)";
        insert(session, dialect, into, &windows, dialect.add_windows).await?;
        Ok(())
    }
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

/// Sequence numbers of the batch that are in the ledger, in order.
async fn present(session: &mut dyn Session, batch: &Batch) -> Result<Vec<u64>, StoreError> {
    let rows = session
        .fetch(
            "SELECT seq FROM ledger WHERE shard = ? AND generation = ? AND seq > ? AND seq <= ? ORDER BY seq".into(),
            &[
                batch.shard.into(),
                batch.from.at.generation.into(),
                (batch.from.at.seq as i64).into(),
                (batch.to.at.seq as i64).into(),
            ],
        )
        .await?;
    rows.iter().map(|row| row.number(0)).collect()
}
