//! Latency in an open loop, at half of what nginx + Lua can do at most; the same rate and the same
//! client for both.

use std::time::Duration;

use crate::peers::{
    args::Name,
    contender::{Contender, TTL_MS},
    figures::{Goal, Row, Spread},
    lean::{Job, Pace, drive},
    plain::{Caller, Plain},
    quotad::Quotad,
    seed::{self, ORDINARY},
    talk::Http,
    world::{ACCOUNTS, Rows, World},
};

const NGINX: Http = Http {
    path: "/reserve",
    body: |_| r#"{"account":"u_42","key":"tk_9","platform":"openai","amount":5,"ttl_ms":60000}"#.to_owned(),
};
const QUOTAD: Http = Http { path: "/v1/reserve", body };

fn body(index: u64) -> String {
    let account = seed::account(ORDINARY, index * 7919 % u64::from(ACCOUNTS));
    format!(r#"{{"account":"{account}","key":"k1","platform":"openai","amount":5,"ttl_ms":{TTL_MS}}}"#)
}

/// Percentiles in milliseconds, a figure for each round.
#[derive(Default)]
struct Percentiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
    p99_9: Vec<f64>,
}

pub(in crate::peers) async fn measure(world: &World) -> Rows {
    let (mut ours, mut theirs, mut rates) = (Percentiles::default(), Percentiles::default(), Vec::new());
    for _ in world.rounds(Name::Latency) {
        // Measured anew each round: a machine that others use too is not as fast all the time.
        let rate = Contender::NginxReserve.measure(world).await? / 2.0;
        rates.push(rate);
        let quotad = Quotad::start(world.program(), world.few().await?, &[]).await?;
        quotad.warm(ORDINARY, 0..u64::from(ACCOUNTS)).await?;
        let seen = ours.add(world, quotad.address(), rate, QUOTAD).await;
        quotad.stop().await?;
        seen.map_err(|problem| format!("quotad: {problem}"))?;
        let nginx = Plain::start(Caller::Nginx).await?;
        let seen = theirs.add(world, nginx.address(), rate, NGINX).await;
        nginx.stop().await;
        seen.map_err(|problem| format!("nginx + Lua: {problem}"))?;
    }
    let rate = Spread::of(&rates).map_or(0.0, |rates| rates.median);
    let at = format!("at about {rate:.0} reserves/s, quotad : nginx + Lua");
    let ratio =
        |name: &str, pair: (&[f64], &[f64]), goal| Row::ratio(Name::Latency, &format!("{name} {at}"), "ms", pair, goal);
    Ok(vec![
        ratio("p50", (&ours.p50, &theirs.p50), None),
        ratio("p99", (&ours.p99, &theirs.p99), Some(Goal::AtMost(0.7))),
        ratio("p99.9", (&ours.p99_9, &theirs.p99_9), None),
        Row::figure(Name::Latency, "p99.9 of quotad", "ms", &ours.p99_9, Some(Goal::Below(10.0))),
    ])
}

impl Percentiles {
    async fn add(&mut self, world: &World, address: String, per_second: f64, talk: Http) -> Result<(), String> {
        let job = Job {
            address,
            connections: world.args.connections,
            pace: Pace::Open { per_second },
            warm_up: Duration::from_secs(1),
            counted: Duration::from_secs(world.args.seconds),
        };
        let seen = drive(job, talk).await?;
        let millis = |quantile| seen.latency.value_at_quantile(quantile) as f64 / 1000.0;
        let [p50, p99, p99_9] = [0.5, 0.99, 0.999].map(millis);
        eprintln!("    {:.0} answers/s: p50 {p50} ms, p99 {p99} ms, p99.9 {p99_9} ms", seen.per_second);
        self.p50.push(p50);
        self.p99.push(p99);
        self.p99_9.push(p99_9);
        Ok(())
    }
}
