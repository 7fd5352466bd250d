//! The engine against scripted ports: what it asks, how often, and what it makes of the replies.
//! What the scripts themselves decide is tested with the real ones.

mod admin;
mod bank;
mod degraded;
mod fake;
mod groups;
mod holds;
mod money;
mod operations;
mod outbox;
mod platforms;
mod reconcile;
mod tariffs;
mod trust;
mod trust_ends;
mod turns;
mod unload;

use std::net::IpAddr;

use super::settings::Values;
use super::{
    Engine, Payer, Settings,
    reconcile::Reconcile,
    reserve::{Ask, Mode, Reserve},
    settle::{Price, Settle},
};
use crate::quota::{
    entry::LogFields,
    id::{AccountId, Actor, KeyId, Model, OpId, Platform, ReservationId},
    policy::{KeyPolicy, Policy},
    verdict::{Refusal, Verdict},
    window::Zone,
};

fn settings() -> Settings {
    let values = Values {
        default_hold: 1_000,
        max_amount: 1_000_000,
        unavailable_allowance: 1_000,
        unavailable_total: 2_000,
        ..Values::builtin()
    };
    Settings {
        deployment: values.into(),
        trust_sidecars: 4,
        policy_cache_accounts: 100,
        log_ip: false,
        time_budget: std::time::Duration::from_secs(5),
    }
}

/// The same with these values in force.
fn with(change: impl FnOnce(&mut Values)) -> Settings {
    let mut settings = settings();
    change(&mut settings.deployment.values);
    settings
}

/// Who makes the changes.
fn by() -> Actor {
    Actor::admin()
}

fn account() -> AccountId {
    AccountId::new("a").unwrap()
}

fn key(id: &str) -> KeyId {
    KeyId::new(id).unwrap()
}

fn op(id: &str) -> OpId {
    OpId::new(id).unwrap()
}

fn reservation(id: &str) -> ReservationId {
    ReservationId::new(id).unwrap()
}

fn policy(version: u32) -> Policy {
    Policy::blank(account(), version, Zone::utc())
}

fn with_key(mut policy: Policy, id: &str, rules: KeyPolicy) -> Policy {
    policy.keys.insert(key(id), rules);
    policy
}

fn reserve(ask: Ask) -> Reserve {
    Reserve {
        payer: Payer::Account(account()),
        key: None,
        id: reservation("r-1"),
        platform: Some(Platform::new("openai").unwrap()),
        model: Some(Model::new("m").unwrap()),
        ask,
        tokens: None,
        ttl_ms: None,
        client_ip: Some(IpAddr::from([10, 0, 0, 1])),
        group: None,
        mode: Mode::Strict,
        min_amount: None,
        charge_on_expiry: false,
    }
}

fn settle(price: Price) -> Settle {
    Settle {
        payer: Payer::Account(account()),
        id: reservation("r-1"),
        price,
        last: true,
        outcome: None,
        key: None,
        platform: None,
        model: Some(Model::new("m").unwrap()),
        group: None,
        log: LogFields::default(),
    }
}

/// The answer and whether it was a replay; panics with the refusal otherwise.
fn done<T>(verdict: Verdict<T>) -> (T, bool) {
    match verdict {
        Verdict::Done { answer, replayed } => (answer, replayed),
        Verdict::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn refused<T>(verdict: Verdict<T>) -> Refusal {
    match verdict {
        Verdict::Done { .. } => panic!("done, though it should be refused"),
        Verdict::Refused(refusal) => refusal,
    }
}

/// Every verb can run on a multi-threaded runtime.
#[test]
fn verbs_are_send() {
    fn is_send<T: Send>(_: impl Fn(&'static Engine) -> T) {}
    fn leak<T>(value: T) -> &'static T {
        Box::leak(Box::new(value))
    }
    is_send(|engine| engine.reserve(leak(reserve(Ask::Default))));
    is_send(|engine| engine.settle(leak(settle(Price::Unsaid))));
    is_send(|engine| engine.delete_account(leak(by()), leak(account())));
    is_send(|engine| engine.balance(leak(Payer::Account(account()))));
    is_send(|engine| engine.reconcile(leak(by()), leak(Reconcile::default())));
    is_send(Engine::sweep_once);
    is_send(Engine::refresh_tariff);
}
