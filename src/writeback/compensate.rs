//! One operation, two effects: its tombstone in Redis was gone when it was repeated, so Redis did it
//! again, and SQL found its name taken. Redis' second effect is in both sums by then; one credit (or
//! debit) named after the entry takes it out of both. The name makes it happen once, however many
//! sidecars try. What a crash right after the commit leaves undone stays visible: a rejected ledger row
//! without an operation of that name.

use tracing::{error, warn};

use super::gauges;
use crate::{
    engine::ports::{AdjustCall, Counters, Position, Status},
    quota::{
        entry::{Entry, Kind, LogFields},
        fingerprint::Fingerprint,
        id::OpId,
    },
};

/// Attempts at one compensation; the call is safe to repeat.
const ATTEMPTS: u32 = 3;

/// The op id that undoes the duplicate at a place: `dup:<generation>-<shard>-<seq>`.
#[must_use]
pub fn compensation_id(shard: u16, at: Position) -> String {
    format!("dup:{}-{shard}-{}", at.generation, at.seq)
}

/// Gives back what a duplicate took, or takes what it gave. Nothing when it moved no money.
pub(super) async fn compensate(counters: &dyn Counters, shard: u16, at: Position, entry: &Entry) {
    let amount = entry.balance.saturating_abs();
    let (kind, sub_kind) = if entry.balance < 0 { (Kind::Credit, "adjust") } else { (Kind::Debit, "adjust") };
    let id = compensation_id(shard, at);
    let account = entry.account.as_str();
    warn!(account, op = entry.op_id.as_str(), kind = entry.kind.as_str(), id, amount, "an operation was done twice");
    let Ok(op_id) = OpId::new(&id) else { return };
    if amount == 0 {
        return;
    }
    let note = Some(format!("{} {} was done twice", entry.kind.as_str(), entry.op_id));
    let fields = LogFields { kind: Some(sub_kind.into()), note, ..LogFields::default() };
    let log = serde_json::to_vec(&fields).unwrap_or_default();
    let call = AdjustCall {
        account: &entry.account,
        kind,
        op_id: &op_id,
        amount,
        force: true,
        fingerprint: Fingerprint::of("duplicate", &[Some(&amount.to_string())]),
        log: &log,
    };
    let mut reason = String::new();
    for _ in 0..ATTEMPTS {
        match counters.adjust(&call).await {
            Ok(reply) if matches!(reply.status, Status::Done | Status::Replayed) => return,
            Ok(reply) => {
                reason = format!("Redis answered {:?}", reply.status);
                break;
            }
            Err(unavailable) => reason = unavailable.to_string(),
        }
    }
    gauges::uncompensated();
    error!(account, id, amount, reason, "an operation done twice could not be compensated");
}
