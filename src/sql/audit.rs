//! An account's ledger added up anew: what the sums beside it must be. Pages through the rows of the
//! account alone, whatever the length of its history.

use super::{
    Store,
    apply::{KEY_USAGE, WINDOWS},
    bulk,
    policy::read_posted,
    policy_rows::corrupt,
    session::{Session, Value},
};
use crate::{
    engine::ports::{Audit, Ledgered, Position, StoreError},
    quota::{entry::Entry, id::AccountId, tally::Tally},
};

/// Rows read at once.
const PAGE: u32 = 1_000;

/// The account's sums, its ledger up to `upto` and the rows after it, as this session sees them.
pub(super) async fn audit(
    session: &mut dyn Session,
    account: &AccountId,
    known: Ledgered,
    upto: Position,
) -> Result<Option<Audit>, StoreError> {
    let Some(posted) = read_posted(session, account).await? else { return Ok(None) };
    let stored = Tally::of(&posted.counters);
    let mut audit = Audit { stored, ledger: known, tail: Vec::new() };
    let mut rows = Rows { account, after: audit.ledger.at };
    while let Some(page) = rows.next(session).await? {
        for (at, entry) in page {
            if at <= upto {
                audit.ledger.tally.add(&entry).map_err(corrupt)?;
                audit.ledger.at = at;
            } else {
                audit.tail.push((at, entry));
            }
        }
    }
    Ok(Some(audit))
}

/// Pages of an account's rows in the order of the ledger. One generation at a time, because that is a
/// range of the index on every database.
struct Rows<'a> {
    account: &'a AccountId,
    after: Position,
}

impl Rows<'_> {
    /// `None` after the last page.
    async fn next(&mut self, session: &mut dyn Session) -> Result<Option<Vec<(Position, Entry)>>, StoreError> {
        loop {
            let generation = self.after.generation;
            let rows = session
                .fetch(
                    "SELECT seq, payload FROM ledger WHERE account = ? AND generation = ? AND seq > ? \
                     ORDER BY seq LIMIT ?"
                        .into(),
                    &[self.account.as_str().into(), generation.into(), (self.after.seq as i64).into(), PAGE.into()],
                )
                .await?;
            let mut page = Vec::with_capacity(rows.len());
            for row in &rows {
                let at = Position { generation, seq: row.number(0)? };
                page.push((at, Entry::unpack(row.blob(1)?).map_err(corrupt)?));
            }
            if let Some((at, _)) = page.last() {
                self.after = *at;
                return Ok(Some(page));
            }
            let next = "SELECT MIN(generation) FROM ledger WHERE account = ? AND generation > ?";
            let rows = session.fetch(next.into(), &[self.account.as_str().into(), generation.into()]).await?;
            match rows.first().map(|row| row.opt_int(0)).transpose()?.flatten() {
                Some(generation) => {
                    let generation = u32::try_from(generation).map_err(corrupt)?;
                    self.after = Position { generation, seq: 0 };
                }
                None => return Ok(None),
            }
        }
    }
}

impl Store {
    /// The sums before and after.
    pub(super) async fn set_sums(
        &self,
        account: &AccountId,
        known: Ledgered,
    ) -> Result<Option<[Tally; 2]>, StoreError> {
        let mut session = self.write().await?;
        // Whoever posts entries of the account changes this row too: it waits here, or we for it.
        let lock = format!("SELECT account FROM accounts WHERE account = ?{}", self.backend.dialect().for_update);
        session.fetch(lock.into(), &[account.as_str().into()]).await?;
        let everything = Position { generation: u32::MAX, seq: i64::MAX as u64 };
        let Some(audit) = audit(&mut *session, account, known, everything).await? else { return Ok(None) };
        let (before, after) = (audit.stored, audit.ledger.tally);
        if before != after {
            self.write_sums(&mut *session, account, &before, &after).await?;
            session.commit().await?;
        }
        Ok(Some([before, after]))
    }

    async fn write_sums(
        &self,
        session: &mut dyn Session,
        account: &AccountId,
        before: &Tally,
        after: &Tally,
    ) -> Result<(), StoreError> {
        let (dialect, id) = (self.backend.dialect(), account.as_str());
        let set = "UPDATE accounts SET balance = ?, used = ?, requests = ? WHERE account = ?";
        let sums = [after.balance.into(), after.used.into(), after.requests.into(), id.into()];
        session.execute(set.into(), &sums).await?;
        if before.keys != after.keys {
            session.execute("DELETE FROM key_usage WHERE account = ?".into(), &[id.into()]).await?;
            let mut rows: Vec<[Value<'_>; 4]> = Vec::with_capacity(after.keys.len());
            for (key, [used, requests]) in &after.keys {
                rows.push([id.into(), key.as_str().into(), (*used).into(), (*requests).into()]);
            }
            bulk::insert(session, dialect, &KEY_USAGE, &rows, "").await?;
        }
        if before.windows != after.windows {
            session.execute("DELETE FROM windows WHERE account = ?".into(), &[id.into()]).await?;
            let mut rows: Vec<[Value<'_>; 5]> = Vec::with_capacity(after.windows.len());
            for ((field, code), window) in &after.windows {
                let [start_s, used] = [window.start_s.into(), window.used.into()];
                rows.push([id.into(), field.as_str().into(), code.0.into(), start_s, used]);
            }
            bulk::insert(session, dialect, &WINDOWS, &rows, "").await?;
        }
        Ok(())
    }
}
