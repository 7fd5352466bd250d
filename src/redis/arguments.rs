//! Packs calls into the arguments of their scripts. Layouts are those of each script's header comment; a call that
//! shares its script has one argument.

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
fn gauges<'a>(packer: &mut Packer, gauges: impl Iterator<Item = &'a Gauge> + Clone) {
    starts(packer, gauges.clone());
    for gauge in gauges.clone() {
        bound(packer, gauge.limit.cap);
    }
    for gauge in gauges {
        packer.uint::<4>(gauge.period_s.into());
    }
}

/// Codes and starts alone.
fn starts<'a>(packer: &mut Packer, gauges: impl Iterator<Item = &'a Gauge>) {
    for gauge in gauges {
        packer.uint::<3>(gauge.limit.code().0.into()).uint::<4>(gauge.start_s.into());
    }
}

/// The groups of a call: field and number of gauges, then the gauges.
fn groups(packer: &mut Packer, groups: &[Group]) -> Result<(), Unavailable> {
    if groups.iter().map(|group| group.gauges.len()).sum::<usize>() > GAUGES_MAX {
        return Err(Unavailable::Corrupt(format!("a call counts against more than {GAUGES_MAX} limits")));
    }
    for group in groups {
        field(packer, group, group.gauges.len());
        gauges(packer, group.gauges.iter());
    }
    Ok(())
}

/// Field and number of gauges.
fn field(packer: &mut Packer, group: &Group, gauges: usize) {
    long_text(packer, group.field.as_str().as_bytes());
    packer.uint::<1>(gauges as u64);
}

/// Bytes led by their length in two.
fn long_text(packer: &mut Packer, text: &[u8]) {
    packer.uint::<2>(text.len() as u64).raw(text);
}

/// Bytes of a record's numbers from its flags on: flags, fingerprint, tokens, prompt cost, charged, refunded, overdraft, parts.
const RECORD_NUMBERS: usize = 1 + 18 + 2 * 7 + 3 * 7 + 2;

fn admission(packer: &mut Packer, admission: &Admission) {
    packer.int(admission.credit_limit);
    bound(packer, admission.allowance);
    instant(packer, admission.valid_from);
    instant(packer, admission.valid_until);
}

pub(crate) fn generation(generation: u32) -> Vec<u8> {
    generation.to_le_bytes().to_vec()
}

pub(crate) fn reserve(generation: u32, call: &ReserveCall<'_>) -> Result<Vec<u8>, Unavailable> {
    let groups_of_call = &call.admission.groups;
    let flags = u64::from(call.check_only) | u64::from(call.admission.refusal.is_some()) << 1;
    let mut packer = Packer::with_capacity(384);
    packer.uint::<4>(generation.into()).uint::<4>(call.version.into()).uint::<1>(flags);
    packer.int(call.amount).int(call.min_amount).int(call.tokens);
    packer.uint::<4>(call.ttl_ms.into());
    admission(&mut packer, call.admission);
    let (key, tag) = (call.key.map_or("", KeyId::as_str).as_bytes(), short_tag(call.price_tag)?);
    let refs_at = RECORD_NUMBERS + 1 + key.len() + 1 + tag.len();
    packer.uint::<2>(refs_at as u64);
    packer.text(keys::key_field(call.key).as_bytes());
    let refs: usize = groups_of_call.iter().map(|group| 3 + group.field.as_str().len() + 7 * group.gauges.len()).sum();
    packer.uint::<2>((refs_at + refs) as u64);
    packer.uint::<1>(if call.charge_on_expiry { Flags::CHARGE_ON_EXPIRY.into() } else { 0 });
    packer.raw(&call.fingerprint.0).int(call.tokens).int(call.prompt_cost);
    // Charged, refunded, overdraft, parts.
    packer.raw(&[0; 3 * 7 + 2]);
    packer.text(key).text(tag);
    for group in groups_of_call {
        field(&mut packer, group, group.gauges.len());
        starts(&mut packer, group.gauges.iter());
    }
    groups(&mut packer, groups_of_call)?;
    Ok(packer.finish())
}

/// The price tag, which has its length in one byte.
fn short_tag(tag: &[u8]) -> Result<&[u8], Unavailable> {
    if tag.len() < 256 { Ok(tag) } else { Err(Unavailable::Corrupt("a price tag of more than 255 bytes".to_owned())) }
}

