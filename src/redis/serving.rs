//! Which shards are served, under which generation, by which server. A shard is served only between
//! its attach and the first sign that the server, its scripts or its generation changed.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

use crate::engine::ports::Unavailable;

/// Shared by the connections, the calls and the attacher.
#[derive(Debug)]
pub(crate) struct Serving {
    /// Per shard the generation plus one; 0: not served.
    generations: Box<[AtomicU64]>,
    servers: Mutex<Servers>,
    attach: Notify,
    /// Grows whenever everything stops being served: what was learnt before may have been lost.
    era: AtomicU64,
}

#[derive(Debug, Default)]
struct Servers {
    /// `run_id` of the server that the lanes lead to.
    connected: Option<String>,
    /// `run_id` that the attacher last looked at.
    examined: Option<String>,
}

impl Serving {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            generations: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            servers: Mutex::default(),
            attach: Notify::new(),
            era: AtomicU64::new(0),
        }
    }

    pub(crate) fn shards(&self) -> u16 {
        self.generations.len() as u16
    }

    /// The generation to call a shard under.
    pub(crate) fn generation(&self, shard: u16) -> Result<u32, Unavailable> {
        let stored = self.generations.get(usize::from(shard)).map_or(0, |slot| slot.load(Ordering::Acquire));
        stored.checked_sub(1).map(|generation| generation as u32).ok_or(Unavailable::Recovering)
    }

    /// Serves a shard, unless another server than the one examined, or another era, has come meanwhile: looked at
    /// under the lock under which they come. Whether it is served.
    pub(crate) fn serve(&self, shard: u16, generation: u32, era: u64) -> bool {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = servers.examined.is_some() && servers.examined != servers.connected;
        if replaced || self.era() != era {
            self.attach.notify_one();
            return false;
        }
        let slot = self.generations.get(usize::from(shard));
        slot.inspect(|slot| slot.store(u64::from(generation) + 1, Ordering::Release)).is_some()
    }

    /// Serves a shard no longer.
    pub(crate) fn stop_one(&self, shard: u16) {
        let _servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.generations.get(usize::from(shard)) {
            slot.store(0, Ordering::Release);
        }
    }

    /// A script answered that `generation` is not the shard's.
    pub(crate) fn outdated(&self, shard: u16, generation: u32) {
        if let Some(slot) = self.generations.get(usize::from(shard)) {
            let served = u64::from(generation) + 1;
            let _ = slot.compare_exchange(served, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
        self.attach.notify_one();
    }

    /// Nothing is served until it is attached again.
    pub(crate) fn stop(&self) {
        let _servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop_all();
    }

    /// See [`Counters::era`](crate::engine::ports::Counters::era).
    pub(crate) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    fn stop_all(&self) {
        // First: whoever finds a shard served again finds the new era too.
        self.era.fetch_add(1, Ordering::AcqRel);
        for slot in &self.generations {
            slot.store(0, Ordering::Release);
        }
        self.attach.notify_one();
    }

    /// A connection leads to this server. Another one than before stops everything.
    pub(crate) fn server_seen(&self, run_id: &str) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.connected.as_deref() != Some(run_id) {
            tracing::info!(run_id, "another Redis server than before: its shards must be attached");
            servers.connected = Some(run_id.to_owned());
            self.stop_all();
        }
    }

    /// Whether the lanes lead to this server.
    pub(crate) fn is_connected_to(&self, run_id: &str) -> bool {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).connected.as_deref() == Some(run_id)
    }

    /// The attacher looked at this server.
    pub(crate) fn examined(&self, run_id: &str) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).examined = Some(run_id.to_owned());
    }

    /// Asks for an attach without stopping anything.
    pub(crate) fn ask_for_attach(&self) {
        self.attach.notify_one();
    }

    pub(crate) async fn needs_attach(&self) {
        self.attach.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attach_to_a_server_that_is_gone_serves_nothing() {
        let serving = Serving::new(2);
        serving.server_seen("a");
        serving.examined("a");
        let era = serving.era();
        assert!(serving.serve(0, 3, era));
        assert_eq!(serving.generation(0).unwrap(), 3);
        serving.server_seen("b");
        assert!(serving.generation(0).is_err(), "a new server stops everything");
        assert_eq!(serving.era(), era + 1);
        assert!(!serving.serve(0, 3, era + 1));
        assert!(serving.generation(0).is_err(), "the attach was to the old one");
        serving.examined("b");
        assert!(!serving.serve(0, 3, era), "what was found out before serves nothing");
        assert!(serving.generation(0).is_err());
        assert!(serving.serve(0, 3, era + 1));
        assert_eq!(serving.generation(0).unwrap(), 3);
        serving.server_seen("b");
        assert_eq!(serving.generation(0).unwrap(), 3, "the same server again");
        serving.outdated(0, 2);
        assert_eq!(serving.generation(0).unwrap(), 3, "an answer to an older call stops nothing");
        serving.outdated(0, 3);
        assert!(serving.generation(0).is_err());
        assert_eq!(serving.era(), era + 1, "neither the same server nor another generation is a new era");
        serving.stop();
        assert_eq!(serving.era(), era + 2);
        serving.serve(0, 3, era + 2);
        serving.serve(1, 3, era + 2);
        serving.stop_one(0);
        assert!(serving.generation(0).is_err() && serving.generation(1).is_ok());
    }

    /// However the two meet: what an attach of the old era serves is not served when the era has ended.
    #[test]
    fn a_shard_is_never_served_under_an_era_that_has_ended() {
        for _ in 0..2000 {
            let serving = Serving::new(1);
            let era = serving.era();
            std::thread::scope(|scope| {
                scope.spawn(|| serving.serve(0, 3, era));
                scope.spawn(|| serving.stop());
            });
            assert!(serving.generation(0).is_err());
        }
    }
}
