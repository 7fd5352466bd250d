//! Settle: charge what the call cost.

mod unreserved;

use tokio::time::timeout;

use super::{
    Answer, Engine, Payer,
    content::{self, Content},
    denial::{Asked, conflict},
    policies::Who,
    ports::{Reply, SettleCall, Status, Unavailable},
    pricing::{Bill, model_missing},
    reserve::known,
    step::{Done, Step},
};
use crate::quota::{
    entry::LogFields,
    id::{AccountId, KeyId, Model, Platform, ReservationId},
    reservation::{Flags, State},
    usage::Usage,
    verdict::Refusal,
};
use unreserved::Found;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    ClientAbort,
    UpstreamError,
    Unknown,
}

/// What the caller knows of the cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Price {
    Units(i64),
    /// Priced by the tariff of the settle's model.
    Usage(Usage),
    /// The upstream sent no usage: the tokens of what it answered were counted here. Priced likewise; a
    /// prompt whose tokens nobody says is the one that was estimated at the reserve.
    Text {
        prompt_tokens: Option<i64>,
        completion_tokens: i64,
    },
    /// Neither: the abort policy decides.
    Unsaid,
}

impl Price {
    /// The field that it comes in.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Price::Usage(_) => "usage",
            Price::Text { .. } => "response_text",
            Price::Units(_) | Price::Unsaid => "amount",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Settle {
    pub payer: Payer,
    pub id: ReservationId,
    pub price: Price,
    /// False: cumulative so far, the rest stays held.
    pub last: bool,
    pub outcome: Option<Outcome>,
    /// Which key, platform and model: logged; and charged when no reservation is found.
    pub key: Option<KeyId>,
    pub platform: Option<Platform>,
    pub model: Option<Model>,
    /// The price group, or `auto`: of a charge; of a settle whose reservation does not say it.
    pub group: Option<Box<str>>,
    /// The remaining log fields (tokens, duration, stream, ip, meta).
    pub log: LogFields,
}

/// Answer of settle and charge.
#[derive(Clone, Debug)]
pub struct Settled {
    pub account: AccountId,
    pub id: ReservationId,
    /// This and `returned`: `None` when it was decided without Redis and is not known.
    pub charged: Option<i64>,
    pub returned: Option<i64>,
    pub overdraft: i64,
    pub late: bool,
    pub unreserved: bool,
    /// The cost was above `max_amount` and clamped to it.
    pub clamped: bool,
    /// False after `final: false`: the reservation lives on.
    pub last: bool,
    /// This and `available`: `None` when it was decided without Redis.
    pub balance: Option<i64>,
    pub available: Option<i64>,
}

impl Engine {
    pub async fn settle(&self, ask: &Settle) -> Answer<Settled> {
        self.or_locally(Box::pin(self.try_settle(ask, None)), || Box::pin(self.settle_locally(ask))).await
    }

    /// Never refused for what the rules say: the work is done. Without a reservation it is charged
    /// at once, as unreserved. `fixed` is the bill when it was made before (a replay of the spool).
    pub(crate) async fn try_settle(&self, ask: &Settle, fixed: Option<&Bill>) -> Step<Done<Settled>> {
        let mut turns = self.turns();
        let invalid = ask.invalid();
        let mut found = None;
        loop {
            let who = known(self.who(&ask.payer, ask.key.as_ref()).await, invalid.as_ref())?;
            let found = match &mut found {
                Some(found) => found,
                none => none.insert(self.found(ask, &who).await?),
            };
            let mut bill = match fixed {
                Some(bill) => bill.clone(),
                None => self.bill_of(ask, &who, found).await?,
            };
            let Found { tag, reserved, looked, trusted, .. } = found;
            let content = content::of_settle(ask, who.key.as_ref());
            let log = self.log_of(ask, &who, bill.repriced);
            let reply = if *reserved {
                let call = SettleCall {
                    account: &who.account,
                    id: &ask.id,
                    cost: bill.cost,
                    tokens: bill.tokens,
                    last: ask.last,
                    clamped: bill.clamped,
                    fingerprint: content.fingerprint,
                    // A price that stands does so whatever prices the reservation was made with.
                    price_tag: bill.price_tag.as_deref().filter(|_| fixed.is_none()),
                    log: &log,
                };
                self.counters.settle(&call).await?
            } else {
                self.charge_unreserved(ask, &who, &mut bill, &content, &log, (&turns, trusted.as_ref())).await?
            };
            if !self.decided(&mut turns, &who.account, &reply).await? {
                continue;
            }
            if reply.status == Status::Unknown && !*looked {
                *looked = true;
                if self.remembered(&who.account, &ask.id).await? {
                    turns.again("the settled reservation could not be put back")?;
                    continue;
                }
            }
            match (reply.status, &reply.record) {
                (Status::Reprice, Some(record)) => {
                    turns.again("the reservation's prices could not be met")?;
                    *tag = Some(record.price_tag.clone());
                }
                (Status::Unknown, _) if ask.last => {
                    turns.again("the reservation comes and goes")?;
                    *reserved = false;
                }
                // Reserved meanwhile, by the same id: settle that.
                (Status::Idle, _) if !*reserved => {
                    turns.again("the reservation comes and goes")?;
                    *reserved = true;
                }
                (_, record) => {
                    let known = record.is_some() && self.trust.know(&who.account, &ask.id);
                    return settled(&who, &ask.id, known || trusted.is_some(), &content, &reply);
                }
            }
        }
    }

