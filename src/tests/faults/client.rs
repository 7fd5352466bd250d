//! A client: tells stories to any of the sidecars, one call per connection, with little patience. What
//! it was not told is asked again, with the same content, until it is known.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    dice::Dice,
    http::Http,
    journal::{Call, Findings, Reply, Story, Verb, now},
    patience::Patience,
    plan::AccountPlan,
    sidecar::ADMIN_TOKEN,
    story,
};

const PATIENCE: Duration = Duration::from_millis(900);
const OPEN_MOST: usize = 8;

/// Where the sidecars listen at present: gateway and admin.
pub type Addresses = Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>;

/// What the clients of a seed shall do.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

impl Phase {
    pub const TELL: u8 = 0;
    /// Nothing is sent.
    pub const PAUSE: u8 = 1;
    /// What was begun is brought to its end, then the client ends.
    pub const FINISH: u8 = 2;

    pub fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::SeqCst);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::SeqCst) == phase
    }
}

pub struct Client {
    pub number: usize,
    pub dice: Dice,
    pub accounts: Vec<AccountPlan>,
    /// How long the end of a run may take: everything works again by then.
    pub finish: Patience,
    pub wire: Wire,
}

/// How calls are sent.
#[derive(Clone)]
pub struct Wire {
    pub addresses: Addresses,
    pub findings: Arc<Findings>,
    pub calls: Arc<AtomicU64>,
}

impl Client {
    /// Until the phase is `FINISH` and every story told.
    pub fn run(mut self, phase: &Phase) -> Vec<Story> {
        let (mut open, mut told): (Vec<Story>, Vec<Story>) = (Vec::new(), Vec::new());
        let mut stories = 0;
        let mut finish = None;
        loop {
            if phase.is(Phase::PAUSE) {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            if phase.is(Phase::FINISH) {
                let finish = finish.get_or_insert_with(|| self.finish.anew());
                open.iter_mut().for_each(|story| story.late = false);
                if open.is_empty() {
                    return told;
                }
                if finish.is_over() {
                    for story in &open {
                        self.wire.findings.violation(format!("no answer until the end: {story}"));
                    }
                    told.append(&mut open);
                    return told;
                }
            } else if open.len() < OPEN_MOST && self.dice.chance(40) {
                stories += 1;
                let name = format!("{}-{stories}", self.number);
                open.push(story::draw(&name, &self.accounts, &mut self.dice));
            } else if self.dice.chance(5) && !told.is_empty() {
                let at = self.dice.below(told.len());
                self.echo(&mut told[at]);
            }
            let ready: Vec<usize> = (0..open.len()).filter(|at| !open[*at].late || open[*at].next == 0).collect();
            if ready.is_empty() {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let at = ready[self.dice.below(ready.len())];
            let known = self.wire.advance(&mut open[at], &mut self.dice);
            if open[at].finished() {
                told.push(open.swap_remove(at));
            }
            let pause_ms = if known { self.dice.millis(0..=3) } else { self.dice.millis(5..=30) };
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
    }

    /// Sends the last call of a told story once more: without a loss since, it changes nothing.
    fn echo(&mut self, story: &mut Story) {
        let Some(call) = story.calls.last_mut().filter(|call| call.done()) else { return };
        let before = call.asked_at();
        if matches!(call.verb, Verb::Reserve | Verb::Extend | Verb::Partial) {
            return;
        }
        let Some(reply) = self.wire.send(call, &mut self.dice) else { return };
        let replayed = reply.status == 200 && reply.body["replayed"] == true;
        if !replayed && !self.wire.findings.lost_since(before) {
            let sentence = format!(
                "I5: {:?} {} sent at {before} was acknowledged, then not replayed: {reply:?}",
                call.verb, call.id
            );
            self.wire.findings.violation(sentence);
        }
        if reply.status == 200 {
            call.reply = Some(reply);
        }
    }
}

impl Wire {
    /// Sends the story's next call; false when its outcome stays unknown.
    pub fn advance(&self, story: &mut Story, dice: &mut Dice) -> bool {
        let began = story.began().unwrap_or_else(now);
        let doubtful = story.calls[0].ambiguous();
        let call = &mut story.calls[story.next];
        call.sent.get_or_insert_with(now);
        call.tries += 1;
        let Some(reply) = self.send(call, dice) else { return false };
        if let Some(sentence) = story::objection(call, &reply, doubtful || self.findings.lost_since(began)) {
            self.findings.violation(format!("{sentence}: {call:?} -> {reply:?}"));
        }
        let refused = reply.status != 200;
        call.reply = Some(reply);
        story.next += 1;
        if refused && matches!(story.calls[story.next - 1].verb, Verb::Reserve | Verb::Charge | Verb::Settle) {
            // An earlier attempt may yet be carried out: whatever it holds is given back at the end.
            let last = &story.calls[story.next - 1];
            let may_be_held = last.ambiguous() && last.verb == Verb::Reserve;
            story.calls.truncate(story.next);
            if may_be_held {
                story.calls.push(story::release(&story.account, &story.id));
                story.late = true;
            }
        }
        true
    }

    /// One attempt; `None`: nobody knows what became of it.
    pub fn send(&self, call: &Call, dice: &mut Dice) -> Option<Reply> {
        let addresses = self.addresses.lock().expect("addresses").clone();
        if addresses.is_empty() {
            return None;
        }
        let (gateway, admin) = dice.pick(&addresses);
        let http = if call.path.starts_with("/admin") {
            Http::new(admin, Some(ADMIN_TOKEN))
        } else {
            Http::new(gateway, None)
        };
        let asked = now();
        let answer = http.within(PATIENCE).try_call("POST", &call.path, &[], call.body.to_string().as_bytes()).ok()?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(json!(null));
        match answer.status {
            503 => None,
            500.. => {
                self.findings.violation(format!("{:?} {} was answered {answer}", call.verb, call.id));
                None
            }
            status => Some(Reply { status, body, asked, at: now() }),
        }
    }
}
