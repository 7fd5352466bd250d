//! Reset: start a window's usage anew. The ledger's entry says who asked and what was cleared; a row of the audit follows,
//! and a repeated call adds it where the first one ended before it was there.

use std::sync::Arc;

use serde_json::json;

use super::{
    Answer, Engine,
    denial::{Asked, conflict_in},
    limits,
    policies::{Who, no_account},
    ports::{ResetCall, Status, Unavailable},
    settle::log_blob,
    step::{Done, Step, verdict},
};
use crate::quota::{
    change::{Change, Subject},
    clock::Millis,
    counter::WindowCounter,
    entry::{Entry, Kind, LogFields},
    id::{AccountId, Actor, KeyId, OpId},
    limit::{GroupField, Limit, Metric, Period},
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
    /// The caller's; made up by the server for those who have none.
    pub op_id: OpId,
}

#[derive(Clone, Debug)]
pub struct ResetDone {
    pub account: AccountId,
    /// Usage taken off the window.
    pub cleared: i64,
}

impl Reset {
    fn limit(&self) -> Arc<Limit> {
        let (platform, model) = (self.platform.clone(), self.model.clone());
        Arc::new(Limit { platform, model, metric: self.metric, period: self.period, cap: None })
    }

    /// Usage that a counter of this window has at that moment: none, when the window is over by then.
    fn used(&self, who: &Who, counter: Option<&WindowCounter>, now: Millis) -> i64 {
        limits::live(&self.limit(), self.key.as_ref(), counter, &who.rules.policy.zone, now).used
    }

    /// The field in which the operation of this id was another one, as far as its entry tells.
    fn differs(&self, entry: &Entry) -> Option<&'static str> {
        let log: LogFields = serde_json::from_slice(&entry.log).unwrap_or_default();
        let code = self.limit().code();
        let same = [
            ("platform", log.platform.as_deref() == Some(&*self.platform)),
            ("model", log.model.as_deref() == Some(&*self.model)),
            ("key", log.key.as_deref() == self.key.as_ref().map(KeyId::as_str)),
            ("period", entry.windows.iter().all(|delta| delta.code == code)),
        ];
        same.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
    }

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
        if let Some(entry) = self.ledger.operation(&ask.account, Kind::Reset, &ask.op_id).await? {
            return self.reset_before(by, ask, &who, &entry).await;
        }
        let field = GroupField::new(&ask.platform, &ask.model, ask.key.as_ref());
        let code = ask.limit().code();
        let log = log_blob(&LogFields {
            key: ask.key.as_ref().map(|key| key.as_str().to_owned()),
            platform: Some(ask.platform.clone().into()),
            model: Some(ask.model.clone().into()),
            by: Some(by.to_string()),
            ..LogFields::default()
        });
        let mut turns = self.turns();
        loop {
            let before = self.used_now(ask, &who, &field).await?;
            let call = ResetCall { account: &ask.account, op_id: &ask.op_id, field: &field, codes: &[code], log: &log };
            let reply = self.counters.reset(&call).await?;
            if !self.decided(&mut turns, &ask.account, &reply).await? {
                continue;
            }
            return match reply.status {
                Status::Done => {
                    crate::fail_point!("reset-done");
                    // For people: what is used between reading and clearing is not in it.
                    self.policies.record_change(&ask.change(by, before)).await?;
                    Ok(Done::now(ResetDone { account: ask.account.clone(), cleared: before }))
                }
                Status::Replayed => {
                    // What it cleared is in its entry.
                    self.drain.drain(&ask.account).await?;
                    match self.ledger.operation(&ask.account, Kind::Reset, &ask.op_id).await? {
                        Some(entry) => self.reset_before(by, ask, &who, &entry).await,
                        None => Err(Unavailable::Corrupt(format!("the ledger has no reset `{}`", ask.op_id)).into()),
                    }
                }
                // No such counter, or nothing used in it.
                Status::Idle => Ok(Done::now(ResetDone { account: ask.account.clone(), cleared: 0 })),
                _ => Err(Asked::plain(ask.op_id.as_str(), &who, 0).refused(&reply)),
            };
        }
    }

    async fn reset_before(&self, by: &Actor, ask: &Reset, who: &Who, entry: &Entry) -> Step<Done<ResetDone>> {
        if let Some(field) = ask.differs(entry) {
            return Err(conflict_in(ask.op_id.as_str(), field));
        }
        let counter = entry.windows.first().map(|delta| {
            let (code, start_s) = (delta.code, delta.start_s);
            WindowCounter { code, start_s, used: -delta.used, held: 0 }
        });
        let cleared = ask.used(who, counter.as_ref(), entry.at);
        self.policies.record_change(&ask.change(by, cleared)).await?;
        Ok(Done { answer: ResetDone { account: ask.account.clone(), cleared }, replayed: true })
    }

    async fn used_now(&self, ask: &Reset, who: &Who, field: &GroupField) -> Step<i64> {
        let Some((now, counters)) = self.counters.read_account(&ask.account).await? else { return Ok(0) };
        let group = counters.groups.iter().find(|(of, _)| of == field).map(|(_, windows)| windows.as_slice());
        let code = ask.limit().code();
        let counter = group.unwrap_or_default().iter().find(|counter| counter.code == code);
        Ok(ask.used(who, counter, now))
    }
}
