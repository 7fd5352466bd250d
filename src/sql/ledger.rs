//! Ledger rows: entries in, entries out, and the port `LedgerStore`.

use async_trait::async_trait;

use super::{
    Store, audit,
    bulk::{self, Table, Type},
    policy_rows::corrupt,
    session::{Dialect, Row, Session, Value},
};
use crate::{
    engine::ports::{Audit, Digest, LedgerStore, Ledgered, Line, Position, RawEntry, StoreError, compensation_id},
    quota::{
        entry::{Entry, Kind, LogFields},
        id::{AccountId, KeyId, OpId, ReservationId},
        reservation::Record,
        tally::Tally,
        tariff::PriceTag,
    },
};

/// Columns of a ledger row, in the order of `LedgerRow::values`.
const COLUMNS: &str = "shard, generation, seq, account, op_id, kind, part, status, at, balance, used, \
     requests, tokens, key_id, platform, model, price_group, prompt_tokens, completion_tokens, cached_tokens, \
     duration_ms, stream, ip, outcome, sub_kind, note, refund_of, meta, undone_by, digest, payload";
/// What those hold.
const TYPES: [Type; 31] = {
    let mut types = [Type::Text; 31];
    let ints = [0, 1, 2, 6, 8, 9, 10, 11, 12, 17, 18, 19, 20, 21];
    let mut at = 0;
    while at < ints.len() {
        types[ints[at]] = Type::Int;
        at += 1;
    }
    types[30] = Type::Blob;
    types
};
/// The ledger, to be inserted into.
pub(super) const LEDGER: Table<31> = Table { name: "ledger", columns: COLUMNS, types: TYPES };

/// An entry on its way into the ledger.
pub(super) struct LedgerRow<'a> {
    pub shard: u16,
    pub at: Position,
    digest: &'a str,
    pub entry: &'a Entry,
    payload: &'a [u8],
    log: LogFields,
}

impl<'a> LedgerRow<'a> {
    /// # Errors
    /// `Refused` for a sequence number or digest that no stream makes.
    pub fn new(shard: u16, line: &'a Line) -> Result<Self, StoreError> {
        let Line { at, digest, entry, payload } = line;
        if i64::try_from(at.seq).is_err() {
            let detail = format!("sequence number {} is out of range", at.seq);
            return Err(StoreError::Refused { field: "entries", detail });
        }
        // A log blob that cannot be read is still in the payload; money must not wait for it.
        let mut log: LogFields = serde_json::from_slice(&entry.log).unwrap_or_default();
        // The reservation knows better which group its prices are of than the call that settled it.
        if let Some(tag) = entry.record.as_ref().and_then(|record| PriceTag::unpack(&record.price_tag)) {
            log.group = Some(tag.using.into());
        }
        without_zeros(&mut log);
        Ok(Self { shard, at: *at, digest: digest_text(digest)?, entry, payload, log })
    }

    /// The row as posted.
    pub fn posted(&self) -> [Value<'_>; 31] {
        self.values("posted", Value::Null)
    }

    /// The row of an operation that was posted before. What changed anything names the operation that
    /// has to take it back.
    pub fn rejected(&self) -> [Value<'_>; 31] {
        let entry = self.entry;
        let changed = [entry.balance, entry.used, entry.requests, entry.tokens].iter().any(|delta| *delta != 0)
            || entry.windows.iter().any(|window| window.used != 0);
        let undone_by = if changed { Value::Made(compensation_id(self.shard, self.at)) } else { Value::Null };
        self.values("rejected", undone_by)
    }

    fn values<'v>(&'v self, status: &'static str, undone_by: Value<'v>) -> [Value<'v>; 31] {
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
            status.into(),
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
            undone_by,
            self.digest.into(),
            self.payload.into(),
        ]
    }
}

