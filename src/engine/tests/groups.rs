//! Price groups: which one a call is made in, what it costs there, and retries in another one.

use super::{
    account, by, done,
    fake::{Fake, Seen, record, reply, with_record},
    key, policy, refused, reservation, reserve, settle, with_key,
};
use crate::{
    engine::{
        Engine, Payer,
        charge::Charge,
        extend::{Estimate, Extend},
        ports::{Cost, Status},
        reserve::{Ask, Reserve},
        settle::{Price, Settle},
    },
    quota::{
        group::GroupTables,
        id::Model,
        policy::KeyPolicy,
        reservation::{Record, State},
        tariff::{Groups, PriceTag},
        usage::Usage,
        verdict::Code,
    },
};

const PRICES: &[u8] = br#"{"format":1,"units_per_usd":100000000,"models":{"m":{"input":1000000,"output":0}},
    "group_ratio":{"vip":"2","cheap":"0.5","free":"0"},"user_group_ratio":{"default":{"vip":"3"}}}"#;
const ESTIMATE: Ask = Ask::Estimate { prompt_tokens: 1_000, max_tokens: Some(0) };

async fn with_tables(engine: &Engine) {
    done(engine.tariff_import(&by(), PRICES, "test").await.unwrap());
    let row = ["default", "vip", "cheap", "free"].map(|group| (group.to_owned(), String::new()));
    let usable = [("*".to_owned(), row.into_iter().collect())].into_iter().collect();
    engine.set_groups(GroupTables {
        usable: GroupTables::read_usable(usable).unwrap(),
        auto: vec!["cheap".into(), "vip".into()],
        models: [("cheap".into(), vec!["other".into()])].into_iter().collect(),
    });
}

fn tag(using: &str) -> Vec<u8> {
    PriceTag::new(1, Groups { user: "default", using }).pack()
}

fn bound(id: &str, group: &str, cross_group_retry: bool) -> crate::quota::policy::Policy {
    with_key(policy(1), id, KeyPolicy { group: Some(group.into()), cross_group_retry, ..KeyPolicy::default() })
}

fn last(fake: &Fake, verb: &str) -> Seen {
    fake.seen(verb).pop().unwrap()
}

#[tokio::test]
async fn a_reserve_costs_what_its_group_costs_its_account() {
    let (fake, engine) = Fake::new(|_, seen| {
        with_record(Status::Done, Record { price_tag: seen.price_tag.clone().unwrap(), ..record(State::Held) })
    });
    with_tables(&engine).await;
    fake.set(|world| {
        world.policies.insert(
            account(),
            with_key(
                bound("auto", "auto", false),
                "vip",
                KeyPolicy { group: Some("vip".into()), ..KeyPolicy::default() },
            ),
        );
    });
    // A ratio that is agreed for the two groups goes before that of the group that is used.
    for (of_key, named, using, amount, told) in [
        (None, None, "default", 1_000, None),
        (None, Some("vip"), "vip", 3_000, Some("vip")),
        (None, Some("default"), "default", 1_000, Some("default")),
        (Some("vip"), None, "vip", 3_000, Some("vip")),
        (None, Some("auto"), "vip", 3_000, Some("vip")),
        (Some("auto"), None, "vip", 3_000, Some("vip")),
    ] {
        let ask = Reserve { key: of_key.map(key), group: named.map(Into::into), ..reserve(ESTIMATE) };
        let (answer, _) = done(engine.reserve(&ask).await.unwrap());
        let seen = last(&fake, "reserve");
        assert_eq!((seen.amount, seen.refusal), (amount, None), "{of_key:?} {named:?}");
        assert_eq!(seen.price_tag, Some(tag(using)), "{of_key:?} {named:?}");
        assert_eq!(answer.group.as_deref(), told, "{of_key:?} {named:?}");
    }
    // The answer to a replay tells the group of the first call.
    let nameless = Reserve { model: None, group: Some("vip".into()), ..reserve(Ask::Units(5)) };
    done(engine.reserve(&nameless).await.unwrap());
    assert_eq!(last(&fake, "reserve").price_tag, Some(tag("vip")), "also where no model is named");
    done(engine.reserve(&Reserve { group: None, ..nameless }).await.unwrap());
    assert_eq!(last(&fake, "reserve").price_tag, Some(vec![]), "nothing to remember");
}

