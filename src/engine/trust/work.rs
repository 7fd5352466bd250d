//! Trusted work, what is remembered of ids, and the question whether a call may become such work.

use std::{sync::Arc, time::Instant};

use crate::{
    engine::policies::Ready,
    quota::{clock::Millis, fingerprint::Fingerprint, id::KeyId, policy::Admission, trust::Rule},
};

/// Granted, and held nowhere.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) amount: i64,
    pub(crate) tokens: i64,
    pub(crate) prompt_cost: i64,
    /// The rules it was granted by: key, platform, model, and the prices that hold for it.
    pub(crate) ready: Arc<Ready>,
    /// Its deadline, as it was answered, and by this machine's clock.
    pub(crate) expires_at: Millis,
    pub(crate) until: Instant,
}

/// What is remembered of an id.
pub(crate) enum Slot {
    Trusted(Work),
    /// Redis has a record of it; whether it was granted in trust before.
    Known {
        was_trusted: bool,
    },
}

/// A call that might be trusted.
pub(crate) struct Question<'a> {
    pub(crate) rule: Rule,
    /// Of the policy in force here.
    pub(crate) version: u32,
    pub(crate) key: Option<&'a KeyId>,
    pub(crate) admission: &'a Admission,
    pub(crate) amount: i64,
    pub(crate) at: Instant,
    pub(crate) era: u64,
}
