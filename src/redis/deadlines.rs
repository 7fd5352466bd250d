//! The list of deadlines as a reconciliation sees it: what it has of an account, and the live holds that
//! it lacks.

use super::{Redis, counters::Place, keys, reply::corrupt};
use crate::{
    engine::ports::Unavailable,
    quota::{
        clock::Millis,
        id::{AccountId, ReservationId},
        reservation::Record,
    },
};

/// Keys or deadlines looked at per step.
pub(super) const LOOKED_AT: usize = 500;

impl Redis {
    pub(super) async fn listed(&self, account: &AccountId) -> Result<Vec<(ReservationId, Millis)>, Unavailable> {
        let place = self.place(account)?;
        let mut found = Vec::new();
        for (member, score) in self.deadlines_of(&place, account).await? {
            let (_, id) = keys::split_record(place.shard, &member).ok_or_else(|| corrupt("a deadline of no record"))?;
            // Instants are whole numbers far below 2^53.
            found.push((id, Millis(score as i64)));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Members and scores, each once if its deadline did not change meanwhile.
    pub(super) async fn deadlines_of(
        &self,
        place: &Place,
        account: &AccountId,
    ) -> Result<Vec<(Vec<u8>, f64)>, Unavailable> {
        let pattern = keys::records(place.shard, account);
        let mut found = Vec::new();
        for set in keys::all_deadlines(place.shard) {
            let mut cursor = 0_u64;
            loop {
                let mut scan = ::redis::cmd("ZSCAN");
                scan.arg(&set).arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(LOOKED_AT);
                let (next, page): (u64, Vec<(Vec<u8>, f64)>) = self.caller.plain(place.shard, &scan).await?;
                found.extend(page);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        // A scan may show a member twice.
        found.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        found.dedup();
        Ok(found)
    }

    /// A record that is still held in one look at it is a live hold: nothing here goes by a set of them.
    pub(super) async fn unlisted_holds(
        &self,
        account: &AccountId,
    ) -> Result<Vec<(ReservationId, Record)>, Unavailable> {
        let place = self.place(account)?;
        let listed = self.listed(account).await?;
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
            found.extend(self.held_among(&place, &names).await?);
            cursor = next;
            if cursor == 0 {
                found.sort_by(|a, b| a.0.cmp(&b.0));
                found.dedup_by(|a, b| a.0 == b.0);
                return Ok(found);
            }
        }
    }
}
