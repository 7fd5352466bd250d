//! The counters of an account as its Redis hash holds them, one packed field each. The layouts are
//! those of `lua/README.md`; scripts write them, Rust reads them for answers, writes them when an
//! account is loaded, and shows them in `GET …/balance`.

use smallvec::SmallVec;

use super::{
    clock::Millis,
    limit::{CounterCode, GroupField},
    packed::{Corrupt, Packer, Unpacker},
};

/// Field `h`: the account's own numbers. `<I4 i7 i7 i7 i7 I6`, 38 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Policy version the counters were last used with.
    pub version: u32,
    pub balance: i64,
    pub held: i64,
    pub used: i64,
    pub requests: i64,
    /// The latest time seen by this account; time never goes back behind it.
    pub now: Millis,
}

/// Field `k␟<key>`: `<i7 i7 i7`, 21 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounter {
    pub used: i64,
    pub held: i64,
    pub requests: i64,
}

/// One counter of a group field. A field is code and start (`<I3 I4`) of each counter, then used and held (`<i7 i7`)
/// of each: 21 bytes a counter. A call whose codes and starts are the field's first bytes needs to look at numbers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowCounter {
    pub code: CounterCode,
    /// Start of its window in seconds; 0 for concurrency and for a rolling window not begun.
    pub start_s: u32,
    pub used: i64,
    pub held: i64,
}

/// The counters of one group field, in the order in which they are stored.
pub type WindowCounters = SmallVec<[WindowCounter; 3]>;

/// All counters of an account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountCounters {
    pub head: Head,
    pub keys: Vec<(super::id::KeyId, KeyCounter)>,
    pub groups: Vec<(GroupField, WindowCounters)>,
}

impl Head {
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::with_capacity(38);
        packer.uint::<4>(self.version.into()).int(self.balance).int(self.held).int(self.used).int(self.requests);
        packer.uint::<6>(self.now.0.unsigned_abs());
        packer.finish()
    }

    /// # Errors
    /// [`Corrupt`] when the bytes are not 38 of this layout.
    pub fn unpack(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut unpacker = Unpacker::new(bytes);
        let head = Self {
            version: unpacker.uint::<4>()? as u32,
            balance: unpacker.int()?,
            held: unpacker.int()?,
            used: unpacker.int()?,
            requests: unpacker.int()?,
            now: Millis(unpacker.uint::<6>()? as i64),
        };
        if unpacker.is_empty() { Ok(head) } else { Err(Corrupt) }
    }
}

impl KeyCounter {
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::with_capacity(21);
        packer.int(self.used).int(self.held).int(self.requests);
        packer.finish()
    }

    /// # Errors
    /// [`Corrupt`] when the bytes are not 21 of this layout.
    pub fn unpack(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut unpacker = Unpacker::new(bytes);
        let counter = Self { used: unpacker.int()?, held: unpacker.int()?, requests: unpacker.int()? };
        if unpacker.is_empty() { Ok(counter) } else { Err(Corrupt) }
    }
}

impl WindowCounter {
    #[must_use]
    pub fn pack_all(counters: &[WindowCounter]) -> Vec<u8> {
        let mut packer = Packer::with_capacity(21 * counters.len());
        for counter in counters {
            packer.uint::<3>(counter.code.0.into()).uint::<4>(counter.start_s.into());
        }
        for counter in counters {
            packer.int(counter.used).int(counter.held);
        }
        packer.finish()
    }

    /// # Errors
    /// [`Corrupt`] when the bytes are not 21 a counter.
    pub fn unpack_all(bytes: &[u8]) -> Result<WindowCounters, Corrupt> {
        let count = bytes.len() / 21;
        let (mut starts, mut numbers) = (Unpacker::new(bytes), Unpacker::new(&bytes[7 * count..]));
        let mut counters = WindowCounters::new();
        for _ in 0..count {
            counters.push(WindowCounter {
                code: CounterCode(starts.uint::<3>()? as u32),
                start_s: starts.uint::<4>()? as u32,
                used: numbers.int()?,
                held: numbers.int()?,
            });
        }
        if numbers.is_empty() { Ok(counters) } else { Err(Corrupt) }
    }
}

impl AccountCounters {
    /// Fields and values of the account's hash.
    #[must_use]
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = vec![(b"h".to_vec(), self.head.pack())];
        fields.extend(self.keys.iter().map(|(key, of)| (format!("k\u{1f}{key}").into_bytes(), of.pack())));
        let windows = self.groups.iter();
        fields.extend(windows.map(|(field, of)| (field.as_str().as_bytes().to_vec(), WindowCounter::pack_all(of))));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_read_back_and_stay_compact() {
        let head =
            Head { version: 7, balance: -5, held: 1 << 52, used: 3, requests: 4, now: Millis(1_795_168_800_000) };
        assert_eq!(Head::unpack(&head.pack()), Ok(head));
        assert_eq!(head.pack().len(), 38);
        let key = KeyCounter { used: 1, held: -2, requests: 3 };
        assert_eq!(KeyCounter::unpack(&key.pack()), Ok(key));
        let counter = WindowCounter { code: CounterCode(3), start_s: 1_795_132_800, used: 9, held: -1 };
        let bytes = WindowCounter::pack_all(&[counter; 3]);
        assert!(bytes.len() <= 64, "three windows keep the hash in its compact encoding");
        assert_eq!(WindowCounter::unpack_all(&bytes).unwrap().as_slice(), &[counter; 3]);
        assert_eq!(WindowCounter::unpack_all(&bytes[1..]), Err(Corrupt));
    }
}
