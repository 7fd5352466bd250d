//! A door for `benches/`: the packing of calls and the unpacking of answers, which have no name outside
//! this room. Nothing that is shipped calls it.

use ::redis::Value;

use super::{arguments, reply::RawReply};
use crate::engine::ports::{Reply, ReserveCall, SettleCall, Unavailable};

const GENERATION: u32 = 1;

const TOMBSTONE_MS: u64 = 900_000;

/// Packs the argument of a reserve.
///
/// # Errors
/// `Corrupt` when the call counts against too many limits.
pub fn pack_reserve(call: &ReserveCall<'_>) -> Result<Vec<u8>, Unavailable> {
    arguments::reserve(GENERATION, call)
}

/// Packs the argument of a settle.
///
/// # Errors
/// `Corrupt` when its price tag is too long.
pub fn pack_settle(call: &SettleCall<'_>) -> Result<Vec<u8>, Unavailable> {
    arguments::settle(GENERATION, call, TOMBSTONE_MS)
}

/// Takes a script's answer apart.
///
/// # Errors
/// `Corrupt` when no script answers so.
pub fn unpack(answer: Value) -> Result<Reply, Unavailable> {
    RawReply::of(answer)?.decode()
}
