//! From the start of the process to the first granted reserve, with many accounts in SQL and an empty
//! Redis.

use std::time::Instant;

use hyper::{Method, body::Bytes};

use crate::peers::{
    args::Name,
    figures::{Goal, Row},
    quotad::Prepared,
    seed::{self, ORDINARY},
    world::{Rows, World},
};

pub(in crate::peers) async fn measure(world: &World) -> Rows {
    let mut seconds = Vec::new();
    for round in world.rounds(Name::ColdStart) {
        let prepared = Prepared::new(world.many().await?).await?;
        // Somewhere in the table, elsewhere each time.
        let account =
            seed::account(ORDINARY, u64::from(world.args.many) * u64::from(round) / u64::from(world.args.rounds + 1));
        let begun = Instant::now();
        let quotad = prepared.start(world.program(), &[]).await?;
        let body = Bytes::from(format!(r#"{{"account":"{account}","key":"k1","platform":"openai","amount":5}}"#));
        // Sends again what could not be decided, so the first good answer is the first grant.
        let reply = quotad.client.call(Method::POST, "/v1/reserve", Some(body)).await.map_err(|doubt| doubt.0)?;
        let took = begun.elapsed();
        quotad.stop().await?;
        if reply.status != 200 {
            return Err(format!("the first reserve was answered {} {}", reply.status, reply.text()));
        }
        eprintln!("    {took:?}");
        seconds.push(took.as_secs_f64());
    }
    let what = format!("first grant with {} accounts in SQL", world.args.many);
    Ok(vec![Row::figure(Name::ColdStart, &what, "s", &seconds, Some(Goal::Below(2.0)))])
}