    /// Whether the ledger knew the reservation, which is then back in Redis. Tombstones there are for
    /// minutes; an entry that is not posted yet is younger than its tombstone.
    async fn remembered(&self, account: &AccountId, id: &ReservationId) -> Result<bool, Unavailable> {
        // Half of the budget is left for the charge itself.
        let looked = timeout(self.settings.time_budget / 2, self.put_back(account, id)).await;
        match looked.unwrap_or_else(|_| Err(Unavailable::Store("it did not answer in time".into()))) {
            // The work is done and has to be charged: should it be for the second time, then
            // write-back meets the ledger's unique key and gives it back.
            Err(Unavailable::Store(reason)) => {
                tracing::warn!(%account, %id, reason, "a settle could not be looked up in the ledger");
                Ok(false)
            }
            found => found,
        }
    }

    /// The bill; a model that has no price today may have one in the reservation's own prices.
    async fn bill_of(&self, ask: &Settle, who: &Who, found: &mut Found) -> Step<Bill> {
        let needs_prompt = matches!(ask.price, Price::Text { prompt_tokens: None, .. });
        if needs_prompt && found.prompt_cost.is_none() {
            self.look_up(&who.account, &ask.id, found).await?;
        }
        loop {
            let why = match self.bill(ask, who, found.frozen()).await? {
                Ok(bill) => return Ok(bill),
                Err(why) => why,
            };
            if found.tag.is_none() {
                self.look_up(&who.account, &ask.id, found).await?;
                if found.tag.is_some() {
                    continue;
                }
            }
            return Err(why.refusal(ask.price.field(), ask.model.as_ref()).into());
        }
    }

    /// What the reservation's record says of its price.
    async fn look_up(&self, account: &AccountId, id: &ReservationId, found: &mut Found) -> Result<(), Unavailable> {
        let record = self.counters.read_record(account, id).await?;
        found.prompt_cost = Some(record.as_ref().map_or(0, |record| record.prompt_cost));
        found.tag = record.map(|record| record.price_tag).or(found.tag.take());
        Ok(())
    }

    /// The log blob: what the caller said, and what the call itself says. `repriced`: by another price list than
    /// the reservation's, which is gone.
    pub(crate) fn log_of(&self, ask: &Settle, who: &Who, repriced: bool) -> Vec<u8> {
        let mut log = ask.log.clone();
        log.repriced = repriced.then_some(true);
        log.key = who.key.as_ref().map(|key| key.as_str().to_owned());
        log.platform = ask.platform.as_ref().map(|platform| platform.as_str().to_owned());
        log.model = ask.model.as_ref().map(|model| model.as_str().to_owned());
        let tables = self.groups.load();
        let groups = who.rules.price_groups(who.key.as_ref(), ask.group.as_deref(), ask.model.as_ref(), &tables);
        log.group = Some(groups.using.to_owned());
        log.outcome = ask.outcome.map(|outcome| outcome.as_str().to_owned());
        match &ask.price {
            Price::Usage(usage) => {
                log.prompt_tokens.get_or_insert(usage.prompt_tokens());
                log.completion_tokens.get_or_insert(usage.completion_tokens());
                log.cached_tokens.get_or_insert(usage.cached_tokens());
            }
            Price::Text { completion_tokens, .. } => {
                log.completion_tokens.get_or_insert(*completion_tokens);
            }
            Price::Units(_) | Price::Unsaid => {}
        }
        if !self.settings.log_ip {
            log.ip = None;
        }
        log_blob(&log)
    }
}

/// Strings, numbers and JSON read before: they cannot fail to be written.
pub(crate) fn log_blob(log: &LogFields) -> Vec<u8> {
    serde_json::to_vec(log).unwrap_or_default()
}

impl Settle {
    pub(crate) fn invalid(&self) -> Option<Refusal> {
        match &self.price {
            Price::Unsaid if !self.last => {
                Some(Refusal::invalid("amount", "is needed where `final` is false: what was used so far"))
            }
            Price::Usage(_) | Price::Text { .. } if self.model.is_none() => Some(model_missing()),
            // Done work is charged whatever is wrong with its numbers; what goes on can still say better ones, and what
            // is charged on the way cannot be taken back.
            Price::Usage(usage) if usage.beyond && !self.last => Some(Refusal::invalid(
                "usage",
                "has a number that cannot be; only a final settle is charged all the same",
            )),
            Price::Usage(_) | Price::Text { .. } | Price::Units(_) | Price::Unsaid => None,
        }
    }
}

fn settled<const N: usize>(
    who: &Who,
    id: &ReservationId,
    was_trusted: bool,
    content: &Content<N>,
    reply: &Reply,
) -> Step<Done<Settled>> {
    let replayed = match reply.status {
        Status::Done => false,
        Status::Replayed => true,
        Status::Conflict => {
            let first = reply.record.as_ref().map(|record| &record.fingerprint);
            return Err(conflict(id.as_str(), &content.names, first, &content.fingerprint));
        }
        _ => return Err(Asked::plain(id.as_str(), who, 0).refused(reply)),
    };
    let mut answer = Settled::new(who, id, reply)?;
    answer.unreserved &= !was_trusted;
    Ok(Done { answer, replayed })
}

impl Settled {
    /// From the record that a settle or charge left.
    pub(crate) fn new(who: &Who, id: &ReservationId, reply: &Reply) -> Result<Self, Unavailable> {
        let (Some(record), Some(head)) = (&reply.record, &reply.head) else {
            return Err(Unavailable::Corrupt(format!("a script answered {:?} without its record", reply.status)));
        };
        let last = record.state != State::Held;
        Ok(Self {
            account: who.account.clone(),
            id: id.clone(),
            charged: Some(record.charged),
            returned: Some(if last { record.rest() } else { 0 }),
            overdraft: record.overdraft,
            late: record.flags.has(Flags::LATE),
            unreserved: record.flags.has(Flags::UNRESERVED),
            clamped: record.flags.has(Flags::CLAMPED),
            last,
            balance: Some(head.balance),
            available: Some(who.available(head)),
        })
    }
}
