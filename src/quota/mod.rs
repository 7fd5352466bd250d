//! Floor 0: the rules of quota, pure. No async, no I/O, no clock but the one that is handed in.
//! Whatever two rooms above must agree on (an amount, an id, a packed counter, a ledger entry) is
//! defined here once.

pub mod admission;
pub mod amount;
pub mod change;
pub mod clock;
pub mod code;
pub mod counter;
pub mod defaults;
pub mod entry;
pub mod fingerprint;
pub mod group;
pub mod id;
pub mod limit;
pub mod packed;
pub mod platform;
pub mod policy;
pub mod reservation;
pub mod tally;
pub mod tariff;
pub mod tokens;
pub mod trust;
pub mod usage;
pub mod usd;
pub mod verdict;
pub mod window;
