//! Decodes what scripts answer: `{status, now, head, key, record, operation, windows…}`, all packed
//! values as they are stored, empty where there is none.

use ::redis::Value;
use smallvec::SmallVec;

use crate::{
    engine::ports::{OpRecord, Reply, Status, Unavailable},
    quota::{
        clock::Millis,
        counter::{Head, KeyCounter, WindowCounter},
        fingerprint::{FINGERPRINT_BYTES, Fingerprint},
        packed::{Corrupt, Unpacker},
        reservation::Record,
    },
};

/// All statuses; the numbers are those of `lua/README.md`.
const STATUSES: [Status; 19] = [
    Status::Done,
    Status::Replayed,
    Status::Stale,
    Status::Absent,
    Status::Generation,
    Status::Window,
    Status::Conflict,
    Status::AlreadySettled,
    Status::AlreadyReleased,
    Status::Denied,
    Status::InsufficientBalance,
    Status::KeyExhausted,
    Status::LimitExceeded,
    Status::Unknown,
    Status::Reprice,
    Status::RefundExceedsCharge,
    Status::OutOfRange,
    Status::Decreasing,
    Status::Idle,
];

/// A script's answer before it is taken apart.
pub(crate) struct RawReply {
    pub(crate) status: Status,
    pub(crate) now: Millis,
    /// Head, key, record, operation, then what the verb adds.
    pub(crate) rest: Vec<Value>,
}

pub(crate) fn corrupt(what: &str) -> Unavailable {
    tracing::error!(what, "Redis answered what no script answers");
    Unavailable::Corrupt(what.to_owned())
}

/// Bytes of a bulk string, empty for nil.
pub(crate) fn bytes(value: &Value) -> Result<&[u8], Unavailable> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::Nil => Ok(&[]),
        _ => Err(corrupt("a value that is no string")),
    }
}

impl RawReply {
    pub(crate) fn of(value: Value) -> Result<Self, Unavailable> {
        let Value::Array(mut items) = value else {
            return Err(corrupt("an answer that is no array"));
        };
        let [Value::Int(status), Value::Int(now), ..] = items[..] else {
            return Err(corrupt("an answer without status and time"));
        };
        let status = STATUSES.into_iter().find(|known| *known as i64 == status);
        let status = status.ok_or_else(|| corrupt("an answer with an unknown status"))?;
        items.drain(..2);
        Ok(Self { status, now: Millis(now), rest: items })
    }

    pub(crate) fn decode(&self) -> Result<Reply, Unavailable> {
        let [head, key, record, op, windows @ ..] = &self.rest[..] else {
            return Err(corrupt("an answer that is cut short"));
        };
        let mut reply = Reply {
            status: self.status,
            now: self.now,
            head: packed(head, Head::unpack)?,
            key: packed(key, KeyCounter::unpack)?,
            record: packed(record, Record::unpack)?,
            op: packed(op, unpack_op)?,
            windows: SmallVec::new(),
        };
        for window in windows {
            reply.windows.push(WindowCounter::unpack_all(bytes(window)?).map_err(|_| corrupt("window counters"))?);
        }
        Ok(reply)
    }
}

fn packed<T>(value: &Value, unpack: impl FnOnce(&[u8]) -> Result<T, Corrupt>) -> Result<Option<T>, Unavailable> {
    match bytes(value)? {
        [] => Ok(None),
        bytes => unpack(bytes).map(Some).map_err(|_| corrupt("packed bytes that do not follow their layout")),
    }
}

/// `<i7 i7 i7 I6 c18`: amount, balance after, charge left, at, fingerprint.
fn unpack_op(bytes: &[u8]) -> Result<OpRecord, Corrupt> {
    let mut unpacker = Unpacker::new(bytes);
    let (amount, balance, _charge_left) = (unpacker.int()?, unpacker.int()?, unpacker.int()?);
    let at = Millis(unpacker.uint::<6>()? as i64);
    let fingerprint = Fingerprint(unpacker.raw(FINGERPRINT_BYTES)?.try_into().map_err(|_| Corrupt)?);
    if unpacker.is_empty() { Ok(OpRecord { amount, balance, at, fingerprint }) } else { Err(Corrupt) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_statuses_is_that_of_the_readme() {
        let readme = include_str!("../../lua/README.md");
        for (position, status) in STATUSES.into_iter().enumerate() {
            assert_eq!(status as usize, position + 1, "{status:?}");
            assert!(readme.contains(&format!("| {} | `{status:?}` |", status as u8)), "{status:?} is in lua/README.md");
        }
        let rows = readme
            .lines()
            .filter(|line| line.strip_prefix("| ").is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit())));
        assert_eq!(rows.count(), STATUSES.len(), "every numbered row of lua/README.md is a status");
    }

    #[test]
    fn strange_answers_are_corrupt() {
        for value in [Value::Nil, Value::Array(vec![]), Value::Array(vec![Value::Int(20), Value::Int(1)])] {
            assert!(matches!(RawReply::of(value), Err(Unavailable::Corrupt(_))));
        }
    }
}