#[tokio::test]
async fn a_group_that_may_not_be_used_is_refused_in_its_turn() {
    let (fake, engine) = Fake::new(|_, seen| match seen.refusal {
        Some(_) => reply(Status::Denied),
        None => with_record(Status::Done, record(State::Held)),
    });
    with_tables(&engine).await;
    fake.set(|world| {
        world.policies.insert(account(), bound("k", "vip", true));
    });
    for (of_key, named) in [(None, "gold"), (Some("k"), "default"), (Some("k"), "cheap"), (None, "cheap")] {
        let ask = Reserve { key: of_key.map(key), group: Some(named.into()), ..reserve(Ask::Units(1)) };
        let refusal = refused(engine.reserve(&ask).await.unwrap());
        assert_eq!(refusal.code, Code::GroupNotAllowed, "{of_key:?} {named}");
        let charge = Settle { key: of_key.map(key), group: Some(named.into()), ..settle(Price::Units(1)) };
        let charge = Charge { settle: charge, estimate: None, tokens: None, client_ip: None, force: true };
        assert_eq!(refused(engine.charge(&charge).await.unwrap()).code, Code::GroupNotAllowed, "{of_key:?} {named}");
    }
    let unknown = Reserve { key: Some(key("x")), group: Some("gold".into()), ..reserve(Ask::Units(1)) };
    assert_eq!(refused(engine.reserve(&unknown).await.unwrap()).code, Code::KeyNotFound, "in the order of the codes");
    // Tables that change are in force at the next call.
    engine.set_groups(GroupTables::default());
    let ask = Reserve { group: Some("cheap".into()), ..reserve(Ask::Units(1)) };
    assert_eq!(refused(engine.reserve(&ask).await.unwrap()).code, Code::GroupNotAllowed);
    done(engine.reserve(&Reserve { key: Some(key("k")), ..reserve(Ask::Units(1)) }).await.unwrap());
    assert_eq!(last(&fake, "reserve").refusal, None, "a key's group stands where no table says otherwise");
}

#[tokio::test]
async fn the_same_id_in_another_group_is_a_conflict() {
    let (_, engine) = Fake::new(|world, seen| {
        let first = world.of(seen.verb)[0].fingerprint;
        let kept = Record { fingerprint: first, ..record(State::Held) };
        with_record(if first.difference(&seen.fingerprint).is_some() { Status::Conflict } else { Status::Done }, kept)
    });
    with_tables(&engine).await;
    let ask = Reserve { group: Some("vip".into()), ..reserve(Ask::Units(1)) };
    done(engine.reserve(&ask).await.unwrap());
    done(engine.reserve(&ask).await.unwrap());
    for group in [None, Some("default".into())] {
        let refusal = refused(engine.reserve(&Reserve { group, ..ask.clone() }).await.unwrap());
        assert_eq!((refusal.code, refusal.field), (Code::Conflict, Some("group")));
    }
}

fn retry(group: &str) -> Extend {
    Extend {
        payer: Payer::Account(account()),
        id: reservation("r-1"),
        amount: None,
        ttl_ms: None,
        group: Some(group.into()),
        model: Some(Model::new("m").unwrap()),
        estimate: None,
    }
}

fn held(using: &str) -> Record {
    Record { held: 1_001, prompt_cost: 501, price_tag: tag(using), ..record(State::Held) }
}

