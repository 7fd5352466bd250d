//! Small operations, each measured in two ways: by the clock, with criterion, and by the instructions
//! it takes. For these `.ci/instructions` runs one case N and 2N times under callgrind and halves the
//! difference: what is made ready before, and what is different the first time, falls out.
#![allow(dead_code, reason = "each benchmark uses another part of it")]

use std::{
    hint::black_box,
    sync::OnceLock,
    time::{Duration, Instant},
};

use criterion::Criterion;

/// An operation, done so many times.
type Repeat<'a> = Box<dyn FnMut(u64) + 'a>;

/// Time that has passed since some instant; only asked in measurements by the clock.
type Clock = fn() -> Duration;

/// The cases of one benchmark, in the order in which they are shown.
#[derive(Default)]
pub struct Cases<'a>(Vec<(&'static str, Clock, Repeat<'a>)>);

impl<'a> Cases<'a> {
    /// One operation, as often as it takes.
    pub fn add<T>(&mut self, name: &'static str, mut operation: impl FnMut() -> T + 'a) {
        self.add_repeating(name, passed, move |count| {
            for _ in 0..count {
                black_box(operation());
            }
        });
    }

    /// The same for one that repeats itself and has a clock of its own.
    pub fn add_repeating(&mut self, name: &'static str, clock: Clock, repeat: impl FnMut(u64) + 'a) {
        self.0.push((name, clock, Box::new(repeat)));
    }

    /// Does what the command line says: `--bench` (cargo), `--cases` (their names), or
    /// `--case NAME --iterations N`. Without any of it nothing: test runners start every target, to
    /// ask it for its tests.
    pub fn run(mut self) {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments[..] {
            ["--cases"] => self.0.iter().for_each(|(name, ..)| println!("{name}")),
            ["--case", wanted, "--iterations", count] => {
                let found = self.0.iter_mut().find(|(name, ..)| *name == wanted);
                let (.., repeat) = found.expect("a case of that name");
                repeat(count.parse().expect("a number of iterations"));
            }
            _ if arguments.contains(&"--bench") => self.by_the_clock(),
            _ => {}
        }
    }

    fn by_the_clock(self) {
        let criterion = Criterion::default().warm_up_time(Duration::from_secs(1));
        let mut criterion = criterion.measurement_time(Duration::from_secs(3)).configure_from_args();
        for (name, clock, mut repeat) in self.0 {
            criterion.bench_function(name, |bencher| {
                bencher.iter_custom(|count| {
                    let begun = clock();
                    repeat(count);
                    clock() - begun
                });
            });
        }
        criterion.final_summary();
    }
}

/// By the wall.
fn passed() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}
