//! The audit as the admin API reads it.

use super::{
    Answer, Engine,
    step::{Done, verdict},
};
use crate::quota::change::Recorded;

impl Engine {
    /// Newest first, of one subject and what is below it or of all; `cursor` is the id of the last one seen.
    pub async fn changes(&self, subject: Option<&str>, cursor: Option<i64>, most: u32) -> Answer<Vec<Recorded>> {
        verdict(self.policies.changes(subject, cursor, most).await.map(Done::now).map_err(Into::into))
    }
}
