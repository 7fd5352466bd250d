//! Accounts as the admin API sees them. SQL changes first, then the version in Redis is raised: from
//! then on no sidecar decides by the old rules. What a crash leaves in between the courier does (`outbox`).

use std::sync::Arc;

use serde_json::json;

use super::{
    Answer, Engine,
    keys::random_text,
    policies::no_account,
    ports::{AccountPatch, AdjustCall, Status, Unavailable},
    settle::log_blob,
    step::{Done, Step, verdict},
};
use crate::quota::{
    change::{Change, Subject},
    entry::{Kind, LogFields},
    fingerprint::Fingerprint,
    id::{AccountId, Actor, OpId},
    policy::Policy,
    verdict::{Code, Refusal},
};

impl Engine {
    /// Creates or merges; `true` when created. The initial balance is spendable when this answers.
    pub async fn put_account(
        &self,
        by: &Actor,
        account: &AccountId,
        patch: &AccountPatch,
    ) -> Answer<(Arc<Policy>, bool)> {
        let put = async {
            let era = self.counters.era();
            let (policy, created) = self.policies.put_account(by, account, patch).await?;
            let policy = self.in_force(policy, era).await?;
            // Asked again when a repeated creation finds the account there: the first one may have
            // ended between the database and Redis.
            if created || patch.initial_balance.is_some() {
                self.initialise(account).await?;
            }
            Ok(Done::now((policy, created)))
        };
        verdict(put.await)
    }

    /// As the database has it.
    pub async fn account(&self, account: &AccountId) -> Answer<Arc<Policy>> {
        let found = async {
            let rules = self.reload(account).await?.ok_or_else(|| no_account(account))?;
            Ok(Done::now(rules.policy.clone()))
        };
        verdict(found.await)
    }

    pub async fn list_accounts(&self, cursor: Option<&AccountId>, most: u32) -> Answer<Vec<Policy>> {
        verdict(self.policies.list_accounts(cursor, most).await.map(Done::now).map_err(Into::into))
    }

    /// Refused (`conflict`) while holds are live; what is left of the balance is debited.
    pub async fn delete_account(&self, by: &Actor, account: &AccountId) -> Answer<()> {
        verdict(self.try_delete_account(by, account).await)
    }

    async fn try_delete_account(&self, by: &Actor, account: &AccountId) -> Step<Done<()>> {
        self.reload(account).await?.ok_or_else(|| no_account(account))?;
        let closed = self.close(by, account, &close_op()?).await?.ok_or_else(|| {
            let detail = "the account has live holds: wait for them to be settled, released or expired";
            Refusal::new(Code::Conflict, detail)
        })?;
        crate::fail_point!("account-closed");
        let version = self.policies.delete_account(by, account, closed).await?;
        crate::fail_point!("policy-committed");
        self.cache.remove(account);
        if let Some(version) = version {
            self.raise_version(account, version).await?;
        }
        self.close_rest(by, account).await?;
        Ok(Done::now(()))
    }

    /// What a change that SQL has should have done, whoever made it and died: raises its version, and closes what was
    /// deleted. This sidecar reads the rules, too, because what is granted without Redis goes by what is in memory.
    pub(crate) async fn catch_up(&self, account: &AccountId, version: u32) -> Step<()> {
        let rules = self.reload(account).await?;
        self.raise_version(account, version).await?;
        if rules.is_none() {
            self.close_rest(&Actor::quotad(), account).await?;
        }
        Ok(())
    }

    /// Takes what was credited between the closing and the deletion: a deleted account has no money. Nothing, when
    /// the account is there again.
    async fn close_rest(&self, by: &Actor, account: &AccountId) -> Step<()> {
        if self.reload(account).await?.is_some() {
            return Ok(());
        }
        let there = self.counters.read_account(account).await?;
        if there.is_none_or(|(_, counters)| counters.head.balance == 0) {
            return Ok(());
        }
        let op_id = close_op()?;
        let Some(balance) = self.close(by, account, &op_id).await? else {
            tracing::warn!(%account, "the account was deleted while it had live holds; what it has, it keeps");
            return Ok(());
        };
        tracing::warn!(%account, balance, "the account was credited while it was deleted: this was taken away, too");
        let [before, after] = [balance, 0].map(|balance| json!({"balance": balance}));
        let change = Change::new(by, "close", Subject::account(account), before, after).with_op(&op_id);
        Ok(self.policies.record_change(&change).await?)
    }

    /// Takes what is left, and says how much that was; `None`, and nothing is taken, while holds are live.
    async fn close(&self, by: &Actor, account: &AccountId, op_id: &OpId) -> Step<Option<i64>> {
        let log = log_blob(&LogFields { by: Some(by.to_string()), ..LogFields::default() });
        let call = AdjustCall {
            account,
            kind: Kind::Close,
            op_id,
            amount: 0,
            force: false,
            fingerprint: Fingerprint::of("close", &[]),
            log: &log,
        };
        let mut turns = self.turns();
        loop {
            let reply = self.counters.adjust(&call).await?;
            if !self.decided(&mut turns, account, &reply).await? {
                continue;
            }
            return match reply.status {
                Status::Done | Status::Replayed => Ok(Some(reply.op.map_or(0, |op| op.amount))),
                Status::Idle => Ok(None),
                other => Err(Unavailable::Corrupt(format!("closing an account was answered {other:?}")).into()),
            };
        }
    }

    /// A policy that the database took on is in force once this answers: here, and by its version
    /// in Redis everywhere. `era` is the counters', read before the database was asked.
    pub(crate) async fn in_force(&self, policy: Policy, era: u64) -> Step<Arc<Policy>> {
        crate::fail_point!("policy-committed");
        let version = policy.version;
        let rules = self.cache.put(policy, era);
        let account = &rules.policy.account;
        if self.raise_version(account, version).await?
            && let Some(rules) = self.rules(account).await?
        {
            return Ok(rules.policy.clone());
        }
        Ok(rules.policy.clone())
    }

    /// Posts the initial balance if it is not posted: by loading the account, or, when it is still
    /// in Redis from an earlier life, at once.
    pub(crate) async fn initialise(&self, account: &AccountId) -> Step<()> {
        if self.counters.read_account(account).await?.is_none() {
            self.load(account).await?;
        }
        self.drain.drain(account).await?;
        let posted = self.policies.posted(account).await?.unwrap_or_default();
        Ok(self.post_initial(account, posted.initial).await?)
    }
}

/// New each time: a deletion that failed half-way is repeated in full, for the account may have been credited since.
fn close_op() -> Result<OpId, Unavailable> {
    OpId::new(format!("close:{}", random_text(24)?))
        .map_err(|bad| Unavailable::Corrupt(format!("an op id of the engine's own {bad}")))
}
