//! Ledger rows: entries in, entries out, and the port `LedgerStore`.

use async_trait::async_trait;

use super::{
    Store,
    policy_rows::corrupt,
    session::{Row, Session, Value},
};
use crate::{
    engine::ports::{Digest, LedgerStore, Position, RawEntry, StoreError},
    quota::{
        entry::{Entry, Kind, LogFields},
        id::{AccountId, KeyId, OpId, ReservationId},
        reservation::Record,
    },
};

/// Columns of a ledger row, in the order of [`LedgerRow::values`].
pub(super) const COLUMNS: &str = "shard, generation, seq, account, op_id, kind, part, status, at, balance, used, \
     requests, tokens, key_id, platform, model, price_group, prompt_tokens, completion_tokens, cached_tokens, \
     duration_ms, stream, ip, outcome, sub_kind, note, refund_of, meta, digest, payload";
/// How many those are.
const COLUMN_COUNT: usize = 30;

/// An entry on its way into the ledger.
pub(super) struct LedgerRow<'a> {
    shard: u16,
    pub at: Position,
    digest: &'a str,
    entry: &'a Entry,
    payload: Vec<u8>,
    log: LogFields,
}

impl<'a> LedgerRow<'a> {
    /// # Errors
    /// `Refused` for a sequence number or digest that no stream makes.
    pub fn new(shard: u16, at: Position, digest: &'a Digest, entry: &'a Entry) -> Result<Self, StoreError> {
        if i64::try_from(at.seq).is_err() {
            let detail = format!("sequence number {} is out of range", at.seq);
            return Err(StoreError::Refused { field: "entries", detail });
        }
        // A log blob that cannot be read is still in the payload; money must not wait for it.
        let log = serde_json::from_slice(&entry.log).unwrap_or_default();
        Ok(Self { shard, at, digest: digest_text(digest)?, entry, payload: entry.pack(), log })
    }

    /// The row; `posted` is false for an operation that was posted before.
    pub fn values(&self, posted: bool) -> [Value<'_>; COLUMN_COUNT] {
        let (entry, log) = (self.entry, &self.log);
        let record = entry.record.as_ref();
        let key = record.and_then(|record| record.key.as_ref()).map(KeyId::as_str).or(log.key.as_deref());
        [
            self.shard.into(),
            self.at.generation.into(),
            (self.at.seq as i64).into(),
            entry.account.as_str().into(),
            entry.op_id.as_str().into(),
            entry.kind.as_str().into(),
            part(entry).into(),
            if posted { "posted" } else { "rejected" }.into(),
            entry.at.0.into(),
            entry.balance.into(),
            entry.used.into(),
            entry.requests.into(),
            entry.tokens.into(),
            key.into(),
            log.platform.as_deref().into(),
            log.model.as_deref().into(),
            log.group.as_deref().into(),
            log.prompt_tokens.into(),
            log.completion_tokens.into(),
            log.cached_tokens.into(),
            log.duration_ms.into(),
            log.stream.map(i64::from).into(),
            log.ip.as_deref().into(),
            log.outcome.as_deref().into(),
            log.kind.as_deref().into(),
            log.note.as_deref().into(),
            log.of.as_deref().into(),
            log.meta.as_ref().map(|meta| meta.get()).into(),
            self.digest.into(),
            self.payload.as_slice().into(),
        ]
    }
}

/// Tells the partial settles of a reservation apart; every other operation happens once.
fn part(entry: &Entry) -> u16 {
    match (entry.kind, &entry.record) {
        (Kind::Partial, Some(record)) => record.parts,
        _ => 0,
    }
}

pub(super) fn digest_text(digest: &Digest) -> Result<&str, StoreError> {
    std::str::from_utf8(digest)
        .map_err(|_| StoreError::Refused { field: "digest", detail: "a digest is 40 hex characters".to_owned() })
}

pub(super) fn read_digest(text: &str) -> Result<Digest, StoreError> {
    Digest::try_from(text.as_bytes()).map_err(|_| corrupt(format!("`{text}` is no digest")))
}

fn read_entry(rows: &[Row]) -> Result<Option<Entry>, StoreError> {
    rows.first().map(|row| Entry::unpack(row.blob(0)?).map_err(corrupt)).transpose()
}

/// Entries of a shard below `before`, newest first.
pub(super) async fn recent(
    session: &mut dyn Session,
    shard: u16,
    before: Option<Position>,
    most: u32,
) -> Result<Vec<RawEntry>, StoreError> {
    let before = before.unwrap_or(Position { generation: u32::MAX, seq: 0 });
    let rows = session
        .fetch(
            "SELECT generation, seq, digest, payload FROM ledger WHERE shard = ? AND (generation, seq) < (?, ?) \
             ORDER BY generation DESC, seq DESC LIMIT ?"
                .into(),
            &[shard.into(), before.generation.into(), (before.seq as i64).into(), most.into()],
        )
        .await?;
    let read = |row: &Row| {
        Ok(RawEntry {
            at: Position { generation: row.number(0)?, seq: row.number(1)? },
            digest: read_digest(row.text(2)?)?,
            payload: row.blob(3)?.to_vec(),
        })
    };
    rows.iter().map(read).collect()
}

#[async_trait]
impl LedgerStore for Store {
    async fn operation(&self, account: &AccountId, kind: Kind, op_id: &OpId) -> Result<Option<Entry>, StoreError> {
        let mut session = self.read().await?;
        let rows = session
            .fetch(
                "SELECT payload FROM ledger WHERE account = ? AND op_id = ? AND kind = ? AND status = 'posted' \
                 ORDER BY part DESC LIMIT 1"
                    .into(),
                &[account.as_str().into(), op_id.as_str().into(), kind.as_str().into()],
            )
            .await?;
        read_entry(&rows)
    }

    async fn record(&self, account: &AccountId, id: &ReservationId) -> Result<Option<Record>, StoreError> {
        let mut session = self.read().await?;
        let rows = session
            .fetch(
                "SELECT payload FROM ledger WHERE account = ? AND status = 'posted' \
                 AND ((op_id = ? AND kind IN ('settle', 'partial', 'charge', 'expire')) OR refund_of = ?) \
                 ORDER BY generation DESC, seq DESC LIMIT 1"
                    .into(),
                &[account.as_str().into(), id.as_str().into(), id.as_str().into()],
            )
            .await?;
        Ok(read_entry(&rows)?.and_then(|entry| entry.record))
    }
}
