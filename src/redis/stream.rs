//! The port [`Stream`]: what write-back and attach need of Redis. Its commands have a connection of
//! their own and take longer than a call may.

use std::time::Duration;

use ::redis::Value;
use async_trait::async_trait;

use super::{Redis, keys, reply::corrupt, server};
use crate::{
    engine::ports::{Digest, Position, RawEntry, ServerFacts, ShardMeta, Stream, Tombstone, Unavailable},
    quota::{
        clock::Millis,
        packed::{Corrupt, Packer, Unpacker},
    },
};

/// Time budget of one command of the stream side.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A rewrite of the append-only file that takes longer is given up on, and attach tries again.
const REWRITE_MAX: Duration = Duration::from_secs(600);
/// Between two looks at a rewrite.
const REWRITE_LOOK: Duration = Duration::from_millis(50);

pub(super) fn pack_meta(meta: &ShardMeta) -> Vec<u8> {
    let mut packer = Packer::with_capacity(58);
    packer.raw(if meta.open { b"O" } else { b"R" });
    packer.uint::<4>(meta.top.generation.into()).uint::<6>(meta.now.0.unsigned_abs());
    packer.uint::<7>(meta.top.seq).raw(&meta.digest);
    packer.finish()
}

pub(super) fn unpack_meta(bytes: &[u8]) -> Result<ShardMeta, Corrupt> {
    let mut unpacker = Unpacker::new(bytes);
    let open = match unpacker.raw(1)? {
        b"O" => true,
        b"R" => false,
        _ => return Err(Corrupt),
    };
    let (generation, now) = (unpacker.uint::<4>()? as u32, Millis(unpacker.uint::<6>()? as i64));
    let top = Position { generation, seq: unpacker.uint::<7>()? };
    let digest: Digest = unpacker.raw(40)?.try_into().map_err(|_| Corrupt)?;
    if unpacker.is_empty() { Ok(ShardMeta { top, digest, open, now }) } else { Err(Corrupt) }
}

fn id(at: Position) -> String {
    format!("{}-{}", at.generation, at.seq)
}

fn position(id: &[u8]) -> Option<Position> {
    let (generation, seq) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some(Position { generation: generation.parse().ok()?, seq: seq.parse().ok()? })
}

/// One stream entry: `[id, [p, payload, d, digest]]`.
fn entry(value: Value) -> Option<RawEntry> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(at), Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let [_, Value::BulkString(payload), _, Value::BulkString(digest)] = <[Value; 4]>::try_from(fields).ok()? else {
        return None;
    };
    Some(RawEntry { at: position(&at)?, payload, digest: digest.as_slice().try_into().ok()? })
}

fn entries(range: Value) -> Result<Vec<RawEntry>, Unavailable> {
    let Value::Array(entries) = range else { return Err(corrupt("a stream range that is no array")) };
    entries.into_iter().map(|value| entry(value).ok_or_else(|| corrupt("a stream entry"))).collect()
}

fn read_meta(meta: Option<Vec<u8>>) -> Result<Option<ShardMeta>, Unavailable> {
    meta.map(|bytes| unpack_meta(&bytes).map_err(|_| corrupt("a shard meta"))).transpose()
}

impl Redis {
    async fn info(&self) -> Result<String, Unavailable> {
        self.caller.control(PATIENCE, &::redis::cmd("INFO")).await
    }

