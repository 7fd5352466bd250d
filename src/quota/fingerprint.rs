//! Tells the same call from another call with the same id, and names the field that differs,
//! without storing the call: 8 bytes of hash over everything and one byte for each field. XXH3,
//! because its values are fixed by its specification and sidecars of any build must agree.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

/// Fields with a byte of their own. One more is in the hash alone, and told by that: it differs where no byte does.
pub const FIELDS_MAX: usize = 10;
/// Stored length.
pub const FINGERPRINT_BYTES: usize = 8 + FIELDS_MAX;

/// 8 bytes over the whole content, then one byte per field in the verb's order (0 for none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    /// Of a verb and its content fields, `None` where a field is absent. The order of a verb's fields is
    /// fixed: they are compared by position. A field that came later is left out where it is absent, so that calls
    /// without it are the same as ever.
    ///
    /// # Panics
    /// When there are more than [`FIELDS_MAX`] fields and one.
    #[must_use]
    pub fn of(verb: &str, fields: &[Option<&str>]) -> Self {
        assert!(fields.len() <= FIELDS_MAX + 1);
        let mut bytes = [0; FINGERPRINT_BYTES];
        // Hashed as a whole: less work than the hash's own buffer, as contents are short.
        let mut whole = SmallVec::<[u8; 256]>::new();
        whole.extend_from_slice(verb.as_bytes());
        for (position, field) in fields.iter().enumerate() {
            whole.push(field.is_some().into());
            if let Some(text) = field {
                whole.extend_from_slice(&(text.len() as u32).to_le_bytes());
                whole.extend_from_slice(text.as_bytes());
                if let Some(byte) = bytes.get_mut(8 + position) {
                    *byte = xxh3_64(text.as_bytes()) as u8 | 1;
                }
            }
        }
        bytes[..8].copy_from_slice(&xxh3_64(&whole).to_le_bytes());
        Self(bytes)
    }

    /// `None` when both are the same call; else the position of the first field seen to differ,
    /// [`FIELDS_MAX`] when the bytes per field agree.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<usize> {
        if self.0[..8] == other.0[..8] {
            return None;
        }
        Some(self.0[8..].iter().zip(&other.0[8..]).position(|(a, b)| a != b).unwrap_or(FIELDS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored fingerprints are compared with those of repeated calls for ever.
    #[test]
    fn its_bytes_never_change() {
        let fingerprint = Fingerprint::of("reserve", &[Some("k1"), None, Some("100")]);
        let content = b"reserve\x01\x02\0\0\0k1\0\x01\x03\0\0\x00100";
        assert_eq!(fingerprint.0[..8], xxh3_64(content).to_le_bytes());
        let long = "x".repeat(1_000);
        let mut streamed = xxhash_rust::xxh3::Xxh3::new();
        streamed.update(b"charge\x01\xe8\x03\0\0");
        streamed.update(long.as_bytes());
        assert_eq!(Fingerprint::of("charge", &[Some(&long)]).0[..8], streamed.digest().to_le_bytes());
    }

    #[test]
    fn names_the_field_that_differs() {
        let first = Fingerprint::of("reserve", &[Some("k1"), None, Some("100")]);
        assert_eq!(first.difference(&Fingerprint::of("reserve", &[Some("k1"), None, Some("100")])), None);
        assert_eq!(first.difference(&Fingerprint::of("reserve", &[Some("k1"), None, Some("101")])), Some(2));
        assert_eq!(first.difference(&Fingerprint::of("reserve", &[Some("k1"), Some(""), Some("100")])), Some(1));
        let more =
            |last: &str| Fingerprint::of("reserve", &[[Some("k"); FIELDS_MAX].as_slice(), &[Some(last)]].concat());
        assert_eq!(more("a").difference(&more("a")), None);
        assert_eq!(more("a").difference(&more("b")), Some(FIELDS_MAX));
        assert_eq!(more("a").difference(&Fingerprint::of("reserve", &[Some("k"); FIELDS_MAX])), Some(FIELDS_MAX));
        assert!(first.difference(&Fingerprint::of("charge", &[Some("k1"), None, Some("100")])).is_some());
    }
}
