//! Platform quotas as the engine reads them, and provisioning as far as the engine sees to it.

use std::sync::Arc;

use super::{
    account, done,
    fake::{Fake, reply},
    key, policy, refused,
};
use crate::{
    engine::{
        ports::{Grant, KeyPatch, Provisioned, Status, Transferred},
        provision::{FirstKey, Provision},
    },
    quota::{
        clock::{Millis, local_now},
        counter::{AccountCounters, Head, WindowCounter},
        defaults::Source,
        id::{AccountId, Actor, OpId, Platform},
        limit::{GroupField, Period},
        platform::{Caps, Month, PlatformQuota, with_quotas},
        policy::Policy,
        verdict::Code,
        window::{Zone, calendar},
    },
};

fn quota(platform: &str) -> PlatformQuota {
    let caps = Caps { daily: Some(10), weekly: None, monthly: Some(0) };
    PlatformQuota { platform: Platform::new(platform).unwrap(), caps }
}

/// `account()` in that zone with a quota for openai.
fn quoted(zone: &str, month: Month) -> Policy {
    let limits = with_quotas(&[], &[quota("openai")], month).unwrap();
    let limits = limits.into_iter().map(Arc::new).collect();
    Policy { zone: Zone::parse(zone).unwrap(), limits, ..policy(1) }
}

/// Counters of the quota's three windows, each begun so many seconds before now.
fn begun_before(policy: &Policy, ages_s: [i64; 3], now: Millis) -> AccountCounters {
    let starts = ages_s.map(|age_s| u32::try_from(now.seconds() - age_s).unwrap());
    let counters = policy.limits.iter().zip(starts);
    let counters = counters.map(|(limit, start_s)| WindowCounter { code: limit.code(), start_s, used: 7, held: 3 });
    let groups = vec![(GroupField::new("openai", "*", None), counters.collect())];
    AccountCounters { head: Head { version: 1, ..Head::default() }, keys: Vec::new(), groups }
}

#[tokio::test]
async fn a_window_that_is_over_reads_zero_and_each_for_itself() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    let rules = quoted("Europe/Berlin", Month::Rolling);
    let now = local_now();
    let day = calendar(Period::Day, &rules.zone, now).unwrap();
    let week = calendar(Period::Week, &rules.zone, now).unwrap();
    let age_s = |start_s: u32| now.seconds() - i64::from(start_s);
    // Yesterday's day; this week; a rolling month begun 31 days ago.
    let ages = [age_s(day.start_s) + 1, age_s(week.start_s), 31 * 86_400];
    fake.set(|world| {
        world.counters = Some(begun_before(&rules, ages, now));
        world.policies.insert(account(), rules.clone());
    });
    let (quotas, _) = done(engine.quotas(&account()).await.unwrap());
    let [read] = &quotas[..] else { panic!("{quotas:?}") };
    assert_eq!([read.daily.used, read.weekly.used, read.monthly.used], [0, 7, 0]);
    assert_eq!([read.daily.cap, read.weekly.cap, read.monthly.cap], [Some(10), None, Some(0)]);
    assert_eq!(read.weekly.resets_at, Some(Millis(i64::from(week.end_s) * 1_000)));
    let month_end = now.seconds() - 31 * 86_400 + 60 * 86_400;
    assert_eq!(read.monthly.resets_at, Some(Millis(month_end * 1_000)), "the second period of 30 days");
    fake.set(|world| world.counters = Some(AccountCounters { groups: Vec::new(), ..begun_before(&rules, ages, now) }));
    let (quotas, _) = done(engine.quotas(&account()).await.unwrap());
    assert_eq!((quotas[0].daily.used, quotas[0].monthly.resets_at), (0, None), "not begun");
}

/// The windows of a quota are those of the limits: they end at the zone's own midnight, also on days of 23 and 25 hours.
#[test]
fn a_quota_s_day_is_the_zone_s_day_when_clocks_are_set() {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let limits = with_quotas(&[], &[quota("openai")], Month::Calendar).unwrap();
    let at = |text: &str| Millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    for (noon, hours, begins) in [
        ("2026-03-29T10:00:00Z", 23, "2026-03-28T23:00:00Z"),
        ("2026-10-25T11:00:00Z", 25, "2026-10-24T22:00:00Z"),
        ("2026-07-01T10:00:00Z", 24, "2026-06-30T22:00:00Z"),
    ] {
        let span = calendar(limits[0].period, &zone, at(noon)).unwrap();
        assert_eq!((span.end_s - span.start_s, i64::from(span.start_s)), (hours * 3_600, at(begins).seconds()));
    }
    // Midnight itself is the new day's, the millisecond before it the old one's.
    let midnight = at("2026-06-30T22:00:00Z");
    let starts = [midnight.0 - 1, midnight.0].map(|ms| calendar(limits[0].period, &zone, Millis(ms)).unwrap().start_s);
    assert_eq!(starts.map(i64::from), [midnight.seconds() - 86_400, midnight.seconds()]);
}

