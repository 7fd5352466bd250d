//! How trusted work ends: one charge, whatever else was reserved, lost, or asked of it.

use super::{
    account,
    bank::{ask, bank, named, trusting, warmed},
    by, done,
    fake::{Fake, Seen, record, with_record},
    key, policy, refused, reservation, reserve, settle, with_key,
};
use crate::{
    engine::{
        Payer,
        charge::Charge,
        extend::Extend,
        ports::{Status, Unavailable},
        release::Release,
        reserve::{Ask, Reserve},
        settle::{Outcome, Price, Settle},
    },
    quota::{
        id::Model,
        policy::KeyPolicy,
        reservation::{Record, State},
        tariff::{Groups, PriceTag},
        verdict::Code,
    },
};

#[tokio::test]
async fn a_settle_of_trusted_work_is_one_charge() {
    let (bank, fake, engine) = warmed(trusting(), 100_000).await;
    let by = Reserve { key: Some(key("k")), ..named("r", 700) };
    fake.set(|world| drop(world.policies.insert(account(), with_key(policy(1), "k", KeyPolicy::default()))));
    engine.reload(&account()).await.unwrap();
    engine.cache.remove(&account());
    ask(&engine, &Reserve { id: reservation("warm-2"), ..by.clone() }).await;
    assert!(ask(&engine, &by).await.0.trusted);
    let call = Settle { id: reservation("r"), ..settle(Price::Units(650)) };
    let (answer, replayed) = done(engine.settle(&call).await.unwrap());
    assert_eq!((answer.charged, answer.returned, answer.unreserved, replayed), (Some(650), Some(0), false, false));
    assert_eq!((answer.balance, answer.late, answer.overdraft), (Some(99_350), false, 0));
    let charge = &fake.seen("charge")[0];
    assert_eq!(
        (charge.amount, charge.key.clone(), charge.unreserved),
        (650, Some(key("k")), true),
        "the reserve's key"
    );
    assert_eq!(charge.groups.len(), 0);
    assert_eq!((fake.seen("settle").len(), fake.seen("ledger_record").len()), (0, 0));
    assert_eq!(bank.head.lock().unwrap().balance, 99_350);
    // Once more: Redis knows it now.
    done(engine.settle(&call).await.unwrap());
    assert_eq!((fake.seen("settle").len(), fake.seen("charge").len()), (1, 1));
}

#[tokio::test]
async fn the_outcome_decides_by_what_was_granted() {
    let (_, fake, engine) = warmed(trusting(), 100_000).await;
    for (at, (outcome, charged)) in
        [(None, 700), (Some(Outcome::Ok), 700), (Some(Outcome::ClientAbort), 0), (Some(Outcome::UpstreamError), 0)]
            .into_iter()
            .enumerate()
    {
        let id = format!("r-{at}");
        assert!(ask(&engine, &Reserve { tokens: Some(9), ..named(&id, 700) }).await.0.trusted);
        let call = Settle { id: reservation(&id), outcome, ..settle(Price::Unsaid) };
        assert_eq!(done(engine.settle(&call).await.unwrap()).0.charged, Some(charged), "{outcome:?}");
    }
    let tokens: Vec<_> = fake.seen("charge").iter().map(|seen| seen.tokens).collect();
    assert_eq!(tokens, [Some(9), Some(9), Some(9), Some(0)]);
}

