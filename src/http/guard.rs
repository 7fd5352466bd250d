//! Watches one connection's clock. A peer has the header timeout from the first byte of a request
//! (or from connecting) to the end of its head, and the idle timeout between requests; while a
//! request is being answered the clock stands. Whoever dribbles is cut off.
//!
//! hyper has a header timeout of its own, but not for the bytes by which the auto builder tells
//! HTTP/1 from HTTP/2, and none that leaves a quiet keep-alive connection more time than a head.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::unread;

/// What a connection is doing, written by its reader and its requests, read by its clock.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    /// A head has begun and not ended.
    in_head: AtomicBool,
    /// Milliseconds after `opened` at which the present phase began.
    since_ms: AtomicU64,
    /// HTTP/2: frames come between requests too (acknowledgements, pings), so they begin no head.
    framed: AtomicBool,
    preface_seen: AtomicUsize,
}

/// The first bytes of HTTP/2, which no HTTP/1 method shares.
const PREFACE: &[u8] = b"PRI";

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            in_flight: AtomicUsize::new(0),
            in_head: AtomicBool::new(true),
            since_ms: AtomicU64::new(0),
            framed: AtomicBool::new(false),
            preface_seen: AtomicUsize::new(0),
        })
    }

    fn begin_phase(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since_ms.store(elapsed, Relaxed);
    }

    fn read(&self, bytes: &[u8]) {
        let seen = self.preface_seen.load(Relaxed);
        if seen < PREFACE.len() {
            let fits = bytes.iter().zip(&PREFACE[seen..]).take_while(|(a, b)| a == b).count();
            let whole = seen + fits == PREFACE.len();
            let broken = fits < bytes.len().min(PREFACE.len() - seen);
            self.framed.store(whole, Relaxed);
            self.preface_seen.store(if broken { PREFACE.len() } else { seen + fits }, Relaxed);
        }
        let between = self.in_flight.load(Relaxed) == 0 && !self.framed.load(Relaxed);
        if between && !self.in_head.swap(true, Relaxed) {
            self.begin_phase();
        }
    }

    /// A request's head is read; the clock stands until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> InRequest {
        self.in_flight.fetch_add(1, Relaxed);
        self.in_head.store(false, Relaxed);
        InRequest(self.clone())
    }

    /// When to cut, and why; `None` while a request is being answered.
    fn deadline(&self, times: &Times) -> Option<(Instant, &'static str)> {
        if self.in_flight.load(Relaxed) > 0 {
            return None;
        }
        let since = self.opened + Duration::from_millis(self.since_ms.load(Relaxed));
        Some(if self.in_head.load(Relaxed) { (since + times.head, "slow_head") } else { (since + times.idle, "idle") })
    }
}

/// A request being answered.
pub(super) struct InRequest(Arc<Activity>);

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.begin_phase();
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) head: Duration,
    pub(super) idle: Duration,
}

/// Polls `connection` until it ends or its time is up (`Err`: why). The sleep is moved only when
/// the deadline comes nearer or has to be looked at again, so a busy connection touches no timer.
pub(super) fn poll<C: Future>(
    connection: Pin<&mut C>,
    mut sleep: Pin<&mut Sleep>,
    activity: &Activity,
    times: &Times,
    cx: &mut Context<'_>,
) -> Poll<Result<C::Output, &'static str>> {
    if let Poll::Ready(ended) = connection.poll(cx) {
        return Poll::Ready(Ok(ended));
    }
    loop {
        let deadline = activity.deadline(times);
        if let Some((at, reason)) = deadline {
            if Instant::now() >= at {
                return Poll::Ready(Err(reason));
            }
            if at < sleep.deadline() {
                sleep.as_mut().reset(at);
            }
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let again = deadline.map_or_else(|| Instant::now() + times.head, |(at, _)| at);
        sleep.as_mut().reset(again);
    }
}

/// A socket that tells its connection's clock when bytes come, and sends an answer of ours where
/// hyper refuses a head by itself.
pub(super) struct Watched<S> {
    socket: S,
    activity: Arc<Activity>,
    /// What is sent in exchange for bytes that were taken already.
    instead: Bytes,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, activity: Arc<Activity>) -> Self {
        Self { socket, activity, instead: Bytes::new() }
    }

    /// Takes hyper's own refusal; false for anything else.
    fn exchange(&mut self, bytes: &[u8]) -> bool {
        let no_request = self.activity.in_flight.load(Relaxed) == 0 && !self.activity.framed.load(Relaxed);
        match unread::exchanged(bytes).filter(|_| no_request) {
            Some(answer) => {
                self.instead = answer.into();
                true
            }
            None => false,
        }
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.instead))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.instead.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if let Some(fresh) = buffer.filled().get(before..).filter(|fresh| !fresh.is_empty()) {
            self.activity.read(fresh);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if self.exchange(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        // A refusal has a head and no body: it comes alone.
        if let [only] = parts
            && self.exchange(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { head: Duration::from_secs(5), idle: Duration::from_secs(75) };

    fn reason(activity: &Activity) -> Option<&'static str> {
        activity.deadline(&TIMES).map(|(_, reason)| reason)
    }

    #[test]
    fn the_clock_follows_the_requests() {
        let activity = Activity::new();
        assert_eq!(reason(&activity), Some("slow_head"), "from connecting on");
        let request = activity.request();
        assert_eq!(reason(&activity), None);
        activity.read(b"body");
        drop(request);
        assert_eq!(reason(&activity), Some("idle"));
        activity.read(b"P");
        assert_eq!(reason(&activity), Some("slow_head"), "the next head has begun");
    }

    #[test]
    fn frames_between_requests_begin_no_head() {
        let activity = Activity::new();
        for bytes in [&b"P"[..], b"RI * HTTP/2.0"] {
            activity.read(bytes);
        }
        assert_eq!(reason(&activity), Some("slow_head"), "no request came yet");
        drop(activity.request());
        activity.read(b"ping");
        assert_eq!(reason(&activity), Some("idle"));
    }

    #[test]
    fn a_put_is_no_preface() {
        let activity = Activity::new();
        for bytes in [&b"P"[..], b"UT", b"RI"] {
            activity.read(bytes);
        }
        assert!(!activity.framed.load(Relaxed));
    }
}
