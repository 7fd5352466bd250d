//! The audit: who changed what. [`record`] is called within the transaction of the change.

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use serde_json::Value as Json;

use super::{
    Store,
    policy_rows::corrupt,
    session::{Row, Session, Value},
};
use crate::{
    engine::ports::{Changes, StoreError},
    quota::{
        change::{Change, Recorded},
        clock::{Millis, local_now},
    },
};

/// Rows on one page at most, and one more that tells whether there is another.
const PAGE_MAX: u32 = 1001;

/// Keeps a change, unless nothing differs. To be called in the session that makes the change, before its
/// commit: then both are there or neither.
pub(super) async fn record(session: &mut dyn Session, change: &Change, now: Millis) -> Result<(), StoreError> {
    if !change.differs() {
        return Ok(());
    }
    let id = next_id(now, getrandom::u32().map_err(|error| StoreError::Unavailable(error.to_string()))?);
    let text = |state: &Option<Json>| state.as_ref().map_or(Value::Null, |state| Value::Made(state.to_string()));
    let kept = session
        .execute(
            "INSERT INTO audit (id, at, actor, action, subject, state_before, state_after, op_id) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                .into(),
            &[
                id.into(),
                now.0.into(),
                change.by.as_str().into(),
                change.what.into(),
                change.subject.as_str().into(),
                text(&change.before),
                text(&change.after),
                change.op_id.as_ref().map(|op_id| op_id.as_str()).into(),
            ],
        )
        .await;
    match kept {
        Ok(_) => Ok(()),
        // Never the caller's fault: asked again, it is kept, or was.
        Err(StoreError::Refused { detail, .. }) => Err(StoreError::Unavailable(detail)),
        Err(error) => Err(error),
    }
}

/// Bits below the milliseconds of a row's id.
const ID_BITS: u32 = 20;

/// The id of the next row: it grows with time, and within this process always. Not the database's own counter: one that
/// comes back from a copy may be behind its rows, and then every change is refused. Sidecars differ by `random`.
fn next_id(now: Millis, random: u32) -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let fresh = (now.0 << ID_BITS) | i64::from(random >> (u32::BITS - ID_BITS));
    let next = |last: i64| fresh.max(last + 1);
    next(LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last))).unwrap_or_default())
}

#[async_trait]
impl Changes for Store {
    async fn record_change(&self, change: &Change) -> Result<(), StoreError> {
        if is_kept(&mut *self.read().await?, change).await? {
            return Ok(());
        }
        let mut session = self.write().await?;
        match record(&mut *session, change, local_now()).await {
            Ok(()) => session.commit().await,
            Err(error) => {
                drop(session);
                // Another one may have kept it at the same moment.
                if is_kept(&mut *self.read().await?, change).await? { Ok(()) } else { Err(error) }
            }
        }
    }

    async fn changes(
        &self,
        subject: Option<&str>,
        cursor: Option<i64>,
        most: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut values: Vec<Value<'_>> = vec![cursor.unwrap_or(i64::MAX).into()];
        let mut filter = "";
        if let Some(subject) = subject {
            // `0` is the character after `/`: all that begins with `<subject>/`.
            filter = " AND (subject = ? OR subject > ? AND subject < ?)";
            values.extend([subject.into(), Value::Made(format!("{subject}/")), Value::Made(format!("{subject}0"))]);
        }
        values.push(most.min(PAGE_MAX).into());
        let sql = format!(
            "SELECT id, at, actor, action, subject, state_before, state_after, op_id FROM audit \
             WHERE id < ?{filter} ORDER BY id DESC LIMIT ?"
        );
        let rows = self.read().await?.fetch(sql.into(), &values).await?;
        rows.iter().map(recorded).collect()
    }
}

/// Whether the operation's row is there. A change without an operation is a new one each time.
async fn is_kept(session: &mut dyn Session, change: &Change) -> Result<bool, StoreError> {
    let Some(op_id) = &change.op_id else { return Ok(false) };
    let sql = "SELECT 1 FROM audit WHERE subject = ? AND action = ? AND op_id = ?";
    let values = [change.subject.as_str().into(), change.what.into(), op_id.as_str().into()];
    Ok(!session.fetch(sql.into(), &values).await?.is_empty())
}

fn recorded(row: &Row) -> Result<Recorded, StoreError> {
    let state = |column| {
        let text = row.opt_text(column)?;
        text.map(|text| serde_json::from_str(text).map_err(corrupt)).transpose()
    };
    Ok(Recorded {
        id: row.int(0)?,
        at: Millis(row.int(1)?),
        by: row.text(2)?.to_owned(),
        what: row.text(3)?.to_owned(),
        subject: row.text(4)?.to_owned(),
        before: state(5)?,
        after: state(6)?,
        op_id: row.opt_text(7)?.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PostgreSQL's counter came back from a copied database behind the rows, and credits were answered 400.
    #[test]
    fn ids_grow_whatever_the_clock_and_the_database_do() {
        let now = Millis(1_795_762_182_362);
        let ids =
            [next_id(now, u32::MAX), next_id(now, 0), next_id(Millis(now.0 - 5_000), 7), next_id(Millis(now.0 + 2), 0)];
        assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
        assert_eq!(ids[3] >> ID_BITS, now.0 + 2);
    }
}
