//! Many seeds, several at once, and the table at the end.

use std::{
    collections::BTreeMap,
    fmt,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    plan::Plan,
    run::{self, Outcome},
    sql::Servers,
};

/// A line is printed every so many seeds.
const LINE_SEEDS: u64 = 50;

#[derive(Debug, Default)]
pub struct Summary {
    first: u64,
    last: u64,
    seeds: u64,
    calls: u64,
    stories: usize,
    rows: usize,
    lost: usize,
    closed: usize,
    faults: BTreeMap<&'static str, u64>,
    /// Seeds that found something.
    bad: Vec<u64>,
    sentences: usize,
    busy: Duration,
    took: Duration,
}

/// Runs seeds; what went wrong with one is printed at once.
pub fn run(seeds: std::ops::Range<u64>, at_once: u64) -> Summary {
    let (next, begun) = (AtomicU64::new(seeds.start), Instant::now());
    let last = seeds.end.saturating_sub(1);
    let servers = Arc::new(Servers::default());
    let summary = Mutex::new(Summary { first: seeds.start, last, ..Summary::default() });
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run::seed(Plan::draw(seed), &servers);
                    let mut summary = summary.lock().expect("a summary");
                    summary.add(&outcome);
                    summary.took = begun.elapsed();
                    if !outcome.violations.is_empty() {
                        println!("{}", outcome.story);
                    }
                    if summary.seeds.is_multiple_of(LINE_SEEDS) {
                        println!("{}", summary.line());
                    }
                }
            });
        }
    });
    summary.into_inner().expect("a summary")
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.calls += outcome.calls;
        self.stories += outcome.stories;
        self.rows += outcome.rows;
        self.lost += outcome.lost;
        self.closed += outcome.closed;
        self.busy += outcome.took;
        for fault in &outcome.faults {
            *self.faults.entry(fault).or_default() += 1;
        }
        if !outcome.violations.is_empty() {
            self.bad.push(outcome.seed);
            self.sentences += outcome.violations.len();
        }
    }

    pub fn violations(&self) -> usize {
        self.sentences
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        format!(
            "{} seeds in {:.0} s: {} calls, {} ledger rows, {} faults, {} lost in reported ranges, {} violations in seeds {:?}",
            self.seeds,
            self.took.as_secs_f64(),
            self.calls,
            self.rows,
            self.faults.values().sum::<u64>(),
            self.lost,
            self.sentences,
            self.bad
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Random faults, seeds {} to {}\n", self.first, self.last)?;
        writeln!(f, "| what | how many |\n|---|---|")?;
        let each = self.busy.as_secs_f64() / self.seeds.max(1) as f64;
        for (what, count) in [
            ("seeds", self.seeds.to_string()),
            ("violations", self.sentences.to_string()),
            ("calls answered", self.calls.to_string()),
            ("reservations, credits and debits", self.stories.to_string()),
            ("ledger rows", self.rows.to_string()),
            ("generations closed (reported ranges)", self.closed.to_string()),
            ("acknowledged calls lost, all in such ranges", self.lost.to_string()),
            ("seconds per seed", format!("{each:.1}")),
        ] {
            writeln!(f, "| {what} | {count} |")?;
        }
        for (fault, count) in &self.faults {
            writeln!(f, "| fault: {fault} | {count} |")?;
        }
        writeln!(f, "\n{}", machine())?;
        write!(f, "\nsoak: {}", self.line())
    }
}

/// What it ran on.
fn machine() -> String {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("absent").to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = first_line("uname", "-sr");
    let servers = ["redis-server", "postgres", "mariadbd"].map(|program| first_line(program, "--version"));
    format!("{cores} cores, {kernel}; {}", servers.join("; "))
}
