//! The few counters that write-back calls: adjust appends an entry once per op id, restored records
//! are kept to look at.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use quotad::{
    engine::ports::{
        AdjustCall, ChargeCall, Counters, ExtendCall, RefundCall, Reply, ReserveCall, ResetCall, SettleCall, Status,
        Unavailable,
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
    pub restored: Mutex<HashMap<(String, String), Record>>,
}

type Answer = Result<Reply, Unavailable>;

impl FakeCounters {
    pub fn new(stream: Arc<FakeStream>, shards: u16) -> Self {
        Self { stream, shards, done: Mutex::default(), restored: Mutex::default() }
    }
}

fn reply(status: Status) -> Reply {
    Reply { status, now: NOW, head: None, key: None, record: None, op: None, windows: SmallVec::new() }
}

#[async_trait]
impl Counters for FakeCounters {
    async fn adjust(&self, call: &AdjustCall<'_>) -> Answer {
        let sign = match call.kind {
            Kind::Credit | Kind::Initial => 1,
            Kind::Debit => -1,
            other => panic!("write-back never does {other:?}"),
        };
        let name = format!("{} {} {}", call.account, call.kind.as_str(), call.op_id);
        if !self.done.lock().unwrap().insert(name) {
            return Ok(reply(Status::Replayed));
        }
        let entry = Entry {
            kind: call.kind,
            at: NOW,
            balance: sign * call.amount,
            used: 0,
            requests: 0,
            tokens: 0,
            account: call.account.clone(),
            op_id: call.op_id.clone(),
            record: None,
            windows: Vec::new(),
            log: call.log.to_vec(),
        };
        self.stream.append(self.shard_of(call.account), &entry)?;
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

    async fn restore_record(
        &self,
        account: &AccountId,
        id: &ReservationId,
        record: &Record,
    ) -> Result<(), Unavailable> {
        let name = (account.as_str().to_owned(), id.as_str().to_owned());
        self.restored.lock().unwrap().entry(name).or_insert_with(|| record.clone());
        Ok(())
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
}
