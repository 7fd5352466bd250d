//! What an attach did, and how an operator hears of it.

use tracing::{error, info, warn};

use super::{checkpoint::Text, gauges};
use crate::{
    engine::ports::{Cause, Position},
    quota::clock::Millis,
};

/// A shard that goes on in another generation after Redis was another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub shard: u16,
    pub cause: Cause,
    /// The last place of the closed generation in SQL. What Redis acknowledged after it, and neither
    /// kept nor posted, is lost.
    pub after: Position,
    /// The generation it goes on in.
    pub generation: u32,
    /// Ledger rows applied to Redis again.
    pub redone: u64,
    /// Entries of a branch of Redis' added to the ledger.
    pub merged: u64,
    /// Entries that were seen to exist, and are lost.
    pub lost: u64,
    /// Redis' time at the last thing it kept; `None` when it kept nothing.
    pub kept_until: Option<Millis>,
    /// Emptied and filled from SQL: live holds are forgotten.
    pub rebuilt: bool,
}

/// What an attach did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub run_id: String,
    /// The append-only file was rewritten, because the server is another process than last time.
    pub rewritten: bool,
    /// Shards that nobody had opened before.
    pub opened: usize,
    /// Shards whose sides agree.
    pub agreed: usize,
    pub recovered: Vec<Recovered>,
    /// Shards that are not served, and why.
    pub refused: Vec<(u16, String)>,
}

impl Report {
    /// The lines and numbers that an operator needs.
    pub(super) fn tell(&mut self) {
        self.recovered.sort_by_key(|recovered| recovered.shard);
        self.refused.sort();
        let rebuilt = self.recovered.iter().filter(|recovered| recovered.rebuilt).count();
        gauges::attached(self.refused.len(), rebuilt);
        for recovered in &self.recovered {
            gauges::recovered(recovered.cause.as_str());
        }
        if self.opened > 0 || self.rewritten {
            let (run_id, opened, agreed) = (&self.run_id, self.opened, self.agreed);
            info!(run_id, opened, agreed, recovered = self.recovered.len(), "attached to Redis");
        }
        if !self.recovered.is_empty() {
            let sum = |of: fn(&Recovered) -> u64| self.recovered.iter().map(of).sum::<u64>();
            let kept_until = self.recovered.iter().filter_map(|recovered| recovered.kept_until).max();
            warn!(
                shards = self.places(),
                redone = sum(|recovered| recovered.redone),
                merged = sum(|recovered| recovered.merged),
                rebuilt,
                certainly_lost = sum(|recovered| recovered.lost),
                kept_until = kept_until.map_or("nothing was kept".to_owned(), Millis::rfc3339),
                "Redis is another one than before: what it acknowledged after these places, and neither kept nor had \
                 posted, is lost; rebuilt shards have forgotten their holds"
            );
        }
        for (shard, reason) in &self.refused {
            error!(shard, reason, "a shard is not served");
        }
    }

    /// `behind 3:1-20 7:1-4, missing 5:2-9`: shards and the places after which something may be lost.
    fn places(&self) -> String {
        let causes = [Cause::Restarted, Cause::Behind, Cause::Missing, Cause::Diverged, Cause::First];
        let of = |cause: Cause| {
            let mut text = String::new();
            for recovered in self.recovered.iter().filter(|recovered| recovered.cause == cause) {
                text.push_str(&format!(" {}:{}", recovered.shard, Text(recovered.after)));
            }
            (!text.is_empty()).then(|| format!("{}{text}", cause.as_str()))
        };
        causes.into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_by_cause() {
        let recovered = |shard, cause| Recovered {
            shard,
            cause,
            after: Position { generation: 1, seq: shard.into() },
            generation: 2,
            redone: 0,
            merged: 0,
            lost: 0,
            kept_until: None,
            rebuilt: false,
        };
        let report = Report {
            recovered: vec![recovered(3, Cause::Behind), recovered(5, Cause::Missing), recovered(7, Cause::Behind)],
            ..Report::default()
        };
        assert_eq!(report.places(), "behind 3:1-3 7:1-7, missing 5:1-5");
    }
}
