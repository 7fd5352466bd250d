//! Calls that share a script. What is called at once goes to Redis as one script for all: reading a
//! command, starting a script, asking for the time and answering cost as much as half of what a reserve
//! does, and are paid once. The calls stay apart: each decides by itself, has an answer of its own, and one that
//! fails takes no other along (`lua/lib/calls.lua`).

use super::{
    pipe::Waiting,
    resp,
    script::{SHARED, Script},
};

/// Calls in one script, which is then sent at once: Redis works on it while the next ones are made. With fewer they
/// share too little, with more Redis and the sidecar wait for each other (loadtest/results).
pub(super) const CALLS_MAX: usize = 8;

/// Calls of one script that are not on their way yet.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// The script's name.
    sha: Vec<u8>,
    /// Of each call.
    keys_each: usize,
    /// Parts of the command.
    keys: Vec<u8>,
    args: Vec<u8>,
    /// Who made them, in order.
    pub(super) waiting: Vec<Waiting>,
}

/// One load of each script that is shared.
pub(super) type Loads = [Load; SHARED.len()];

impl Load {
    pub(super) fn add(&mut self, script: &Script, keys: &[String], arg: &[u8], waiting: Waiting) {
        if self.sha.is_empty() {
            self.sha.extend_from_slice(script.sha.as_bytes());
            self.keys_each = keys.len();
        }
        debug_assert_eq!(self.keys_each, keys.len(), "every call of a script has as many keys");
        for key in keys {
            resp::part(&mut self.keys, key.as_bytes());
        }
        resp::part(&mut self.args, arg);
        self.waiting.push(waiting);
    }

    /// Appends the command that carries all calls; who waits for them is left.
    pub(super) fn send(&mut self, out: &mut Vec<u8>) {
        let (calls, keys) = (self.waiting.len(), self.waiting.len() * self.keys_each);
        resp::command(out, 3 + keys + calls);
        resp::part(out, b"EVALSHA");
        resp::part(out, &self.sha);
        resp::part(out, itoa::Buffer::new().format(keys).as_bytes());
        out.append(&mut self.keys);
        out.append(&mut self.args);
    }
}