#[tokio::test]
async fn prices_are_those_of_the_reserve() {
    let (_, fake, engine) = bank(trusting(), 100_000);
    let prices = |input: i64| {
        let model = format!(r#"{{"input":{},"output":0}}"#, input * 1_000_000);
        format!(r#"{{"format":1,"units_per_usd":100000000,"models":{{"m":{model}}}}}"#).into_bytes()
    };
    done(engine.tariff_import(&by(), &prices(3), "test").await.unwrap());
    let estimate = |id: &str| Reserve {
        id: reservation(id),
        ..reserve(Ask::Estimate { prompt_tokens: 600, max_tokens: Some(1) })
    };
    ask(&engine, &estimate("warm")).await;
    assert!(ask(&engine, &estimate("r")).await.0.trusted);
    done(engine.tariff_import(&by(), &prices(5), "test").await.unwrap());
    let usage = crate::quota::usage::Usage { input: 100, ..Default::default() };
    done(engine.settle(&settle_of("r", Price::Usage(usage))).await.unwrap());
    let charge = &fake.seen("charge")[0];
    assert_eq!((charge.amount, charge.tokens), (300, Some(100)));
    assert_eq!(charge.price_tag, Some(PriceTag::new(1, Groups::own("default")).pack()));
}

fn settle_of(id: &str, price: Price) -> Settle {
    Settle { id: reservation(id), model: Some(Model::new("m").unwrap()), ..settle(price) }
}

#[tokio::test]
async fn work_that_was_reserved_elsewhere_too_is_settled_there() {
    let elsewhere = |seen: &Seen| match seen.verb {
        "charge" => with_record(Status::Idle, record(State::Held)),
        "settle" => with_record(Status::Done, Record { state: State::Settled, charged: 70, ..record(State::Held) }),
        _ => with_record(Status::Done, record(State::Held)),
    };
    let settings = super::with(|values| values.trust_threshold = Some(1_000));
    let (fake, engine) = Fake::with(settings, move |_, seen| elsewhere(seen));
    ask(&engine, &named("warm", 0)).await;
    assert!(ask(&engine, &named("r", 100)).await.0.trusted);
    let (answer, _) = done(engine.settle(&settle_of("r", Price::Units(70))).await.unwrap());
    assert_eq!((answer.charged, answer.returned, answer.unreserved), (Some(70), Some(50), false));
    assert_eq!((fake.seen("charge").len(), fake.seen("settle").len()), (1, 1));
    assert!(engine.trust.find(&account(), &reservation("r")).is_none(), "it is in flight no more");
}

#[tokio::test]
async fn a_reply_that_is_lost_leaves_the_work_in_flight() {
    let (_, fake, engine) = warmed(trusting(), 100_000).await;
    assert!(ask(&engine, &named("r", 2_500)).await.0.trusted);
    fake.set(|world| world.outage = Some(Unavailable::Timeout));
    assert!(engine.settle(&settle_of("r", Price::Units(1))).await.is_err());
    assert!(engine.reserve(&named("s", 1)).await.is_err(), "the share is used up");
    assert!(ask(&engine, &named("r", 2_500)).await.1, "what was granted is answered again");
    fake.set(|world| world.outage = None);
    done(engine.settle(&settle_of("r", Price::Units(1))).await.unwrap());
    assert!(ask(&engine, &named("s", 2_500)).await.0.trusted);
}

#[tokio::test]
async fn a_partial_settle_and_an_extension_turn_trusted_work_into_a_hold() {
    let (_, fake, engine) = warmed(trusting(), 100_000).await;
    for id in ["part", "extended", "beside"] {
        assert!(ask(&engine, &named(id, 700)).await.0.trusted);
    }
    let part = Settle { last: false, ..settle_of("part", Price::Units(10)) };
    done(engine.settle(&part).await.unwrap());
    let held = fake.seen("reserve").pop().unwrap();
    assert_eq!((held.id.as_str(), held.amount, held.credit_limit), ("part", 700, -1_400), "room for the other two");
    assert_eq!((fake.seen("settle").len(), fake.seen("charge").len()), (1, 0));
    fake.set(|world| world.record = Some(Record { held: 700, ..record(State::Held) }));
    let (payer, id) = (Payer::Account(account()), reservation("extended"));
    done(
        engine
            .extend(&Extend { payer, id, amount: Some(900), ttl_ms: None, group: None, model: None, estimate: None })
            .await
            .unwrap(),
    );
    assert_eq!(fake.seen("reserve").pop().unwrap().id, "extended");
    assert_eq!(fake.seen("extend").len(), 1);
    let left = engine.trust.aside(&account(), None, &[], None).unwrap();
    assert_eq!(left.account, 700, "only what is still trusted");
}

#[tokio::test]
async fn a_hold_that_is_denied_leaves_the_work_trusted() {
    let (bank, _, engine) = warmed(trusting(), 100_000).await;
    assert!(ask(&engine, &named("r", 700)).await.0.trusted);
    bank.head.lock().unwrap().held = 100_000;
    let part = Settle { last: false, ..settle_of("r", Price::Units(10)) };
    assert_eq!(refused(engine.settle(&part).await.unwrap()).code, Code::InsufficientBalance);
    let (answer, _) = done(engine.settle(&settle_of("r", Price::Units(20))).await.unwrap());
    assert_eq!((answer.charged, answer.unreserved), (Some(20), false));
}

#[tokio::test]
async fn a_release_is_told_to_redis_and_a_charge_of_the_same_id_is_a_conflict() {
    let (_, fake, engine) = warmed(trusting(), 100_000).await;
    assert!(ask(&engine, &named("r", 2_500)).await.0.trusted);
    let charge =
        Charge { settle: settle_of("r", Price::Units(1)), estimate: None, tokens: None, client_ip: None, force: false };
    assert_eq!(refused(engine.charge(&charge).await.unwrap()).code, Code::Conflict);
    let release = Release { payer: Payer::Account(account()), id: reservation("r") };
    assert_eq!(done(engine.release(&release).await.unwrap()).0.returned, Some(0));
    assert_eq!((fake.seen("release").len(), fake.seen("charge").len()), (1, 0));
    assert!(ask(&engine, &named("s", 2_500)).await.0.trusted, "its share is free again");
    let asked = fake.seen("reserve").len();
    ask(&engine, &named("r", 2_500)).await;
    assert_eq!(fake.seen("reserve").len(), asked + 1, "Redis has its tombstone");
}

#[tokio::test]
async fn work_in_flight_ends_with_its_time() {
    let (_, _, engine) = warmed(trusting(), 100_000).await;
    assert!(ask(&engine, &Reserve { ttl_ms: Some(1_000), ..named("r", 2_500) }).await.0.trusted);
    assert!(!ask(&engine, &named("s", 1)).await.0.trusted);
    engine.trust.sweep(std::time::Instant::now() + std::time::Duration::from_secs(1));
    assert!(engine.trust.find(&account(), &reservation("r")).is_none());
    assert!(ask(&engine, &named("t", 2_500)).await.0.trusted);
    engine.trust.sweep(std::time::Instant::now() + std::time::Duration::from_secs(3_600));
    assert!(!engine.trust.is_on(), "accounts that nobody asks for are forgotten");
}
