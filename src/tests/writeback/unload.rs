//! Unloading with a real Redis, while clients charge: nothing is lost, and nothing spent comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quotad::{
    engine::{
        Engine, Payer, Settings as EngineSettings,
        charge::Charge,
        ports::{AccountPatch, Constants},
        reconcile::Reconcile,
        settings::Values,
        settle::{Price, Settle},
        unload::{Place, Unloader},
    },
    quota::{
        clock::Clock,
        entry::LogFields,
        id::{AccountId, Actor, ReservationId},
        verdict::Verdict,
        window::Zone,
    },
    redis, sql,
    writeback::{Ports, Settings, Writeback, build},
};

use crate::redis_server::RedisServer;

const SHARDS: u16 = 2;
const CLIENTS: usize = 8;
/// Many more than clients, so that each rests for a moment now and then.
const ACCOUNTS: usize = 64;
const BALANCE: i64 = 1_000_000;

/// A sidecar without its listeners.
struct House {
    engine: Arc<Engine>,
    writeback: Writeback,
    unloader: Unloader,
    _server: RedisServer,
    _folder: tempfile::TempDir,
}

impl House {
    /// `idle`: since when an account is idle.
    async fn build(idle: Duration) -> Self {
        let server = RedisServer::start(&[]);
        let folder = tempfile::tempdir().unwrap();
        let store = sql::open(&format!("sqlite://{}/q.db", folder.path().display()), Zone::utc()).await.unwrap();
        let config = redis::Config {
            url: server.url(),
            shards: SHARDS,
            call_timeout: Duration::from_secs(20),
            ..redis::Config::default()
        };
        let redis = redis::build(&config).await.unwrap();
        let clock = Arc::new(Clock::default());
        let ports =
            Ports { stream: redis.clone(), counters: redis.clone(), posting: store.clone(), clock: clock.clone() };
        let settings = Settings {
            batch_entries_max: 64,
            poll: Duration::from_millis(1),
            retention_entries: 10,
            tombstone_ttl: Duration::from_secs(900),
            constants: Constants { shards: SHARDS, units_per_usd: 100_000_000 },
            holder: "one".into(),
            redo_rows_max: 100,
            lag_max: None,
        };
        let writeback = build(&ports, &settings);
        writeback.attach.run_once().await.unwrap();
        let drain = writeback.drain.clone();
        let engine = Engine::new(redis.clone(), store.clone(), store.clone(), drain, clock.clone(), engine_settings());
        let unloader = Unloader::new(redis, store, clock, idle);
        Self { engine: Arc::new(engine), writeback, unloader, _server: server, _folder: folder }
    }
}

fn engine_settings() -> EngineSettings {
    EngineSettings {
        deployment: Values { max_amount: BALANCE, default_hold: 1, ..Values::builtin() }.into(),
        trust_sidecars: 4,
        policy_cache_accounts: 10,
        log_ip: false,
        time_budget: Duration::from_secs(20),
    }
}

fn account(number: usize) -> AccountId {
    AccountId::new(format!("u{number}")).unwrap()
}

fn charge(payer: usize, id: &str) -> Charge {
    let settle = Settle {
        payer: Payer::Account(account(payer)),
        id: ReservationId::new(id).unwrap(),
        price: Price::Units(1),
        last: true,
        outcome: None,
        key: None,
        platform: None,
        model: None,
        group: None,
        log: LogFields::default(),
    };
    Charge { settle, estimate: None, tokens: None, client_ip: None, force: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_that_are_unloaded_while_they_are_charged_lose_nothing() {
    let house = Arc::new(House::build(Duration::ZERO).await);
    let patch = AccountPatch { initial_balance: Some(BALANCE), ..AccountPatch::default() };
    for number in 0..ACCOUNTS {
        // By the engine, which credits the initial balance before anybody can ask for it.
        let made = house.engine.put_account(&Actor::admin(), &account(number), &patch).await;
        assert!(matches!(made, Ok(Verdict::Done { .. })), "{made:?}");
    }
    let (stop, charged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let worker = house.writeback.worker.clone();
    let (stop_posting, posting) = tokio::sync::oneshot::channel::<()>();
    let loader = house.engine.clone();
    let worker = tokio::spawn(async move { worker.run(&*loader, async { drop(posting.await) }).await });
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (house, stop, charged) = (house.clone(), stop.clone(), charged.clone());
        clients.push(tokio::spawn(async move {
            let mut sums = [0_i64; ACCOUNTS];
            for number in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                let payer = (client + number) % ACCOUNTS;
                let ask = charge(payer, &format!("c-{client}-{number}"));
                match house.engine.charge(&ask).await {
                    Ok(Verdict::Done { replayed, .. }) => assert!(!replayed, "every id is new"),
                    // Loading again and again may use up a call's turns: then nothing was charged.
                    Err(_) => continue,
                    Ok(Verdict::Refused(refusal)) => panic!("{refusal:?}"),
                }
                sums[payer] += 1;
                charged.fetch_add(1, Ordering::Relaxed);
            }
            sums
        }));
    }
    let (begun, mut unloaded) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(3) || unloaded < 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{unloaded} unloaded");
        let mut at = Some(Place::default());
        while let Some(place) = at {
            let (gone, next) = house.unloader.page(place).await.unwrap();
            unloaded += gone;
            at = next;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut sums = [0; ACCOUNTS];
    for client in clients {
        for (sum, of_client) in sums.iter_mut().zip(client.await.unwrap()) {
            *sum += of_client;
        }
    }
    println!("{} charges, {unloaded} times an account was unloaded", charged.load(Ordering::Relaxed));
    for (number, sum) in sums.into_iter().enumerate() {
        let Ok(Verdict::Done { answer, .. }) = house.engine.balance(&Payer::Account(account(number))).await else {
            panic!("no balance")
        };
        assert_eq!((answer.balance, answer.used, answer.held), (BALANCE - sum, sum, 0), "u{number}");
    }
    let Ok(Verdict::Done { answer, .. }) = house.engine.reconcile(&Actor::admin(), &Reconcile::default()).await else {
        panic!("not reconciled")
    };
    assert_eq!(answer.differences, []);
    drop(stop_posting);
    worker.await.unwrap();
}