#[tokio::test]
async fn a_retry_holds_what_it_costs_in_its_group() {
    let (fake, engine) =
        Fake::new(|_, seen| with_record(Status::Done, Record { held: seen.amount, ..record(State::Held) }));
    with_tables(&engine).await;
    let half = Estimate { prompt_tokens: 700, max_tokens: Some(0) };
    for (from, ask, amount, prompt_cost, to) in [
        ("default", retry("vip"), 3_003, 1_503, Some("vip")),
        ("vip", retry("default"), 1_001, 167, Some("default")),
        ("default", retry("default"), -1, 501, None),
        ("vip", Extend { amount: Some(5_000), ..retry("default") }, 5_000, 167, Some("default")),
        ("default", Extend { estimate: Some(half), ..retry("vip") }, 2_100, 2_100, Some("vip")),
        ("vip", Extend { estimate: Some(half), ..retry("vip") }, 2_100, 2_100, Some("vip")),
        // What the prompt costs nobody knows: an abort must not be free.
        ("free", Extend { amount: Some(2_000), ..retry("vip") }, 2_000, 2_000, Some("vip")),
        ("free", Extend { estimate: Some(half), ..retry("default") }, 1_001, 700, Some("default")),
    ] {
        fake.set(|world| world.record = Some(held(from)));
        let (answer, _) = done(engine.extend(&ask).await.unwrap());
        let seen = last(&fake, "extend");
        assert_eq!((seen.amount, seen.price_tag), (amount, to.map(tag)), "{from} {ask:?}");
        if to.is_some() {
            assert_eq!(seen.prompt_cost, prompt_cost, "{from} {ask:?}");
            assert_eq!(seen.tokens, ask.estimate.map(|_| 700), "{from} {ask:?}");
        }
        assert_eq!(answer.group, ask.group);
    }
    // A reservation without prices is in its payer's own group, and gets today's.
    fake.set(|world| world.record = Some(Record { price_tag: vec![], ..held("default") }));
    done(engine.extend(&retry("vip")).await.unwrap());
    assert_eq!((last(&fake, "extend").amount, last(&fake, "extend").price_tag), (3_003, Some(tag("vip"))));
}

#[tokio::test]
async fn a_retry_is_refused_like_a_reserve() {
    let (fake, engine) = Fake::new(|_, seen| match seen.force {
        true => with_record(Status::Denied, held("default")),
        false => with_record(Status::Done, held("default")),
    });
    with_tables(&engine).await;
    fake.set(|world| {
        world.record = Some(held("default"));
        world.policies.insert(account(), with_key(bound("free", "vip", true), "tied", KeyPolicy::default()));
    });
    let code = async |ask: &Extend| refused(engine.extend(ask).await.unwrap()).code;
    assert_eq!(code(&retry("gold")).await, Code::GroupNotAllowed);
    assert_eq!(code(&retry("cheap")).await, Code::GroupNotAllowed, "it does not serve m");
    let estimate = Some(Estimate { prompt_tokens: 1, max_tokens: None });
    let unpriced = Extend { model: Some(Model::new("other").unwrap()), estimate, ..retry("cheap") };
    assert_eq!(code(&unpriced).await, Code::ModelNotPriced);
    let of_key = |id: &str| fake.set(|world| world.record.as_mut().unwrap().key = Some(key(id)));
    of_key("tied");
    assert_eq!(code(&retry("vip")).await, Code::GroupNotAllowed);
    done(engine.extend(&retry("default")).await.unwrap());
    of_key("free");
    done(engine.extend(&retry("vip")).await.unwrap());
    done(engine.extend(&retry("free")).await.unwrap());
    of_key("gone");
    assert_eq!(code(&retry("vip")).await, Code::KeyNotFound);
    let field = async |ask: &Extend| refused(engine.extend(ask).await.unwrap()).field;
    fake.set(|world| world.record = Some(held("free")));
    assert_eq!(field(&retry("vip")).await, Some("amount"), "nothing to tell the hold from");
    fake.set(|world| world.record = Some(Record { held: 400_000, ..held("default") }));
    assert_eq!(field(&retry("vip")).await, Some("group"), "above max_amount");
    for (ask, named) in [
        (retry("auto"), "group"),
        (Extend { estimate, group: None, ..retry("vip") }, "amount"),
        (Extend { estimate, group: None, ttl_ms: Some(1_000), ..retry("vip") }, "estimate"),
        (Extend { estimate, amount: Some(1), ..retry("vip") }, "estimate"),
        (Extend { estimate, model: None, ..retry("vip") }, "model"),
    ] {
        assert_eq!(field(&ask).await, Some(named), "{ask:?}");
    }
}

