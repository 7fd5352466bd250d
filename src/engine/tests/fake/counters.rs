//! The fake as counters.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{Fake, Seen, reply};
use crate::{
    engine::ports::{
        AdjustCall, ChargeCall, Counters, ExtendCall, Listed, MendCall, Position, RefundCall, Reply, ReserveCall,
        ResetCall, SettleCall, Status, Unavailable, UndoCall,
    },
    quota::{
        clock::{Millis, local_now},
        counter::{AccountCounters, Head, KeyCounter, WindowCounter},
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
            credit_limit: call.admission.credit_limit,
            allowance: call.admission.allowance,
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
            price_tag: call.reprice.map(|reprice| reprice.to.to_vec()),
            prompt_cost: call.reprice.map_or(0, |reprice| reprice.prompt_cost),
            tokens: call.reprice.and_then(|reprice| reprice.tokens),
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
            credit_limit: call.admission.credit_limit,
            allowance: call.admission.allowance,
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
        if let Some(unavailable) = &self.state.lock().unwrap().outage {
            return Err(unavailable.clone());
        }
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

    async fn undo(&self, _: &UndoCall<'_>) -> Result<Reply, Unavailable> {
        unimplemented!("no test of the engine asks for it")
    }

    /// Sets the head, and nothing else; a change in between is `Idle`.
    async fn mend(&self, call: &MendCall<'_>) -> Result<Reply, Unavailable> {
        let mut state = self.state.lock().unwrap();
        state.seen.push(Seen { verb: "mend", id: call.account.to_string(), ..Seen::default() });
        let counters = state.counters.as_mut().unwrap();
        let stands: HashMap<_, _> = counters.fields().into_iter().collect();
        if call.fields.iter().any(|(field, seen, _)| stands.get(field).cloned().unwrap_or_default() != *seen) {
            return Ok(reply(Status::Idle));
        }
        for (field, _, value) in call.fields {
            match field.as_slice() {
                b"h" => counters.head = Head::unpack(value).unwrap(),
                b"k\x1fk" => counters.keys[0].1 = KeyCounter::unpack(value).unwrap(),
                _ => counters.groups[0].1 = WindowCounter::unpack_all(value).unwrap(),
            }
        }
        Ok(reply(Status::Done))
    }

    async fn unload(&self, account: &AccountId, posted: Position, at: Millis) -> Result<Reply, Unavailable> {
        let (id, amount, tokens) = (account.to_string(), posted.seq as i64, Some(at.0));
        self.answer(Seen { verb: "unload", id, amount, tokens, ..Seen::default() }).await
    }

    async fn loaded(&self, shard: u16, cursor: u64) -> Result<(u64, Vec<(AccountId, Millis)>), Unavailable> {
        let state = self.state.lock().unwrap();
        let page = state.loaded.get(cursor as usize).filter(|_| shard == 1).cloned().unwrap_or_default();
        let next = if shard == 1 && cursor as usize + 1 < state.loaded.len() { cursor + 1 } else { 0 };
        Ok((next, page))
    }

    async fn listed(&self, _: &AccountId) -> Result<Listed, Unavailable> {
        let state = self.state.lock().unwrap();
        Ok(Listed { deadlines: state.deadlines.clone(), holds: state.holds.clone() })
    }
    async fn queues(&self, _: u16) -> Result<Vec<String>, Unavailable> {
        Ok(Vec::new())
    }
    async fn cascade(&self, _: u16, _: &str) -> Result<bool, Unavailable> {
        Ok(false)
    }
    async fn unlisted(&self, _: &AccountId) -> Result<Vec<(ReservationId, Record)>, Unavailable> {
        Ok(self.state.lock().unwrap().unlisted.clone())
    }
    fn era(&self) -> u64 {
        self.state.lock().unwrap().era
    }
}