/// A zero character, which PostgreSQL has no place for, must not stop a shard's write-back.
fn without_zeros(log: &mut LogFields) {
    let LogFields { key, platform, model, group, ip, outcome, kind, note, of, .. } = log;
    for text in [key, platform, model, group, ip, outcome, kind, note, of].into_iter().flatten() {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
}

/// What an operation is known by.
pub(super) fn operation(entry: &Entry) -> (&str, &str, Kind, u16) {
    (entry.account.as_str(), entry.op_id.as_str(), entry.kind, part(entry))
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

/// Entries of a shard before a place, newest first.
pub(super) async fn recent(
    session: &mut dyn Session,
    shard: u16,
    before: Option<Position>,
    most: u32,
) -> Result<Vec<RawEntry>, StoreError> {
    // Two plain ranges, because not every database finds its way through `(generation, seq) < (?, ?)`.
    let before = before.unwrap_or(Position { generation: u32::MAX, seq: 0 });
    let here = format!(
        "SELECT {RAW_COLUMNS} FROM ledger WHERE shard = ? AND generation = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
    );
    let values = [shard.into(), before.generation.into(), (before.seq as i64).into(), most.into()];
    let mut rows = session.fetch(here.into(), &values).await?;
    let rest = most.saturating_sub(rows.len() as u32);
    if rest > 0 {
        let below = format!(
            "SELECT {RAW_COLUMNS} FROM ledger WHERE shard = ? AND generation < ? \
             ORDER BY generation DESC, seq DESC LIMIT ?"
        );
        rows.extend(session.fetch(below.into(), &[shard.into(), before.generation.into(), rest.into()]).await?);
    }
    rows.iter().map(read_raw).collect()
}

/// Entries of a shard after a place, oldest first.
pub(super) async fn rows_after(
    session: &mut dyn Session,
    shard: u16,
    after: Position,
    most: u32,
) -> Result<Vec<RawEntry>, StoreError> {
    let here =
        format!("SELECT {RAW_COLUMNS} FROM ledger WHERE shard = ? AND generation = ? AND seq > ? ORDER BY seq LIMIT ?");
    let seq = i64::try_from(after.seq).unwrap_or(i64::MAX);
    let values = [shard.into(), after.generation.into(), seq.into(), most.into()];
    let mut rows = session.fetch(here.into(), &values).await?;
    let rest = most.saturating_sub(rows.len() as u32);
    if rest > 0 {
        let above = format!(
            "SELECT {RAW_COLUMNS} FROM ledger WHERE shard = ? AND generation > ? ORDER BY generation, seq LIMIT ?"
        );
        rows.extend(session.fetch(above.into(), &[shard.into(), after.generation.into(), rest.into()]).await?);
    }
    rows.iter().map(read_raw).collect()
}

/// Rejected rows whose effects were not taken back yet, oldest first.
pub(super) async fn uncompensated(session: &mut dyn Session, most: u32) -> Result<Vec<(u16, RawEntry)>, StoreError> {
    let sql = "SELECT r.generation, r.seq, r.digest, r.payload, r.shard FROM ledger r \
               WHERE r.undone_by IS NOT NULL AND NOT EXISTS (SELECT 1 FROM ledger u WHERE u.account = r.account \
               AND u.op_id = r.undone_by AND u.kind IN ('credit', 'debit') AND u.status = 'posted') \
               ORDER BY r.at, r.shard, r.generation, r.seq LIMIT ?";
    let rows = session.fetch(sql.into(), &[most.into()]).await?;
    rows.iter().map(|row| Ok((row.number(4)?, read_raw(row)?))).collect()
}

/// For each entry, whether its operation is posted.
pub(super) async fn known(
    session: &mut dyn Session,
    dialect: &Dialect,
    entries: &[&Entry],
) -> Result<Vec<bool>, StoreError> {
    let mut rows: Vec<[Value<'_>; 5]> = Vec::with_capacity(entries.len());
    for (place, entry) in (0_i64..).zip(entries) {
        let (account, op_id) = (entry.account.as_str(), entry.op_id.as_str());
        rows.push([place.into(), account.into(), op_id.into(), entry.kind.as_str().into(), part(entry).into()]);
    }
    let types = [Type::Int, Type::Text, Type::Text, Type::Text, Type::Int];
    let found = bulk::fetch_over(session, dialect, &types, &rows, |rows| {
        format!(
            "SELECT d.column1 FROM {rows} JOIN ledger ON ledger.account = d.column2 AND ledger.op_id = d.column3 \
             AND ledger.kind = d.column4 AND ledger.part = d.column5 WHERE ledger.status = 'posted'"
        )
    });
    let mut known = vec![false; entries.len()];
    for row in found.await? {
        let place: usize = row.number(0)?;
        *known.get_mut(place).ok_or_else(|| corrupt("a row that was not asked for"))? = true;
    }
    Ok(known)
}

/// What [`read_raw`] reads.
const RAW_COLUMNS: &str = "generation, seq, digest, payload";

fn read_raw(row: &Row) -> Result<RawEntry, StoreError> {
    Ok(RawEntry {
        at: Position { generation: row.number(0)?, seq: row.number(1)? },
        digest: read_digest(row.text(2)?)?,
        payload: row.blob(3)?.to_vec(),
    })
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

    async fn audit(&self, account: &AccountId, known: Ledgered, upto: Position) -> Result<Option<Audit>, StoreError> {
        audit::audit(&mut *self.read().await?, account, known, upto).await
    }

    async fn mend_sums(&self, account: &AccountId, known: Ledgered) -> Result<Option<[Tally; 2]>, StoreError> {
        self.set_sums(account, known).await
    }
}
