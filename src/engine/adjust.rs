//! Credit and debit: an operator adds to a balance or takes from it. The ledger's entry says who asked; a row
//! of the audit follows, and a repeated call adds it where the first one ended before it was there.

use serde_json::json;

use super::{
    Answer, Engine,
    content::{self, Content},
    denial::{Asked, conflict, conflict_in},
    policies::{Who, no_account},
    ports::{AdjustCall, Reply, Status},
    reserve::too_much,
    settle::log_blob,
    step::{Done, Step, Stop, verdict},
};
use crate::quota::{
    change::{Change, Subject},
    counter::Head,
    entry::{Entry, Kind, LogFields},
    id::{AccountId, Actor, OpId},
    verdict::{Code, Refusal},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditKind {
    Topup,
    Grant,
    Redeem,
    Referral,
    Adjust,
}

#[derive(Clone, Debug)]
pub struct Credit {
    pub account: AccountId,
    pub op_id: OpId,
    pub amount: i64,
    pub kind: CreditKind,
    pub note: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Debit {
    pub account: AccountId,
    pub op_id: OpId,
    pub amount: i64,
    pub force: bool,
    pub note: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Adjusted {
    pub account: AccountId,
    pub op_id: OpId,
    pub amount: i64,
    pub balance: i64,
    pub available: i64,
}

impl CreditKind {
    pub const ALL: [CreditKind; 5] =
        [CreditKind::Topup, CreditKind::Grant, CreditKind::Redeem, CreditKind::Referral, CreditKind::Adjust];

    /// The kind of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word on the wire and in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CreditKind::Topup => "topup",
            CreditKind::Grant => "grant",
            CreditKind::Redeem => "redeem",
            CreditKind::Referral => "referral",
            CreditKind::Adjust => "adjust",
        }
    }
}

/// A credit or debit in one shape.
struct Operation<'a> {
    by: &'a Actor,
    account: &'a AccountId,
    op_id: &'a OpId,
    kind: Kind,
    amount: i64,
    force: bool,
    /// What is in the ledger's `kind`: the credit's kind, `force` for a forced debit.
    word: Option<&'static str>,
    note: Option<&'a str>,
    content: Content<2>,
}

impl Engine {
    pub async fn credit(&self, by: &Actor, ask: &Credit) -> Answer<Adjusted> {
        let word = ask.kind.as_str();
        let operation = Operation {
            by,
            account: &ask.account,
            op_id: &ask.op_id,
            kind: Kind::Credit,
            amount: ask.amount,
            force: false,
            word: Some(word),
            note: ask.note.as_deref(),
            content: content::of_operation("credit", ["amount", "kind"], [&ask.amount.to_string(), word]),
        };
        verdict(self.adjust_and_tell(&operation).await)
    }

    pub async fn debit(&self, by: &Actor, ask: &Debit) -> Answer<Adjusted> {
        let force = if ask.force { "true" } else { "false" };
        let operation = Operation {
            by,
            account: &ask.account,
            op_id: &ask.op_id,
            kind: Kind::Debit,
            amount: ask.amount,
            force: ask.force,
            word: ask.force.then_some("force"),
            note: ask.note.as_deref(),
            content: content::of_operation("debit", ["amount", "force"], [&ask.amount.to_string(), force]),
        };
        if let Some(refusal) = too_much("amount", ask.amount, self.live().max_amount) {
            return verdict(Err(refusal.into()));
        }
        verdict(self.adjust_and_tell(&operation).await)
    }

    /// What cannot be told is not done, as far as the caller knows: asked again, it finds the operation there.
    async fn adjust_and_tell(&self, operation: &Operation<'_>) -> Step<Done<Adjusted>> {
        let done = self.adjust(operation).await?;
        crate::fail_point!("operation-done");
        self.policies.record_change(&operation.change(&done)).await?;
        Ok(done)
    }

