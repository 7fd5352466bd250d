//! The pure part of a request: what the sidecar does before and after the script.

#[path = "harness/cases.rs"]
mod cases;
#[path = "harness/sample.rs"]
mod sample;

use std::hint::black_box;

use cases::Cases;
use quotad::quota::{
    clock::Millis,
    fingerprint::Fingerprint,
    id::{AccountId, Platform},
    policy::Ask,
    tariff::{Groups, Tariff},
    usage::Usage,
};

const USAGE: &str = r#"{"prompt_tokens":1180,"completion_tokens":310,"prompt_tokens_details":{"cached_tokens":1024}}"#;

fn main() {
    let policy = sample::policy(AccountId::new("acme").expect("an id"));
    let (key, model, platform) = (sample::key(), sample::model(), Platform::new("openai").expect("a name"));
    let ask = Ask {
        key: Some(&key),
        platform: Some(&platform),
        model: Some(&model),
        client_ip: None,
        now: Millis(1_795_168_800_000),
    };
    let content = [
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
    let tariff = Tariff::builtin();
    let mut cases = Cases::default();
    cases.add("admission: key, three calendar windows, computed anew", || policy.admit(black_box(&ask)));
    cases.add("fingerprint of a reserve", || Fingerprint::of("reserve", black_box(&content)));
    let (groups, prompt) = (Groups::own("default"), Usage { input: 1200, ..Usage::default() });
    cases.add("price of an estimate", || tariff.estimate(black_box("gpt-4o"), groups, &prompt, Some(800)));
    cases.add("usage object read and priced", || {
        let usage = Usage::from_json(black_box(USAGE)).expect("a usage");
        tariff.cost("gpt-4o", groups, &usage)
    });
    cases.run();
}
