//! The call that is measured everywhere: a key, a model with a price, three calendar windows over the
//! cost of one platform.
#![allow(dead_code, reason = "each benchmark uses another part of it")]

use std::{collections::HashMap, sync::Arc};

use quotad::quota::{
    clock::{Millis, local_now},
    entry::LogFields,
    id::{AccountId, KeyId, Model, Platform},
    limit::{Limit, Metric, Period},
    policy::{Admission, Ask, KeyPolicy, Policy},
    window::Zone,
};

pub const AMOUNT: i64 = 120_000;
pub const COST: i64 = 98_000;
pub const TOKENS: i64 = 700;
pub const TTL_MS: u32 = 300_000;

pub fn key() -> KeyId {
    KeyId::new("key-1").expect("an id")
}

pub fn model() -> Model {
    Model::new("gpt-4o").expect("a name")
}

pub fn zone() -> Zone {
    Zone::parse("Europe/Berlin").expect("a zone")
}

pub fn limits() -> Vec<Limit> {
    let cap = Some(1 << 50);
    let limit = |period| Limit { platform: "openai".into(), model: "*".into(), metric: Metric::Cost, period, cap };
    [Period::Day, Period::Week, Period::Month].map(limit).to_vec()
}

pub fn policy(account: AccountId) -> Policy {
    Policy {
        limits: limits().into_iter().map(Arc::new).collect(),
        keys: HashMap::from([(key(), KeyPolicy::default())]),
        ..Policy::blank(account, 1, zone())
    }
}

/// What the rules say of the call at `now`.
pub fn admission(policy: &Policy, now: Millis) -> Admission {
    let platform = Platform::new("openai").expect("a name");
    let ask = Ask { key: Some(&key()), platform: Some(&platform), model: Some(&model()), client_ip: None, now };
    let admission = policy.admit(&ask);
    assert!(admission.refusal.is_none() && !admission.groups.is_empty(), "{admission:?}");
    admission
}

pub fn now() -> Millis {
    local_now()
}

/// What the engine logs with a settle.
pub fn log() -> Vec<u8> {
    let log = LogFields {
        key: Some("key-1".to_owned()),
        platform: Some("openai".to_owned()),
        model: Some("gpt-4o".to_owned()),
        prompt_tokens: Some(500),
        completion_tokens: Some(200),
        outcome: Some("ok".to_owned()),
        ..LogFields::default()
    };
    serde_json::to_vec(&log).expect("plain fields")
}
