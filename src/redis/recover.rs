//! The steps of a recovery: ledger rows done once more, tombstones put back, keys removed. All of them
//! change a fenced shard only, and every script compares the meta with the fence first: a sidecar that
//! was slow must not touch a shard that another one has opened meanwhile.

use ::redis::Value;

use super::{
    Redis, keys,
    reply::{bytes, corrupt},
    stream::{PATIENCE, pack_meta, unpack_meta},
};
use crate::{
    engine::ports::{RawEntry, ShardMeta, Tombstone, Unavailable},
    quota::{entry::Entry, packed::Packer},
};

/// Keys looked at per SCAN step of a wipe, and removed by one script.
const KEYS_AT_ONCE: usize = 1_000;
/// Records that one script puts back.
const RECORDS_AT_ONCE: usize = 500;

/// The key of the shard's meta, then others.
fn with_meta(shard: u16, others: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(keys::meta(shard)).chain(others).collect()
}

impl Redis {
    pub(super) async fn redo_row(
        &self,
        shard: u16,
        fence: &ShardMeta,
        row: &RawEntry,
    ) -> Result<Option<ShardMeta>, Unavailable> {
        let entry = Entry::unpack(&row.payload)
            .map_err(|_| Unavailable::Corrupt(format!("a ledger row of shard {shard} cannot be read")))?;
        let operation = keys::operation(shard, &entry.account, entry.kind, &entry.op_id);
        let reservation = entry.reservation().map(|id| keys::record(shard, &entry.account, &id));
        let record = reservation.as_ref().unwrap_or(&operation);
        let mut header = Packer::with_capacity(12);
        header.uint::<4>(row.at.generation.into()).uint::<7>(row.at.seq).uint::<1>(reservation.is_some().into());
        let keys = [
            keys::meta(shard),
            keys::account(shard, &entry.account),
            record.clone(),
            operation.clone(),
            keys::deadlines(shard),
            keys::stream(shard),
        ];
        let fence = pack_meta(fence);
        let args = [&fence[..], header.as_slice(), &row.payload, &row.digest, self.tombstone_ms.as_bytes()];
        let answer = self.caller.run_control(PATIENCE, &self.scripts.redo, &keys, &args).await?;
        match bytes(&answer)? {
            [] => Ok(None),
            meta => unpack_meta(meta).map(Some).map_err(|_| corrupt("a shard meta")),
        }
    }

    pub(super) async fn restore_all(
        &self,
        shard: u16,
        fence: &ShardMeta,
        tombstones: &[Tombstone],
    ) -> Result<bool, Unavailable> {
        let fence = pack_meta(fence);
        for some in tombstones.chunks(RECORDS_AT_ONCE) {
            if !self.restore_some(shard, &fence, some).await? {
                return Ok(false);
            }
        }
        // The fence is looked at also when there was nothing to restore.
        self.restore_some(shard, &fence, &[]).await
    }

    async fn restore_some(&self, shard: u16, fence: &[u8], some: &[Tombstone]) -> Result<bool, Unavailable> {
        let keys = with_meta(shard, some.iter().map(|gone| keys::record(shard, &gone.account, &gone.id)));
        let records: Vec<Vec<u8>> = some.iter().map(|gone| gone.record.pack()).collect();
        let mut args = vec![fence, self.tombstone_ms.as_bytes()];
        args.extend(records.iter().map(Vec::as_slice));
        let answer = self.caller.run_control(PATIENCE, &self.scripts.restore, &keys, &args).await?;
        Ok(answer == Value::Int(1))
    }

    pub(super) async fn wipe_all(&self, shard: u16, fence: &ShardMeta) -> Result<bool, Unavailable> {
        let (meta, pattern, fence) = (keys::meta(shard), keys::all(shard), pack_meta(fence));
        let mut cursor = 0_u64;
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(KEYS_AT_ONCE);
            let (next, mut found): (u64, Vec<String>) = self.caller.control(PATIENCE, &scan).await?;
            found.retain(|key| *key != meta);
            for some in found.chunks(KEYS_AT_ONCE) {
                if !self.wipe_some(shard, &fence, some).await? {
                    return Ok(false);
                }
            }
            if next == 0 {
                // The fence is looked at also when there was nothing to remove.
                return self.wipe_some(shard, &fence, &[]).await;
            }
            cursor = next;
        }
    }

    async fn wipe_some(&self, shard: u16, fence: &[u8], some: &[String]) -> Result<bool, Unavailable> {
        let keys = with_meta(shard, some.iter().cloned());
        let answer = self.caller.run_control(PATIENCE, &self.scripts.wipe, &keys, &[fence]).await?;
        Ok(answer == Value::Int(1))
    }
}
