//! Deadlines. Those that are near are in a sorted set, and so are those that are far; others wait in queues, one for all
//! that ends in the same 15 s, and take their places when that time is near (a timing wheel, `lua/lib/deadline.lua`). The
//! sweep asks for what is due; a reconciliation for what is listed of an account, and for live holds that are not.

use super::{
    Redis, arguments,
    counters::Place,
    keys,
    reply::{bytes, corrupt},
};
use crate::{
    engine::ports::{Listed, Status, Unavailable},
    quota::{
        clock::Millis,
        id::{AccountId, ReservationId},
        reservation::Record,
    },
};

/// Keys or deadlines looked at per step.
pub(super) const LOOKED_AT: usize = 500;
/// Holds that one script moves out of their queue.
const CASCADED: usize = 200;
/// How long before its time a queue is emptied, in ms: `lua/cascade.lua`.
const AHEAD: &str = "15000";
/// Queues of one shard taken up at once.
const QUEUES: usize = 16;

impl Redis {
    pub(super) async fn due_holds(
        &self,
        shard: u16,
        most: usize,
    ) -> Result<Vec<(AccountId, ReservationId)>, Unavailable> {
        let members = self.due_places(shard, keys::deadlines(shard), most, "0").await?;
        let split = |member: &String| {
            keys::split_record(shard, member.as_bytes()).ok_or_else(|| corrupt("a deadline of no record"))
        };
        members.iter().map(split).collect()
    }

    pub(super) async fn near_queues(&self, shard: u16) -> Result<Vec<String>, Unavailable> {
        self.due_places(shard, keys::queues(shard), QUEUES, AHEAD).await
    }

    async fn due_places(
        &self,
        shard: u16,
        places: String,
        most: usize,
        ahead: &str,
    ) -> Result<Vec<String>, Unavailable> {
        let place = Place { shard, generation: self.caller.serving.generation(shard)? };
        let (header, most) = (arguments::generation(place.generation), most.to_string());
        let args: [&[u8]; 3] = [&header, most.as_bytes(), ahead.as_bytes()];
        let reply = self.raw(&place, &self.scripts.due, &[place.meta(), places], &args).await?;
        if reply.status != Status::Done {
            return Err(Unavailable::Recovering);
        }
        let text = |item| String::from_utf8(bytes(item)?.to_vec()).map_err(|_| corrupt("a key that is no text"));
        reply.items.iter().map(text).collect()
    }

    /// One step; whether the queue has more.
    pub(super) async fn cascade_some(&self, shard: u16, queue: &str) -> Result<bool, Unavailable> {
        let place = Place { shard, generation: self.caller.serving.generation(shard)? };
        let keys = [place.meta(), place.deadlines(), queue.to_owned()];
        let (header, most) = (arguments::generation(place.generation), CASCADED.to_string());
        match self.ask(&place, &self.scripts.cascade, &keys, &[&header, most.as_bytes()]).await?.status {
            Status::Done => Ok(true),
            Status::Idle => Ok(false),
            _ => Err(Unavailable::Recovering),
        }
    }

    pub(super) async fn listed_holds(&self, account: &AccountId) -> Result<Listed, Unavailable> {
        let place = self.place(account)?;
        // Queues first: a hold that cascades meanwhile is seen twice rather than never.
        let mut queued = Vec::new();
        for (queue, _) in self.members(&place, keys::queues(place.shard), "*").await? {
            queued.extend(self.in_queue(&place, &queue, account).await?);
        }
        let pattern = keys::records(place.shard, account);
        let near = self.members(&place, place.deadlines(), &pattern).await?;
        let mut listed = Listed::default();
        for (name, at) in &near {
            let (_, id) = keys::split_record(place.shard, name).ok_or_else(|| corrupt("a deadline of no record"))?;
            listed.deadlines.push((id, *at));
        }
        let names: Vec<&[u8]> = queued.iter().chain(near.iter().map(|(name, _)| name)).map(Vec::as_slice).collect();
        for (step, names) in names.chunks(LOOKED_AT).enumerate() {
            for (at, id, record) in self.held_among(&place, names).await? {
                if step * LOOKED_AT + at < queued.len() {
                    listed.deadlines.push((id.clone(), record.expires));
                }
                listed.holds.push((id, record));
            }
        }
        // What moved or was extended meanwhile is seen twice, and a scan may show a member twice.
        listed.deadlines.sort();
        listed.deadlines.dedup();
        listed.holds.sort_by(|a, b| a.0.cmp(&b.0));
        listed.holds.dedup_by(|a, b| a.0 == b.0);
        Ok(listed)
    }

    /// Members of a sorted set that the pattern fits, and their scores.
    async fn members(&self, place: &Place, set: String, pattern: &str) -> Result<Vec<(Vec<u8>, Millis)>, Unavailable> {
        let (mut cursor, mut found) = (0_u64, Vec::new());
        loop {
            let mut scan = ::redis::cmd("ZSCAN");
            scan.arg(&set).arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(LOOKED_AT);
            let (next, page): (u64, Vec<(Vec<u8>, f64)>) = self.caller.plain(place.shard, &scan).await?;
            // Instants are whole numbers far below 2^53.
            found.extend(page.into_iter().map(|(member, score)| (member, Millis(score as i64))));
            cursor = next;
            if cursor == 0 {
                return Ok(found);
            }
        }
    }

    /// Keys of an account's live holds that wait in a queue.
    async fn in_queue(&self, place: &Place, queue: &[u8], account: &AccountId) -> Result<Vec<Vec<u8>>, Unavailable> {
        let queue = String::from_utf8(queue.to_vec()).map_err(|_| corrupt("a queue that is no text"))?;
        let keys = [place.meta(), queue];
        let (header, prefix) = (arguments::generation(place.generation), keys::record_prefix(place.shard, account));
        let mut found = Vec::new();
        for page in 0.. {
            let [first, last] = [(page + 1) * LOOKED_AT, page * LOOKED_AT + 1].map(|back| format!("-{back}"));
            let args: [&[u8]; 4] = [&header, prefix.as_bytes(), first.as_bytes(), last.as_bytes()];
            let reply = self.raw(place, &self.scripts.queue_holds, &keys, &args).await?;
            for name in &reply.items {
                found.push(bytes(name)?.to_vec());
            }
            match reply.status {
                Status::Done => {}
                Status::Idle => break,
                _ => return Err(Unavailable::Recovering),
            }
        }
        Ok(found)
    }

    /// A record that is still held in one look at it is a live hold: nothing here goes by a set of them.
    pub(super) async fn unlisted_holds(
        &self,
        account: &AccountId,
    ) -> Result<Vec<(ReservationId, Record)>, Unavailable> {
        let place = self.place(account)?;
        let listed = self.listed_holds(account).await?.deadlines;
        let pattern = keys::records(place.shard, account);
        let (mut cursor, mut found) = (0_u64, Vec::new());
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(LOOKED_AT);
            let (next, mut names): (u64, Vec<Vec<u8>>) = self.caller.plain(place.shard, &scan).await?;
            names.retain(|name| {
                let id = keys::split_record(place.shard, name).map(|(_, id)| id);
                id.is_some_and(|id| listed.binary_search_by(|(known, _)| known.cmp(&id)).is_err())
            });
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            found.extend(self.held_among(&place, &names).await?.into_iter().map(|(_, id, record)| (id, record)));
            cursor = next;
            if cursor == 0 {
                found.sort_by(|a, b| a.0.cmp(&b.0));
                found.dedup_by(|a, b| a.0 == b.0);
                return Ok(found);
            }
        }
    }
}
