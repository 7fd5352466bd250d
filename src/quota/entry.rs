//! A ledger entry: what a script appends to its shard's stream in the same step as the change, and
//! what write-back turns into one immutable SQL row and the sums beside it. Deltas, not balances.

use super::{
    clock::Millis,
    id::{AccountId, OpId, ReservationId},
    limit::{CounterCode, GroupField},
    packed::{Corrupt, Packer, Unpacker},
    reservation::Record,
};

/// What changed the money. The byte is the payload's first; the word is in SQL and in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The final settle of a reservation, reserved or not, in time or late.
    Settle = b's',
    /// A settle with `final: false`; numbered by the record's `parts`.
    Partial = b'p',
    Charge = b'c',
    Refund = b'f',
    Credit = b't',
    Debit = b'd',
    /// An expiry that charged the hold.
    Expire = b'e',
    /// A window's usage set back to 0.
    Reset = b'r',
    /// The balance an account is created with; its op id is `v<policy version>`.
    Initial = b'i',
    /// What was left when an account was deleted, taken away.
    Close = b'x',
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Settle,
        Kind::Partial,
        Kind::Charge,
        Kind::Refund,
        Kind::Credit,
        Kind::Debit,
        Kind::Expire,
        Kind::Reset,
        Kind::Initial,
        Kind::Close,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Settle => "settle",
            Kind::Partial => "partial",
            Kind::Charge => "charge",
            Kind::Refund => "refund",
            Kind::Credit => "credit",
            Kind::Debit => "debit",
            Kind::Expire => "expire",
            Kind::Reset => "reset",
            Kind::Initial => "initial",
            Kind::Close => "close",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A usage delta of one window counter. SQL adds it when its row has the same start, starts the row
/// anew when its start is older, and drops it when its start is newer: the rule of the scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowDelta {
    pub field: GroupField,
    pub code: CounterCode,
    pub start_s: u32,
    pub used: i64,
}

/// The payload: `<B I6 i7 i7 i7 i7` kind, at, balance, used, requests, tokens (deltas) · `Bc0`
/// account · `Bc0` op id · `I2c0` record (empty when the entry is about no reservation) · `B` number
/// of groups with window deltas, each `I2c0 B` field and count, `I3 I4` code and start of each counter, `i7` by how
/// much each changed · the rest is the log blob, JSON or empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub kind: Kind,
    pub at: Millis,
    /// Deltas of the account's balance, used cost, settled requests and settled tokens.
    pub balance: i64,
    pub used: i64,
    pub requests: i64,
    pub tokens: i64,
    pub account: AccountId,
    /// Reservation id for settle, partial, charge and expire; the caller's op id else.
    pub op_id: OpId,
    /// The reservation as this entry left it; the cure for a lost tombstone. For a refund it is
    /// the record of the refunded reservation.
    pub record: Option<Record>,
    /// Those that changed.
    pub windows: Vec<WindowDelta>,
    /// [`LogFields`] as JSON; empty when there are none.
    pub log: Vec<u8>,
}

/// What people want to know about an entry and the scripts do not care for.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LogFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The reservation's price list was gone (a database restored from a copy): the newest one priced it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repriced: Option<bool>,
    /// Credit kind (`topup` …), or the verb's own sub-kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Who asked, for what an operator does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Id of the settled reservation, for a refund.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Box<serde_json::value::RawValue>>,
}

impl Entry {
    /// The reservation that the record is of; for a refund the log names it.
    #[must_use]
    pub fn reservation(&self) -> Option<ReservationId> {
        self.record.as_ref()?;
        match self.kind {
            Kind::Settle | Kind::Partial | Kind::Charge | Kind::Expire => ReservationId::new(self.op_id.as_str()).ok(),
            Kind::Refund => {
                let log: LogFields = serde_json::from_slice(&self.log).ok()?;
                ReservationId::new(log.of?).ok()
            }
            // The record of what an undone duplicate charged is there for its key alone.
            Kind::Credit | Kind::Debit | Kind::Reset | Kind::Initial | Kind::Close => None,
        }
    }

    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::with_capacity(256);
        packer.uint::<1>(self.kind as u64).uint::<6>(self.at.0.unsigned_abs());
        packer.int(self.balance).int(self.used).int(self.requests).int(self.tokens);
        packer.text(self.account.as_str().as_bytes()).text(self.op_id.as_str().as_bytes());
        let record = self.record.as_ref().map(Record::pack).unwrap_or_default();
        packer.uint::<2>(record.len() as u64).raw(&record);
        let groups = self.windows.chunk_by(|one, next| one.field == next.field);
        packer.uint::<1>(groups.clone().count() as u64);
        for group in groups {
            let field = group[0].field.as_str().as_bytes();
            packer.uint::<2>(field.len() as u64).raw(field).uint::<1>(group.len() as u64);
            for window in group {
                packer.uint::<3>(window.code.0.into()).uint::<4>(window.start_s.into());
            }
            for window in group {
                packer.int(window.used);
            }
        }
        packer.raw(&self.log);
        packer.finish()
    }

    /// # Errors
    /// [`Corrupt`] when the bytes do not follow the layout.
    pub fn unpack(bytes: &[u8]) -> Result<Self, Corrupt> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Corrupt);
        let mut unpacker = Unpacker::new(bytes);
        let mut entry = Self {
            kind: Kind::from_byte(unpacker.uint::<1>()? as u8).ok_or(Corrupt)?,
            at: Millis(unpacker.uint::<6>()? as i64),
            balance: unpacker.int()?,
            used: unpacker.int()?,
            requests: unpacker.int()?,
            tokens: unpacker.int()?,
            account: AccountId::new(text(unpacker.text()?)?).map_err(|_| Corrupt)?,
            op_id: OpId::new(text(unpacker.text()?)?).map_err(|_| Corrupt)?,
            record: None,
            windows: Vec::new(),
            log: Vec::new(),
        };
        let record = unpacker.uint::<2>()? as usize;
        if record > 0 {
            entry.record = Some(Record::unpack(unpacker.raw(record)?)?);
        }
        for _ in 0..unpacker.uint::<1>()? {
            let length = unpacker.uint::<2>()? as usize;
            let (field, _) = GroupField::parse(&text(unpacker.raw(length)?)?).ok_or(Corrupt)?;
            let count = unpacker.uint::<1>()? as usize;
            let (mut starts, mut changes) =
                (Unpacker::new(unpacker.raw(7 * count)?), Unpacker::new(unpacker.raw(7 * count)?));
            for _ in 0..count {
                let (code, start_s) = (CounterCode(starts.uint::<3>()? as u32), starts.uint::<4>()? as u32);
                entry.windows.push(WindowDelta { field: field.clone(), code, start_s, used: changes.int()? });
            }
        }
        entry.log = unpacker.rest().to_vec();
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back() {
        let entry = Entry {
            kind: Kind::Settle,
            at: Millis(1_795_168_800_000),
            balance: -98_000,
            used: 98_000,
            requests: 1,
            tokens: 700,
            account: AccountId::new("a").unwrap(),
            op_id: OpId::new("r-1").unwrap(),
            record: None,
            windows: vec![WindowDelta {
                field: GroupField::new("openai", "*", None),
                code: CounterCode(3),
                start_s: 1_795_132_800,
                used: 98_000,
            }],
            log: br#"{"model":"gpt-4o"}"#.to_vec(),
        };
        assert_eq!(Entry::unpack(&entry.pack()), Ok(entry));
    }
}
