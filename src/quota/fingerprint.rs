//! Tells the same call from another call with the same id, and names the field that differs,
//! without storing the call: 8 bytes of hash over everything and one byte for each field. XXH3,
//! because its values are fixed by its specification and sidecars of any build must agree.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Fields of a call at most.
pub const FIELDS_MAX: usize = 10;
/// Stored length.
pub const FINGERPRINT_BYTES: usize = 8 + FIELDS_MAX;

/// 8 bytes over the whole content, then one byte per field in the verb's order (0 for none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    /// Of a verb and its content fields, `None` where a field is absent. The order and number of
    /// fields per verb are fixed: they are compared by position.
    ///
    /// # Panics
    /// When there are more than [`FIELDS_MAX`] fields.
    #[must_use]
    pub fn of(verb: &str, fields: &[Option<&str>]) -> Self {
        assert!(fields.len() <= FIELDS_MAX);
        let mut bytes = [0; FINGERPRINT_BYTES];
        let mut whole = Xxh3::new();
        whole.update(verb.as_bytes());
        for (position, field) in fields.iter().enumerate() {
            whole.update(&[field.is_some().into()]);
            if let Some(text) = field {
                whole.update(&(text.len() as u32).to_le_bytes());
                whole.update(text.as_bytes());
                bytes[8 + position] = xxh3_64(text.as_bytes()) as u8 | 1;
            }
        }
        bytes[..8].copy_from_slice(&whole.digest().to_le_bytes());
        Self(bytes)
    }

    /// `None` when both are the same call; else the position of the first field seen to differ
    /// (0 when the bytes per field happen to agree).
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<usize> {
        if self.0[..8] == other.0[..8] {
            return None;
        }
        Some(self.0[8..].iter().zip(&other.0[8..]).position(|(a, b)| a != b).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_field_that_differs() {
        let first = Fingerprint::of("reserve", &[Some("k1"), None, Some("100")]);
        assert_eq!(first.difference(&Fingerprint::of("reserve", &[Some("k1"), None, Some("100")])), None);
        assert_eq!(first.difference(&Fingerprint::of("reserve", &[Some("k1"), None, Some("101")])), Some(2));
        assert_eq!(first.difference(&Fingerprint::of("reserve", &[Some("k1"), Some(""), Some("100")])), Some(1));
        assert!(first.difference(&Fingerprint::of("charge", &[Some("k1"), None, Some("100")])).is_some());
    }
}
