//! Decodes what scripts answer (`lua/lib/answer.lua`): one string with status, time, and the packed values as they
//! are stored. Scripts that list answer an array, whose first item is that string.

use ::redis::Value;
use bytes::Bytes;
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
    answer: Bytes,
    /// What a script that lists adds.
    pub(crate) items: Vec<Value>,
}

/// Bytes of an answer in front of its packed values: status and time.
const LEAD: usize = 1 + 6;

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
        let (answer, items) = match value {
            Value::BulkString(answer) => (answer, Vec::new()),
            Value::Array(mut items) if matches!(items.first(), Some(Value::BulkString(_))) => {
                let Value::BulkString(answer) = items.remove(0) else { unreachable!("looked at before") };
                (answer, items)
            }
            _ => return Err(corrupt("an answer that is no packed string")),
        };
        Ok(Self { items, ..Self::of_string(answer.into())? })
    }

    /// The answer of a script that lists nothing.
    pub(crate) fn of_string(answer: Bytes) -> Result<Self, Unavailable> {
        let mut unpacker = Unpacker::new(&answer);
        let (Ok(status), Ok(now)) = (unpacker.uint::<1>(), unpacker.uint::<6>()) else {
            return Err(corrupt("an answer without status and time"));
        };
        let status = STATUSES.into_iter().find(|known| *known as u64 == status);
        let status = status.ok_or_else(|| corrupt("an answer with an unknown status"))?;
        Ok(Self { status, now: Millis(now as i64), answer, items: Vec::new() })
    }

    pub(crate) fn decode(&self) -> Result<Reply, Unavailable> {
        self.unpack().map_err(|Corrupt| corrupt("packed bytes that do not follow their layout"))
    }

    fn unpack(&self) -> Result<Reply, Corrupt> {
        let mut unpacker = Unpacker::new(&self.answer[LEAD..]);
        let mut reply = Reply {
            status: self.status,
            now: self.now,
            head: some(unpacker.text()?, Head::unpack)?,
            key: some(unpacker.text()?, KeyCounter::unpack)?,
            record: some(long(&mut unpacker)?, Record::unpack)?,
            op: some(unpacker.text()?, unpack_op)?,
            windows: SmallVec::new(),
        };
        while !unpacker.is_empty() {
            reply.windows.push(WindowCounter::unpack_all(long(&mut unpacker)?)?);
        }
        Ok(reply)
    }
}

/// Bytes led by their length in two.
fn long<'a>(unpacker: &mut Unpacker<'a>) -> Result<&'a [u8], Corrupt> {
    let length = unpacker.uint::<2>()? as usize;
    unpacker.raw(length)
}

fn some<T>(bytes: &[u8], unpack: impl FnOnce(&[u8]) -> Result<T, Corrupt>) -> Result<Option<T>, Corrupt> {
    if bytes.is_empty() { Ok(None) } else { unpack(bytes).map(Some) }
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
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let short = Value::Array(vec![bulk(&[1, 0])]);
        for value in [Value::Nil, Value::Array(vec![]), Value::Int(1), short, bulk(&[20, 0, 0, 0, 0, 0, 0])] {
            assert!(matches!(RawReply::of(value), Err(Unavailable::Corrupt(_))));
        }
        let cut = RawReply::of(bulk(&[1, 0, 0, 0, 0, 0, 0, 38])).unwrap();
        assert!(matches!(cut.decode(), Err(Unavailable::Corrupt(_))));
    }
}
