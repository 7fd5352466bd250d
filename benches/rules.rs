//! The pure part of a request: what the sidecar does before and after the script.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use quotad::quota::{
    clock::Millis,
    fingerprint::Fingerprint,
    id::{AccountId, KeyId, Model, Platform},
    limit::{Limit, Metric, Period},
    policy::{AccountStatus, Ask, KeyPolicy, Policy, Trust},
    tariff::Tariff,
    usage::Usage,
    window::Zone,
};

fn policy() -> Policy {
    let limit = |period| {
        Arc::new(Limit {
            platform: "openai".into(),
            model: "*".into(),
            metric: Metric::Cost,
            period,
            cap: Some(1 << 40),
        })
    };
    Policy {
        account: AccountId::new("acme").unwrap(),
        version: 1,
        status: AccountStatus::Enabled,
        group: "default".into(),
        credit_limit: 0,
        zone: Zone::parse("Europe/Berlin").unwrap(),
        trust: Trust::Off,
        on_unavailable: None,
        limits: vec![limit(Period::Day), limit(Period::Week), limit(Period::Month)],
        keys: HashMap::from([(KeyId::new("k1").unwrap(), KeyPolicy::default())]),
        name: None,
        contact: None,
    }
}

fn rules(c: &mut Criterion) {
    let policy = policy();
    let key = KeyId::new("k1").unwrap();
    let (platform, model) = (Platform::new("openai").unwrap(), Model::new("gpt-4o").unwrap());
    let ask = Ask {
        key: Some(&key),
        platform: Some(&platform),
        model: Some(&model),
        client_ip: None,
        now: Millis(1_795_168_800_000),
    };
    c.bench_function("admission: key, three calendar windows, computed anew", |b| {
        b.iter(|| policy.admit(black_box(&ask)));
    });
    c.bench_function("fingerprint of a reserve", |b| {
        let fields = [
            Some("k1"),
            Some("openai"),
            Some("gpt-4o"),
            Some("120000"),
            None,
            Some("300000"),
            None,
            Some("strict"),
            None,
            None,
        ];
        b.iter(|| Fingerprint::of("reserve", black_box(&fields)));
    });
    let tariff = Tariff::builtin();
    c.bench_function("price of an estimate", |b| {
        b.iter(|| tariff.estimate(black_box("gpt-4o"), "default", 1200, Some(800)));
    });
    let text = r#"{"prompt_tokens":1180,"completion_tokens":310,"prompt_tokens_details":{"cached_tokens":1024}}"#;
    c.bench_function("usage object read and priced", |b| {
        b.iter(|| {
            let usage = Usage::from_json(black_box(text)).unwrap();
            tariff.cost("gpt-4o", "default", &usage)
        });
    });
}

criterion_group!(benches, rules);
criterion_main!(benches);
