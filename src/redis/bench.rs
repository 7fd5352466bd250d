//! A door for `benches/`: the packing of calls and the unpacking of answers, which have no name outside
//! this room. Nothing that is shipped calls it.

use ::redis::Value;

use super::{arguments, reply::RawReply};
use crate::engine::ports::{Reply, ReserveCall, SettleCall, Unavailable};

const GENERATION: u32 = 1;

/// Arguments of a reserve that are packed: the header, what the record says, and the gauges of each group.
pub type Packed<'a> = (Vec<u8>, Vec<u8>, Vec<(&'a str, Vec<u8>)>);

/// Packs the arguments of a reserve.
///
/// # Errors
/// `Corrupt` when the call counts against too many limits.
pub fn pack_reserve<'a>(call: &ReserveCall<'a>) -> Result<Packed<'a>, Unavailable> {
    let (header, record) = arguments::reserve(GENERATION, call)?;
    Ok((header, record, arguments::groups(&call.admission.groups)?))
}

/// Packs the arguments of a settle that are packed: the header, and the names.
///
/// # Errors
/// `Corrupt` when its price tag is too long.
pub fn pack_settle(call: &SettleCall<'_>) -> Result<(Vec<u8>, Vec<u8>), Unavailable> {
    Ok((arguments::settle(GENERATION, call)?, arguments::names(call.account, call.id)))
}

/// Takes a script's answer apart.
///
/// # Errors
/// `Corrupt` when no script answers so.
pub fn unpack(answer: Value) -> Result<Reply, Unavailable> {
    RawReply::of(answer)?.decode()
}
