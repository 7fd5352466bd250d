//! A shard with one account, and short ways to call the verbs on it.

use std::sync::Arc;

use quotad::{
    engine::ports::{
        ChargeCall, Cost, Counters, Digest, ExtendCall, OpRecord, RawEntry, RefundCall, Reply, Reprice, ReserveCall,
        SettleCall, ShardMeta, Status, Stream, Unavailable,
    },
    quota::{
        clock::Millis,
        counter::{AccountCounters, Head, WindowCounter},
        entry::{Entry, Kind},
        fingerprint::Fingerprint,
        id::{AccountId, KeyId, OpId, ReservationId},
        limit::{CounterCode, GroupField, Limit, Metric, Period},
        policy::{Admission, Gauge, Group},
        reservation::Record,
        verdict::{Code, Refusal},
    },
    redis::{Config, Redis},
};
use sha1::{Digest as _, Sha1};

use crate::redis_server::RedisServer;

pub const GENERATION: u32 = 3;
pub const NO_DIGEST: Digest = [b'0'; 40];

pub struct Bench {
    pub server: RedisServer,
    pub redis: Arc<Redis>,
    pub account: AccountId,
    pub shard: u16,
}

pub fn id(text: &str) -> ReservationId {
    ReservationId::new(text).unwrap()
}

pub fn op(text: &str) -> OpId {
    OpId::new(text).unwrap()
}