    /// Gives the server the scripts that it lacks, so that no call has to bring its own: a call that meets
    /// a missing script cannot know why it is missing, and asks for an attach.
    async fn preload(&self) -> Result<(), Unavailable> {
        let mut exists = ::redis::cmd("SCRIPT");
        exists.arg("EXISTS");
        for script in self.scripts.all() {
            exists.arg(&script.sha);
        }
        let there: Vec<bool> = self.caller.control(PATIENCE, &exists).await?;
        for (script, there) in self.scripts.all().zip(there) {
            if !there {
                let mut load = ::redis::cmd("SCRIPT");
                load.arg("LOAD").arg(&script.text);
                self.caller.control::<String>(PATIENCE, &load).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Stream for Redis {
    async fn server(&self) -> Result<ServerFacts, Unavailable> {
        let facts = server::facts(&self.info().await?).ok_or_else(|| corrupt("an INFO that lacks what is needed"))?;
        // Nothing depends on it: a call that meets a missing script brings its own.
        if !facts.loading
            && let Err(reason) = self.preload().await
        {
            tracing::debug!(%reason, "the scripts could not be loaded ahead of calls");
        }
        self.caller.serving.examined(&facts.run_id);
        Ok(facts)
    }

    async fn rewrite_aof(&self) -> Result<(), Unavailable> {
        if !server::aof(&self.info().await?).enabled {
            return Ok(());
        }
        let started: Result<String, _> = self.caller.control(PATIENCE, &::redis::cmd("BGREWRITEAOF")).await;
        match started {
            // One that runs already began after this server had loaded its file: just as good.
            Err(Unavailable::Corrupt(text)) if text.contains("already in progress") => {}
            other => drop(other?),
        }
        let wait = async {
            loop {
                let aof = server::aof(&self.info().await?);
                match (aof.rewriting, aof.last_rewrite_ok) {
                    (true, _) => tokio::time::sleep(REWRITE_LOOK).await,
                    (false, true) => return Ok(()),
                    (false, false) => {
                        return Err(Unavailable::Connection("its append-only file cannot be rewritten".to_owned()));
                    }
                }
            }
        };
        tokio::time::timeout(REWRITE_MAX, wait).await.map_err(|_| Unavailable::Timeout)?
    }

    async fn meta(&self, shard: u16) -> Result<Option<ShardMeta>, Unavailable> {
        let mut get = ::redis::cmd("GET");
        get.arg(keys::meta(shard));
        read_meta(self.caller.control(PATIENCE, &get).await?)
    }

    // A command for each shard, because each has a slot of its own.
    async fn metas(&self, shards: u16) -> Result<Vec<Option<ShardMeta>>, Unavailable> {
        let mut gets = ::redis::pipe();
        for shard in 0..shards {
            gets.cmd("GET").arg(keys::meta(shard));
        }
        let metas = self.caller.control_all(PATIENCE, &mut gets).await?;
        metas.into_iter().map(|meta| read_meta(meta?)).collect()
    }

    async fn read(&self, shard: u16, from: Position, most: usize) -> Result<Vec<RawEntry>, Unavailable> {
        let mut range = ::redis::cmd("XRANGE");
        range.arg(keys::stream(shard)).arg(id(from)).arg("+").arg("COUNT").arg(most);
        entries(self.caller.control(PATIENCE, &range).await?)
    }

    async fn read_many(
        &self,
        from: &[(u16, Position)],
        most: usize,
    ) -> Result<Vec<Result<Vec<RawEntry>, Unavailable>>, Unavailable> {
        let mut ranges = ::redis::pipe();
        for (shard, at) in from {
            ranges.cmd("XRANGE").arg(keys::stream(*shard)).arg(id(*at)).arg("+").arg("COUNT").arg(most);
        }
        let streams = self.caller.control_all(PATIENCE, &mut ranges).await?;
        Ok(streams.into_iter().map(|stream| entries(stream?)).collect())
    }

    async fn trim(&self, keep_from: &[(u16, Position)]) -> Result<(), Unavailable> {
        let mut trims = ::redis::pipe();
        for (shard, at) in keep_from {
            trims.cmd("XTRIM").arg(keys::stream(*shard)).arg("MINID").arg("=").arg(id(*at));
        }
        let trimmed = self.caller.control_all::<u64>(PATIENCE, &mut trims).await?;
        trimmed.into_iter().try_for_each(|trimmed| trimmed.map(drop))
    }

    async fn set_meta(&self, shard: u16, expected: Option<&ShardMeta>, meta: &ShardMeta) -> Result<bool, Unavailable> {
        let (seen, new) = (expected.map(pack_meta).unwrap_or_default(), pack_meta(meta));
        let keys = [keys::meta(shard)];
        let done = self.caller.run_control(PATIENCE, &self.scripts.set_meta, &keys, &[&seen, &new]).await?;
        Ok(done == Value::Int(1))
    }

    async fn wipe(&self, shard: u16, fence: &ShardMeta) -> Result<bool, Unavailable> {
        self.wipe_all(shard, fence).await
    }

    async fn redo(&self, shard: u16, fence: &ShardMeta, row: &RawEntry) -> Result<Option<ShardMeta>, Unavailable> {
        self.redo_row(shard, fence, row).await
    }

    async fn restore(&self, shard: u16, fence: &ShardMeta, tombstones: &[Tombstone]) -> Result<bool, Unavailable> {
        self.restore_all(shard, fence, tombstones).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl_ms: u64) -> Result<bool, Unavailable> {
        let (keys, ttl_ms) = ([keys::lease(name)], ttl_ms.to_string());
        let args = [holder.as_bytes(), ttl_ms.as_bytes()];
        let taken = self.caller.run_control(PATIENCE, &self.scripts.lease, &keys, &args).await?;
        Ok(taken == Value::Int(1))
    }

    fn serve(&self, shard: u16, generation: u32, era: u64) -> bool {
        self.caller.serving.serve(shard, generation, era)
    }

    fn stop(&self, shard: u16) {
        self.caller.serving.stop_one(shard);
    }

    async fn needs_attach(&self) {
        self.caller.serving.needs_attach().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_and_entries_read_back() {
        let meta = ShardMeta {
            top: Position { generation: 3, seq: 1 << 40 },
            digest: [b'a'; 40],
            open: true,
            now: Millis(1_795_168_800_000),
        };
        assert_eq!(pack_meta(&meta).len(), 58);
        assert_eq!(unpack_meta(&pack_meta(&meta)), Ok(meta));
        assert_eq!(unpack_meta(&pack_meta(&meta)[1..]), Err(Corrupt));
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let fields = vec![bulk(b"p"), bulk(b"payload"), bulk(b"d"), bulk(&[b'0'; 40])];
        let read = entry(Value::Array(vec![bulk(b"3-7"), Value::Array(fields)])).unwrap();
        assert_eq!(read.at, Position { generation: 3, seq: 7 });
        assert_eq!(read.payload, b"payload");
    }
}
