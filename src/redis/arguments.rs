//! Packs calls into the arguments of their scripts: one header of all numbers, then raw strings,
//! then (group field, packed gauges) pairs. Layouts are those of each script's header comment.

use crate::{
    engine::ports::{ChargeCall, Cost, ExtendCall, RefundCall, ReserveCall, SettleCall, Unavailable},
    quota::{
        amount::COUNTER_MAX,
        clock::Millis,
        limit::Metric,
        packed::Packer,
        policy::{Admission, Gauge, Group},
    },
};

/// Counters that one call may touch: an entry counts its window deltas in one byte.
const GAUGES_MAX: usize = 255;

/// Largest instant of six bytes: "for ever".
const INSTANT_MAX: u64 = (1 << 48) - 1;

fn instant(packer: &mut Packer, at: Millis) {
    packer.uint::<6>(u64::try_from(at.0).unwrap_or(0).min(INSTANT_MAX));
}

/// A cap or allowance; none is -1. More than a counter can reach is as good as unlimited, but stays a cap.
fn bound(packer: &mut Packer, bound: Option<i64>) {
    packer.int(bound.map_or(-1, |most| most.clamp(0, 2 * COUNTER_MAX)));
}

fn gauges<'a>(gauges: impl Iterator<Item = &'a Gauge>) -> Vec<u8> {
    let mut packer = Packer::with_capacity(18 * 3);
    for gauge in gauges {
        packer.uint::<3>(gauge.limit.code().0.into());
        packer.uint::<4>(gauge.start_s.into()).uint::<4>(gauge.period_s.into());
        bound(&mut packer, gauge.limit.cap);
    }
    packer.finish()
}

/// Pairs for a script's stride loop.
pub(crate) fn groups(groups: &[Group]) -> Result<Vec<(&str, Vec<u8>)>, Unavailable> {
    let pairs: Vec<_> = groups.iter().map(|group| (group.field.as_str(), gauges(group.gauges.iter()))).collect();
    if pairs.iter().map(|(_, packed)| packed.len() / 18).sum::<usize>() > GAUGES_MAX {
        return Err(Unavailable::Corrupt(format!("a call counts against more than {GAUGES_MAX} limits")));
    }
    Ok(pairs)
}

/// The cost gauges alone, for extend.
pub(crate) fn cost_groups(groups: &[Group]) -> Vec<(&str, Vec<u8>)> {
    let cost = |group: &Group| gauges(group.gauges.iter().filter(|gauge| gauge.limit.metric == Metric::Cost));
    groups.iter().map(|group| (group.field.as_str(), cost(group))).collect()
}

fn admission(packer: &mut Packer, admission: &Admission) {
    packer.int(admission.credit_limit);
    bound(packer, admission.allowance);
    instant(packer, admission.valid_from);
    instant(packer, admission.valid_until);
}

pub(crate) fn generation(generation: u32) -> Vec<u8> {
    generation.to_le_bytes().to_vec()
}

pub(crate) fn reserve(generation: u32, call: &ReserveCall<'_>) -> Vec<u8> {
    let flags = u64::from(call.check_only)
        | u64::from(call.admission.refusal.is_some()) << 1
        | u64::from(call.charge_on_expiry) << 2;
    let mut packer = Packer::with_capacity(96);
    packer.uint::<4>(generation.into()).uint::<4>(call.version.into()).uint::<1>(flags);
    packer.int(call.amount).int(call.min_amount).int(call.tokens).int(call.prompt_cost);
    packer.uint::<4>(call.ttl_ms.into());
    admission(&mut packer, call.admission);
    packer.raw(&call.fingerprint.0);
    packer.finish()
}

pub(crate) fn settle(generation: u32, call: &SettleCall<'_>) -> Vec<u8> {
    let (kind, cost) = match call.cost {
        Cost::Units(units) => (0, units),
        Cost::Prompt => (1, 0),
        Cost::Held => (2, 0),
        Cost::Nothing => (3, 0),
    };
    let flags = u64::from(call.last) | u64::from(call.clamped) << 1 | u64::from(call.price_tag.is_some()) << 2;
    let mut packer = Packer::with_capacity(48);
    packer.uint::<4>(generation.into()).uint::<1>(kind).uint::<1>(flags);
    packer.int(cost).int(call.tokens.unwrap_or(-1)).raw(&call.fingerprint.0);
    packer.finish()
}

pub(crate) fn charge(generation: u32, call: &ChargeCall<'_>) -> Vec<u8> {
    let flags = u64::from(call.force)
        | u64::from(call.admission.refusal.is_some()) << 1
        | u64::from(call.unreserved) << 2
        | u64::from(call.clamped) << 3;
    let mut packer = Packer::with_capacity(96);
    packer.uint::<4>(generation.into()).uint::<4>(call.version.into()).uint::<1>(flags);
    packer.int(call.amount).int(call.tokens);
    admission(&mut packer, call.admission);
    packer.raw(&call.fingerprint.0);
    packer.finish()
}

pub(crate) fn extend(generation: u32, call: &ExtendCall<'_>) -> Vec<u8> {
    let flags = u64::from(call.denied) << 1 | u64::from(call.ttl_ms.is_some()) << 2;
    let mut packer = Packer::with_capacity(48);
    packer.uint::<4>(generation.into()).uint::<4>(call.version.into()).uint::<1>(flags);
    packer.int(call.amount.unwrap_or(-1)).uint::<4>(call.ttl_ms.unwrap_or(0).into()).int(call.credit_limit);
    bound(&mut packer, call.allowance);
    packer.finish()
}

pub(crate) fn refund(generation: u32, call: &RefundCall<'_>) -> Vec<u8> {
    let mut packer = Packer::with_capacity(32);
    packer.uint::<4>(generation.into()).int(call.amount).raw(&call.fingerprint.0);
    packer.finish()
}
