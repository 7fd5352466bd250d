//! Estimate, settle and charge: what is priced, how, and by which prices.

use super::{
    account, by, done,
    fake::{Fake, record, reply, with_record},
    key, refused, reserve, settle,
};
use crate::{
    engine::{
        charge::Charge,
        ports::{Cost, Status},
        reserve::{Ask, Reserve},
        settle::{Outcome, Price, Settle},
    },
    quota::{
        entry::LogFields,
        id::Model,
        policy::AccountStatus,
        reservation::{Flags, Record, State},
        tariff::{Groups, PriceTag},
        usage::Usage,
        verdict::Code,
    },
};

fn prices(input: i64) -> Vec<u8> {
    let models = format!(r#"{{"m":{{"input":{input}000000,"output":0}},"free":{{"input":0,"output":0}}}}"#);
    format!(r#"{{"format":1,"units_per_usd":100000000,"models":{models}}}"#).into_bytes()
}

fn tag(version: u32) -> Vec<u8> {
    PriceTag::new(version, Groups::own("default")).pack()
}

fn usage(input: i64) -> Price {
    Price::Usage(Usage { input, ..Usage::default() })
}

fn settled(charged: i64) -> Record {
    Record { charged, ..record(State::Settled) }
}

#[tokio::test]
async fn an_estimate_is_priced_and_its_prices_frozen() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    done(engine.tariff_import(&by(), &prices(3), "test").await.unwrap());
    let ask = reserve(Ask::Estimate { prompt_tokens: 1_000, max_tokens: Some(200) });
    done(engine.reserve(&ask).await.unwrap());
    let free = Reserve { model: Some(Model::new("free").unwrap()), ..ask.clone() };
    done(engine.reserve(&free).await.unwrap());
    done(engine.reserve(&Reserve { ask: Ask::Default, ..free }).await.unwrap());
    let seen = fake.seen("reserve");
    assert_eq!((seen[0].amount, seen[0].tokens, seen[0].price_tag.clone()), (3_000, Some(1_200), Some(tag(1))));
    assert_eq!((seen[1].amount, seen[1].tokens, seen[1].check_only), (0, Some(1_200), false));
    assert_eq!((seen[2].amount, seen[2].check_only), (0, false), "a free model holds nothing by default either");
    let huge = reserve(Ask::Estimate { prompt_tokens: 1_000_000, max_tokens: None });
    assert_eq!(refused(engine.reserve(&huge).await.unwrap()).field, Some("estimate"));
}

#[tokio::test]
async fn free_models_are_not_held_when_so_set() {
    let settings = super::with(|values| values.hold_free_models = false);
    let (fake, engine) = Fake::with(settings, |_, _| reply(Status::Done));
    done(engine.tariff_import(&by(), &prices(3), "test").await.unwrap());
    let ask = reserve(Ask::Estimate { prompt_tokens: 1, max_tokens: None });
    done(engine.reserve(&Reserve { model: Some(Model::new("free").unwrap()), ..ask }).await.unwrap());
    assert!(fake.seen("reserve")[0].check_only);
}

#[tokio::test]
async fn a_settle_is_priced_again_by_the_reservations_prices() {
    let (fake, engine) = Fake::new(|_, seen| {
        let reserved = Record { price_tag: tag(1), ..settled(0) };
        if seen.price_tag == Some(tag(1)) {
            let Some(Cost::Units(charged)) = seen.cost else { panic!("{:?}", seen.cost) };
            with_record(Status::Done, Record { charged, ..reserved })
        } else {
            with_record(Status::Reprice, reserved)
        }
    });
    done(engine.tariff_import(&by(), &prices(3), "test").await.unwrap());
    done(engine.tariff_import(&by(), &prices(5), "test").await.unwrap());
    let (answer, _) = done(engine.settle(&settle(usage(100))).await.unwrap());
    assert_eq!(answer.charged, Some(300));
    let seen = fake.seen("settle");
    let costs: Vec<_> = seen.iter().map(|seen| seen.cost.unwrap()).collect();
    assert_eq!(costs, [Cost::Units(500), Cost::Units(300)]);
    assert_eq!(seen[1].tokens, Some(100));
    assert_eq!(seen[0].fingerprint, seen[1].fingerprint, "the price is no content");
    assert!(seen[1].log.contains(r#""prompt_tokens":100"#) && seen[1].log.contains(r#""model":"m""#));
}

#[tokio::test]
async fn a_reservation_without_prices_is_settled_by_todays() {
    let (fake, engine) = Fake::new(|_, seen| match seen.price_tag.as_deref() {
        Some([]) => with_record(Status::Done, settled(300)),
        _ => with_record(Status::Reprice, settled(0)),
    });
    done(engine.tariff_import(&by(), &prices(3), "test").await.unwrap());
    done(engine.settle(&settle(usage(100))).await.unwrap());
    assert_eq!(fake.seen("settle")[1].cost, Some(Cost::Units(300)));
}

#[tokio::test]
async fn a_model_that_lost_its_price_is_settled_by_the_old_one() {
    let (fake, engine) = Fake::new(|_, seen| match seen.price_tag.clone() {
        Some(price_tag) if price_tag == tag(1) => with_record(Status::Done, settled(300)),
        other => panic!("{other:?}"),
    });
    done(engine.tariff_import(&by(), &prices(3), "test").await.unwrap());
    let none = br#"{"format":1,"units_per_usd":100000000,"models":{}}"#;
    done(engine.tariff_import(&by(), none, "test").await.unwrap());
    let ask = settle(usage(100));
    assert_eq!(refused(engine.settle(&ask).await.unwrap()).code, Code::ModelNotPriced);
    fake.set(|world| world.record = Some(Record { price_tag: tag(1), ..record(State::Held) }));
    done(engine.settle(&ask).await.unwrap());
    let refusal = refused(engine.settle(&Settle { model: None, ..ask }).await.unwrap());
    assert_eq!(refusal.field, Some("model"));
}

#[tokio::test]
async fn a_settle_without_reservation_is_charged_whatever_the_rules_say() {
    let unreserved = Record { flags: Flags(Flags::UNRESERVED), held: 0, ..settled(70) };
    let (fake, engine) = Fake::new(move |_, seen| match seen.verb {
        "settle" => reply(Status::Unknown),
        _ => with_record(Status::Done, unreserved.clone()),
    });
    fake.set(|world| world.policies.get_mut(&account()).unwrap().status = AccountStatus::Disabled);
    let ask = Settle { key: Some(key("gone")), ..settle(Price::Units(70)) };
    let (answer, _) = done(engine.settle(&ask).await.unwrap());
    assert_eq!((answer.charged, answer.unreserved, answer.returned, answer.last), (Some(70), true, Some(0), true));
    let charge = &fake.seen("charge")[0];
    assert!(charge.force && charge.unreserved);
    assert_eq!((charge.amount, charge.key.clone()), (70, Some(key("gone"))));
    assert_eq!(charge.fingerprint, fake.seen("settle")[0].fingerprint, "so that its repetition is a replay");
    // A part of a stream is not: its whole cost comes with the last one.
    let refusal = refused(engine.settle(&Settle { last: false, ..ask }).await.unwrap());
    assert_eq!(refusal.code, Code::ReservationNotFound);
    assert_eq!(fake.seen("charge").len(), 1);
}

#[tokio::test]
async fn a_reservation_that_comes_late_is_settled() {
    let (fake, engine) = Fake::new(|world, seen| match (seen.verb, world.count("settle")) {
        ("settle", 1) => reply(Status::Unknown),
        ("charge", _) => with_record(Status::Idle, record(State::Held)),
        _ => with_record(Status::Done, settled(70)),
    });
    done(engine.settle(&settle(Price::Units(70))).await.unwrap());
    assert_eq!((fake.seen("settle").len(), fake.seen("charge").len()), (2, 1));
}

#[tokio::test]
async fn the_outcome_decides_when_nobody_says_the_price() {
    let (fake, engine) = Fake::new(|_, _| with_record(Status::Done, settled(0)));
    let cases = [
        (None, Cost::Held, None),
        (Some(Outcome::ClientAbort), Cost::Prompt, None),
        (Some(Outcome::UpstreamError), Cost::Nothing, Some(0)),
    ];
    for (outcome, cost, tokens) in cases {
        done(engine.settle(&Settle { outcome, ..settle(Price::Unsaid) }).await.unwrap());
        let seen = fake.seen("settle").pop().unwrap();
        assert_eq!((seen.cost, seen.tokens), (Some(cost), tokens), "{outcome:?}");
    }
    done(engine.settle(&settle(Price::Units(1_000_001))).await.unwrap());
    let seen = fake.seen("settle").pop().unwrap();
    assert_eq!((seen.cost, seen.clamped), (Some(Cost::Units(1_000_000)), true));
    let refusal = refused(engine.settle(&Settle { last: false, ..settle(Price::Unsaid) }).await.unwrap());
    assert_eq!(refusal.field, Some("amount"));
}

#[tokio::test]
async fn a_settle_with_other_content_names_the_field() {
    let (_, engine) = Fake::new(|world, seen| {
        let first = Record { fingerprint: world.of("settle")[0].fingerprint, ..settled(70) };
        let same = first.fingerprint == seen.fingerprint;
        with_record(if same { Status::Replayed } else { Status::Conflict }, first)
    });
    assert!(done(engine.settle(&settle(Price::Units(70))).await.unwrap()).1);
    let longer = LogFields { duration_ms: Some(9), ..LogFields::default() };
    done(engine.settle(&Settle { log: longer, ..settle(Price::Units(70)) }).await.unwrap());
    let outcome = Some(Outcome::Ok);
    for (ask, field) in [
        (settle(Price::Units(71)), "amount"),
        (Settle { outcome, ..settle(Price::Units(70)) }, "outcome"),
        (Settle { last: false, ..settle(Price::Units(70)) }, "final"),
    ] {
        let refusal = refused(engine.settle(&ask).await.unwrap());
        assert_eq!((refusal.code, refusal.field), (Code::Conflict, Some(field)));
    }
}

#[tokio::test]
async fn a_settle_that_redis_forgot_is_answered_from_the_ledger() {
    let (fake, engine) = Fake::new(|world, seen| match (seen.verb, world.restored.clone()) {
        ("settle", None) => reply(Status::Unknown),
        ("settle", Some(first)) if first.state == State::Expired => with_record(Status::Done, first),
        ("settle", Some(first)) if first.fingerprint == seen.fingerprint => with_record(Status::Replayed, first),
        ("settle", Some(first)) if first.flags.has(Flags::BY_CHARGE) => with_record(Status::AlreadySettled, first),
        ("settle", Some(first)) => with_record(Status::Conflict, first),
        _ => with_record(Status::Done, settled(70)),
    });
    let ask = settle(Price::Units(70));
    // Nobody knows it: charged, as unreserved.
    assert!(!done(engine.settle(&ask).await.unwrap()).1);
    // The ledger knows it.
    let fingerprint = fake.seen("charge")[0].fingerprint;
    fake.set(|world| world.ledger_record = Some(Record { fingerprint, ..settled(70) }));
    let (answer, replayed) = done(engine.settle(&ask).await.unwrap());
    assert_eq!((answer.charged, replayed), (Some(70), true));
    let forget = |ledger: Record| fake.set(|world| (world.restored, world.ledger_record) = (None, Some(ledger)));
    forget(Record { fingerprint, ..settled(70) });
    let refusal = refused(engine.settle(&settle(Price::Units(71))).await.unwrap());
    assert_eq!((refusal.code, refusal.field), (Code::Conflict, Some("amount")));
    forget(Record { flags: Flags(Flags::BY_CHARGE), ..settled(70) });
    assert_eq!(refused(engine.settle(&ask).await.unwrap()).code, Code::AlreadySettled);
    // A hold that was charged in part comes back without the hold.
    forget(Record { charged: 30, ..record(State::Held) });
    done(engine.settle(&ask).await.unwrap());
    assert_eq!(fake.seen("charge").len(), 1, "only what nobody knew");
    // Without a database the work is charged all the same.
    forget(Record { fingerprint, ..settled(70) });
    fake.set(|world| world.ledger_down = true);
    assert!(!done(engine.settle(&ask).await.unwrap()).1);
    assert_eq!((fake.seen("charge").len(), fake.seen("restore").len()), (2, 4));
    assert_eq!(fake.seen("ledger_record").len(), 6, "asked once per settle");
}

fn charge(price: Price) -> Charge {
    Charge { settle: settle(price), estimate: None, tokens: Some(9), client_ip: None, force: true }
}

#[tokio::test]
async fn a_charge_asks_once_and_tells_conflicts_apart() {
    let by_charge = Record { flags: Flags(Flags::BY_CHARGE), held: 0, ..settled(70) };
    let (fake, engine) = Fake::new(move |world, seen| {
        let first = Record { fingerprint: world.of("charge")[0].fingerprint, ..by_charge.clone() };
        match seen.amount {
            70 => with_record(Status::Done, first),
            80 => with_record(Status::Conflict, first),
            _ => with_record(Status::Conflict, record(State::Held)),
        }
    });
    assert_eq!(done(engine.charge(&charge(Price::Units(70))).await.unwrap()).0.charged, Some(70));
    let seen = &fake.seen("charge")[0];
    assert_eq!((seen.tokens, seen.force, seen.unreserved), (Some(9), true, false));
    assert_eq!(refused(engine.charge(&charge(Price::Units(80))).await.unwrap()).field, Some("amount"));
    assert_eq!(refused(engine.charge(&charge(Price::Units(90))).await.unwrap()).field, Some("id"));
    assert_eq!(refused(engine.charge(&charge(Price::Unsaid)).await.unwrap()).field, Some("amount"));
    assert_eq!(refused(engine.charge(&charge(Price::Units(1_000_001))).await.unwrap()).code, Code::InvalidRequest);
}
