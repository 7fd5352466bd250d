//! The scripts, each verb against a real redis-server through the ports: what is granted and denied,
//! repeated and reordered calls, windows, the ledger stream, and a server that hangs or dies.

#[path = "scripts/adjust.rs"]
mod adjust;
#[path = "scripts/bench.rs"]
mod bench;
#[path = "scripts/charge.rs"]
mod charge;
#[path = "scripts/expire.rs"]
mod expire;
#[path = "scripts/extend.rs"]
mod extend;
#[path = "scripts/faults.rs"]
mod faults;
#[path = "scripts/load.rs"]
mod load;
#[path = "scripts/loaded.rs"]
mod loaded;
#[path = "scripts/recover.rs"]
mod recover;
#[path = "harness/redis_server.rs"]
mod redis_server;
#[path = "scripts/redo.rs"]
mod redo;
#[path = "scripts/refund.rs"]
mod refund;
#[path = "scripts/reserve.rs"]
mod reserve;
#[path = "scripts/settle.rs"]
mod settle;
#[path = "harness/shard.rs"]
mod shard;
#[path = "scripts/stream.rs"]
mod stream;
#[path = "scripts/undo.rs"]
mod undo;
#[path = "scripts/windows.rs"]
mod windows;
