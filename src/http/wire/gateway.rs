//! Requests of the gateway listener: the six verbs and the batch.

use std::borrow::Cow;

use super::{
    estimate::LongText,
    meta::Meta,
    read::{Bad, Items, Object, Value, members, string},
    request,
    scalar::{Count, GroupName, Ip, Secret, Text, TtlMs, Units, Usage},
    word,
};
use crate::quota::id::{AccountId, KeyId, Model, OpId, Platform, ReservationId};

/// Operations of one batch.
pub(crate) const BATCH_OPS_MAX: usize = 256;

request!(
    /// Hold an amount before the call.
    Reserve {
        /// Who pays. Either this or `api_key`.
        account: Option<AccountId>,
        /// The caller's secret, from which account and key are looked up.
        api_key: Option<Secret>,
        /// The API key within the account.
        key: Option<KeyId>,
        /// Made up by the server when absent.
        id: Option<ReservationId>,
        platform: Option<Platform>,
        model: Option<Model>,
        /// Units to hold. With neither amount nor estimate, the deployment's `default_hold`.
        amount: Option<Units>,
        estimate: Option<Estimate>,
        /// Tokens to count against token limits, when there is no estimate.
        tokens: Option<Count>,
        /// How long the hold lives, in milliseconds. Default 300000.
        ttl_ms: Option<TtlMs>,
        /// Checked against the key's allowed networks.
        client_ip: Option<Ip>,
        /// The price group to be called in, or `auto`. Default: the key's, else the account's.
        group: Option<GroupName>,
        /// Default `strict`.
        mode: Option<word::Mode>,
        /// The least that `best_effort` holds.
        min_amount: Option<Units>,
        /// Default `release`.
        on_expiry: Option<word::OnExpiry>,
        /// Adds `limits` to the answer.
        verbose: Option<bool>,
    }
);

request!(
    /// Tokens the call may take, priced by the tariff of `model`.
    Estimate {
        prompt_tokens: Count,
        max_tokens: Option<Count>,
    }
);

request!(
    /// Charge what the call cost.
    Settle {
        /// Who pays. Either this or `api_key`.
        account: Option<AccountId>,
        api_key: Option<Secret>,
        /// The reservation. May come in the header `Idempotency-Key`.
        id: Option<ReservationId>,
        /// Units. Either this or `usage` and `model`; with neither, the abort policy decides.
        amount: Option<Units>,
        usage: Option<Usage>,
        /// What the upstream answered, when it sent no usage: its tokens are counted, and priced with
        /// `prompt_tokens`, else with the reserve's estimate of the prompt.
        response_text: Option<LongText>,
        /// False: the cumulative amount so far, the rest stays held.
        last as "final": Option<bool>,
        outcome: Option<word::Outcome>,
        key: Option<KeyId>,
        platform: Option<Platform>,
        model: Option<Model>,
        /// The price group, where no reservation says it.
        group: Option<GroupName>,
        prompt_tokens: Option<Count>,
        completion_tokens: Option<Count>,
        cached_tokens: Option<Count>,
        duration_ms: Option<Count>,
        stream: Option<bool>,
        ip: Option<Ip>,
        meta: Option<Meta>,
    }
);

request!(
    /// Give a hold back.
    Release {
        account: Option<AccountId>,
        api_key: Option<Secret>,
        id: Option<ReservationId>,
    }
);

request!(
    /// Hold more, longer; or go on in another price group.
    Extend {
        account: Option<AccountId>,
        api_key: Option<Secret>,
        id: Option<ReservationId>,
        /// The new whole hold, never less than now.
        amount: Option<Units>,
        /// From now, in milliseconds.
        ttl_ms: Option<TtlMs>,
        /// The price group that a retry goes on in. The hold becomes what it costs there, unless `amount` says it.
        group: Option<GroupName>,
        /// What is called: asked where the group serves certain models, and for an estimate.
        model: Option<Model>,
        /// The hold in that group, exactly; without it the present hold is multiplied.
        estimate: Option<Estimate>,
    }
);

