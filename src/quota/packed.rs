//! The byte layout that Rust and Lua share: little-endian integers of 1 to 7 bytes (`struct.pack`
//! formats `I1`..`I6`, `i7`) and texts led by their length in one byte (`Bc0`). Seven bytes hold
//! every counter (|x| ≤ 2^52) and keep an account's fields within Redis' compact encoding.

/// Appends integers and short texts.
#[derive(Debug, Default)]
pub struct Packer(Vec<u8>);

impl Packer {
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// An unsigned integer in `N` bytes; the caller keeps it in range (asserted in debug builds).
    pub fn uint<const N: usize>(&mut self, value: u64) -> &mut Self {
        debug_assert!(N == 8 || value < 1 << (8 * N), "{value} does not fit {N} bytes");
        self.0.extend_from_slice(&value.to_le_bytes()[..N]);
        self
    }

    /// A signed counter in 7 bytes.
    pub fn int(&mut self, value: i64) -> &mut Self {
        debug_assert!(value.unsigned_abs() < 1 << 55, "{value} does not fit 7 bytes");
        self.0.extend_from_slice(&value.to_le_bytes()[..7]);
        self
    }

    /// Raw bytes, no length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text of at most 255 bytes, led by its length.
    pub fn text(&mut self, text: &[u8]) -> &mut Self {
        debug_assert!(text.len() < 256);
        self.0.push(text.len() as u8);
        self.0.extend_from_slice(text);
        self
    }

    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes are shorter than their layout, or hold what it does not allow: corrupt state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packed bytes do not follow their layout")]
pub struct Corrupt;

/// Reads what [`Packer`] (or a script) wrote.
#[derive(Clone, Copy, Debug)]
pub struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// # Errors
    /// [`Corrupt`] when fewer bytes are left.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], Corrupt> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Corrupt)?;
        self.0 = tail;
        Ok(head)
    }

    /// # Errors
    /// [`Corrupt`] when fewer than `N` bytes are left.
    pub fn uint<const N: usize>(&mut self) -> Result<u64, Corrupt> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.raw(N)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// # Errors
    /// [`Corrupt`] when fewer than 7 bytes are left.
    pub fn int(&mut self) -> Result<i64, Corrupt> {
        let mut bytes = [0; 8];
        bytes[1..].copy_from_slice(self.raw(7)?);
        Ok(i64::from_le_bytes(bytes) >> 8)
    }

    /// # Errors
    /// [`Corrupt`] when length or bytes are missing.
    pub fn text(&mut self) -> Result<&'a [u8], Corrupt> {
        let len = self.uint::<1>()? as usize;
        self.raw(len)
    }

    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let mut packer = Packer::default();
        packer.uint::<1>(200).uint::<3>(0x00c0_ffee).uint::<6>(1_795_168_800_000);
        packer.int(-(1 << 52)).int(1 << 52).int(-1).text(b"abc").raw(b"rest");
        let bytes = packer.finish();
        let mut unpacker = Unpacker::new(&bytes);
        assert_eq!(unpacker.uint::<1>(), Ok(200));
        assert_eq!(unpacker.uint::<3>(), Ok(0x00c0_ffee));
        assert_eq!(unpacker.uint::<6>(), Ok(1_795_168_800_000));
        assert_eq!(unpacker.int(), Ok(-(1 << 52)));
        assert_eq!(unpacker.int(), Ok(1 << 52));
        assert_eq!(unpacker.int(), Ok(-1));
        assert_eq!(unpacker.text(), Ok(&b"abc"[..]));
        assert_eq!(unpacker.raw(5), Err(Corrupt));
        assert_eq!(unpacker.rest(), b"rest");
    }
}
