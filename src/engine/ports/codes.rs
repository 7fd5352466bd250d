//! The port [`CodeStore`]: redemption codes as SQL has them.

use async_trait::async_trait;

use super::{Owed, StoreError};
use crate::engine::adjust::CreditKind;
use crate::quota::{
    clock::Millis,
    code::{Code, CodeName, CodeState, Plain},
    id::{AccountId, Actor, CodeId, OpId},
};

/// Codes to be made by one call.
#[derive(Clone, Debug)]
pub struct NewCodes {
    /// Names the call: repeated, it makes no more.
    pub op_id: OpId,
    pub name: CodeName,
    /// Units, above 0.
    pub amount: i64,
    /// `None`: never. In the future, or it is refused (`expires_at`).
    pub expires_at: Option<Millis>,
    /// Id, characters and their SHA-256 of each.
    pub codes: Vec<(CodeId, Plain, [u8; 32])>,
}

/// What became of a call that makes codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// This call made them.
    Now(Vec<Code>),
    /// An earlier call of this name made them; these are left.
    Before(Vec<Code>),
    /// An earlier call of this name had another value of this field.
    Conflict(&'static str),
}

/// Which codes to list. All of what is given must be true of a code.
#[derive(Clone, Debug, Default)]
pub struct CodeFilter {
    pub state: Option<CodeState>,
    pub name: Option<CodeName>,
    pub batch: Option<OpId>,
    /// Part of the name in any case, the id, the visible begin, or (`sha256`) the code itself.
    pub search: Option<(String, Option<[u8; 32]>)>,
}

/// Changes to a code that nobody has used; absent fields stay as they are.
#[derive(Clone, Debug, Default)]
pub struct CodePatch {
    pub name: Option<CodeName>,
    pub amount: Option<i64>,
    /// In the future, or it is refused (`expires_at`).
    pub expires_at: Option<Option<Millis>>,
    pub disabled: Option<bool>,
}

/// What became of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    Done(Code),
    Unknown,
    /// It was redeemed, and stays as it was then.
    Used,
}

/// How failed attempts are bounded, per account.
#[derive(Clone, Copy, Debug)]
pub struct GuessBound {
    pub failures_max: u32,
    pub window_ms: i64,
}

/// What became of an attempt at redeeming. Only `Done` with `first` changed anything but the count of
/// failed attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redemption {
    /// The account has it: from now on (`first`), or by an earlier call. Its credit is owed.
    Done {
        code: Box<Code>,
        first: bool,
    },
    NoAccount,
    Unknown,
    /// Another account was quicker.
    Used,
    Disabled,
    Expired,
    /// Too many failed attempts, until that instant; the code was not looked at.
    TooMany {
        until: Millis,
    },
}

impl Owed {
    /// What an account is owed for a code.
    #[must_use]
    pub fn for_code(account: &AccountId, code: &Code) -> Self {
        Self {
            account: account.clone(),
            op_id: code.credit_op(),
            kind: CreditKind::Redeem,
            amount: code.amount,
            note: Some(code.name.as_str().to_owned()),
        }
    }
}

/// Each call is one transaction, its audit row included. Ids grow with time, so lists come newest first.
#[async_trait]
pub trait CodeStore: Send + Sync + 'static {
    async fn make(&self, by: &Actor, new: &NewCodes, now: Millis) -> Result<Made, StoreError>;
    async fn code(&self, id: &CodeId) -> Result<Option<Code>, StoreError>;
    /// Those before `cursor`.
    async fn codes(
        &self,
        filter: &CodeFilter,
        cursor: Option<&CodeId>,
        most: u32,
        now: Millis,
    ) -> Result<Vec<Code>, StoreError>;
    async fn edit(&self, by: &Actor, id: &CodeId, patch: &CodePatch, now: Millis) -> Result<Edited, StoreError>;
    /// False: there was none.
    async fn delete(&self, by: &Actor, id: &CodeId, now: Millis) -> Result<bool, StoreError>;
    /// Deletes up to `most` codes in these states; how many. Again until it answers 0.
    async fn purge(&self, by: &Actor, states: &[CodeState], most: u32, now: Millis) -> Result<u64, StoreError>;
    /// Marks the code as used by the account and leaves the credit in the outbox; compare-and-set.
    async fn redeem(
        &self,
        by: &Actor,
        account: &AccountId,
        sha256: &[u8; 32],
        bound: GuessBound,
        now: Millis,
    ) -> Result<Redemption, StoreError>;
}
