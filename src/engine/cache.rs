//! A bounded map that many tasks read at once: policies by account, accounts by secret.
//!
//! Eviction is "second chance": keys wait in a queue in order of arrival; when the map is full the
//! oldest one goes, unless it was read since it was last looked at, then it queues again. Reads
//! take no lock but their map shard's, and never wait for an eviction elsewhere.

use std::{
    collections::VecDeque,
    hash::Hash,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use dashmap::{DashMap, Entry};

/// Keys that an insertion may spare before it evicts the next one anyway: bounds the time under
/// the queue's lock when everything was read lately.
const CHANCES_MAX: usize = 64;

/// At most `most` entries; see the module.
pub(crate) struct Bounded<K, V> {
    map: DashMap<K, Slot<V>>,
    /// Every key of the map with its slot's ticket; and keys removed from it that are still to be
    /// dropped, which an equal key that came later must not pay for.
    queue: Mutex<VecDeque<(K, u64)>>,
    tickets: AtomicU64,
    most: usize,
}

struct Slot<V> {
    value: V,
    ticket: u64,
    read: AtomicBool,
}

impl<K: Clone + Eq + Hash, V: Clone> Bounded<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        Self { map: DashMap::new(), queue: Mutex::default(), tickets: AtomicU64::new(0), most: most.max(1) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let slot = self.map.get(key)?;
        if !slot.read.load(Ordering::Relaxed) {
            slot.read.store(true, Ordering::Relaxed);
        }
        Some(slot.value.clone())
    }

    /// Stores a value unless `keep` prefers the one that is there; returns the one now in force.
    pub(crate) fn put(&self, key: &K, value: V, keep: impl FnOnce(&V) -> bool) -> V {
        let ticket = match self.map.entry(key.clone()) {
            Entry::Occupied(mut there) => {
                if !keep(&there.get().value) {
                    there.get_mut().value = value;
                }
                return there.get().value.clone();
            }
            Entry::Vacant(room) => {
                let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
                room.insert(Slot { value: value.clone(), ticket, read: AtomicBool::new(true) });
                ticket
            }
        };
        self.make_room(key.clone(), ticket);
        value
    }

    pub(crate) fn remove(&self, key: &K) {
        self.map.remove(key);
    }

    pub(crate) fn clear(&self) {
        self.map.clear();
    }

    fn make_room(&self, newest: K, ticket: u64) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back((newest, ticket));
        let mut chances = CHANCES_MAX;
        while queue.len() > self.most {
            let Some((oldest, ticket)) = queue.pop_front() else { return };
            let spare = |slot: &Slot<V>| slot.ticket == ticket && slot.read.swap(false, Ordering::Relaxed);
            if chances > 0 && self.map.get(&oldest).is_some_and(|slot| spare(&slot)) {
                chances -= 1;
                queue.push_back((oldest, ticket));
            } else {
                self.map.remove_if(&oldest, |_, slot| slot.ticket == ticket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_spares_what_is_read() {
        let cache = Bounded::new(100);
        for key in 0..100 {
            cache.put(&key, key, |_| false);
        }
        // The hundred-and-first clears all marks; from then on key 7 alone is read.
        for key in 100..400 {
            cache.put(&key, key, |_| false);
            cache.get(&7);
        }
        assert!(cache.map.len() <= 100);
        assert_eq!(cache.get(&7), Some(7));
        assert_eq!(cache.get(&8), None);
        assert_eq!(cache.get(&399), Some(399));
    }

    #[test]
    fn removals_leave_no_growing_queue() {
        let cache = Bounded::new(10);
        for _ in 0..1_000 {
            cache.put(&1, 1, |_| false);
            cache.remove(&1);
        }
        assert!(cache.queue.lock().unwrap().len() <= 10);
        assert_eq!(cache.put(&1, 1, |_| false), 1);
        assert_eq!(cache.put(&1, 2, |there| *there == 1), 1, "kept");
        assert_eq!(cache.put(&1, 2, |_| false), 2);
    }
}
