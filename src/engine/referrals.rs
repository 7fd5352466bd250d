//! Referrals: what an account has from those it invited, and how it comes to its balance.

use sha2::{Digest as _, Sha256};

use super::{
    Answer, Engine,
    outbox::Attempt,
    policies::no_account,
    ports::{Referrals, Transfer, Transferred, Unavailable},
    step::{Done, Step, verdict},
};
use crate::quota::{
    id::{AccountId, Actor, OpId},
    verdict::{Code, Refusal, Verdict},
};

/// Begins the op ids of credits that are transfers.
pub(crate) const CREDIT: &str = "referral:";

/// A transfer that was made.
#[derive(Clone, Debug)]
pub struct TransferDone {
    pub account: AccountId,
    pub op_id: OpId,
    pub amount: i64,
    /// Units still pending.
    pub pending: i64,
    pub balance: i64,
    pub available: i64,
}

impl Engine {
    /// Sums, and the accounts that this one invited, after `cursor`.
    pub async fn referrals(&self, account: &AccountId, cursor: Option<&AccountId>, most: u32) -> Answer<Referrals> {
        let found = async {
            let found = self.policies.referrals(account, cursor, most).await?;
            Ok(Done::now(found.ok_or_else(|| no_account(account))?))
        };
        verdict(found.await)
    }

    /// Moves units from the pending balance to the balance: all or nothing, once for each op id. SQL owes
    /// the credit from the moment that the pending balance is less; it is spendable when this answers.
    pub async fn transfer(&self, by: &Actor, account: &AccountId, op_id: &OpId, amount: i64) -> Answer<TransferDone> {
        verdict(self.try_transfer(by, account, op_id, amount).await)
    }

    async fn try_transfer(
        &self,
        by: &Actor,
        account: &AccountId,
        op_id: &OpId,
        amount: i64,
    ) -> Step<Done<TransferDone>> {
        // Nothing is no transfer, also where the setting allows any.
        let least = self.live().referral_transfer_min.max(1);
        let credit_op = credit_op(op_id)?;
        let ask = Transfer { account: account.clone(), op_id: op_id.clone(), amount, least, credit_op };
        let (owed, pending, first) = match self.policies.transfer(by, &ask).await? {
            Transferred::Done { owed, pending, first } => (owed, pending, first),
            Transferred::Conflict => {
                let detail = format!("`{op_id}` moved another amount");
                return Err(Refusal { field: Some("amount"), ..Refusal::new(Code::Conflict, detail) }.into());
            }
            Transferred::TooLittle => {
                return Err(Refusal::invalid("amount", format!("must be at least {least}")).into());
            }
            Transferred::Lacking { pending } => return Err(lacking(amount, pending)),
            Transferred::NoAccount => return Err(no_account(account)),
        };
        crate::fail_point!("transferred");
        let attempt = if first { Attempt::First } else { Attempt::Later };
        match self.give(&owed, attempt).await? {
            Verdict::Done { answer, .. } => {
                let (balance, available) = (answer.balance, answer.available);
                let (account, op_id) = (account.clone(), op_id.clone());
                let answer = TransferDone { account, op_id, amount, pending, balance, available };
                Ok(Done { answer, replayed: !first })
            }
            Verdict::Refused(refusal) => Err(refusal.into()),
        }
    }
}

/// Names the credit of a transfer by the transfer: a database that was restored from a copy has forgotten the transfer,
/// and Redis or the ledger knows the credit still when it is asked for again.
fn credit_op(op_id: &OpId) -> Result<OpId, Unavailable> {
    let broken = |bad| Unavailable::Corrupt(format!("an op id of the engine's own {bad}"));
    if let Ok(named) = OpId::new(format!("{CREDIT}{op_id}")) {
        return Ok(named);
    }
    // A long one leaves no room for itself.
    let hash: String = Sha256::digest(op_id.as_str()).iter().map(|byte| format!("{byte:02x}")).collect();
    OpId::new(format!("{CREDIT}sha256:{hash}")).map_err(broken)
}

fn lacking(amount: i64, pending: i64) -> super::step::Stop {
    let detail = format!("{amount} units were to be moved, {pending} are pending");
    let refusal = Refusal::new(Code::InsufficientBalance, detail);
    Refusal { requested: Some(amount), available: Some(pending), ..refusal }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_names_its_credit() {
        let of = |op_id: &str| credit_op(&OpId::new(op_id).unwrap()).unwrap().to_string();
        assert_eq!(of("t-1"), "referral:t-1");
        let (longest, long) = ("a".repeat(119), "a".repeat(128));
        assert_eq!(of(&longest), format!("referral:{longest}"));
        assert_eq!(of(&long), of(&long));
        assert!(of(&long).starts_with("referral:sha256:") && of(&long) != of(&"b".repeat(128)));
    }
}
