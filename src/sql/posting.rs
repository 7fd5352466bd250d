//! The port `Posting`: what write-back and attach ask of SQL. The transaction that posts is in
//! `apply.rs`, the marks and generations in `marks.rs`, the ledger's pages in `ledger.rs`.

use async_trait::async_trait;

use super::{
    Store, apply,
    ledger::{known, recent, rows_after, uncompensated},
    marks,
    policy_rows::corrupt,
};
use crate::{
    engine::ports::{
        Applied, Batch, Constants, Digest, Mark, Opened, Opening, Position, Posting, RawEntry, StoreError,
    },
    quota::entry::Entry,
};

#[async_trait]
impl Posting for Store {
    async fn opened(&self, shard: u16) -> Result<Option<Opened>, StoreError> {
        marks::opened(&mut *self.read().await?, shard).await
    }

    async fn all_opened(&self) -> Result<Vec<Opened>, StoreError> {
        marks::all_opened(&mut *self.read().await?).await
    }

    async fn apply(&self, batches: &[Batch]) -> Result<Vec<Applied>, StoreError> {
        apply::apply(self, batches).await
    }

    async fn open_generation(
        &self,
        shard: u16,
        expected: Option<&Mark>,
        opening: &Opening,
    ) -> Result<Option<Mark>, StoreError> {
        marks::open_generation(self, shard, expected, opening).await
    }

    async fn constants(&self, wanted: Constants) -> Result<Constants, StoreError> {
        let mut session = self.write().await?;
        let end = (self.backend.dialect().keep_first)("one");
        let insert = format!("INSERT INTO constants (one, shards, units_per_usd) VALUES (1, ?, ?){end}");
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
        marks::digest_at(&mut *self.read().await?, shard, at).await
    }

    async fn rows_after(&self, shard: u16, after: Position, most: u32) -> Result<Vec<RawEntry>, StoreError> {
        rows_after(&mut *self.read().await?, shard, after, most).await
    }

    async fn known(&self, entries: &[Entry]) -> Result<Vec<bool>, StoreError> {
        let entries: Vec<&Entry> = entries.iter().collect();
        known(&mut *self.read().await?, self.backend.dialect(), &entries).await
    }

    async fn uncompensated(&self, most: u32) -> Result<Vec<(u16, RawEntry)>, StoreError> {
        uncompensated(&mut *self.read().await?, most).await
    }

    async fn recent(&self, shard: u16, before: Option<Position>, most: u32) -> Result<Vec<RawEntry>, StoreError> {
        recent(&mut *self.read().await?, shard, before, most).await
    }
}