request!(
    /// Reserve and settle in one step.
    Charge {
        account: Option<AccountId>,
        api_key: Option<Secret>,
        id: Option<ReservationId>,
        key: Option<KeyId>,
        platform: Option<Platform>,
        model: Option<Model>,
        /// Units. One of amount, `usage`, `response_text` and `estimate`, the latter three with `model`.
        amount: Option<Units>,
        usage: Option<Usage>,
        /// What the upstream answered, where it sent no usage: its tokens are counted and priced, with `prompt_tokens`.
        response_text: Option<LongText>,
        estimate: Option<Estimate>,
        tokens: Option<Count>,
        client_ip: Option<Ip>,
        /// The price group, or `auto`. Default: the key's, else the account's.
        group: Option<GroupName>,
        /// Also when it overdraws.
        force: Option<bool>,
        outcome: Option<word::Outcome>,
        prompt_tokens: Option<Count>,
        completion_tokens: Option<Count>,
        cached_tokens: Option<Count>,
        duration_ms: Option<Count>,
        stream: Option<bool>,
        ip: Option<Ip>,
        meta: Option<Meta>,
        /// Only true: a charge is final.
        last as "final": Option<bool>,
        /// Only `strict`: a charge takes all or nothing.
        mode: Option<word::Mode>,
        /// Without effect: nothing is held.
        ttl_ms: Option<TtlMs>,
        /// Without effect: nothing is held.
        on_expiry: Option<word::OnExpiry>,
        /// Without effect: a charge shows no limits.
        verbose: Option<bool>,
    }
);

request!(
    /// Give back part of what a settled reservation was charged.
    Refund {
        account: Option<AccountId>,
        api_key: Option<Secret>,
        /// Names the refund. May come in the header `Idempotency-Key`.
        op_id: Option<OpId>,
        /// The settled reservation.
        of: ReservationId,
        amount: Units,
        reason: Option<Text>,
    }
);

impl Value for Estimate {
    fn read(raw: &str) -> Result<Self, Bad> {
        Object::read(raw, None)
    }
}

/// The verb of a batch operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Reserve,
    Settle,
    Release,
    Extend,
    Charge,
    Refund,
}

impl Op {
    pub(crate) const WORDS: [&'static str; 6] = ["reserve", "settle", "release", "extend", "charge", "refund"];

    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "reserve" => Op::Reserve,
            "settle" => Op::Settle,
            "release" => Op::Release,
            "extend" => Op::Extend,
            "charge" => Op::Charge,
            "refund" => Op::Refund,
            _ => return None,
        })
    }
}

/// The operations of a batch as text; each is read (and refused) for itself.
pub(crate) fn batch(text: &str) -> Result<Vec<&str>, Bad> {
    let mut ops = None;
    members(text, |name, raw| match name {
        "ops" if ops.is_none() => {
            ops = Some(raw);
            Ok(())
        }
        "ops" => Err(Bad::at(name, "is given twice")),
        name => Err(Bad::unknown(name)),
    })?;
    let ops = ops.ok_or_else(|| Bad::at("ops", "is required"))?;
    let ops: Items<'_> = serde_json::from_str(ops).map_err(|_| Bad::at("ops", "must be an array"))?;
    if ops.0.is_empty() || ops.0.len() > BATCH_OPS_MAX {
        return Err(Bad::at("ops", format!("must be 1 to {BATCH_OPS_MAX} operations")));
    }
    Ok(ops.0.iter().map(|op| op.get()).collect())
}

/// The member that names a batch operation's verb.
pub(crate) const OP_TAG: &str = "op";

/// Verb of a batch operation, and the text of the id that orders it among the others: operations
/// of one reservation must keep their order, a refund after the settle it refunds included.
pub(crate) fn op(text: &str) -> Result<(Op, Option<Cow<'_, str>>), Bad> {
    let (mut op, mut id, mut of) = (None, None, None);
    members(text, |name, raw| {
        let slot = match name {
            OP_TAG => &mut op,
            "id" => &mut id,
            "of" => &mut of,
            _ => return Ok(()),
        };
        match slot.replace(raw) {
            None => Ok(()),
            Some(_) => Err(Bad::at(name, "is given twice")),
        }
    })?;
    let word = string(op.ok_or_else(|| Bad::at(OP_TAG, "is required"))?).map_err(|bad| bad.within(OP_TAG))?;
    let verb = Op::of(&word).ok_or_else(|| Bad::at(OP_TAG, format!("must be one of {}", Op::WORDS.join(", "))))?;
    Ok((verb, of.or(id).and_then(|id| string(id).ok())))
}
