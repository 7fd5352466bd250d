//! Policy denials in their order, the counters that come with a call, and how long an answer holds.

use std::collections::HashMap;

use super::*;
use crate::quota::{
    id::AccountId,
    limit::{CounterCode, Metric},
};

/// 2026-11-20T10:00:00Z, a Friday.
const NOW: Millis = Millis(1_795_168_800_000);
const DAY_START_S: u32 = 1_795_132_800;

fn limit(platform: &str, model: &str, metric: Metric, period: Period, cap: Option<i64>) -> Arc<Limit> {
    Arc::new(Limit { platform: platform.into(), model: model.into(), metric, period, cap })
}

fn key_id() -> KeyId {
    KeyId::new("k1").unwrap()
}

fn model(name: &str) -> Model {
    Model::new(name).unwrap()
}

fn policy(limits: Vec<Arc<Limit>>, key: KeyPolicy) -> Policy {
    Policy {
        group: "standard".into(),
        credit_limit: 7,
        limits,
        keys: HashMap::from([(key_id(), key)]),
        ..Policy::blank(AccountId::new("acme").unwrap(), 1, Zone::utc())
    }
}

fn with_key(key: &KeyId) -> Ask<'_> {
    Ask { key: Some(key), platform: None, model: None, client_ip: None, now: NOW }
}

fn code(policy: &Policy, ask: &Ask<'_>) -> Option<Code> {
    policy.admit(ask).refusal.map(|refusal| refusal.code)
}

/// Everything is wrong at first; each step repairs what was answered, and the next check answers.
#[test]
fn the_checks_run_in_the_order_of_the_codes() {
    let (known, unknown, gpt) = (key_id(), KeyId::new("k2").unwrap(), model("gpt-4o"));
    let mut policy = policy(
        vec![limit("*", "*", Metric::Cost, Period::Day, Some(0))],
        KeyPolicy {
            status: KeyStatus::Disabled,
            expires_at: Some(NOW),
            models: vec![model("other")],
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            ..KeyPolicy::default()
        },
    );
    policy.status = AccountStatus::Disabled;
    let mut ask = Ask { model: Some(&gpt), ..with_key(&unknown) };
    let mut seen = vec![code(&policy, &ask)];
    policy.status = AccountStatus::Restricted;
    seen.push(code(&policy, &ask));
    policy.status = AccountStatus::Enabled;
    seen.push(code(&policy, &ask));
    ask.key = Some(&known);
    seen.push(code(&policy, &ask));
    policy.keys.get_mut(&known).unwrap().status = KeyStatus::Enabled;
    seen.push(code(&policy, &ask));
    ask.now = Millis(NOW.0 - 1);
    seen.push(code(&policy, &ask));
    ask.client_ip = Some("10.1.2.3".parse().unwrap());
    seen.push(code(&policy, &ask));
    policy.keys.get_mut(&known).unwrap().models.push(gpt.clone());
    seen.push(code(&policy, &ask));
    policy.limits = vec![limit("*", "*", Metric::Cost, Period::Day, None)];
    seen.push(code(&policy, &ask));
    let order = [
        Code::AccountDisabled,
        Code::AccountRestricted,
        Code::KeyNotFound,
        Code::KeyDisabled,
        Code::KeyExpired,
        Code::IpNotAllowed,
        Code::ModelNotAllowed,
        Code::PlatformDisabled,
    ];
    assert!(order.is_sorted());
    assert_eq!(seen, order.into_iter().map(Some).chain([None]).collect::<Vec<_>>());
}

#[test]
fn networks() {
    let networks =
        ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::ffff:198.51.100.0/120"].map(|text| text.parse().unwrap());
    let policy = policy(vec![], KeyPolicy { networks: networks.to_vec(), ..KeyPolicy::default() });
    let key = key_id();
    for (ip, allowed) in [
        (Some("10.255.0.1"), true),
        (Some("192.0.2.7"), true),
        (Some("192.0.2.8"), false),
        (Some("::ffff:10.0.0.1"), true),
        (Some("::ffff:11.0.0.1"), false),
        (Some("2001:db8:1::1"), true),
        (Some("2001:db9::1"), false),
        (Some("::10.0.0.1"), false),
        (Some("198.51.100.9"), true),
        (Some("::ffff:198.51.100.9"), true),
        (None, false),
    ] {
        let ask = Ask { client_ip: ip.map(|ip| ip.parse().unwrap()), ..with_key(&key) };
        assert_eq!(code(&policy, &ask), (!allowed).then_some(Code::IpNotAllowed), "{ip:?}");
    }
    let ask = Ask { client_ip: Some("::ffff:10.0.0.1".parse().unwrap()), ..with_key(&key) };
    let sixes =
        super::tests::policy(vec![], KeyPolicy { networks: vec!["::/0".parse().unwrap()], ..Default::default() });
    assert_eq!(code(&sixes, &ask), Some(Code::IpNotAllowed), "all of IPv6 is none of IPv4");
    assert!(policy.heeds_ip(Some(&key)));
    assert!(!policy.heeds_ip(None));
}