#[tokio::test]
async fn only_platforms_of_the_list_get_a_quota_and_those_that_have_one_keep_it() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    let unlisted = with_quotas(&[], &[quota("retired")], Month::Calendar).unwrap();
    let limits = unlisted.into_iter().map(Arc::new).collect();
    fake.set(|world| drop(world.policies.insert(account(), Policy { limits, ..policy(1) })));
    let by = Actor::admin();
    let put = async |names: &[&str]| {
        let quotas: Vec<PlatformQuota> = names.iter().map(|name| quota(name)).collect();
        engine.put_quotas(&by, &account(), &quotas).await.unwrap()
    };
    assert_eq!(refused(put(&["openai", "facebook"]).await).field, Some("quotas"));
    assert_eq!(refused(put(&["openai", "openai"]).await).field, Some("quotas"));
    done(put(&["openai", "retired"]).await);
    done(put(&["openai"]).await);
    assert_eq!(refused(put(&["retired"]).await).field, Some("quotas"), "gone is gone");
    assert_eq!(fake.seen("raise").pop().unwrap().version, 3, "in force on every sidecar");
}

fn provision() -> Provision {
    let first = FirstKey { id: key("k"), patch: KeyPatch::default(), content: "{}".into() };
    Provision {
        account: account(),
        source: Source::Email,
        group: None,
        inviter: None,
        key: Some(first),
        name: None,
        contact: None,
        zone: None,
    }
}

#[tokio::test]
async fn a_repeated_provisioning_ends_what_the_first_began_and_shows_no_secret() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    let grant = Grant {
        source: Source::Email,
        inviter: None,
        key: Some(key("k")),
        initial_balance: 5,
        bonus: 0,
        at: Millis(1),
    };
    let by = Actor::admin();
    for first in [true, false] {
        fake.set(|world| {
            world.provisioned = Some(Provisioned::Done { policy: Box::new(policy(1)), grant: grant.clone(), first });
            world.counters = Some(AccountCounters::default());
        });
        let before = fake.seen("posted").len();
        let (made, replayed) = done(engine.provision(&by, &provision()).await.unwrap());
        assert_eq!((made.secret.is_some(), replayed, made.grant.clone()), (first, !first, grant.clone()));
        assert!(fake.seen("posted").len() > before, "what is due of the initial balance is looked up each time");
    }
    fake.set(|world| world.provisioned = Some(Provisioned::Conflict("group")));
    let refusal = refused(engine.provision(&by, &provision()).await.unwrap());
    assert_eq!((refusal.code, refusal.field), (Code::Conflict, Some("group")));
    fake.set(|world| world.provisioned = Some(Provisioned::NoInviter));
    let refusal = refused(engine.provision(&by, &provision()).await.unwrap());
    assert_eq!((refusal.code, refusal.field), (Code::AccountNotFound, Some("inviter")));
    let asked = fake.seen("provision").len();
    let own = Provision { inviter: Some(account()), ..provision() };
    assert_eq!(refused(engine.provision(&by, &own).await.unwrap()).field, Some("inviter"));
    assert_eq!(fake.seen("provision").len(), asked, "nobody was asked");
}

#[tokio::test]
async fn what_the_store_refuses_to_move_is_refused_by_its_reason() {
    let (fake, engine) = Fake::new(|_, _| reply(Status::Done));
    let (op_id, nobody) = (OpId::new("t").unwrap(), AccountId::new("nobody").unwrap());
    for (ended, code, field) in [
        (Transferred::Conflict, Code::Conflict, Some("amount")),
        (Transferred::TooLittle, Code::InvalidRequest, Some("amount")),
        (Transferred::Lacking { pending: 3 }, Code::InsufficientBalance, None),
        (Transferred::NoAccount, Code::AccountNotFound, None),
    ] {
        fake.set(|world| world.transferred = Some(ended));
        let refusal = refused(engine.transfer(&Actor::admin(), &nobody, &op_id, 9).await.unwrap());
        assert_eq!((refusal.code, refusal.field), (code, field));
    }
    assert!(fake.seen("adjust").is_empty(), "nothing was credited");
}
