//! One seed from beginning to end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    check::{self, Ledger},
    client::{Client, Phase, Wire},
    dice::Dice,
    fault::Fault,
    journal::{Call, Findings, Story, Verb},
    patience::Patience,
    plan::{LAST_CALM_MS, Plan},
    rest,
    snapshot::{self, SqlState},
    sql::Servers,
    story, windows,
    world::World,
};

/// How long write-back and sweeps may take when all is well again.
const SETTLE: Duration = Duration::from_secs(20);
/// How long clients may take to end their stories.
const FINISH: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Compensations that a crash left undone are made by whoever takes the write-back lease next.
const COMPENSATE: Duration = Duration::from_secs(4);
const RESEND: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Outcome {
    pub seed: u64,
    pub violations: Vec<String>,
    /// What happened, for people.
    pub story: String,
    pub faults: Vec<&'static str>,
    pub calls: u64,
    pub stories: usize,
    pub rows: usize,
    /// Acknowledged calls that were lost, each in a reported range.
    pub lost: usize,
    /// Generations that were closed.
    pub closed: usize,
    pub took: Duration,
}

/// Runs a seed; whatever goes wrong is in the outcome.
pub fn seed(plan: Plan, servers: &Arc<Servers>) -> Outcome {
    let begun = Instant::now();
    let findings = Arc::new(Findings::default());
    let mut outcome = Outcome {
        seed: plan.seed,
        faults: plan.faults.iter().map(|(_, fault)| fault.name()).collect(),
        ..Outcome::default()
    };
    let mut said = String::new();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::start(plan.clone(), Arc::clone(&findings), servers);
        let ran = catch_unwind(AssertUnwindSafe(|| drive(&mut world, &mut outcome)));
        if ran.is_err() || findings.any() {
            said = world.said(60);
        }
        ran
    }));
    if let Ok(Err(panic)) | Err(panic) = ran {
        let sentence = panic.downcast_ref::<String>().cloned();
        let sentence = sentence.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        findings.violation(format!("panicked: {}", sentence.unwrap_or_default()));
    }
    outcome.violations = findings.violations();
    outcome.took = begun.elapsed();
    outcome.story = tell(&plan, &findings, &outcome, &said);
    outcome
}

fn tell(plan: &Plan, findings: &Findings, outcome: &Outcome, said: &str) -> String {
    let mut text = format!(
        "QUOTAD_FAULT_SEED={} ({:?}, {} sidecars, {} shards, {} accounts, fsync {}, proxied {}, {:.1} s)\n",
        plan.seed,
        plan.backend,
        plan.sidecars,
        plan.shards,
        plan.accounts.len(),
        plan.fsync,
        plan.proxied,
        outcome.took.as_secs_f64()
    );
    for happened in findings.faults() {
        let ended = happened.ended.map_or_else(|| "?".to_owned(), |ended| ended.to_string());
        text.push_str(&format!("  {} .. {ended} {}\n", happened.began, happened.what));
    }
    for violation in &outcome.violations {
        text.push_str(&format!("  VIOLATION {violation}\n"));
    }
    text.push_str(said);
    text
}

