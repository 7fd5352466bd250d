//! What Redis needs for an account that is idle and for a live hold, and the sidecar under load.

use crate::peers::{
    args::Name,
    contender::FIRST_ID,
    figures::{Goal, Row},
    quotad::Quotad,
    seed::{self, ORDINARY, TRUSTED},
    world::{ACCOUNTS, Rows, World, scripts},
};

/// Counted; enough that what Redis needs for itself does not matter.
const COUNTED: u64 = 20_000;
/// Loaded before anything is counted, so that scripts, connections and their buffers are there.
const BEFORE: u64 = 500;
const BATCH: u64 = 256;
const MIB: f64 = 1_048_576.0;

pub(in crate::peers) async fn measure(world: &World) -> Rows {
    let [mut account, mut hold, mut resident, mut resident_after] = [const { Vec::new() }; 4];
    for _ in world.rounds(Name::Memory) {
        let settings = [("tombstone_ttl_ms", "1000".to_owned())];
        let quotad = Quotad::start(world.program(), world.few().await?, &settings).await?;
        let [idle, held] = in_redis(&quotad).await?;
        eprintln!("    {idle:.0} B for an idle account, {held:.0} B for a live hold");
        account.push(idle);
        hold.push(held);
        let [before, after] = in_sidecar(world, &quotad).await?;
        eprintln!("    sidecar {before:.1} MiB at the beginning of load, {after:.1} MiB after it");
        resident.push(before);
        resident_after.push(after);
        quotad.stop().await?;
    }
    let figure = |what: &str, unit, figures: &[f64], goal| Row::figure(Name::Memory, what, unit, figures, goal);
    let after = format!("sidecar after {} s of load : at its beginning", world.args.seconds);
    Ok(vec![
        figure("Redis, idle account with a key and three windows", "B", &account, Some(Goal::AtMost(300.0))),
        figure("Redis, live hold with an id of 34 characters", "B", &hold, Some(Goal::AtMost(250.0))),
        Row::ratio(Name::Memory, &after, "MiB", (&resident_after, &resident), None),
    ])
}

/// Bytes for an idle account and for a live hold.
async fn in_redis(quotad: &Quotad) -> Result<[f64; 2], String> {
    quotad.warm(TRUSTED, 0..BEFORE).await?;
    quotad.forgotten().await?;
    let mut redis = quotad.redis.connect().await?;
    let before = redis.used_memory().await?;
    quotad.warm(ORDINARY, 0..COUNTED).await?;
    quotad.forgotten().await?;
    let loaded = redis.used_memory().await?;
    // Ids as the server makes them.
    let reserve = |index: u64| {
        let account = seed::account(ORDINARY, index);
        format!(
            r#"{{"op":"reserve","account":"{account}","key":"k1","id":"q-{index:032x}","platform":"openai","amount":5,"ttl_ms":3600000}}"#
        )
    };
    quotad.each(COUNTED, BATCH, reserve).await?;
    let held = redis.used_memory().await?;
    let each = |more: u64, less: u64| (more as f64 - less as f64) / COUNTED as f64;
    Ok([each(loaded, before), each(held, loaded)])
}

/// MiB of the sidecar when load begins and when it has gone on for a measurement.
async fn in_sidecar(world: &World, quotad: &Quotad) -> Result<[f64; 2], String> {
    let mut resident = [0.0; 2];
    let url = format!("http://{}/", quotad.address());
    for (first, mib) in [FIRST_ID, 2 * FIRST_ID].into_iter().zip(&mut resident) {
        let script = scripts::pair().with("ACCOUNTS", ACCOUNTS).with("FIRST", first);
        world.wrk().measure(&url, &script).await?.good()?;
        *mib = quotad.resident().await? as f64 / MIB;
    }
    Ok(resident)
}
