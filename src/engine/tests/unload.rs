//! Unload: which accounts leave, and with what the script is asked.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::fake::{Fake, reply};
use crate::{
    engine::{
        ports::{
            Applied, Batch, Constants, Digest, Mark, NO_DIGEST, Opened, Opening, Position, Posting, RawEntry, Status,
            StoreError,
        },
        unload::{Place, Unloader},
    },
    quota::{
        clock::{Clock, Millis, local_now},
        entry::{Entry, Kind},
        id::{AccountId, OpId},
    },
};

/// A database that has posted shard 1 up to entry 9, made at 1 000.
struct PostedToNine;

const AT: Position = Position { generation: 2, seq: 9 };

#[async_trait]
impl Posting for PostedToNine {
    async fn opened(&self, shard: u16) -> Result<Option<Opened>, StoreError> {
        let mark = Mark { at: AT, digest: NO_DIGEST, fence: 1 };
        Ok(Some(Opened { shard, mark, run_id: String::new() }))
    }
    async fn all_opened(&self) -> Result<Vec<Opened>, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn apply(&self, _: &[Batch]) -> Result<Vec<Applied>, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn open_generation(&self, _: u16, _: Option<&Mark>, _: &Opening) -> Result<Option<Mark>, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn constants(&self, _: Constants) -> Result<Constants, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn last_run_id(&self) -> Result<Option<String>, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn set_run_id(&self, _: &str) -> Result<(), StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn digest_at(&self, _: u16, _: Position) -> Result<Option<Digest>, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn rows_after(&self, _: u16, _: Position, _: u32) -> Result<Vec<RawEntry>, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn known(&self, _: &[Entry]) -> Result<Vec<bool>, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn uncompensated(&self, _: u32) -> Result<Vec<(u16, RawEntry)>, StoreError> {
        unimplemented!("unload does not ask")
    }
    async fn recent(&self, _: u16, _: Option<Position>, _: u32) -> Result<Vec<RawEntry>, StoreError> {
        let entry = Entry {
            kind: Kind::Credit,
            at: Millis(1_000),
            balance: 1,
            used: 0,
            requests: 0,
            tokens: 0,
            account: AccountId::new("z").unwrap(),
            op_id: OpId::new("c").unwrap(),
            record: None,
            windows: Vec::new(),
            log: Vec::new(),
        };
        Ok(vec![RawEntry { at: AT, payload: entry.pack(), digest: NO_DIGEST }])
    }
}

#[tokio::test]
async fn idle_accounts_are_unloaded_page_by_page() {
    let (fake, _) = Fake::new(|_, seen| reply(if seen.id == "busy" { Status::Idle } else { Status::Done }));
    let now = local_now();
    let one = |name: &str, ago_ms: i64| (AccountId::new(name).unwrap(), Millis(now.0 - ago_ms));
    let first = vec![one("idle", 90_000), one("young", 1_000), one("busy", 90_000)];
    fake.set(|world| world.loaded = vec![first, vec![one("last", 61_000)]]);
    let idle = Duration::from_secs(60);
    let unloader = Unloader::new(fake.clone(), Arc::new(PostedToNine), Arc::new(Clock::default()), idle);
    let (mut at, mut gone) = (Some(Place::default()), Vec::new());
    while let Some(place) = at {
        let (count, next) = unloader.page(place).await.unwrap();
        gone.push(count);
        at = next;
    }
    assert_eq!(gone, [0, 1, 1], "an empty shard, and two pages");
    let asked: Vec<_> = fake.seen("unload").into_iter().map(|seen| (seen.id, seen.amount, seen.tokens)).collect();
    assert_eq!(asked, ["idle", "busy", "last"].map(|name| (name.to_owned(), 9, Some(1_000))));
}
