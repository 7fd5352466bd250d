//! The few counters that write-back calls: undo appends an entry once per op id.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, atomic::Ordering},
};

use async_trait::async_trait;
use quotad::{
    engine::ports::{
        AdjustCall, ChargeCall, Counters, ExtendCall, Listed, Load, MendCall, Position, RefundCall, Reply, ReserveCall,
        ResetCall, SettleCall, Status, Unavailable, UndoCall,
    },
    quota::{
        clock::Millis,
        counter::AccountCounters,
        entry::{Entry, Kind},
        id::{AccountId, ReservationId},
        reservation::Record,
    },
};
use smallvec::SmallVec;

use super::fake_stream::{FakeStream, NOW};

pub struct FakeCounters {
    pub stream: Arc<FakeStream>,
    pub shards: u16,
    done: Mutex<HashSet<String>>,
    /// Accounts that are not loaded.
    pub absent: Mutex<HashSet<String>>,
}

type Answer = Result<Reply, Unavailable>;

impl FakeCounters {
    pub fn new(stream: Arc<FakeStream>, shards: u16) -> Self {
        Self { stream, shards, done: Mutex::default(), absent: Mutex::default() }
    }
}

fn reply(status: Status) -> Reply {
    Reply { status, now: NOW, head: None, key: None, record: None, op: None, windows: SmallVec::new() }
}

#[async_trait]
impl Counters for FakeCounters {
    async fn undo(&self, call: &UndoCall<'_>) -> Answer {
        if self.absent.lock().unwrap().contains(call.entry.account.as_str()) {
            return Ok(reply(Status::Absent));
        }
        if !self.done.lock().unwrap().insert(call.op_id.to_string()) {
            return Ok(reply(Status::Replayed));
        }
        let entry = Entry {
            kind: if call.entry.balance < 0 { Kind::Credit } else { Kind::Debit },
            at: NOW,
            balance: -call.entry.balance,
            used: -call.entry.used,
            requests: -call.entry.requests,
            tokens: -call.entry.tokens,
            account: call.entry.account.clone(),
            op_id: call.op_id.clone(),
            record: None,
            windows: Vec::new(),
            log: call.log.to_vec(),
        };
        self.stream.append(self.shard_of(&call.entry.account), &entry)?;
        Ok(reply(Status::Done))
    }

    fn shards(&self) -> u16 {
        self.shards
    }

    /// The number at the end of the account's name.
    fn shard_of(&self, account: &AccountId) -> u16 {
        let digit = account.as_str().bytes().last().unwrap_or(b'0');
        u16::from(digit.saturating_sub(b'0')) % self.shards
    }

    async fn restore_record(&self, _: &AccountId, _: &ReservationId, _: &Record) -> Result<(), Unavailable> {
        unimplemented!("not write-back's")
    }

    async fn reserve(&self, _: &ReserveCall<'_>) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn settle(&self, _: &SettleCall<'_>) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn release(&self, _: &AccountId, _: &ReservationId) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn extend(&self, _: &ExtendCall<'_>) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn charge(&self, _: &ChargeCall<'_>) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn refund(&self, _: &RefundCall<'_>) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn reset(&self, _: &ResetCall<'_>) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn expire(&self, _: &AccountId, _: &ReservationId) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn raise_version(&self, _: &AccountId, _: u32) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn read_account(&self, _: &AccountId) -> Result<Option<(Millis, AccountCounters)>, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn read_record(&self, _: &AccountId, _: &ReservationId) -> Result<Option<Record>, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn due(&self, _: u16, _: usize) -> Result<Vec<(AccountId, ReservationId)>, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn begin_load(&self, _: &AccountId) -> Result<u64, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn hydrate(&self, _: &AccountId, _: u64, _: &AccountCounters) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn adjust(&self, _: &AdjustCall<'_>) -> Answer {
        unimplemented!("not write-back's")
    }
    async fn mend(&self, _: &MendCall<'_>) -> Result<Reply, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn unload(&self, _: &AccountId, _: Position, _: Millis) -> Result<Reply, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn loaded(&self, _: u16, _: u64) -> Result<(u64, Vec<(AccountId, Millis)>), Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn listed(&self, _: &AccountId) -> Result<Listed, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn queues(&self, _: u16) -> Result<Vec<String>, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn cascade(&self, _: u16, _: &str) -> Result<bool, Unavailable> {
        unimplemented!("not write-back's")
    }
    async fn unlisted(&self, _: &AccountId) -> Result<Vec<(ReservationId, Record)>, Unavailable> {
        unimplemented!("not write-back's")
    }
    fn era(&self) -> u64 {
        self.stream.era.load(Ordering::SeqCst)
    }
}

/// The engine, as far as write-back needs it.
#[async_trait]
impl Load for FakeCounters {
    async fn load(&self, account: &AccountId) -> Result<(), Unavailable> {
        self.absent.lock().unwrap().remove(account.as_str());
        Ok(())
    }
}
