//! One connection that many calls share. A call writes its command into a buffer and waits; the
//! connection's driver hands the buffer to the kernel and gives out the replies, which come in order.
//!
//! All calls that were made since the driver last ran go out in one write, and all replies that came
//! in are taken from one read: the more calls at once, the fewer system calls for each. Those of one script are
//! even one command. Where many come at once, the server gets the first few while the others are still being
//! made, so that both work at the same time. A command is sent once. When the connection ends, whoever still waits is told
//! that the answer is lost.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf},
    time::Sleep,
};

use super::{
    fault::Fault,
    resp::{self, Scan},
    script::Script,
    share::{CALLS_MAX, Loads},
};

/// Bytes read at once.
const READ_BYTES: usize = 32 << 10;
/// Bytes that wait to be sent; with more, the server reads nothing and new calls are refused.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// Replies that are waited for, also of calls that were given up on; with more, new calls are refused.
const UNANSWERED_MAX: usize = 32 << 10;
/// A buffer that grew larger is given back once it is empty.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// Anything that carries bytes both ways.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

thread_local! {
    /// The lane whose driver ran last on this thread: a call that takes the same one wakes no other thread.
    static DRIVEN_HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of the lane that is driven on this thread.
pub(crate) fn driven_here() -> Option<usize> {
    DRIVEN_HERE.get()
}

/// The calls' end of a connection.
#[derive(Default)]
pub(crate) struct Pipe(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None` before and after there is a driver.
    writer: Option<WriteHalf<Box<dyn Socket>>>,
    /// Commands that the kernel has not taken, and how much of the first it has.
    unsent: Vec<u8>,
    sent: usize,
    /// The kernel takes no more for now; it will wake the driver.
    full: bool,
    /// What came of sending without the driver, for it to see.
    failed: Option<io::Error>,
    /// Calls that are no command yet, because they will share one.
    loads: Loads,
    /// Calls by their place; a free one is the head of a list of free ones.
    calls: Vec<Call>,
    free: Option<usize>,
    /// Calls whose replies are to come, in order.
    unanswered: VecDeque<Waiting>,
    /// How many of them each reply answers; `None`: one, by the reply as it is.
    replies: VecDeque<Option<usize>>,
    /// No call need be given up before.
    soonest: Option<Instant>,
    driver: Option<Waker>,
    /// Why no reply will come any more.
    ended: Option<String>,
}

/// A call whose reply is to come.
#[derive(Debug)]
pub(super) struct Waiting {
    /// `None`: it took too long, and its reply will be thrown away.
    place: Option<usize>,
    until: Instant,
}

enum Call {
    Waiting(Option<Waker>),
    Answered(Result<Bytes, Fault>),
    /// Nobody waits; its reply is thrown away.
    GivenUp,
    /// The next free place.
    Free(Option<usize>),
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command and waits for its reply, but not longer than `until`: one whole value, which may
    /// be an error of the server. Given up, the command may be carried out all the same.
    pub(crate) fn call(&self, until: Instant, write: impl FnOnce(&mut Vec<u8>)) -> Result<Reply<'_>, Fault> {
        self.make(until, |state, waiting| {
            write(&mut state.unsent);
            state.unanswered.push_back(waiting);
            state.replies.push_back(None);
        })
    }

    /// The same with one of the calls that a script carries: its answer, or its error.
    pub(crate) fn share(
        &self,
        until: Instant,
        script: &Script,
        keys: &[String],
        arg: &[u8],
    ) -> Result<Reply<'_>, Fault> {
        let Some(number) = script.shared else { return Err(Fault::Corrupt(format!("{} is not shared", script.name))) };
        self.make(until, |state, waiting| {
            state.loads[number].add(script, keys, arg, waiting);
            if state.loads[number].waiting.len() == CALLS_MAX {
                state.send_early(number);
            }
        })
    }

    fn make(&self, until: Instant, add: impl FnOnce(&mut State, Waiting)) -> Result<Reply<'_>, Fault> {
        let mut state = self.state();
        if let Some(why) = &state.ended {
            return Err(Fault::Lost(why.clone()));
        }
        if state.unsent.len() - state.sent >= UNSENT_BYTES_MAX || state.unanswered.len() >= UNANSWERED_MAX {
            return Err(Fault::Overloaded);
        }
        let place = state.take_place();
        add(&mut state, Waiting { place: Some(place), until });
        state.soonest = Some(state.soonest.map_or(until, |soonest| soonest.min(until)));
        // The driver left its waker when it last found nothing to send.
        if let Some(driver) = state.driver.take() {
            drop(state);
            driver.wake();
        }
        Ok(Reply { pipe: self, place })
    }
}

impl State {
    fn take_place(&mut self) -> usize {
        match self.free {
            Some(place) => {
                if let Call::Free(next) = std::mem::replace(&mut self.calls[place], Call::Waiting(None)) {
                    self.free = next;
                }
                place
            }
            None => {
                self.calls.push(Call::Waiting(None));
                self.calls.len() - 1
            }
        }
    }

    fn give_back(&mut self, place: usize) -> Call {
        let call = std::mem::replace(&mut self.calls[place], Call::Free(self.free));
        self.free = Some(place);
        call
    }

    /// The reply to the call that waits longest; the waker of whoever made it.
    fn answer(&mut self, reply: Result<Bytes, Fault>) -> Option<Waker> {
        let place = self.unanswered.pop_front()?.place?;
        self.answer_at(place, reply)
    }

    fn answer_at(&mut self, place: usize, reply: Result<Bytes, Fault>) -> Option<Waker> {
        match &mut self.calls[place] {
            Call::Waiting(waker) => {
                let waker = waker.take();
                self.calls[place] = Call::Answered(reply);
                waker
            }
            Call::GivenUp => {
                self.give_back(place);
                None
            }
            Call::Answered(_) | Call::Free(_) => None,
        }
    }

    /// Gives out one whole reply, to all that it answers.
    fn give_out(&mut self, reply: Bytes, woken: &mut Vec<Waker>) -> Result<(), resp::Garbage> {
        match self.replies.pop_front().flatten() {
            None => woken.extend(self.answer(Ok(reply))),
            Some(calls) => {
                for part in resp::shares(&reply, calls)? {
                    woken.extend(self.answer(Ok(part)));
                }
            }
        }
        Ok(())
    }

    /// Makes a command of the calls that share a script.
    fn send_load(&mut self, number: usize) {
        let load = &mut self.loads[number];
        if !load.waiting.is_empty() {
            load.send(&mut self.unsent);
            self.replies.push_back(Some(load.waiting.len()));
            self.unanswered.extend(load.waiting.drain(..));
        }
    }

    fn send_loads(&mut self) {
        (0..self.loads.len()).for_each(|number| self.send_load(number));
    }

    /// Sends without the driver, which has been woken by the first of these calls and may come long after the last.
    fn send_early(&mut self, number: usize) {
        self.send_load(number);
        if !self.full {
            // Nobody's waker: the driver looks again in any case, with its own.
            let flushed = self.poll_flush(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(Err(error)) = flushed {
                self.failed = Some(error);
            }
        }
    }

    /// Hands all commands to the kernel. Pending: it takes no more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(writer) = &mut self.writer else { return Poll::Ready(Ok(())) };
        while self.sent < self.unsent.len() {
            match Pin::new(&mut *writer).poll_write(cx, &self.unsent[self.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(sent) => self.sent += sent,
                Poll::Pending => {
                    // While calls come faster than the server reads there is always a rest: what is gone must go.
                    if self.sent >= KEPT_BYTES_MAX {
                        self.unsent.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Poll::Pending;
                }
            }
        }
        self.sent = 0;
        self.unsent.clear();
        if self.unsent.capacity() > KEPT_BYTES_MAX {
            self.unsent = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Gives up on what has waited for too long.
    fn give_up(&mut self, now: Instant, woken: &mut Vec<Waker>) {
        let loaded = self.loads.iter_mut().flat_map(|load| &mut load.waiting);
        let (mut late, mut soonest) = (Vec::new(), None::<Instant>);
        for waiting in self.unanswered.iter_mut().chain(loaded).filter(|waiting| waiting.place.is_some()) {
            if waiting.until <= now {
                late.extend(waiting.place.take());
            } else {
                soonest = Some(soonest.map_or(waiting.until, |soonest| soonest.min(waiting.until)));
            }
        }
        self.soonest = soonest;
        for place in late {
            woken.extend(self.answer_at(place, Err(Fault::Timeout)));
        }
    }
}

/// Resolves to the reply of one call.
pub(crate) struct Reply<'p> {
    pipe: &'p Pipe,
    place: usize,
}

impl Future for Reply<'_> {
    type Output = Result<Bytes, Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.pipe.state();
        match &mut state.calls[self.place] {
            Call::Waiting(Some(waker)) if waker.will_wake(cx.waker()) => Poll::Pending,
            Call::Waiting(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Call::Answered(reply) => Poll::Ready(std::mem::replace(reply, Err(Fault::Timeout))),
            Call::GivenUp | Call::Free(_) => Poll::Pending,
        }
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        match state.calls[self.place] {
            Call::Waiting(_) => state.calls[self.place] = Call::GivenUp,
            Call::Answered(_) => drop(state.give_back(self.place)),
            Call::GivenUp | Call::Free(_) => {}
        }
    }
}

/// The server's end: to be polled on the thread that makes most of the calls, until it resolves.
pub(crate) struct Driver {
    pipe: Arc<Pipe>,
    reader: ReadHalf<Box<dyn Socket>>,
    lane: usize,
    read: Box<[u8]>,
    /// What came of a reply that is not there as a whole.
    partial: BytesMut,
    scan: Scan,
    /// Whoever got a reply in this poll.
    answered: Vec<Waker>,
    /// One timer for all calls: one for each would cost as much as half of what is done here.
    clock: Pin<Box<Sleep>>,
    /// When the clock will ring, if it is set.
    rings: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(pipe: Arc<Pipe>, socket: Box<dyn Socket>, lane: usize) -> Self {
        let (reader, writer) = tokio::io::split(socket);
        pipe.state().writer = Some(writer);
        Self {
            pipe,
            reader,
            lane,
            read: vec![0; READ_BYTES].into(),
            partial: BytesMut::new(),
            scan: Scan::default(),
            answered: Vec::new(),
            clock: Box::pin(tokio::time::sleep(Duration::ZERO)),
            rings: None,
        }
    }

    /// Sends what there is. Pending: all is sent and a new call will wake, or the socket is full.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pipe.state();
        if let Some(error) = state.failed.take() {
            return Poll::Ready(Err(error));
        }
        state.send_loads();
        let flushed = state.poll_flush(cx);
        state.full = flushed.is_pending();
        ready!(flushed)?;
        state.driver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Reads and gives out replies until there are no more.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut buffer = ReadBuf::new(&mut self.read);
            ready!(Pin::new(&mut self.reader).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.partial.extend_from_slice(buffer.filled());
            self.give_out().map_err(io::Error::other)?;
        }
    }

    /// Sets the clock to the call that must be answered soonest, and gives up on calls when it rings.
    fn poll_clock(&mut self, cx: &mut Context<'_>) {
        loop {
            let soonest = self.pipe.state().soonest;
            if let Some(soonest) = soonest.filter(|soonest| self.rings.is_none_or(|rings| *soonest < rings)) {
                self.clock.as_mut().reset(soonest.into());
                self.rings = Some(soonest);
            }
            if self.rings.is_none() || self.clock.as_mut().poll(cx).is_pending() {
                return;
            }
            self.rings = None;
            self.pipe.state().give_up(Instant::now(), &mut self.answered);
            self.answered.drain(..).for_each(Waker::wake);
        }
    }

    fn give_out(&mut self) -> Result<(), resp::Garbage> {
        let mut state = self.pipe.state();
        while !self.partial.is_empty()
            && let Some(length) = self.scan.end(&self.partial)?
        {
            state.give_out(self.partial.split_to(length).freeze(), &mut self.answered)?;
        }
        drop(state);
        // Not under the lock: whoever is woken may take it at once.
        self.answered.drain(..).for_each(Waker::wake);
        Ok(())
    }
}

impl Future for Driver {
    /// Why the connection ended.
    type Output = String;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<String> {
        DRIVEN_HERE.set(Some(self.lane));
        let received = self.poll_receive(cx);
        let ended = match (received, self.poll_send(cx)) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => error.to_string(),
            (_, _) => {
                self.poll_clock(cx);
                return Poll::Pending;
            }
        };
        Poll::Ready(ended)
    }
}

impl Drop for Driver {
    /// However it ends: nobody waits for ever.
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        let why = "the connection ended";
        state.ended = Some(why.to_owned());
        state.writer = None;
        state.send_loads();
        while !state.unanswered.is_empty() {
            self.answered.extend(state.answer(Err(Fault::Lost(why.to_owned()))));
        }
        drop(state);
        self.answered.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
