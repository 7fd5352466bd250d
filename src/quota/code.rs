//! Redemption codes: money in the form of 32 random characters, which whoever has them turns into
//! balance, once. The characters are known to their finder alone: a [`Code`] holds their hash's owner
//! (an id) and as much of them as it takes to tell codes apart.

use std::fmt;

use super::{
    clock::Millis,
    id::{AccountId, CodeId, OpId},
};

/// Characters of a code: 190 bits.
pub const CODE_CHARS: usize = 32;
/// Characters at its begin and its end that stay visible; the 22 between them are worth 131 bits.
pub const HEAD_CHARS: usize = 6;
pub const TAIL_CHARS: usize = 4;
pub const NAME_CHARS_MAX: usize = 20;
/// Codes made by one call.
pub const BATCH_MAX: u32 = 100;

/// The characters of a code. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain(Box<str>);

impl Plain {
    /// `None` for what is not 32 letters and digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == CODE_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| Self(text.into()))
    }

    /// The characters, to be hashed or shown to whom they belong.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn head(&self) -> &str {
        &self.0[..HEAD_CHARS]
    }

    #[must_use]
    pub fn tail(&self) -> &str {
        &self.0[CODE_CHARS - TAIL_CHARS..]
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

/// What people call a code: 1 to 20 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeName(Box<str>);

impl CodeName {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        fits.then(|| Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What can be done with a code now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CodeState {
    Enabled,
    Disabled,
    Used,
    /// Enabled, and past its time.
    Expired,
}

impl CodeState {
    pub const ALL: [CodeState; 4] = [CodeState::Enabled, CodeState::Disabled, CodeState::Used, CodeState::Expired];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CodeState::Enabled => "enabled",
            CodeState::Disabled => "disabled",
            CodeState::Used => "used",
            CodeState::Expired => "expired",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Who redeemed a code, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub by: AccountId,
    pub at: Millis,
}

/// A code as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub id: CodeId,
    /// Op id of the call that made it.
    pub batch: OpId,
    pub head: String,
    pub tail: String,
    pub name: CodeName,
    /// Units, above 0.
    pub amount: i64,
    /// Switched off by an operator.
    pub disabled: bool,
    /// From then on it cannot be redeemed; `None`: never.
    pub expires_at: Option<Millis>,
    pub created_at: Millis,
    pub used: Option<Use>,
}

impl Code {
    #[must_use]
    pub fn state(&self, now: Millis) -> CodeState {
        if self.used.is_some() {
            CodeState::Used
        } else if self.disabled {
            CodeState::Disabled
        } else if self.expires_at.is_some_and(|at| at <= now) {
            CodeState::Expired
        } else {
            CodeState::Enabled
        }
    }

    /// The op id of its credit, one in all accounts; [`code_of_credit`] reads it.
    #[must_use]
    pub fn credit_op(&self) -> OpId {
        // A code's id is 22 characters that an op id may have.
        OpId::new(format!("{CREDIT}{}", self.id)).unwrap_or_else(|_| self.batch.clone())
    }

    /// Enough of its characters to know it by, and too little to use it: `k3Xp0a…9ZqT`.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}…{}", self.head, self.tail)
    }
}

/// Begins the op ids of credits that are codes.
pub(crate) const CREDIT: &str = "redeem:";

/// The id of the code that a credit of this op id is of.
#[must_use]
pub fn code_of_credit(op_id: &OpId) -> Option<&str> {
    op_id.as_str().strip_prefix(CREDIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Code {
        Code {
            id: CodeId::new("0190a").unwrap(),
            batch: OpId::new("b-1").unwrap(),
            head: "abcdef".into(),
            tail: "wxyz".into(),
            name: CodeName::parse("spring").unwrap(),
            amount: 5,
            disabled: false,
            expires_at: Some(Millis(100)),
            created_at: Millis(1),
            used: None,
        }
    }

    #[test]
    fn what_is_no_code_is_told_before_anybody_is_asked() {
        let text = "0123456789ABCDEFGHIJabcdefghijkl";
        let plain = Plain::parse(text).unwrap();
        assert_eq!((plain.expose(), plain.head(), plain.tail()), (text, "012345", "ijkl"));
        assert_eq!(format!("{plain:?}"), "Plain");
        for bad in [
            "",
            &text[1..],
            &format!("{text}0"),
            "0123456789ABCDEFGHIJabcdefghijk ",
            "0123456789ABCDEFGHIJabcdefghij-é",
        ] {
            assert_eq!(Plain::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_has_1_to_20_characters() {
        for good in ["a", "spring sale 2026 — €", "12345678901234567890", "春春春春春春春春春春春春春春春春春春春春"]
        {
            assert_eq!(CodeName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "123456789012345678901", "a\nb", "a\u{0}"] {
            assert_eq!(CodeName::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn used_comes_before_disabled_and_disabled_before_expired() {
        let fresh = code();
        assert_eq!(fresh.state(Millis(99)), CodeState::Enabled);
        assert_eq!(fresh.state(Millis(100)), CodeState::Expired);
        let disabled = Code { disabled: true, ..fresh };
        assert_eq!(disabled.state(Millis(100)), CodeState::Disabled);
        let used = Code { used: Some(Use { by: AccountId::new("a").unwrap(), at: Millis(7) }), ..disabled };
        assert_eq!(used.state(Millis(100)), CodeState::Used);
        assert_eq!(Code { expires_at: None, ..code() }.state(Millis(i64::MAX)), CodeState::Enabled);
        assert_eq!((used.shown().as_str(), used.credit_op().as_str()), ("abcdef…wxyz", "redeem:0190a"));
        assert_eq!(code_of_credit(&used.credit_op()), Some("0190a"));
    }
}
