//! The fake as counters.

use async_trait::async_trait;

use super::{Fake, Seen};
use crate::{
    engine::ports::{
        AdjustCall, ChargeCall, Counters, ExtendCall, RefundCall, Reply, ReserveCall, ResetCall, SettleCall,
        Unavailable,
    },
    quota::{
        clock::{Millis, local_now},
        counter::AccountCounters,
        id::{AccountId, ReservationId},
        reservation::Record,
    },
};

#[async_trait]
impl Counters for Fake {
    async fn reserve(&self, call: &ReserveCall<'_>) -> Result<Reply, Unavailable> {
        self.answer(Seen {
            verb: "reserve",
            id: call.id.to_string(),
            version: call.version,
            amount: call.amount,
            min_amount: call.min_amount,
            tokens: Some(call.tokens),
            key: call.key.cloned(),
            refusal: call.admission.refusal.as_ref().map(|refusal| refusal.code),
            groups: call.admission.groups.to_vec(),
            windows_from: call.admission.valid_from,
            price_tag: Some(call.price_tag.to_vec()),
            fingerprint: call.fingerprint,
            check_only: call.check_only,
            ..Seen::default()
        })
        .await
    }

    async fn settle(&self, call: &SettleCall<'_>) -> Result<Reply, Unavailable> {
        self.answer(Seen {
            verb: "settle",
            id: call.id.to_string(),
            cost: Some(call.cost),
            tokens: call.tokens,
            price_tag: call.price_tag.map(<[u8]>::to_vec),
            fingerprint: call.fingerprint,
            clamped: call.clamped,
            log: String::from_utf8(call.log.to_vec()).unwrap(),
            ..Seen::default()
        })
        .await
    }

    async fn release(&self, _: &AccountId, id: &ReservationId) -> Result<Reply, Unavailable> {
        self.answer(Seen { verb: "release", id: id.to_string(), ..Seen::default() }).await
    }

    async fn extend(&self, call: &ExtendCall<'_>) -> Result<Reply, Unavailable> {
        self.answer(Seen {
            verb: "extend",
            id: call.id.to_string(),
            version: call.version,
            amount: call.amount.unwrap_or(-1),
            groups: call.groups.to_vec(),
            force: call.denied,
            ..Seen::default()
        })
        .await
    }

    async fn charge(&self, call: &ChargeCall<'_>) -> Result<Reply, Unavailable> {
        self.answer(Seen {
            verb: "charge",
            id: call.id.to_string(),
            version: call.version,
            amount: call.amount,
            tokens: Some(call.tokens),
            key: call.key.cloned(),
            refusal: call.admission.refusal.as_ref().map(|refusal| refusal.code),
            groups: call.admission.groups.to_vec(),
            price_tag: Some(call.price_tag.to_vec()),
            fingerprint: call.fingerprint,
            force: call.force,
            unreserved: call.unreserved,
            clamped: call.clamped,
            ..Seen::default()
        })
        .await
    }

    async fn refund(&self, call: &RefundCall<'_>) -> Result<Reply, Unavailable> {
        let (id, amount, fingerprint) = (call.of.to_string(), call.amount, call.fingerprint);
        self.answer(Seen { verb: "refund", id, amount, fingerprint, ..Seen::default() }).await
    }

    async fn adjust(&self, call: &AdjustCall<'_>) -> Result<Reply, Unavailable> {
        let (id, amount, fingerprint) = (call.op_id.to_string(), call.amount, call.fingerprint);
        let kind = Some(call.kind);
        self.answer(Seen { verb: "adjust", id, amount, kind, fingerprint, force: call.force, ..Seen::default() }).await
    }

    async fn reset(&self, call: &ResetCall<'_>) -> Result<Reply, Unavailable> {
        self.answer(Seen { verb: "reset", id: call.field.as_str().to_owned(), ..Seen::default() }).await
    }

    async fn expire(&self, _: &AccountId, id: &ReservationId) -> Result<Reply, Unavailable> {
        let reply = self.answer(Seen { verb: "expire", id: id.to_string(), ..Seen::default() }).await?;
        self.set(|state| state.due.retain(|(_, due)| due != id));
        Ok(reply)
    }

    async fn raise_version(&self, account: &AccountId, version: u32) -> Result<Reply, Unavailable> {
        self.answer(Seen { verb: "raise", id: account.to_string(), version, ..Seen::default() }).await
    }

    async fn read_account(&self, account: &AccountId) -> Result<Option<(Millis, AccountCounters)>, Unavailable> {
        self.note("read_account", account.as_str());
        Ok(self.state.lock().unwrap().counters.clone().map(|counters| (local_now(), counters)))
    }

    async fn read_record(&self, _: &AccountId, id: &ReservationId) -> Result<Option<Record>, Unavailable> {
        self.note("read_record", id.as_str());
        Ok(self.state.lock().unwrap().record.clone())
    }

    async fn due(&self, shard: u16, most: usize) -> Result<Vec<(AccountId, ReservationId)>, Unavailable> {
        let state = self.state.lock().unwrap();
        let due = state.due.iter().filter(|_| shard == 1).take(most).cloned().collect();
        Ok(due)
    }

    fn shards(&self) -> u16 {
        2
    }

    fn shard_of(&self, _: &AccountId) -> u16 {
        1
    }

    async fn begin_load(&self, account: &AccountId) -> Result<u64, Unavailable> {
        self.note("begin_load", account.as_str());
        Ok(7)
    }

    async fn hydrate(&self, account: &AccountId, nonce: u64, counters: &AccountCounters) -> Result<Reply, Unavailable> {
        assert_eq!(nonce, 7);
        let (id, version, amount) = (account.to_string(), counters.head.version, counters.head.balance);
        let reply = self.answer(Seen { verb: "hydrate", id, version, amount, ..Seen::default() }).await?;
        self.set(|state| state.counters = Some(counters.clone()));
        Ok(reply)
    }

    async fn restore_record(&self, _: &AccountId, id: &ReservationId, record: &Record) -> Result<(), Unavailable> {
        self.note("restore", id.as_str());
        self.set(|state| state.restored = Some(record.clone()));
        Ok(())
    }
}