/// Work may go on with another model: one that its key may not call, or that is disabled, is refused as by a reserve.
#[tokio::test]
async fn the_model_of_a_retry_is_the_keys_to_call() {
    let (fake, engine) = Fake::new(|_, seen| match seen.force {
        true => with_record(Status::Denied, held("default")),
        false => with_record(Status::Done, held("default")),
    });
    with_tables(&engine).await;
    let model = |name: &str| Model::new(name).unwrap();
    let off = crate::quota::limit::Limit {
        platform: "*".into(),
        model: "off".into(),
        metric: crate::quota::limit::Metric::Cost,
        period: crate::quota::limit::Period::Day,
        cap: Some(0),
    };
    let rules = KeyPolicy {
        models: vec![model("m"), model("off")],
        cross_group_retry: true,
        // An address was looked at when the reservation was made.
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..KeyPolicy::default()
    };
    fake.set(|world| {
        world.record = Some(Record { key: Some(key("k")), ..held("default") });
        let policy = crate::quota::policy::Policy { limits: vec![std::sync::Arc::new(off)], ..policy(1) };
        world.policies.insert(account(), with_key(policy, "k", rules));
    });
    let named = |name: &str| Extend { model: Some(model(name)), ..retry("vip") };
    let later = |name: &str| Extend { group: None, ttl_ms: Some(1_000), ..named(name) };
    let code = async |ask: &Extend| refused(engine.extend(ask).await.unwrap()).code;
    assert_eq!(code(&named("other")).await, Code::ModelNotAllowed);
    assert_eq!(code(&later("other")).await, Code::ModelNotAllowed, "whatever is asked");
    assert_eq!(code(&named("off")).await, Code::PlatformDisabled);
    done(engine.extend(&named("m")).await.unwrap());
    done(engine.extend(&Extend { model: None, ..later("m") }).await.unwrap());
}

/// The record is read before the script is called: what another extend does in between is seen.
#[tokio::test]
async fn a_retry_beside_another_extend_is_worked_out_again() {
    let (fake, engine) = Fake::new(|world, seen| match world.count("extend") {
        1 => with_record(Status::Reprice, held("vip")),
        2 => with_record(Status::Decreasing, held("default")),
        _ => with_record(Status::Done, Record { held: seen.amount, ..held("vip") }),
    });
    with_tables(&engine).await;
    fake.set(|world| world.record = Some(held("default")));
    assert_eq!(done(engine.extend(&retry("vip")).await.unwrap()).0.held, 3_003);
    assert_eq!(fake.seen("extend").len(), 3);
    let said = Extend { amount: Some(1), ..retry("vip") };
    let (fake, engine) = Fake::new(|_, _| with_record(Status::Decreasing, held("default")));
    with_tables(&engine).await;
    fake.set(|world| world.record = Some(held("default")));
    assert_eq!(refused(engine.extend(&said).await.unwrap()).field, Some("amount"), "a said amount is the caller's");
}

#[tokio::test]
async fn what_nobody_reserved_is_charged_in_the_group_it_names() {
    let (fake, engine) = Fake::new(|_, seen| match seen.verb {
        "settle" => reply(Status::Unknown),
        _ => with_record(Status::Done, Record { charged: seen.amount, ..record(State::Settled) }),
    });
    with_tables(&engine).await;
    let usage = |input| Price::Usage(Usage { input, ..Usage::default() });
    for (named, amount, using) in [(None, 100, "default"), (Some("vip"), 300, "vip"), (Some("gold"), 100, "gold")] {
        let ask = Settle { group: named.map(Into::into), ..settle(usage(100)) };
        done(engine.settle(&ask).await.unwrap());
        let seen = last(&fake, "charge");
        assert_eq!((seen.amount, seen.price_tag), (amount, Some(tag(using))), "{named:?}");
        assert!(last(&fake, "settle").log.contains(&format!(r#""group":"{using}""#)), "{named:?}");
    }
}

/// After a retry the record's tag decides, whatever the settle is first priced by.
#[tokio::test]
async fn a_settle_is_priced_in_the_group_of_the_reservation() {
    let (_, engine) = Fake::new(|_, seen| match (seen.price_tag.clone(), seen.cost) {
        (Some(own), Some(Cost::Units(charged))) if own == tag("vip") => {
            with_record(Status::Done, Record { charged, ..record(State::Settled) })
        }
        _ => with_record(Status::Reprice, Record { price_tag: tag("vip"), ..record(State::Held) }),
    });
    with_tables(&engine).await;
    let price = Price::Usage(Usage { input: 100, ..Usage::default() });
    assert_eq!(done(engine.settle(&settle(price)).await.unwrap()).0.charged, Some(300));
}
