//! A lean client where wrk does not serve: open loops, and Redis itself. One thread, non-blocking
//! sockets, one request in flight on each connection.
//!
//! In an open loop requests are due at fixed instants, wait for a connection when none is free, and
//! their latency counts from when they were due.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::schedule::{Due, Schedule};

/// Latencies from 1 µs to one minute, to three digits.
const LATENCY_MAX_US: u64 = 60_000_000;
/// How long answers are waited for after the last request.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 16 * 1024;

/// What is said over a connection.
pub trait Talk: Send {
    /// Appends request number `index`.
    fn ask(&mut self, index: u64, request: &mut Vec<u8>);

    /// Whether `answer` is complete.
    ///
    /// # Errors
    /// A sentence when it is not the answer hoped for.
    fn is_complete(&self, answer: &[u8]) -> Result<bool, String>;
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// On every connection as soon as it is free.
    Closed,
    Open {
        per_second: f64,
    },
}

/// What there is to do.
#[derive(Clone, Debug)]
pub struct Job {
    pub address: String,
    pub connections: u32,
    pub pace: Pace,
    /// At the beginning, and not counted.
    pub warm_up: Duration,
    pub counted: Duration,
}

/// What was counted.
#[derive(Debug)]
pub struct Seen {
    pub per_second: f64,
    pub latency: Histogram<u64>,
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    /// Of the request in flight.
    due: Option<Due>,
    counts: bool,
}

/// Does the job on a thread of its own.
///
/// # Errors
/// A sentence when a connection breaks or an answer is wrong.
pub async fn drive(job: Job, talk: impl Talk + 'static) -> Result<Seen, String> {
    let done = tokio::task::spawn_blocking(move || Drive::new(&job)?.run(&job, talk)).await;
    done.map_err(|error| format!("the client ended badly: {error}"))?
}

struct Drive {
    connections: Vec<Connection>,
    idle: Vec<usize>,
    latency: Histogram<u64>,
    request: Vec<u8>,
}

impl Drive {
    fn new(job: &Job) -> Result<Self, String> {
        let connect = || {
            let stream = TcpStream::connect(&job.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Connection { stream, answer: Vec::new(), due: None, counts: false })
        };
        let connections: std::io::Result<Vec<_>> = (0..job.connections).map(|_| connect()).collect();
        let connections = connections.map_err(|error| format!("{} cannot be reached: {error}", job.address))?;
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).map_err(|error| error.to_string())?;
        Ok(Self { idle: (0..connections.len()).collect(), connections, latency, request: Vec::new() })
    }

    fn run(mut self, job: &Job, mut talk: impl Talk) -> Result<Seen, String> {
        // Sleeps end to the microsecond then; without it up to 50 µs later, for every contender.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let begun = Instant::now();
        let counting = begun + job.warm_up;
        let end = counting + job.counted;
        let mut index = 0;
        loop {
            let next = loop {
                let now = Instant::now();
                let due = match job.pace {
                    Pace::Closed => now,
                    Pace::Open { per_second } => begun + Schedule::Rate { per_second }.offset(index),
                };
                if due > now || due >= end || self.idle.is_empty() {
                    break due;
                }
                self.send(Due::at(due), due >= counting, index, &mut talk)?;
                index += 1;
            };
            let in_flight = self.connections.len() - self.idle.len();
            if next >= end && in_flight == 0 {
                let per_second = self.latency.len() as f64 / job.counted.as_secs_f64();
                return Ok(Seen { per_second, latency: self.latency });
            }
            if Instant::now() > end + LAST_ANSWERS {
                return Err(format!("{in_flight} requests were not answered within {LAST_ANSWERS:?}"));
            }
            let wait_until = if next < end && !self.idle.is_empty() { next } else { end + LAST_ANSWERS };
            self.wait(wait_until, &talk)?;
        }
    }

    fn send(&mut self, due: Due, counts: bool, index: u64, talk: &mut impl Talk) -> Result<(), String> {
        let Some(place) = self.idle.pop() else { return Ok(()) };
        self.request.clear();
        talk.ask(index, &mut self.request);
        let connection = &mut self.connections[place];
        (connection.due, connection.counts) = (Some(due), counts);
        connection.answer.clear();
        // A request is small, and the connection has nothing else under way: it fits the socket's buffer.
        connection.stream.write_all(&self.request).map_err(|error| format!("a connection broke: {error}"))
    }

    /// Waits for answers until that instant, and reads those that are there.
    fn wait(&mut self, until: Instant, talk: &impl Talk) -> Result<(), String> {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|error| error.to_string())?;
        let mut polled: Vec<PollFd<'_>> =
            self.connections.iter().map(|connection| PollFd::new(&connection.stream, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("poll failed: {error}")),
        }
        let ready: Vec<usize> = (0..polled.len()).filter(|place| !polled[*place].revents().is_empty()).collect();
        for place in ready {
            let connection = &mut self.connections[place];
            if connection.read(talk)? {
                if let (Some(due), true) = (connection.due.take(), connection.counts) {
                    let micros = u64::try_from(due.latency(Instant::now()).as_micros()).unwrap_or(u64::MAX);
                    self.latency.saturating_record(micros.max(1));
                }
                self.idle.push(place);
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Reads what is there; whether the answer is complete.
    fn read(&mut self, talk: &impl Talk) -> Result<bool, String> {
        let mut bytes = [0; READ_BYTES];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err("the server closed a connection".to_owned()),
            Ok(_) if self.due.is_none() => Err("the server spoke without being asked".to_owned()),
            Ok(read) => {
                self.answer.extend_from_slice(&bytes[..read]);
                talk.is_complete(&self.answer)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(format!("a connection broke: {error}")),
        }
    }
}
