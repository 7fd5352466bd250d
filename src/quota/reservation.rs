//! The record of a reservation, from hold to tombstone. One packed value per (account, id); the
//! scripts write it, Rust reads it for answers, re-pricing, look-ups and the ledger.

use smallvec::SmallVec;

use super::{
    clock::Millis,
    fingerprint::{FINGERPRINT_BYTES, Fingerprint},
    id::KeyId,
    limit::{CounterCode, GroupField},
    packed::{Corrupt, Packer, Unpacker},
};

/// Where a reservation stands. The byte is the record's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Held = b'H',
    Settled = b'S',
    Released = b'R',
    Expired = b'E',
}

/// Facts about a reservation, one bit each (byte 21 of the record).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// `on_expiry` is `charge`.
    pub const CHARGE_ON_EXPIRY: u8 = 1;
    /// Settled after its deadline.
    pub const LATE: u8 = 2;
    /// Settled without a reserve.
    pub const UNRESERVED: u8 = 4;
    /// Made by the verb `charge`.
    pub const BY_CHARGE: u8 = 8;
    /// Its cost was above `max_amount` and clamped to it.
    pub const CLAMPED: u8 = 16;

    #[must_use]
    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The windows a reservation belongs to: a group field and, per counter, the start of the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRefs {
    pub field: GroupField,
    /// Counter and start of its window in seconds.
    pub counters: SmallVec<[(CounterCode, u32); 3]>,
}

/// `<c1 I6 I6 i7 B c18 i7 i7 i7 i7 i7 I2 Bc0 Bc0` and the window references (`I2c0 B` then
/// `I3 I4` for each counter, repeated to the end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub state: State,
    pub flags: Flags,
    /// Of the call that led to the present state.
    pub fingerprint: Fingerprint,
    pub created: Millis,
    /// Deadline of the hold.
    pub expires: Millis,
    /// The whole hold in units; what is still held is `held - charged`, not below 0, while `Held`.
    pub held: i64,
    /// Tokens reserved, and after the settle those charged.
    pub tokens: i64,
    /// Cost of the estimate's prompt part, for the abort policy.
    pub prompt_cost: i64,
    pub charged: i64,
    pub refunded: i64,
    /// How far below zero the balance was after the settle.
    pub overdraft: i64,
    /// Number of partial settles so far.
    pub parts: u16,
    pub key: Option<KeyId>,
    /// Which prices hold for it: see `tariff::PriceTag`. Opaque to the scripts.
    pub price_tag: Vec<u8>,
    pub windows: SmallVec<[WindowRefs; 2]>,
}

impl State {
    fn from_byte(byte: u8) -> Result<Self, Corrupt> {
        [State::Held, State::Settled, State::Released, State::Expired]
            .into_iter()
            .find(|state| *state as u8 == byte)
            .ok_or(Corrupt)
    }
}

impl Record {
    /// What the settle or release gave back, or what is still held.
    #[must_use]
    pub fn rest(&self) -> i64 {
        (self.held - self.charged).max(0)
    }

    /// What is left of a live hold that Redis has lost: expired, and nothing but its partial settles charged,
    /// so that a final settle charges the difference, and counts tokens and request, which no expiry did.
    /// Any other record as it is.
    #[must_use]
    pub fn without_hold(mut self) -> Self {
        if self.state == State::Held {
            self.state = State::Expired;
            self.flags.0 &= !Flags::CHARGE_ON_EXPIRY;
        }
        self
    }

    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::with_capacity(128);
        packer.uint::<1>(self.state as u64);
        packer.uint::<6>(self.created.0.unsigned_abs()).uint::<6>(self.expires.0.unsigned_abs()).int(self.held);
        packer.uint::<1>(self.flags.0.into()).raw(&self.fingerprint.0);
        packer.int(self.tokens).int(self.prompt_cost);
        packer.int(self.charged).int(self.refunded).int(self.overdraft);
        packer.uint::<2>(self.parts.into());
        packer.text(self.key.as_ref().map_or("", KeyId::as_str).as_bytes()).text(&self.price_tag);
        for group in &self.windows {
            // Group fields reach 388 bytes (platform, model and key of 128 each): two bytes of length.
            packer.uint::<2>(group.field.as_str().len() as u64).raw(group.field.as_str().as_bytes());
            packer.uint::<1>(group.counters.len() as u64);
            for (code, start_s) in &group.counters {
                packer.uint::<3>(code.0.into()).uint::<4>((*start_s).into());
            }
        }
        packer.finish()
    }

    /// # Errors
    /// [`Corrupt`] when the bytes do not follow the layout.
    pub fn unpack(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut unpacker = Unpacker::new(bytes);
        // In the order of the layout: fields are evaluated as they are written.
        let mut record = Self {
            state: State::from_byte(unpacker.uint::<1>()? as u8)?,
            created: Millis(unpacker.uint::<6>()? as i64),
            expires: Millis(unpacker.uint::<6>()? as i64),
            held: unpacker.int()?,
            flags: Flags(unpacker.uint::<1>()? as u8),
            fingerprint: Fingerprint(unpacker.raw(FINGERPRINT_BYTES)?.try_into().map_err(|_| Corrupt)?),
            tokens: unpacker.int()?,
            prompt_cost: unpacker.int()?,
            charged: unpacker.int()?,
            refunded: unpacker.int()?,
            overdraft: unpacker.int()?,
            parts: unpacker.uint::<2>()? as u16,
            key: match unpacker.text()? {
                b"" => None,
                key => Some(KeyId::new(std::str::from_utf8(key).map_err(|_| Corrupt)?).map_err(|_| Corrupt)?),
            },
            price_tag: unpacker.text()?.to_vec(),
            windows: SmallVec::new(),
        };
        while !unpacker.is_empty() {
            let length = unpacker.uint::<2>()? as usize;
            let field = std::str::from_utf8(unpacker.raw(length)?).map_err(|_| Corrupt)?;
            let (field, _) = GroupField::parse(field).ok_or(Corrupt)?;
            let mut counters = SmallVec::new();
            for _ in 0..unpacker.uint::<1>()? {
                counters.push((CounterCode(unpacker.uint::<3>()? as u32), unpacker.uint::<4>()? as u32));
            }
            record.windows.push(WindowRefs { field, counters });
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let key = KeyId::new("k-1").unwrap();
        let record = Record {
            state: State::Held,
            flags: Flags(Flags::CHARGE_ON_EXPIRY),
            fingerprint: Fingerprint::of("reserve", &[Some("x")]),
            created: Millis(1_795_168_800_000),
            expires: Millis(1_795_169_100_000),
            held: 120_000,
            tokens: 700,
            prompt_cost: 20_000,
            charged: 0,
            refunded: 0,
            overdraft: 0,
            parts: 0,
            key: Some(key.clone()),
            price_tag: b"\x01\0\0\0vip".to_vec(),
            windows: SmallVec::from_vec(vec![WindowRefs {
                field: GroupField::new("openai", "*", Some(&key)),
                counters: SmallVec::from_slice(&[(CounterCode(3), 1_795_132_800)]),
            }]),
        };
        assert_eq!(Record::unpack(&record.pack()), Ok(record.clone()));
        let bytes = record.pack();
        assert_eq!(Record::unpack(&bytes[..bytes.len() - 1]), Err(Corrupt));
    }
}