/// Account and id as they lead an entry, then its log.
fn entry(packer: &mut Packer, account: &AccountId, id: &ReservationId, log: &[u8]) {
    let (account, id) = (account.as_str().as_bytes(), id.as_str().as_bytes());
    packer.uint::<2>((2 + account.len() + id.len()) as u64).text(account).text(id);
    long_text(packer, log);
}

pub(crate) fn release(generation: u32, tombstone_ttl_ms: u64) -> Vec<u8> {
    let mut packer = Packer::with_capacity(10);
    packer.uint::<4>(generation.into()).uint::<6>(tombstone_ttl_ms);
    packer.finish()
}

pub(crate) fn settle(generation: u32, call: &SettleCall<'_>, tombstone_ttl_ms: u64) -> Result<Vec<u8>, Unavailable> {
    let (kind, cost) = match call.cost {
        Cost::Units(units) => (0, units),
        Cost::Prompt => (1, 0),
        Cost::Held => (2, 0),
        Cost::Nothing => (3, 0),
    };
    let flags = u64::from(call.last) | u64::from(call.clamped) << 1 | u64::from(call.price_tag.is_some()) << 2;
    let mut packer = Packer::with_capacity(160);
    packer.uint::<4>(generation.into()).uint::<1>(kind).uint::<1>(flags);
    packer.int(cost).int(call.tokens.unwrap_or(-1)).raw(&call.fingerprint.0).uint::<6>(tombstone_ttl_ms);
    packer.text(short_tag(call.price_tag.unwrap_or_default())?);
    entry(&mut packer, call.account, call.id, call.log);
    Ok(packer.finish())
}

pub(crate) fn charge(generation: u32, call: &ChargeCall<'_>, tombstone_ttl_ms: u64) -> Result<Vec<u8>, Unavailable> {
    let flags = u64::from(call.force)
        | u64::from(call.admission.refusal.is_some()) << 1
        | u64::from(call.unreserved) << 2
        | u64::from(call.clamped) << 3;
    let mut packer = Packer::with_capacity(384);
    packer.uint::<4>(generation.into()).uint::<4>(call.version.into()).uint::<1>(flags);
    packer.int(call.amount).int(call.tokens);
    admission(&mut packer, call.admission);
    packer.raw(&call.fingerprint.0).uint::<6>(tombstone_ttl_ms);
    packer.text(keys::key_field(call.key).as_bytes()).text(short_tag(call.price_tag)?);
    entry(&mut packer, call.account, call.id, call.log);
    groups(&mut packer, &call.admission.groups)?;
    Ok(packer.finish())
}

pub(crate) fn extend(generation: u32, call: &ExtendCall<'_>) -> Result<Vec<u8>, Unavailable> {
    let flags =
        u64::from(call.denied) << 1 | u64::from(call.ttl_ms.is_some()) << 2 | u64::from(call.reprice.is_some()) << 3;
    let mut packer = Packer::with_capacity(64);
    packer.uint::<4>(generation.into()).uint::<4>(call.version.into()).uint::<1>(flags);
    packer.int(call.amount.unwrap_or(-1)).uint::<4>(call.ttl_ms.unwrap_or(0).into()).int(call.credit_limit);
    bound(&mut packer, call.allowance);
    let (from, to) = call.reprice.map_or((&[][..], &[][..]), |it| (it.from, it.to));
    let tokens = call.reprice.and_then(|it| it.tokens);
    packer.int(call.reprice.map_or(0, |it| it.prompt_cost)).int(tokens.unwrap_or(-1));
    packer.text(short_tag(from)?).text(short_tag(to)?);
    for group in call.groups {
        // Tokens are held anew by another estimate alone.
        let held = |gauge: &&Gauge| match gauge.limit.metric {
            Metric::Cost => true,
            Metric::Tokens => tokens.is_some(),
            Metric::Requests | Metric::Concurrency => false,
        };
        let held = group.gauges.iter().filter(held);
        field(&mut packer, group, held.clone().count());
        gauges(&mut packer, held);
    }
    Ok(packer.finish())
}

pub(crate) fn refund(generation: u32, call: &RefundCall<'_>) -> Vec<u8> {
    let mut packer = Packer::with_capacity(32);
    packer.uint::<4>(generation.into()).int(call.amount).raw(&call.fingerprint.0);
    packer.finish()
}