#[test]
fn a_key_with_models_needs_one_of_them() {
    let policy = policy(vec![], KeyPolicy { models: vec![model("gpt-4o")], ..KeyPolicy::default() });
    let (key, good, other) = (key_id(), model("gpt-4o"), model("GPT-4o"));
    assert_eq!(code(&policy, &Ask { model: Some(&good), ..with_key(&key) }), None);
    assert_eq!(code(&policy, &Ask { model: Some(&other), ..with_key(&key) }), Some(Code::ModelNotAllowed));
    assert_eq!(code(&policy, &with_key(&key)), Some(Code::ModelNotAllowed));
    assert_eq!(code(&policy, &Ask { key: None, ..with_key(&key) }), None);
}

#[test]
fn a_cap_of_0_refuses_only_where_it_applies() {
    let account_limits = vec![
        limit("gemini", "*", Metric::Requests, Period::Minute, Some(0)),
        limit("openai", "*", Metric::Cost, Period::Day, Some(100)),
    ];
    let key_limits = vec![limit("*", "o1", Metric::Cost, Period::Rolling(60), Some(0))];
    let policy = policy(account_limits, KeyPolicy { limits: key_limits, ..KeyPolicy::default() });
    let (key, openai, gemini, o1) =
        (key_id(), Platform::new("openai").unwrap(), Platform::new("gemini").unwrap(), model("o1"));
    assert_eq!(code(&policy, &Ask { platform: Some(&openai), ..with_key(&key) }), None);
    assert_eq!(code(&policy, &with_key(&key)), None, "an unnamed platform falls under `*` alone");
    let both = policy.admit(&Ask { platform: Some(&gemini), model: Some(&o1), ..with_key(&key) }).refusal.unwrap();
    assert_eq!(both.code, Code::PlatformDisabled);
    assert_eq!(both.detail, "The platform gemini is disabled for this account: the requests limit has a cap of 0.");
    assert_eq!(both.violated.len(), 2);
    let state = &both.violated[0];
    assert_eq!((&*state.limit.platform, state.key.as_ref(), state.used, state.held), ("gemini", None, 0, 0));
    assert_eq!(state.resets_at, Some(Millis(NOW.0 + 60_000)));
    assert_eq!((both.violated[1].key.as_ref(), both.violated[1].resets_at), (Some(&key), None));
    let keyless = policy.admit(&Ask { key: None, model: Some(&o1), ..with_key(&key) });
    assert_eq!(keyless.refusal, None, "a key's limit is not the account's");
}

fn shape(groups: &[Group]) -> Vec<(String, Vec<CounterCode>)> {
    let codes = |group: &Group| group.gauges.iter().map(|gauge| gauge.limit.code()).collect();
    groups.iter().map(|group| (group.field.as_str().replace('\u{1f}', "/"), codes(group))).collect()
}

