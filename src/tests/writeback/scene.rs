//! One Redis, one database, and sidecars to put in front of them.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use quotad::{
    engine::ports::{AccountPatch, Constants, NO_DIGEST, PolicyStore, Position, Posting},
    quota::{
        clock::{Clock, Millis},
        entry::{Entry, Kind},
        fingerprint::Fingerprint,
        id::{AccountId, Actor, OpId},
        reservation::{Flags, Record, State},
        window::Zone,
    },
    sql,
    writeback::{Ports, Settings, Turn, Writeback, build, chain},
};
use smallvec::SmallVec;

use super::{
    fake_counters::FakeCounters,
    fake_posting::Door,
    fake_stream::{FakeStream, NOW},
};

pub const SHARDS: u16 = 4;
/// Accounts `u0` to `u3`, each in the shard of its number.
pub const ACCOUNTS: u16 = SHARDS;

pub struct Scene {
    pub stream: Arc<FakeStream>,
    pub counters: Arc<FakeCounters>,
    pub door: Arc<Door>,
    pub settings: Settings,
    pub clock: Arc<Clock>,
    folder: tempfile::TempDir,
    copies: Cell<u32>,
}

pub fn account(number: u16) -> AccountId {
    AccountId::new(format!("u{number}")).unwrap()
}

impl Scene {
    /// Nothing attached yet; the accounts exist.
    pub async fn new() -> Self {
        Self::of_shards(SHARDS).await
    }

    pub async fn of_shards(shards: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("q.db")).await;
        for number in 0..ACCOUNTS {
            store.put_account(&Actor::admin(), &account(number), &AccountPatch::default()).await.unwrap();
        }
        let stream = Arc::new(FakeStream::new());
        let counters = Arc::new(FakeCounters::new(stream.clone(), shards));
        let door = Arc::new(Door::new(store, stream.budget.clone()));
        let clock = Arc::new(Clock::default());
        clock.observe(NOW);
        let settings = Settings {
            batch_entries_max: 10,
            poll: Duration::from_millis(1),
            retention_entries: 5,
            tombstone_ttl: Duration::from_secs(900),
            redo_rows_max: 100,
            lag_max: None,
            constants: Constants { shards, units_per_usd: 100_000_000 },
            holder: "one".into(),
        };
        Self { stream, counters, door, settings, clock, folder, copies: Cell::new(0) }
    }

    /// A scene whose shards are attached, and the sidecar that did it.
    pub async fn attached() -> (Self, Writeback) {
        let scene = Self::new().await;
        let sidecar = scene.sidecar("one");
        sidecar.attach.run_once().await.unwrap();
        scene.stream.state().log.clear();
        (scene, sidecar)
    }

    /// Another process, with nothing in memory.
    pub fn sidecar(&self, holder: &str) -> Writeback {
        let ports = Ports {
            stream: self.stream.clone(),
            counters: self.counters.clone(),
            posting: self.door.clone(),
            clock: self.clock.clone(),
        };
        build(&ports, &Settings { holder: holder.into(), ..self.settings.clone() })
    }

    /// An empty database in the place of the present one.
    pub async fn lose_database(&self) {
        self.door.put(open(&self.folder.path().join("new.db")).await);
    }

    /// A copy of the database as it is, to come back to.
    pub fn copy_database(&self) -> PathBuf {
        self.copies.set(self.copies.get() + 1);
        let (from, to) = (self.folder.path().join("q.db"), format!("copy{}.db", self.copies.get()));
        let to = self.folder.path().join(to);
        // Nobody writes at this moment; what is not in the file yet is in its log.
        for end in ["", "-wal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
            if name(&from).exists() {
                std::fs::copy(name(&from), name(&to)).unwrap();
            }
        }
        to
    }

    /// The database is restored from a copy.
    pub async fn restore_database(&self, copy: &Path) {
        self.door.put(open(copy).await);
    }

    /// Charges of 1 unit each, in the account's shard.
    pub fn charge(&self, number: u16, ids: std::ops::Range<usize>) {
        for id in ids {
            let shard = number % self.settings.constants.shards;
            self.stream.append(shard, &settle(number, &format!("r{id}"), 1)).unwrap();
        }
    }

    /// Balance, used and requests in SQL.
    pub async fn sums(&self, number: u16) -> [i64; 3] {
        let head = self.door.store().posted(&account(number)).await.unwrap().unwrap().counters.head;
        [head.balance, head.used, head.requests]
    }

    pub async fn mark(&self, shard: u16) -> Position {
        self.door.store().opened(shard).await.unwrap().unwrap().mark.at
    }

    /// Redis' and SQL's tops are the same place with the same digest.
    pub async fn assert_level(&self, shard: u16) {
        let mark = self.door.store().opened(shard).await.unwrap().unwrap().mark;
        let meta = self.stream.meta_now(shard).unwrap();
        assert!(meta.open);
        assert_eq!((mark.at, mark.digest), (meta.top, meta.digest), "shard {shard}");
    }

    /// Every row of the ledger, oldest first; the digests run on through it, and end at the mark.
    pub async fn ledger(&self, shard: u16) -> Vec<(Position, Entry)> {
        let store = self.door.store();
        let rows = store.rows_after(shard, Position::default(), 10_000).await.unwrap();
        let (mut top, mut digest) = (Position::default(), NO_DIGEST);
        for row in &rows {
            let next =
                row.at == at(top.generation, top.seq + 1) || (row.at.generation > top.generation && row.at.seq == 1);
            assert!(next, "{:?} after {top:?}", row.at);
            assert_eq!(row.digest, chain(&digest, &row.payload), "{:?}", row.at);
            (top, digest) = (row.at, row.digest);
        }
        assert_eq!(digest, store.opened(shard).await.unwrap().unwrap().mark.digest);
        rows.into_iter().map(|row| (row.at, Entry::unpack(&row.payload).unwrap())).collect()
    }
}

async fn open(path: &Path) -> Arc<sql::Store> {
    sql::open(&format!("sqlite://{}", path.display()), Zone::utc()).await.unwrap()
}

/// Turns until nothing is left to post.
pub async fn post_all(sidecar: &Writeback) {
    for _ in 0..1000 {
        match sidecar.worker.turn().await {
            Turn::Idle => return,
            Turn::Busy { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("the worker never came to rest");
}

pub fn at(generation: u32, seq: u64) -> Position {
    Position { generation, seq }
}

pub fn settle(number: u16, id: &str, cost: i64) -> Entry {
    Entry {
        kind: Kind::Settle,
        at: NOW,
        balance: -cost,
        used: cost,
        requests: 1,
        tokens: 0,
        account: account(number),
        op_id: OpId::new(id).unwrap(),
        record: Some(Record {
            state: State::Settled,
            flags: Flags::default(),
            fingerprint: Fingerprint::default(),
            created: NOW,
            expires: Millis(NOW.0 + 300_000),
            held: cost,
            tokens: 0,
            prompt_cost: 0,
            charged: cost,
            refunded: 0,
            overdraft: 0,
            parts: 0,
            key: None,
            price_tag: Vec::new(),
            windows: SmallVec::new(),
        }),
        windows: Vec::new(),
        log: Vec::new(),
    }
}
