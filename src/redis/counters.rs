//! The port [`Counters`]: one script per call.

use ::redis::Value;
use async_trait::async_trait;

use super::{
    Redis, arguments,
    call::failure,
    keys,
    reply::{RawReply, bytes, corrupt},
    script::Script,
};
use crate::{
    engine::ports::{
        AdjustCall, ChargeCall, Counters, ExtendCall, Listed, MendCall, Position, RefundCall, Reply, ReserveCall,
        ResetCall, SettleCall, Status, Unavailable, UndoCall,
    },
    quota::{
        clock::Millis,
        counter::{AccountCounters, Head, KeyCounter, WindowCounter},
        entry::{Entry, Kind},
        id::{AccountId, KeyId, ReservationId},
        limit::GroupField,
        packed::Packer,
        reservation::Record,
    },
};

/// How long a cold load may take: its nonce is gone after that, and it starts again.
const LOAD_MS: u64 = 10_000;

/// An account's place: its shard and the generation under which it is called.
pub(super) struct Place {
    pub(super) shard: u16,
    pub(super) generation: u32,
}

impl Redis {
    pub(super) fn place(&self, account: &AccountId) -> Result<Place, Unavailable> {
        let shard = keys::shard_of(account, self.caller.serving.shards());
        Ok(Place { shard, generation: self.caller.serving.generation(shard).inspect_err(failure)? })
    }

