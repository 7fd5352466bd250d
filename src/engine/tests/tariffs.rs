//! Price lists that go, and numbers that come again, after a database was put back to an older copy.

use super::{
    by, done,
    fake::{Fake, record, reply, with_record},
    settle,
};
use crate::{
    engine::{Engine, ports::Cost, ports::Status, settle::Price},
    quota::{
        reservation::{Record, State},
        tariff::{Groups, PriceTag},
        usage::Usage,
    },
};

fn list(input: i64) -> Vec<u8> {
    format!(r#"{{"format":1,"units_per_usd":100000000,"models":{{"m":{{"input":{input}000000}}}}}}"#).into_bytes()
}

/// What a token costs by a version (`None`: the one in force).
async fn price(engine: &Engine, version: Option<u32>) -> i64 {
    let (tariff, _) = done(engine.tariff_table(version).await.unwrap());
    tariff.price("m").unwrap().rates.input / 1_000_000
}

#[tokio::test]
async fn a_number_that_means_another_list_is_read_again() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Unknown));
    for input in [1, 2, 3] {
        done(engine.tariff_import(&by(), &list(input), "test").await.unwrap());
    }
    assert_eq!((price(&engine, None).await, price(&engine, Some(2)).await), (3, 2));
    // The newest number comes again with another content, before anybody looks.
    fake.set(|world| world.tariffs = vec![list(1), list(2), list(8)]);
    engine.refresh_tariff().await.unwrap();
    assert_eq!((price(&engine, None).await, price(&engine, Some(3)).await), (8, 8));
    // More lists than before, and not the ones that were: what was remembered goes.
    assert_eq!(price(&engine, Some(2)).await, 2);
    fake.set(|world| world.tariffs = vec![list(1), list(6), list(7), list(9)]);
    engine.refresh_tariff().await.unwrap();
    assert_eq!((price(&engine, None).await, price(&engine, Some(2)).await, price(&engine, Some(3)).await), (9, 6, 7));
    // Fewer.
    fake.set(|world| world.tariffs = vec![list(5)]);
    engine.refresh_tariff().await.unwrap();
    assert_eq!(price(&engine, None).await, 5);
    fake.set(|world| world.tariffs.push(list(4)));
    engine.refresh_tariff().await.unwrap();
    assert_eq!((price(&engine, None).await, price(&engine, Some(1)).await), (4, 5));
}

/// It was 503 for ever.
#[tokio::test]
async fn a_settle_whose_price_list_is_gone_is_priced_by_the_newest() {
    let tag = PriceTag::new(9, Groups::own("default")).pack();
    let held = Record { price_tag: tag.clone(), ..record(State::Held) };
    let (fake, engine) = Fake::new(move |_, seen| match (&seen.price_tag, seen.cost) {
        (Some(own), Some(Cost::Units(charged))) if *own == tag => {
            with_record(Status::Done, Record { charged, ..record(State::Settled) })
        }
        _ => with_record(Status::Reprice, held.clone()),
    });
    done(engine.tariff_import(&by(), &list(7), "test").await.unwrap());
    let usage = Price::Usage(Usage { input: 100, ..Usage::default() });
    assert_eq!(done(engine.settle(&settle(usage)).await.unwrap()).0.charged, Some(700));
    let logs: Vec<bool> = fake.seen("settle").iter().map(|seen| seen.log.contains(r#""repriced":true"#)).collect();
    assert_eq!(logs, [false, true]);
}