fn drive(world: &mut World, outcome: &mut Outcome) {
    world.open_accounts();
    wait_opened(world);
    let wire = Wire {
        addresses: Arc::clone(&world.addresses),
        findings: Arc::clone(&world.findings),
        calls: Arc::new(AtomicU64::new(0)),
    };
    let phase = Phase::default();
    let mut stories = std::thread::scope(|scope| {
        let client = |number: usize| {
            let dice = Dice::new(world.plan.seed).fork(100 + number as u64);
            let (accounts, finish) = (world.plan.accounts.clone(), world.patience(FINISH));
            Client { number, dice, accounts, finish, wire: wire.clone() }
        };
        let clients: Vec<Client> = (0..world.plan.clients).map(client).collect();
        let phase = &phase;
        let threads: Vec<_> = clients.into_iter().map(|client| scope.spawn(move || client.run(phase))).collect();
        // A panic here must not leave the clients running.
        let ran = catch_unwind(AssertUnwindSafe(|| faults(world, phase)));
        phase.set(Phase::FINISH);
        while ran.is_ok() && !threads.iter().all(|thread| thread.is_finished()) {
            world.refresh();
            std::thread::sleep(LOOK_AGAIN);
        }
        let stories: Vec<Story> = threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect();
        ran.map(|()| stories).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let mut dice = Dice::new(world.plan.seed).fork(3);
    finish(world, &wire, &mut stories, &mut dice, outcome);
    outcome.stories = stories.len();
    outcome.calls = wire.calls.load(std::sync::atomic::Ordering::Relaxed);
}

fn faults(world: &mut World, phase: &Phase) {
    let mut dice = Dice::new(world.plan.seed).fork(4);
    for (pause_ms, fault) in world.plan.faults.clone() {
        let until = Instant::now() + Duration::from_millis(pause_ms);
        while Instant::now() < until {
            world.refresh();
            std::thread::sleep(LOOK_AGAIN);
        }
        if let Fault::Quiet(quiet) = fault {
            phase.set(if quiet { Phase::PAUSE } else { Phase::TELL });
        }
        world.inject(&fault, &mut dice);
        world.wait_ready(false);
        during(world);
    }
    std::thread::sleep(Duration::from_millis(LAST_CALM_MS));
    phase.set(Phase::PAUSE);
    for sidecar in world.sidecars.iter_mut().filter(|sidecar| sidecar.armed()) {
        sidecar.start(None);
    }
    world.wait_ready(true);
}

/// What holds while everything is in motion.
fn during(world: &World) {
    // A server that has just died answers nothing; it is looked at again after the next fault.
    if let Ok(shards) = snapshot::shards(world) {
        for shard in shards.iter().filter(|shard| shard.open) {
            check::findings_of(shard.wrong_holds(), &world.findings);
        }
    }
    if let Ok(wrong) = SqlState::wrong_sums(world) {
        for sum in wrong {
            world.findings.violation(format!("I1: SQL differs from its own ledger by {sum:?}"));
        }
    }
}

/// Asks until it is there; `None` when patience ends.
pub fn wait<T>(mut patience: Patience, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if patience.is_over() {
            return None;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Until SQL knows the first balance of every account.
fn wait_opened(world: &mut World) {
    let wanted = world.plan.accounts.len();
    let opened = wait(world.patience(SETTLE), || {
        let state = SqlState::read(world).ok()?;
        (state.rows.iter().filter(|row| row.kind == "initial").count() == wanted).then_some(())
    });
    assert!(opened.is_some(), "the accounts' first balances are not posted");
}

/// Until SQL has everything that Redis has.
fn wait_posted(world: &mut World) -> Option<SqlState> {
    let mut last = String::new();
    let posted = wait(world.patience(SETTLE), || {
        world.refresh();
        let (shards, state) = (snapshot::shards(world).ok()?, SqlState::read(world).ok()?);
        let behind: Vec<String> = shards
            .iter()
            .filter(|shard| {
                let mark = state.marks.iter().find(|mark| mark.shard == i64::from(shard.shard));
                !shard.open || mark.is_none_or(|mark| (mark.generation, mark.seq) != (shard.generation, shard.seq))
            })
            .map(|shard| format!("shard {} at {}-{} open {}", shard.shard, shard.generation, shard.seq, shard.open))
            .collect();
        last = format!("{behind:?} against {:?}", state.marks);
        behind.is_empty().then_some(state)
    });
    if posted.is_none() {
        world.findings.violation(format!("not posted within {SETTLE:?}: {last}"));
    }
    posted
}

fn finish(world: &mut World, wire: &Wire, stories: &mut Vec<Story>, dice: &mut Dice, outcome: &mut Outcome) {
    let findings = Arc::clone(&world.findings);
    let Some(state) = wait_posted(world) else { return };
    if world.plan.mutant.is_some() && findings.any() {
        return;
    }
    outcome.lost = check::lost(&state, stories, &findings).len();
    // What may have been lost is said once more: then nothing may be missing or there twice.
    let ledger = Ledger::new(&state);
    for story in stories.iter_mut() {
        let posted: Vec<bool> = story.calls.iter().map(|call| ledger.has(story, call)).collect();
        for (call, posted) in story.calls.iter_mut().zip(posted) {
            let repeats = call.done() && call.moves_money() && call.verb != Verb::Partial;
            if repeats && findings.lost_since(call.asked_at()) {
                resend(world, wire, call, posted, dice);
            }
        }
    }
    rest::without_sql(world, wire, stories, dice);
    give_back(world, wire, stories, dice);
    let Some(mut state) = wait_posted(world) else { return };
    if !Ledger::uncompensated(&state).is_empty() {
        let Some(compensated) = wait_compensated(world) else { return };
        state = compensated;
    }
    check::ledger(&state, &findings, findings.lost_since(0));
    check::stories(&state, stories, &findings);
    match snapshot::shards(world) {
        Ok(shards) => {
            check::stores(&state, &shards, &findings);
            check::denied(&state, stories, &shards, &findings);
            windows::check(&state, &shards, &findings);
        }
        Err(error) => findings.violation(format!("Redis cannot be read in the end: {error}")),
    }
    rest::balances(world, &state);
    reconcile(world);
    outcome.rows = state.rows.len();
    outcome.closed = state.generations.iter().filter(|generation| generation.closed_at.is_some()).count();
}

/// Once more, with the same content. What is `posted` both sides know: it must be answered as replayed.
fn resend(world: &World, wire: &Wire, call: &mut Call, posted: bool, dice: &mut Dice) {
    match wait(world.patience(RESEND), || wire.send(call, dice)) {
        Some(reply) if reply.status == 200 => {
            if posted && reply.body["replayed"] != true {
                wire.findings.violation(format!("I5: posted, and done once more: {call:?} -> {reply:?}"));
            }
            call.reply = Some(reply);
        }
        // Denied, or its reservation is gone: it stays lost.
        Some(_) => {}
        None => wire.findings.violation(format!("no answer in the end: {call:?}")),
    }
}

/// Until nothing is held: what a loss brought back to life is released.
fn give_back(world: &mut World, wire: &Wire, stories: &[Story], dice: &mut Dice) {
    let mut last = Vec::new();
    let none = wait(world.patience(SETTLE), || {
        world.refresh();
        last = snapshot::shards(world).ok()?.into_iter().flat_map(|shard| shard.holds).collect();
        for hold in &last {
            let of = stories.iter().find(|story| story.account == hold.account && story.id == hold.id);
            let lossy = of.and_then(Story::began).is_some_and(|began| wire.findings.lost_since(began));
            if lossy {
                let _ = wire.send(&story::release(&hold.account, &hold.id), dice);
            }
        }
        last.is_empty().then_some(())
    });
    if none.is_none() {
        wire.findings.violation(format!("I1: still held in the end: {last:?}"));
    }
}

fn wait_compensated(world: &mut World) -> Option<SqlState> {
    for attempt in 0..2 {
        let done = wait(world.patience(COMPENSATE), || {
            let state = SqlState::read(world).ok()?;
            Ledger::uncompensated(&state).is_empty().then_some(())
        });
        if done.is_some() {
            return wait_posted(world);
        }
        if attempt == 0 {
            world.sidecars.iter_mut().for_each(super::sidecar::Sidecar::kill);
            world.wait_ready(true);
        }
    }
    let left = SqlState::read(world).map(|state| Ledger::uncompensated(&state));
    world.findings.violation(format!("I5: duplicates without compensation: {left:?}"));
    None
}

/// quotad itself finds no difference either, windows and keys included.
fn reconcile(world: &mut World) {
    let mut last = json!(null);
    let same = wait(world.patience(SETTLE), || {
        world.refresh();
        let admin = world.sidecars.iter_mut().find_map(super::sidecar::Sidecar::admin)?;
        let answer = admin.try_call("POST", "/admin/v1/reconcile", &[], b"{}").ok()?;
        last = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer.status == 200 && last["differences"] == json!([])).then_some(())
    });
    if same.is_none() {
        world.findings.violation(format!("I2: reconcile says {last}"));
    }
}
