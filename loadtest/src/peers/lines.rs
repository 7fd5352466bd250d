//! The lines of the table, a file each where they need more than wrk.

mod accounts;
mod cold_start;
mod latency;
mod memory;
mod redis_cpu;
mod throughput;

use super::{
    args::Name,
    world::{Rows, World},
};

/// Measures one line.
///
/// # Errors
/// A sentence when it could not be measured.
pub async fn measure(world: &World, line: Name) -> Rows {
    match line {
        Name::Reserve => throughput::reserve(world).await,
        Name::Pair => throughput::pair(world).await,
        Name::Trust => throughput::trust(world).await,
        Name::Batch => throughput::batch(world).await,
        Name::RedisCpu => redis_cpu::measure(world).await,
        Name::Latency => latency::measure(world).await,
        Name::Accounts => accounts::measure(world).await,
        Name::Memory => memory::measure(world).await,
        Name::ColdStart => cold_start::measure(world).await,
    }
}
