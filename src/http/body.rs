//! Collects a request's body: bounded in bytes and in time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{HeaderMap, body::Body, header::EXPECT};
use tokio::time::{Instant, timeout_at};

use super::{Config, error::Problem, error::Word};

/// A body that is too long is read on (and dropped) up to so many bytes, because a client that
/// is still writing when the connection closes may lose the answer that says why.
const DISCARD_BYTES_MAX: u64 = 32 << 20;
/// … and as long as bytes keep coming: a client that waits gets its answer.
const DISCARD_PAUSE: Duration = Duration::from_millis(250);

/// The whole body, at most `most` bytes of it.
pub(super) async fn collect<B>(config: &Config, headers: &HeaderMap, mut body: B, most: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let until = Instant::now() + config.body_timeout;
    let announced = body.size_hint().lower();
    if announced > most as u64 {
        if !headers.contains_key(EXPECT) && announced <= DISCARD_BYTES_MAX {
            discard(&mut body, until).await;
        }
        return Err(Problem::too_large(most));
    }
    let mut first: Option<Bytes> = None;
    let mut more = BytesMut::new();
    loop {
        let frame = timeout_at(until, body.frame()).await;
        let frame = frame.map_err(|_| Problem::new(Word::RequestTimeout, "the body did not come in time"))?;
        let Some(frame) = frame else { break };
        let Ok(frame) = frame else { return Err(Problem::new(Word::RequestTimeout, "the body broke off")) };
        let Ok(data) = frame.into_data() else { continue };
        let length = first.as_ref().map_or(0, Bytes::len).max(more.len());
        if length + data.len() > most {
            discard(&mut body, until).await;
            return Err(Problem::too_large(most));
        }
        match &first {
            None => first = Some(data),
            Some(begin) => {
                if more.is_empty() {
                    more.extend_from_slice(begin);
                }
                more.extend_from_slice(&data);
            }
        }
    }
    Ok(if more.is_empty() { first.unwrap_or_default() } else { more.freeze() })
}

async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B, until: Instant) {
    let mut dropped = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(until.min(Instant::now() + DISCARD_PAUSE), body.frame()).await {
        dropped += frame.data_ref().map_or(0, |data| data.len() as u64);
        if dropped > DISCARD_BYTES_MAX {
            return;
        }
    }
}
