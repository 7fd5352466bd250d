//! Whether the number of accounts matters: 1 000 000 of them, and a single one, against 1 000.
//!
//! Two servers run side by side, because it takes minutes to load a million accounts; one of them is idle
//! at a time. What a measurement reserved is released after it, so that none begins with the holds of
//! the one before.

use crate::peers::{
    args::Name,
    contender::FIRST_ID,
    figures::{Goal, Row},
    quotad::Quotad,
    seed::{self, ORDINARY},
    world::{Rows, World, scripts},
    wrk::WARM_UP_IDS,
};

const FEW: u64 = 1000;
/// Long enough that no hold ends by itself.
const TTL_MS: u64 = 3_600_000;
/// Operations of a batch that releases.
const BATCH: u64 = 256;
/// As `reserve.wrk.lua` walks through the accounts.
const STEP: u64 = 7919;

/// A server and the next id that was not used on it.
struct Place {
    quotad: Quotad,
    next_id: u64,
}

pub(in crate::peers) async fn measure(world: &World) -> Rows {
    let many = u64::from(world.args.many);
    // Policies of all accounts fit into memory; as many as by default would be read from SQL again and again.
    let settings =
        [("policy_cache_accounts", (2 * many).max(100_000).to_string()), ("tombstone_ttl_ms", "1000".to_owned())];
    let mut small = Place::start(Quotad::start(world.program(), world.few().await?, &settings).await?, FEW).await?;
    let mut large = Place::start(Quotad::start(world.program(), world.many().await?, &settings).await?, many).await?;
    let [mut few, mut hot, mut all] = [const { Vec::new() }; 3];
    for _ in world.rounds(Name::Accounts) {
        few.push(small.throughput(world, FEW).await?);
        hot.push(small.throughput(world, 1).await?);
        all.push(large.throughput(world, many).await?);
    }
    small.quotad.stop().await?;
    large.quotad.stop().await?;
    let row =
        |what: String, ours: &[f64]| Row::ratio(Name::Accounts, &what, "/s", (ours, &few), Some(Goal::AtLeast(0.9)));
    Ok(vec![row(format!("{many} accounts : 1000"), &all), row("one hot account : 1000".to_owned(), &hot)])
}

impl Place {
    async fn start(quotad: Quotad, accounts: u64) -> Result<Self, String> {
        for tenth in 0..10 {
            quotad.warm(ORDINARY, accounts * tenth / 10..accounts * (tenth + 1) / 10).await?;
            eprintln!("  loaded {} of {accounts} accounts into Redis", accounts * (tenth + 1) / 10);
        }
        quotad.forgotten().await?;
        Ok(Self { quotad, next_id: FIRST_ID })
    }

    /// Reserves per second, spread over so many accounts.
    async fn throughput(&mut self, world: &World, accounts: u64) -> Result<f64, String> {
        let first = self.next_id;
        let script = scripts::reserve()
            .with("LETTER", ORDINARY)
            .with("ACCOUNTS", accounts)
            .with("FIRST", first)
            .with("TTL_MS", TTL_MS)
            .with("IDS", 1);
        let shot = world.wrk().measure(&format!("http://{}/", self.quotad.address()), &script).await?;
        // Also what was under way when wrk stopped.
        let more = 2 * u64::from(world.args.connections);
        self.release(first - WARM_UP_IDS, shot.warmed_up + more, accounts).await?;
        self.release(first, shot.requests + more, accounts).await?;
        self.quotad.forgotten().await?;
        self.next_id += shot.requests + more + WARM_UP_IDS;
        let figure = shot.good()?;
        eprintln!("    {accounts} accounts: {figure:.0}/s");
        Ok(figure)
    }

    async fn release(&self, first: u64, count: u64, accounts: u64) -> Result<(), String> {
        let op = move |index: u64| {
            let id = first + index + 1;
            let account = seed::account(ORDINARY, id * STEP % accounts);
            format!(r#"{{"op":"release","account":"{account}","id":"{id}"}}"#)
        };
        self.quotad.each(count, BATCH, op).await
    }
}
