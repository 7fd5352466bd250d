//! Lines that compare how much two contenders get done.

use hyper::{Method, body::Bytes};

use crate::{
    peers::{
        args::Name,
        contender::Contender::{
            self, BareRedis, Batch, NginxPair, NginxReserve, Pair, Reserve, ReserveWithIds, Trust, WebdisReserve,
        },
        figures::{Goal, Row},
        quotad::Quotad,
        seed::TRUSTED,
        world::{Rows, World},
    },
    wire::Answer,
};

const PER_SECOND: &str = "/s";
/// Reserves of one account until one must have been trusted; the first ones fill the cache.
const PROBES: u32 = 20;

/// Measures the contenders in turn, A B C A B C …; for each the figures of all rounds.
async fn interleaved<const N: usize>(
    world: &World,
    line: Name,
    contenders: [Contender; N],
) -> Result<[Vec<f64>; N], String> {
    let mut figures = [const { Vec::new() }; N];
    for _ in world.rounds(line) {
        for (contender, figures) in contenders.iter().zip(&mut figures) {
            figures.push(contender.measure(world).await?);
        }
    }
    Ok(figures)
}

pub(super) async fn reserve(world: &World) -> Rows {
    let contenders = [Reserve, NginxReserve, WebdisReserve, ReserveWithIds, BareRedis];
    let [quotad, nginx, webdis, with_ids, bare] = interleaved(world, Name::Reserve, contenders).await?;
    let row = |what, pair: (&[f64], &[f64]), goal| Row::ratio(Name::Reserve, what, PER_SECOND, pair, goal);
    Ok(vec![
        row("quotad : nginx + Lua", (&quotad, &nginx), Some(Goal::AtLeast(2.0))),
        row("quotad : webdis", (&quotad, &webdis), Some(Goal::AtLeast(1.8))),
        row("quotad, ids by the client : nginx + Lua", (&with_ids, &nginx), None),
        row("quotad : plain script in bare Redis", (&quotad, &bare), None),
    ])
}

pub(super) async fn pair(world: &World) -> Rows {
    let [quotad, nginx] = interleaved(world, Name::Pair, [Pair, NginxPair]).await?;
    let what = "reserve + settle, quotad (2 calls) : nginx + Lua (1 call)";
    Ok(vec![Row::ratio(Name::Pair, what, "pairs/s", (&quotad, &nginx), Some(Goal::AtLeast(1.3)))])
}

pub(super) async fn trust(world: &World) -> Rows {
    if !is_trusting(world).await? {
        return Ok(vec![Row::skipped(Name::Trust, "trust mode is not in this build".to_owned())]);
    }
    let [quotad, nginx] = interleaved(world, Name::Trust, [Trust, NginxReserve]).await?;
    let what = "quotad, trust mode : nginx + Lua";
    Ok(vec![Row::ratio(Name::Trust, what, PER_SECOND, (&quotad, &nginx), Some(Goal::AtLeast(2.8)))])
}

/// Whether any reserve of an account far above its threshold is answered with `"trusted": true`.
async fn is_trusting(world: &World) -> Result<bool, String> {
    let quotad = Quotad::start(world.program(), world.few().await?, &[]).await?;
    quotad.warm(TRUSTED, 0..1).await?;
    let body = format!(r#"{{"account":"{TRUSTED}1000000","key":"k1","platform":"openai","amount":5}}"#);
    let mut trusted = false;
    for _ in 0..PROBES {
        let body = Some(Bytes::from(body.clone()));
        let reply = quotad.client.call(Method::POST, "/v1/reserve", body).await.map_err(|doubt| doubt.0)?;
        trusted |= reply.json::<Answer>()?.trusted;
    }
    quotad.stop().await?;
    Ok(trusted)
}

pub(super) async fn batch(world: &World) -> Rows {
    let [batch, single] = interleaved(world, Name::Batch, [Batch, ReserveWithIds]).await?;
    let what = "batches of 32 : single calls";
    Ok(vec![Row::ratio(Name::Batch, what, "operations/s", (&batch, &single), Some(Goal::AtLeast(2.0)))])
}
