//! The port `Outbox`, and [`owe`], by which a transaction leaves a credit behind.

use async_trait::async_trait;

use super::{
    Store,
    policy_rows::corrupt,
    session::{Row, Session},
};
use crate::{
    engine::{
        adjust::CreditKind,
        outbox::FIRST_LOOK_MS,
        ports::{Closed, Due, Outbox, Owed, StoreError},
    },
    quota::{
        clock::Millis,
        id::{AccountId, OpId},
    },
};

/// Writes a credit down that is owed from the moment the transaction commits. The caller then brings it
/// (`Engine::give`); should it die before, the first look at it is two seconds later.
pub(super) async fn owe(session: &mut dyn Session, owed: &Owed, now: Millis) -> Result<(), StoreError> {
    let values = [
        owed.account.as_str().into(),
        owed.op_id.as_str().into(),
        owed.kind.as_str().into(),
        owed.amount.into(),
        owed.note.as_deref().into(),
        now.0.into(),
        (now.0 + FIRST_LOOK_MS).into(),
    ];
    let sql = "INSERT INTO outbox (account, op_id, kind, amount, note, created_at, due_at, attempts) \
               VALUES (?, ?, ?, ?, ?, ?, ?, 0)";
    session.execute(sql.into(), &values).await?;
    Ok(())
}

#[async_trait]
impl Outbox for Store {
    async fn due(&self, now: Millis, most: u32) -> Result<Vec<Due>, StoreError> {
        let sql = "SELECT account, op_id, kind, amount, note, due_at, attempts, \
                   (SELECT COUNT(*) FROM ledger WHERE ledger.account = outbox.account \
                   AND ledger.op_id = outbox.op_id AND ledger.kind = 'credit' AND ledger.status = 'posted') \
                   FROM outbox WHERE due_at <= ? ORDER BY due_at LIMIT ?";
        let rows = self.read().await?.fetch(sql.into(), &[now.0.into(), most.into()]).await?;
        rows.iter().map(read_due).collect()
    }

    async fn late(&self, now: Millis) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(*) FROM outbox WHERE due_at IS NOT NULL AND created_at <= ?";
        let rows = self.read().await?.fetch(sql.into(), &[(now.0 - FIRST_LOOK_MS).into()]).await?;
        rows.first().map_or(Ok(0), |row| row.number(0))
    }

    async fn postpone(&self, due: &Due, until: Millis) -> Result<bool, StoreError> {
        let mut session = self.write().await?;
        let Due { owed, due_at, attempts, .. } = due;
        let values = [
            until.0.into(),
            attempts.saturating_add(1).into(),
            owed.account.as_str().into(),
            owed.op_id.as_str().into(),
            due_at.0.into(),
        ];
        let sql = "UPDATE outbox SET due_at = ?, attempts = ? WHERE account = ? AND op_id = ? AND due_at = ?";
        let moved = session.execute(sql.into(), &values).await?;
        session.commit().await?;
        Ok(moved == 1)
    }

    async fn done(&self, due: &[Due], how: Closed, now: Millis) -> Result<(), StoreError> {
        let outcome = match how {
            Closed::Credited => "credited",
            Closed::Refused(code) => code.as_str(),
        };
        let mut names: Vec<_> = due.iter().map(|due| (due.owed.account.as_str(), due.owed.op_id.as_str())).collect();
        // Every sidecar takes row locks in the same order.
        names.sort_unstable();
        let mut session = self.write().await?;
        for (account, op_id) in names {
            let sql = "UPDATE outbox SET due_at = NULL, done_at = ?, outcome = ? \
                       WHERE account = ? AND op_id = ? AND due_at IS NOT NULL";
            let values = [now.0.into(), outcome.into(), account.into(), op_id.into()];
            session.execute(sql.into(), &values).await?;
        }
        session.commit().await
    }
}

fn read_due(row: &Row) -> Result<Due, StoreError> {
    let kind = row.text(2)?;
    let owed = Owed {
        account: AccountId::new(row.text(0)?).map_err(corrupt)?,
        op_id: OpId::new(row.text(1)?).map_err(corrupt)?,
        kind: CreditKind::parse(kind).ok_or_else(|| corrupt(format!("`{kind}` is no kind of credit")))?,
        amount: row.int(3)?,
        note: row.opt_text(4)?.map(str::to_owned),
    };
    Ok(Due { owed, due_at: Millis(row.int(5)?), attempts: row.number(6)?, posted: row.int(7)? > 0 })
}
