//! Reset: start a window's usage anew.

use serde_json::json;

use super::{
    Answer, Engine,
    denial::Asked,
    policies::{Who, no_account},
    ports::{ResetCall, Status},
    settle::log_blob,
    step::{Done, Step, verdict},
};
use crate::quota::{
    change::{Change, Subject},
    entry::LogFields,
    id::{AccountId, Actor, KeyId, OpId},
    limit::{CounterCode, GroupField, Metric, Period},
    verdict::{Code, Refusal},
};

#[derive(Clone, Debug)]
pub struct Reset {
    pub account: AccountId,
    /// The key whose limit it is; `None`: the account's own.
    pub key: Option<KeyId>,
    pub platform: Box<str>,
    pub model: Box<str>,
    pub metric: Metric,
    pub period: Period,
    /// Made up by the server.
    pub op_id: OpId,
}

#[derive(Clone, Debug)]
pub struct ResetDone {
    pub account: AccountId,
    /// Usage taken off the window.
    pub cleared: i64,
}

impl Reset {
    fn change(&self, by: &Actor, used: i64) -> Change {
        let subject = match &self.key {
            Some(key) => Subject::key(&self.account, key),
            None => Subject::account(&self.account),
        };
        let window = |used: i64| {
            json!({
                "platform": self.platform,
                "model": self.model,
                "metric": self.metric.as_str(),
                "period": self.period.as_text(),
                "used": used,
            })
        };
        Change::new(by, "reset", subject, window(used), window(0)).with_op(&self.op_id)
    }
}

impl Engine {
    pub async fn reset(&self, by: &Actor, ask: &Reset) -> Answer<ResetDone> {
        verdict(self.try_reset(by, ask).await)
    }

    async fn try_reset(&self, by: &Actor, ask: &Reset) -> Step<Done<ResetDone>> {
        if ask.metric == Metric::Concurrency || ask.period == Period::None {
            return Err(Refusal::invalid("metric", "concurrency has no window to begin anew").into());
        }
        let rules = self.reload(&ask.account).await?.ok_or_else(|| no_account(&ask.account))?;
        if let Some(key) = ask.key.as_ref().filter(|key| !rules.policy.keys.contains_key(*key)) {
            return Err(Refusal::new(Code::KeyNotFound, format!("there is no key `{key}`")).into());
        }
        let who = Who { account: ask.account.clone(), key: ask.key.clone(), rules };
        let field = GroupField::new(&ask.platform, &ask.model, ask.key.as_ref());
        let code = CounterCode::new(ask.metric, ask.period);
        let log = log_blob(&LogFields {
            key: ask.key.as_ref().map(|key| key.as_str().to_owned()),
            platform: Some(ask.platform.clone().into()),
            model: Some(ask.model.clone().into()),
            by: Some(by.to_string()),
            ..LogFields::default()
        });
        let mut turns = self.turns();
        loop {
            let before = self.used(&ask.account, &field, code).await?;
            let call = ResetCall { account: &ask.account, op_id: &ask.op_id, field: &field, codes: &[code], log: &log };
            let reply = self.counters.reset(&call).await?;
            if !self.decided(&mut turns, &ask.account, &reply).await? {
                continue;
            }
            return match reply.status {
                Status::Done | Status::Replayed => {
                    // For people: what is used between reading and clearing is not in it.
                    self.policies.record_change(&ask.change(by, before)).await?;
                    let answer = ResetDone { account: ask.account.clone(), cleared: before };
                    Ok(Done { answer, replayed: reply.status == Status::Replayed })
                }
                // No such counter, or nothing used in it.
                Status::Idle => Ok(Done::now(ResetDone { account: ask.account.clone(), cleared: 0 })),
                _ => Err(Asked::plain(ask.op_id.as_str(), &who, 0).refused(&reply)),
            };
        }
    }

    async fn used(&self, account: &AccountId, field: &GroupField, code: CounterCode) -> Step<i64> {
        let counters = self.counters.read_account(account).await?.map(|(_, counters)| counters).unwrap_or_default();
        let group = counters.groups.iter().find(|(of, _)| of == field).map(|(_, windows)| windows.as_slice());
        let counter = group.unwrap_or_default().iter().find(|counter| counter.code == code);
        Ok(counter.map_or(0, |counter| counter.used))
    }
}
