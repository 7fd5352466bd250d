//! Loaded accounts as a reconciliation sees them: which there are, what they hold, putting right what
//! is wrong, and forgetting what is idle. Pages are bounded: nothing here makes other calls wait.

use super::{
    Redis, arguments,
    call::failure,
    counters::Place,
    deadlines::LOOKED_AT,
    keys,
    reply::{bytes, corrupt},
    stream::unpack_meta,
};
use crate::{
    engine::ports::{MendCall, Position, Reply, Status, Unavailable},
    quota::{
        clock::Millis,
        counter::Head,
        id::{AccountId, ReservationId},
        packed::Packer,
        reservation::{Record, State},
    },
};

impl Redis {
    pub(super) async fn mend_account(&self, call: &MendCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(call.account)?;
        let header = arguments::generation(place.generation);
        let mut args = vec![&header[..]];
        args.extend(call.fields.iter().flat_map(|(field, seen, value)| [&field[..], &seen[..], &value[..]]));
        let keys = [place.meta(), place.account(call.account)];
        self.ask(&place, &self.scripts.mend, &keys, &args).await
    }

    pub(super) async fn unload_account(
        &self,
        account: &AccountId,
        posted: Position,
        posted_at: Millis,
    ) -> Result<Reply, Unavailable> {
        let place = self.place(account)?;
        let mut header = Packer::with_capacity(24);
        header.uint::<4>(place.generation.into()).uint::<4>(posted.generation.into()).uint::<7>(posted.seq);
        header.uint::<6>(u64::try_from(posted_at.0).unwrap_or(0));
        let keys = [place.meta(), place.account(account), keys::load_nonce(place.shard, account)];
        self.ask(&place, &self.scripts.unload, &keys, &[header.as_slice()]).await
    }

    pub(super) async fn loaded_page(
        &self,
        shard: u16,
        cursor: u64,
    ) -> Result<(u64, Vec<(AccountId, Millis)>), Unavailable> {
        let place = Place { shard, generation: self.caller.serving.generation(shard).inspect_err(failure)? };
        let mut scan = ::redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(keys::accounts(shard)).arg("COUNT").arg(LOOKED_AT);
        let (next, names): (u64, Vec<Vec<u8>>) = self.caller.plain(shard, &scan).await?;
        let split = |name: &Vec<u8>| keys::split_account(shard, name).ok_or_else(|| corrupt("a key of no account"));
        let accounts = names.iter().map(split).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<String> =
            std::iter::once(place.meta()).chain(accounts.iter().map(|account| place.account(account))).collect();
        let header = arguments::generation(place.generation);
        let reply = self.raw(&place, &self.scripts.heads, &keys, &[&header]).await?;
        if reply.status != Status::Done {
            return Err(Unavailable::Recovering);
        }
        let mut page = Vec::with_capacity(accounts.len());
        for (account, head) in accounts.into_iter().zip(&reply.items) {
            // Empty: unloaded since the scan.
            if let head @ [_, ..] = bytes(head)? {
                page.push((account, Head::unpack(head).map_err(|_| corrupt("a head"))?.now));
            }
        }
        Ok((next, page))
    }

    /// Those of the named records that are live holds, each with its place among the names.
    pub(super) async fn held_among(
        &self,
        place: &Place,
        names: &[&[u8]],
    ) -> Result<Vec<(usize, ReservationId, Record)>, Unavailable> {
        let mut get = ::redis::cmd("MGET");
        get.arg(place.meta()).arg(names);
        let mut values: Vec<Option<Vec<u8>>> = self.caller.plain(place.shard, &get).await?;
        let records = values.split_off(1.min(values.len()));
        let meta = values.pop().flatten().and_then(|meta| unpack_meta(&meta).ok());
        if !meta.is_some_and(|meta| meta.open && meta.top.generation == place.generation) {
            self.caller.serving.outdated(place.shard, place.generation);
            return Err(Unavailable::Recovering);
        }
        let mut held = Vec::new();
        for (at, (name, record)) in names.iter().zip(records).enumerate() {
            let Some(record) = record else { continue };
            let (_, id) = keys::split_record(place.shard, name).ok_or_else(|| corrupt("a deadline of no record"))?;
            let record = Record::unpack(&record).map_err(|_| corrupt("a record"))?;
            if record.state == State::Held {
                held.push((at, id, record));
            }
        }
        Ok(held)
    }
}
