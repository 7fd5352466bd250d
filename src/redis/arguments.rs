//! Packs calls into the arguments of their scripts: one header of all numbers, then raw strings,
//! then (group field, packed gauges) pairs. Layouts are those of each script's header comment.

use super::keys;
use crate::{
    engine::ports::{ChargeCall, Cost, ExtendCall, RefundCall, ReserveCall, SettleCall, Unavailable},
    quota::{
        amount::COUNTER_MAX,
        clock::Millis,
        id::{AccountId, KeyId, ReservationId},
        limit::Metric,
        packed::Packer,
        policy::{Admission, Gauge, Group},
        reservation::Flags,
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

/// Codes and starts, then caps, then periods: the order in which a script needs them.
fn gauges<'a>(gauges: impl Iterator<Item = &'a Gauge> + Clone) -> Vec<u8> {
    let mut packer = Packer::with_capacity(18 * 3);
    for gauge in gauges.clone() {
        packer.uint::<3>(gauge.limit.code().0.into()).uint::<4>(gauge.start_s.into());
    }
    for gauge in gauges.clone() {
        bound(&mut packer, gauge.limit.cap);
    }
    for gauge in gauges {
        packer.uint::<4>(gauge.period_s.into());
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

/// Header, and what the record says beside times and amount. The references are those of the call's own windows.
pub(crate) fn reserve(generation: u32, call: &ReserveCall<'_>) -> Result<(Vec<u8>, Vec<u8>), Unavailable> {
    let mut record = Packer::with_capacity(192);
    record.uint::<1>(if call.charge_on_expiry { Flags::CHARGE_ON_EXPIRY.into() } else { 0 });
    record.raw(&call.fingerprint.0).int(call.tokens).int(call.prompt_cost);
    // Charged, refunded, overdraft, parts.
    record.raw(&[0; 3 * 7 + 2]);
    record.text(call.key.map_or("", KeyId::as_str).as_bytes()).text(short_tag(call.price_tag)?);
    let refs_at = record.as_slice().len() as u64;
    for group in &call.admission.groups {
        let field = group.field.as_str().as_bytes();
        record.uint::<2>(field.len() as u64).raw(field).uint::<1>(group.gauges.len() as u64);
        for gauge in &group.gauges {
            record.uint::<3>(gauge.limit.code().0.into()).uint::<4>(gauge.start_s.into());
        }
    }
    let flags = u64::from(call.check_only) | u64::from(call.admission.refusal.is_some()) << 1;
    let mut packer = Packer::with_capacity(128);
    packer.uint::<4>(generation.into()).uint::<4>(call.version.into()).uint::<1>(flags);
    packer.int(call.amount).int(call.min_amount).int(call.tokens);
    packer.uint::<4>(call.ttl_ms.into());
    admission(&mut packer, call.admission);
    packer.uint::<2>(refs_at);
    packer.text(keys::key_field(call.key).as_bytes());
    Ok((packer.finish(), record.finish()))
}

/// The price tag, which has its length in one byte.
fn short_tag(tag: &[u8]) -> Result<&[u8], Unavailable> {
    if tag.len() < 256 { Ok(tag) } else { Err(Unavailable::Corrupt("a price tag of more than 255 bytes".to_owned())) }
}

/// Account and id as they lead an entry.
pub(crate) fn names(account: &AccountId, id: &ReservationId) -> Vec<u8> {
    let mut packer = Packer::with_capacity(64);
    packer.text(account.as_str().as_bytes()).text(id.as_str().as_bytes());
    packer.finish()
}

pub(crate) fn settle(generation: u32, call: &SettleCall<'_>) -> Result<Vec<u8>, Unavailable> {
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
    packer.text(short_tag(call.price_tag.unwrap_or_default())?);
    Ok(packer.finish())
}

pub(crate) fn charge(generation: u32, call: &ChargeCall<'_>) -> Result<Vec<u8>, Unavailable> {
    let flags = u64::from(call.force)
        | u64::from(call.admission.refusal.is_some()) << 1
        | u64::from(call.unreserved) << 2
        | u64::from(call.clamped) << 3;
    let mut packer = Packer::with_capacity(96);
    packer.uint::<4>(generation.into()).uint::<4>(call.version.into()).uint::<1>(flags);
    packer.int(call.amount).int(call.tokens);
    admission(&mut packer, call.admission);
    packer.raw(&call.fingerprint.0).text(keys::key_field(call.key).as_bytes()).text(short_tag(call.price_tag)?);
    Ok(packer.finish())
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