    async fn adjust(&self, operation: &Operation<'_>) -> Step<Done<Adjusted>> {
        let Operation { account, op_id, kind, .. } = *operation;
        // From the store, not from memory: no money for an account that was deleted elsewhere.
        let rules = self.reload(account).await?.ok_or_else(|| no_account(account))?;
        let who = Who { account: account.clone(), key: None, rules };
        if let Some(entry) = self.ledger.operation(account, kind, op_id).await? {
            return self.adjusted_before(operation, &who, &entry).await;
        }
        let word = operation.word.map(str::to_owned);
        let note = operation.note.map(str::to_owned);
        let by = Some(operation.by.to_string());
        let log = log_blob(&LogFields { kind: word, note, by, ..LogFields::default() });
        let mut turns = self.turns();
        loop {
            let call = AdjustCall {
                account,
                kind,
                op_id,
                amount: operation.amount,
                force: operation.force,
                fingerprint: operation.content.fingerprint,
                log: &log,
            };
            let reply = self.counters.adjust(&call).await?;
            if self.decided(&mut turns, account, &reply).await? {
                return adjusted(operation, &who, &reply);
            }
        }
    }

    async fn adjusted_before(&self, operation: &Operation<'_>, who: &Who, entry: &Entry) -> Step<Done<Adjusted>> {
        let log: LogFields = serde_json::from_slice(&entry.log).unwrap_or_default();
        let [amount_name, word_name] = operation.content.names;
        if entry.balance.abs() != operation.amount {
            return Err(conflict_in(operation.op_id.as_str(), amount_name));
        }
        if log.kind.as_deref() != operation.word {
            return Err(conflict_in(operation.op_id.as_str(), word_name));
        }
        let head = self.head(&who.account).await?;
        Ok(Done { answer: operation.answer(who, operation.amount, &head), replayed: true })
    }
}

fn adjusted(operation: &Operation<'_>, who: &Who, reply: &Reply) -> Step<Done<Adjusted>> {
    let op_id = operation.op_id.as_str();
    let replayed = match reply.status {
        Status::Done => false,
        Status::Replayed => true,
        Status::Conflict => {
            let first = reply.op.as_ref().map(|op| &op.fingerprint);
            let content = &operation.content;
            return Err(conflict(op_id, &content.names, first, &content.fingerprint));
        }
        Status::InsufficientBalance => return Err(lacking(operation, reply)),
        _ => return Err(Asked::plain(op_id, who, operation.amount).refused(reply)),
    };
    let amount = reply.op.map_or(operation.amount, |op| op.amount.abs());
    Ok(Done { answer: operation.answer(who, amount, &reply.head.unwrap_or_default()), replayed })
}

/// A debit takes what is there and not held; it never uses the credit limit.
fn lacking(operation: &Operation<'_>, reply: &Reply) -> Stop {
    let there = reply.head.map(|head| head.balance - head.held);
    let detail = format!("{} units were to be taken, {} are there", operation.amount, there.unwrap_or_default());
    let refusal = Refusal::new(Code::InsufficientBalance, detail);
    Refusal { requested: Some(operation.amount), available: there, ..refusal }.into()
}

impl Operation<'_> {
    /// For the audit. The balances of a repeated call are today's, and no part of it.
    fn change(&self, done: &Done<Adjusted>) -> Change {
        let Adjusted { account, op_id, amount, balance, .. } = &done.answer;
        let (what, sign) = if self.kind == Kind::Credit { ("credit", 1) } else { ("debit", -1) };
        let mut after = json!({"op_id": op_id, "amount": amount, "kind": self.word, "note": self.note});
        let mut before = None;
        if !done.replayed {
            after["balance"] = (*balance).into();
            before = Some(json!({"balance": balance - sign * amount}));
        }
        Change::new(self.by, what, Subject::account(account), before, after).with_op(op_id)
    }

    fn answer(&self, who: &Who, amount: i64, head: &Head) -> Adjusted {
        Adjusted {
            account: who.account.clone(),
            op_id: self.op_id.clone(),
            amount,
            balance: head.balance,
            available: who.available(head),
        }
    }
}