/// The order in which limits were stored must not show: scripts and records go by position.
#[test]
fn groups_come_in_a_stable_order_the_accounts_first() {
    let mut limits = vec![
        limit("openai", "*", Metric::Cost, Period::Day, Some(5)),
        limit("openai", "gpt-4o", Metric::Tokens, Period::Hour, Some(5)),
        limit("*", "*", Metric::Concurrency, Period::None, Some(3)),
        limit("openai", "*", Metric::Cost, Period::Minute, None),
        limit("gemini", "*", Metric::Cost, Period::Day, Some(5)),
    ];
    let key = KeyPolicy {
        limits: vec![limit("*", "*", Metric::Cost, Period::Month, None)],
        group: Some("vip".into()),
        allowance: Some(9),
        ..KeyPolicy::default()
    };
    let (id, openai, gpt) = (key_id(), Platform::new("openai").unwrap(), model("gpt-4o"));
    let ask = Ask { platform: Some(&openai), model: Some(&gpt), ..with_key(&id) };
    let code = |metric, period| CounterCode::new(metric, period);
    let expected = vec![
        ("w/*/*/".to_owned(), vec![code(Metric::Concurrency, Period::None)]),
        ("w/openai/*/".to_owned(), vec![code(Metric::Cost, Period::Minute), code(Metric::Cost, Period::Day)]),
        ("w/openai/gpt-4o/".to_owned(), vec![code(Metric::Tokens, Period::Hour)]),
        ("w/*/*/k1".to_owned(), vec![code(Metric::Cost, Period::Month)]),
    ];
    for _ in 0..5 {
        limits.rotate_left(2);
        let admission = policy(limits.clone(), key.clone()).admit(&ask);
        assert_eq!(shape(&admission.groups), expected);
        assert_eq!((&*admission.group, admission.allowance, admission.credit_limit), ("vip", Some(9), 7));
    }
    let all = policy(limits, key).all_gauges(NOW);
    assert_eq!(all.len(), 5);
    assert_eq!(shape(&all)[1].0, "w/gemini/*/");
    assert_eq!(all[4].key, Some(id));
}

#[test]
fn gauges_carry_their_windows() {
    let limits = vec![
        limit("*", "*", Metric::Cost, Period::Day, Some(5)),
        limit("*", "*", Metric::Cost, Period::Rolling(18_000), Some(5)),
        limit("*", "*", Metric::Concurrency, Period::None, Some(5)),
    ];
    let admission = policy(limits, KeyPolicy::default()).admit(&with_key(&key_id()));
    let windows: Vec<_> =
        admission.groups[0].gauges.iter().map(|gauge| (gauge.start_s, gauge.end_s, gauge.period_s)).collect();
    assert_eq!(windows, [(DAY_START_S, DAY_START_S + 86_400, 0), (0, 0, 18_000), (0, 0, 0)]);
    assert_eq!(admission.valid_from, Millis(i64::from(DAY_START_S) * 1000));
    assert_eq!(admission.valid_until, Millis(i64::from(DAY_START_S + 86_400) * 1000));
}

#[test]
fn an_answer_holds_while_its_windows_are_open_and_the_key_is_as_it_was() {
    let key = key_id();
    let minute = vec![
        limit("*", "*", Metric::Cost, Period::Month, Some(5)),
        limit("*", "*", Metric::Requests, Period::Minute, Some(5)),
    ];
    let wide = policy(vec![], KeyPolicy::default()).admit(&with_key(&key));
    assert_eq!((wide.valid_from, wide.valid_until), (Millis(0), FOREVER));
    let open = policy(minute.clone(), KeyPolicy::default()).admit(&with_key(&key));
    assert_eq!((open.valid_from, open.valid_until), (NOW, Millis(NOW.0 + 60_000)));
    assert!(open.holds_at(NOW) && open.holds_at(Millis(NOW.0 + 59_999)));
    assert!(!open.holds_at(Millis(NOW.0 - 1)) && !open.holds_at(Millis(NOW.0 + 60_000)));

    let expires_at = Millis(NOW.0 + 1_500);
    let expiring = policy(minute, KeyPolicy { expires_at: Some(expires_at), ..KeyPolicy::default() });
    let before = expiring.admit(&with_key(&key));
    assert_eq!((before.refusal, before.valid_until), (None, expires_at), "a cached answer ends with the key");
    let after = expiring.admit(&Ask { now: expires_at, ..with_key(&key) });
    assert_eq!(after.refusal.map(|refusal| refusal.code), Some(Code::KeyExpired));
    assert_eq!((after.valid_from, after.valid_until), (expires_at, Millis(NOW.0 + 60_000)));
}

/// A refused call may have spent money all the same: its counters are listed.
#[test]
fn a_refused_call_still_has_its_counters() {
    let mut policy = policy(vec![limit("*", "*", Metric::Cost, Period::Day, Some(5))], KeyPolicy::default());
    policy.status = AccountStatus::Disabled;
    let admission = policy.admit(&with_key(&KeyId::new("nobody").unwrap()));
    assert_eq!(admission.groups.len(), 1);
    assert!(admission.refusal.is_some());
}