    pub(super) async fn raw(
        &self,
        place: &Place,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<RawReply, Unavailable> {
        self.caller.run(place.shard, place.generation, script, keys, args).await
    }

    /// A call that goes together with others.
    async fn share(&self, place: &Place, script: &Script, keys: &[String], arg: &[u8]) -> Result<Reply, Unavailable> {
        self.caller.share(place.shard, place.generation, script, keys, arg).await?.decode()
    }

    pub(super) async fn ask(
        &self,
        place: &Place,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Reply, Unavailable> {
        self.raw(place, script, keys, args).await?.decode()
    }
}

impl Place {
    pub(super) fn meta(&self) -> String {
        keys::meta(self.shard)
    }

    pub(super) fn account(&self, account: &AccountId) -> String {
        keys::account(self.shard, account)
    }

    pub(super) fn record(&self, account: &AccountId, id: &ReservationId) -> String {
        keys::record(self.shard, account, id)
    }

    pub(super) fn deadlines(&self) -> String {
        keys::deadlines(self.shard)
    }

    pub(super) fn stream(&self) -> String {
        keys::stream(self.shard)
    }
}

#[async_trait]
impl Counters for Redis {
    async fn reserve(&self, call: &ReserveCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(call.account)?;
        let keys = [place.meta(), place.account(call.account), place.record(call.account, call.id), place.deadlines()];
        self.share(&place, &self.scripts.reserve, &keys, &arguments::reserve(place.generation, call)?).await
    }

    async fn settle(&self, call: &SettleCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(call.account)?;
        let keys = [
            place.meta(),
            place.record(call.account, call.id),
            place.account(call.account),
            place.deadlines(),
            place.stream(),
        ];
        let arg = arguments::settle(place.generation, call, self.tombstone_ttl_ms)?;
        self.share(&place, &self.scripts.settle, &keys, &arg).await
    }

    async fn release(&self, account: &AccountId, id: &ReservationId) -> Result<Reply, Unavailable> {
        let place = self.place(account)?;
        let keys = [place.meta(), place.record(account, id), place.account(account), place.deadlines()];
        let arg = arguments::release(place.generation, self.tombstone_ttl_ms);
        self.share(&place, &self.scripts.release, &keys, &arg).await
    }

    async fn extend(&self, call: &ExtendCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(call.account)?;
        let asked = arguments::extend(place.generation, call)?;
        let keys = [place.meta(), place.account(call.account), place.record(call.account, call.id), place.deadlines()];
        self.ask(&place, &self.scripts.extend, &keys, &[&asked]).await
    }

    async fn charge(&self, call: &ChargeCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(call.account)?;
        let keys = [place.meta(), place.record(call.account, call.id), place.account(call.account), place.stream()];
        let arg = arguments::charge(place.generation, call, self.tombstone_ttl_ms)?;
        self.share(&place, &self.scripts.charge, &keys, &arg).await
    }

    async fn refund(&self, call: &RefundCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(call.account)?;
        let header = arguments::refund(place.generation, call);
        let args: [&[u8]; 5] = [
            &header,
            call.account.as_str().as_bytes(),
            call.op_id.as_str().as_bytes(),
            call.log,
            self.tombstone_ms.as_bytes(),
        ];
        let keys = [
            place.meta(),
            place.account(call.account),
            place.record(call.account, call.of),
            keys::operation(place.shard, call.account, Kind::Refund, call.op_id),
            place.stream(),
        ];
        self.ask(&place, &self.scripts.refund, &keys, &args).await
    }

    async fn adjust(&self, call: &AdjustCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(call.account)?;
        let mut header = Packer::with_capacity(32);
        header.uint::<4>(place.generation.into()).uint::<1>(call.kind as u64).uint::<1>(call.force.into());
        header.int(call.amount).raw(&call.fingerprint.0);
        let args: [&[u8]; 5] = [
            header.as_slice(),
            call.account.as_str().as_bytes(),
            call.op_id.as_str().as_bytes(),
            call.log,
            self.tombstone_ms.as_bytes(),
        ];
        let keys = [
            place.meta(),
            place.account(call.account),
            keys::operation(place.shard, call.account, call.kind, call.op_id),
            place.stream(),
        ];
        self.ask(&place, &self.scripts.adjust, &keys, &args).await
    }

    async fn reset(&self, call: &ResetCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(call.account)?;
        let header = arguments::generation(place.generation);
        let mut codes = Packer::with_capacity(3 * call.codes.len());
        for code in call.codes {
            codes.uint::<3>(code.0.into());
        }
        let args: [&[u8]; 7] = [
            &header,
            call.account.as_str().as_bytes(),
            call.op_id.as_str().as_bytes(),
            call.log,
            self.tombstone_ms.as_bytes(),
            call.field.as_str().as_bytes(),
            codes.as_slice(),
        ];
        let keys = [
            place.meta(),
            place.account(call.account),
            keys::operation(place.shard, call.account, Kind::Reset, call.op_id),
            place.stream(),
        ];
        self.ask(&place, &self.scripts.reset, &keys, &args).await
    }

    async fn expire(&self, account: &AccountId, id: &ReservationId) -> Result<Reply, Unavailable> {
        let place = self.place(account)?;
        let header = arguments::generation(place.generation);
        let args: [&[u8]; 4] =
            [&header, account.as_str().as_bytes(), id.as_str().as_bytes(), self.tombstone_ms.as_bytes()];
        let keys = [place.meta(), place.account(account), place.record(account, id), place.deadlines(), place.stream()];
        self.ask(&place, &self.scripts.expire, &keys, &args).await
    }

    async fn raise_version(&self, account: &AccountId, version: u32) -> Result<Reply, Unavailable> {
        let place = self.place(account)?;
        let mut header = Packer::with_capacity(8);
        header.uint::<4>(place.generation.into()).uint::<4>(version.into());
        let keys = [place.meta(), place.account(account)];
        self.ask(&place, &self.scripts.policy, &keys, &[header.as_slice()]).await
    }

    async fn undo(&self, call: &UndoCall<'_>) -> Result<Reply, Unavailable> {
        let place = self.place(&call.entry.account)?;
        let kind = if call.entry.balance < 0 { Kind::Credit } else { Kind::Debit };
        let mut header = Packer::with_capacity(24);
        header.uint::<4>(place.generation.into()).uint::<1>(kind as u64).raw(&call.fingerprint.0);
        // Of the log of what is undone nothing is needed.
        let payload = Entry { log: Vec::new(), ..call.entry.clone() }.pack();
        let args: [&[u8]; 5] =
            [header.as_slice(), call.op_id.as_str().as_bytes(), &payload, call.log, self.tombstone_ms.as_bytes()];
        let keys = [
            place.meta(),
            place.account(&call.entry.account),
            keys::operation(place.shard, &call.entry.account, kind, call.op_id),
            place.stream(),
        ];
        self.ask(&place, &self.scripts.undo, &keys, &args).await
    }

    async fn mend(&self, call: &MendCall<'_>) -> Result<Reply, Unavailable> {
        self.mend_account(call).await
    }

    async fn unload(&self, account: &AccountId, posted: Position, posted_at: Millis) -> Result<Reply, Unavailable> {
        self.unload_account(account, posted, posted_at).await
    }

    async fn loaded(&self, shard: u16, cursor: u64) -> Result<(u64, Vec<(AccountId, Millis)>), Unavailable> {
        self.loaded_page(shard, cursor).await
    }

    async fn listed(&self, account: &AccountId) -> Result<Listed, Unavailable> {
        self.listed_holds(account).await
    }

    async fn unlisted(&self, account: &AccountId) -> Result<Vec<(ReservationId, Record)>, Unavailable> {
        self.unlisted_holds(account).await
    }

    fn era(&self) -> u64 {
        self.caller.serving.era()
    }

    async fn read_account(&self, account: &AccountId) -> Result<Option<(Millis, AccountCounters)>, Unavailable> {
        let place = self.place(account)?;
        let header = arguments::generation(place.generation);
        let keys = [place.meta(), place.account(account)];
        let reply = self.raw(&place, &self.scripts.read_account, &keys, &[&header]).await?;
        match reply.status {
            Status::Absent => Ok(None),
            Status::Done => Ok(Some((reply.now, account_counters(&reply.items)?))),
            _ => Err(Unavailable::Recovering),
        }
    }

    async fn read_record(&self, account: &AccountId, id: &ReservationId) -> Result<Option<Record>, Unavailable> {
        let place = self.place(account)?;
        let header = arguments::generation(place.generation);
        let keys = [place.meta(), place.record(account, id)];
        let reply = self.ask(&place, &self.scripts.read_record, &keys, &[&header]).await?;
        if reply.status == Status::Done { Ok(reply.record) } else { Err(Unavailable::Recovering) }
    }

    async fn due(&self, shard: u16, most: usize) -> Result<Vec<(AccountId, ReservationId)>, Unavailable> {
        self.due_holds(shard, most).await
    }

    async fn queues(&self, shard: u16) -> Result<Vec<String>, Unavailable> {
        self.near_queues(shard).await
    }

    async fn cascade(&self, shard: u16, queue: &str) -> Result<bool, Unavailable> {
        self.cascade_some(shard, queue).await
    }

    fn shards(&self) -> u16 {
        self.caller.serving.shards()
    }

    fn shard_of(&self, account: &AccountId) -> u16 {
        keys::shard_of(account, self.shards())
    }

    async fn begin_load(&self, account: &AccountId) -> Result<u64, Unavailable> {
        let place = self.place(account)?;
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(|error| Unavailable::Corrupt(format!("no random numbers: {error}")))?;
        let nonce = u64::from_le_bytes(nonce);
        let mut set = ::redis::cmd("SET");
        set.arg(keys::load_nonce(place.shard, account)).arg(nonce).arg("PX").arg(LOAD_MS);
        self.caller.plain::<()>(place.shard, &set).await?;
        Ok(nonce)
    }

    async fn hydrate(&self, account: &AccountId, nonce: u64, counters: &AccountCounters) -> Result<Reply, Unavailable> {
        let place = self.place(account)?;
        let mut fields = vec![(b"h".to_vec(), counters.head.pack())];
        fields.extend(counters.keys.iter().map(|(key, counter)| {
            let field = keys::key_field(Some(key));
            (field.into_bytes(), counter.pack())
        }));
        fields.extend(
            counters
                .groups
                .iter()
                .map(|(field, windows)| (field.as_str().as_bytes().to_vec(), WindowCounter::pack_all(windows))),
        );
        let (header, nonce) = (arguments::generation(place.generation), nonce.to_string());
        let mut args = vec![&header[..], nonce.as_bytes()];
        args.extend(fields.iter().flat_map(|(field, value)| [&field[..], &value[..]]));
        let keys = [place.meta(), place.account(account), keys::load_nonce(place.shard, account)];
        self.ask(&place, &self.scripts.hydrate, &keys, &args).await
    }

    async fn restore_record(
        &self,
        account: &AccountId,
        id: &ReservationId,
        record: &Record,
    ) -> Result<(), Unavailable> {
        let place = self.place(account)?;
        let mut set = ::redis::cmd("SET");
        set.arg(place.record(account, id)).arg(record.pack()).arg("NX").arg("PX").arg(&self.tombstone_ms);
        self.caller.plain(place.shard, &set).await
    }
}

/// Fields of an account's hash: `h`, `k␟<key>`, `w␟…`.
fn account_counters(pairs: &[Value]) -> Result<AccountCounters, Unavailable> {
    let mut counters = AccountCounters::default();
    for pair in pairs.chunks_exact(2) {
        let (field, value) = (bytes(&pair[0])?, bytes(&pair[1])?);
        let field = std::str::from_utf8(field).map_err(|_| corrupt("an account field that is no text"))?;
        let bad = |_| corrupt("packed bytes that do not follow their layout");
        if field == "h" {
            counters.head = Head::unpack(value).map_err(bad)?;
        } else if let Some(key) = field.strip_prefix("k\u{1f}") {
            let key = KeyId::new(key).map_err(|_| corrupt("a key field without a key id"))?;
            counters.keys.push((key, KeyCounter::unpack(value).map_err(bad)?));
        } else if let Some((field, _)) = GroupField::parse(field) {
            counters.groups.push((field, WindowCounter::unpack_all(value).map_err(bad)?));
        } else {
            return Err(corrupt("an account field of an unknown kind"));
        }
    }
    Ok(counters)
}
