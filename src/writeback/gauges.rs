//! What the room tells of itself, by the names the room has for it.

pub(super) use crate::metrics::{
    recovered, recovery_lost as lost, shards_attached as attached, writeback_failed as failed, writeback_lag as lag,
    writeback_posted as posted, writeback_stopped as stopped, writeback_uncompensated as uncompensated,
};