pub fn key(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

pub fn print(text: &str) -> Fingerprint {
    Fingerprint::of("test", &[Some(text)])
}

impl Bench {
    /// An open shard with a loaded account that has `balance` units.
    pub async fn new(balance: i64) -> Self {
        Self::with(RedisServer::start(&[]), Config::default(), balance).await
    }

    pub async fn with(server: RedisServer, config: Config, balance: i64) -> Self {
        let redis = quotad::redis::build(&Config { url: server.url(), ..config }).await.unwrap();
        let account = AccountId::new("acc").unwrap();
        let shard = redis.shard_of(&account);
        let bench = Self { server, redis, account, shard };
        bench.open().await;
        bench
            .load(&AccountCounters { head: Head { version: 1, balance, ..Head::default() }, ..Default::default() })
            .await;
        bench
    }

    /// The same on a server of its own, a copy of what this one has.
    pub async fn copy(&self) -> Self {
        let server = RedisServer::start(&[]);
        crate::shard::copy(&mut self.server.connect(), &mut server.connect());
        let redis = quotad::redis::build(&Config { url: server.url(), ..Config::default() }).await.unwrap();
        Self { server, redis, account: self.account.clone(), shard: self.shard }
    }

    /// Fences the shard; the meta it has now.
    pub async fn fence(&self) -> ShardMeta {
        let meta = self.redis.meta(self.shard).await.unwrap().unwrap();
        let fence = ShardMeta { open: false, ..meta };
        assert!(self.redis.set_meta(self.shard, Some(&meta), &fence).await.unwrap());
        fence
    }

    async fn open(&self) {
        let top = quotad::engine::ports::Position { generation: GENERATION, seq: 0 };
        let meta = ShardMeta { top, digest: NO_DIGEST, open: true, now: Millis(0) };
        assert!(self.redis.set_meta(self.shard, None, &meta).await.unwrap());
        self.redis.serve(self.shard, GENERATION, self.redis.era());
    }

    pub async fn load(&self, counters: &AccountCounters) {
        let nonce = self.redis.begin_load(&self.account).await.unwrap();
        assert_eq!(self.redis.hydrate(&self.account, nonce, counters).await.unwrap().status, Status::Done);
    }

    /// Moves the shard's time forward: scripts never go back behind the meta's last time.
    pub async fn advance(&self, ms: i64) -> Millis {
        let meta = self.redis.meta(self.shard).await.unwrap().unwrap();
        let now = self.redis.read_account(&self.account).await.unwrap().unwrap().0;
        let later = Millis(now.0 + ms);
        assert!(self.redis.set_meta(self.shard, Some(&meta), &ShardMeta { now: later, ..meta }).await.unwrap());
        later
    }

    /// What is due, after all queues that may be emptied were.
    pub async fn due(&self, most: usize) -> Vec<(AccountId, ReservationId)> {
        for queue in self.redis.queues(self.shard).await.unwrap() {
            while self.redis.cascade(self.shard, &queue).await.unwrap() {}
        }
        self.redis.due(self.shard, most).await.unwrap()
    }

    /// What is held is that of the live holds, and so are the deadlines.
    pub fn check_holds(&self) {
        crate::shard::Shard::read(&mut self.server.connect(), self.shard).check_holds();
    }

    pub async fn counters(&self) -> AccountCounters {
        self.redis.read_account(&self.account).await.unwrap().unwrap().1
    }

    pub async fn head(&self) -> Head {
        self.counters().await.head
    }

    /// Balance, held, used, requests.
    pub async fn money(&self) -> [i64; 4] {
        let head = self.head().await;
        [head.balance, head.held, head.used, head.requests]
    }

    pub async fn record(&self, name: &str) -> Option<Record> {
        self.redis.read_record(&self.account, &id(name)).await.unwrap()
    }

    /// Used and held of the counters of a group, by code.
    pub async fn gauge(&self, field: &GroupField, code: CounterCode) -> Option<WindowCounter> {
        let counters = self.counters().await;
        let (_, group) = counters.groups.iter().find(|(name, _)| name == field)?;
        group.iter().find(|counter| counter.code == code).copied()
    }

    /// All entries, after checking that ids are dense and digests chained up to the meta.
    pub async fn entries(&self) -> Vec<Entry> {
        let raw = self.raw_entries().await;
        let mut digest = NO_DIGEST;
        for (position, entry) in raw.iter().enumerate() {
            assert_eq!((entry.at.generation, entry.at.seq), (GENERATION, position as u64 + 1));
            let sum = Sha1::new().chain_update(digest).chain_update(&entry.payload).finalize();
            let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            digest.copy_from_slice(hex.as_bytes());
            assert_eq!(entry.digest, digest);
        }
        let meta = self.redis.meta(self.shard).await.unwrap().unwrap();
        assert_eq!((meta.top.seq, meta.digest), (raw.len() as u64, digest));
        let unpack = |raw: &RawEntry| {
            let entry = Entry::unpack(&raw.payload).unwrap();
            assert_eq!(entry.pack(), raw.payload, "the ledger keeps it packed, under the digest of these bytes");
            entry
        };
        raw.iter().map(unpack).collect()
    }

    pub async fn raw_entries(&self) -> Vec<RawEntry> {
        let from = quotad::engine::ports::Position { generation: GENERATION, seq: 0 };
        self.redis.read(self.shard, from, 10_000).await.unwrap()
    }

    /// Kinds of the entries and their balance deltas.
    pub async fn ledger(&self) -> Vec<(Kind, i64)> {
        self.entries().await.iter().map(|entry| (entry.kind, entry.balance)).collect()
    }

    pub async fn reserve(&self, ask: &Ask) -> Reply {
        self.try_reserve(ask).await.unwrap()
    }

    pub async fn try_reserve(&self, ask: &Ask) -> Result<Reply, Unavailable> {
        self.redis.reserve(&ask.call(&self.account)).await
    }

    pub async fn settle(&self, name: &str, cost: i64) -> Reply {
        self.settle_as(name, Cost::Units(cost), true, &format!("settle {cost}")).await
    }

    pub async fn partial(&self, name: &str, cost: i64) -> Reply {
        self.settle_as(name, Cost::Units(cost), false, &format!("partial {cost}")).await
    }

    pub async fn settle_as(&self, name: &str, cost: Cost, last: bool, content: &str) -> Reply {
        let call = SettleCall {
            account: &self.account,
            id: &id(name),
            cost,
            tokens: None,
            last,
            clamped: false,
            fingerprint: print(content),
            price_tag: None,
            log: b"{}",
        };
        self.redis.settle(&call).await.unwrap()
    }

    pub async fn release(&self, name: &str) -> Reply {
        self.redis.release(&self.account, &id(name)).await.unwrap()
    }

    pub async fn expire(&self, name: &str) -> Reply {
        self.redis.expire(&self.account, &id(name)).await.unwrap()
    }

    pub async fn refund(&self, name: &str, of: &str, amount: i64) -> Reply {
        let call = RefundCall {
            account: &self.account,
            op_id: &op(name),
            of: &id(of),
            amount,
            fingerprint: print(&format!("{of} {amount}")),
            log: b"",
        };
        self.redis.refund(&call).await.unwrap()
    }

    /// Extends with the caps of `ask`.
    pub async fn extend(&self, ask: &Ask, amount: Option<i64>, ttl_ms: Option<u32>) -> Reply {
        self.reprice(ask, amount, ttl_ms, None).await
    }

    /// The same with other prices.
    pub async fn reprice(
        &self,
        ask: &Ask,
        amount: Option<i64>,
        ttl_ms: Option<u32>,
        reprice: Option<Reprice<'_>>,
    ) -> Reply {
        let admission = ask.admission();
        let call = ExtendCall {
            account: &self.account,
            id: &ask.id,
            version: ask.version,
            credit_limit: ask.credit_limit,
            allowance: ask.allowance,
            denied: ask.denied,
            groups: &admission.groups,
            amount,
            ttl_ms,
            reprice,
        };
        self.redis.extend(&call).await.unwrap()
    }
}

/// A reserve or charge with everything that a test may want to change.
#[derive(Clone)]
pub struct Ask {
    pub id: ReservationId,
    pub version: u32,
    pub key: Option<KeyId>,
    pub amount: i64,
    pub min_amount: Option<i64>,
    pub tokens: i64,
    pub prompt_cost: i64,
    pub ttl_ms: u32,
    pub credit_limit: i64,
    pub allowance: Option<i64>,
    pub denied: bool,
    pub check_only: bool,
    pub charge_on_expiry: bool,
    pub valid: (i64, i64),
    pub content: String,
    pub groups: Vec<Group>,
}

pub fn ask(name: &str, amount: i64) -> Ask {
    Ask {
        id: id(name),
        version: 1,
        key: None,
        amount,
        min_amount: None,
        tokens: 10,
        prompt_cost: 20,
        ttl_ms: 60_000,
        credit_limit: 0,
        allowance: None,
        denied: false,
        check_only: false,
        charge_on_expiry: false,
        valid: (0, i64::MAX),
        content: format!("reserve {amount}"),
        groups: Vec::new(),
    }
}

impl Ask {
    pub fn admission(&self) -> Admission {
        Admission {
            refusal: self.denied.then(|| Refusal::new(Code::AccountDisabled, "disabled")),
            group: "default".into(),
            credit_limit: self.credit_limit,
            allowance: self.allowance,
            groups: self.groups.iter().cloned().collect(),
            valid_from: Millis(self.valid.0),
            valid_until: Millis(self.valid.1),
        }
    }

    fn call<'a>(&'a self, account: &'a AccountId) -> ReserveCall<'a> {
        ReserveCall {
            account,
            id: &self.id,
            version: self.version,
            // A test's admissions are few and small.
            admission: Box::leak(Box::new(self.admission())),
            key: self.key.as_ref(),
            amount: self.amount,
            min_amount: self.min_amount.unwrap_or(self.amount),
            tokens: self.tokens,
            prompt_cost: self.prompt_cost,
            ttl_ms: self.ttl_ms,
            check_only: self.check_only,
            charge_on_expiry: self.charge_on_expiry,
            fingerprint: print(&self.content),
            price_tag: b"\x01\0\0\0vip",
        }
    }

    pub async fn charge(&self, bench: &Bench, force: bool, unreserved: bool) -> Reply {
        let call = ChargeCall {
            account: &bench.account,
            id: &self.id,
            version: self.version,
            admission: &self.admission(),
            key: self.key.as_ref(),
            amount: self.amount,
            tokens: self.tokens,
            force,
            unreserved,
            clamped: false,
            fingerprint: print(&self.content),
            price_tag: b"",
            log: br#"{"model":"m"}"#,
        };
        bench.redis.charge(&call).await.unwrap()
    }
}

pub fn field() -> GroupField {
    GroupField::new("openai", "*", None)
}

pub fn gauge(metric: Metric, period: Period, start_s: u32, cap: Option<i64>) -> Gauge {
    let (start_s, period_s) = match period {
        Period::Rolling(seconds) => (0, seconds),
        Period::None => (0, 0),
        _ => (start_s, 0),
    };
    let limit = Arc::new(Limit { platform: "openai".into(), model: "*".into(), metric, period, cap });
    Gauge { limit, start_s, end_s: 0, period_s }
}

/// One group of the account's own limits for platform `openai`.
pub fn group(gauges: &[Gauge]) -> Group {
    Group { field: field(), key: None, gauges: gauges.iter().cloned().collect() }
}

pub fn code(metric: Metric, period: Period) -> CounterCode {
    CounterCode::new(metric, period)
}

/// Amount and balance after.
pub fn op_numbers(reply: &Reply) -> Option<(i64, i64)> {
    reply.op.map(|OpRecord { amount, balance, .. }| (amount, balance))
}
