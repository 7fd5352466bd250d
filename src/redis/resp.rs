//! RESP, version 2, as far as calls need it: commands into bytes, and a reply out of them. Written for
//! the hot path: a command goes straight into the buffer that is sent, and what a reply holds is looked
//! at once it is there as a whole.

use ::redis::{RedisError, Value, parse_redis_value};
use bytes::Bytes;

/// Arrays within arrays; no script and no command of ours answers deeper ones.
const DEPTH_MAX: u32 = 8;

/// What the server sent is no RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server does not speak RESP")]
pub(crate) struct Garbage;

/// Appends a command's length. Its parts follow, each with [`part`].
pub(crate) fn command(out: &mut Vec<u8>, parts: usize) {
    header(out, b'*', parts);
}

/// Appends one part of a command.
pub(crate) fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends `EVALSHA` or `EVAL` with a script's name or text.
pub(crate) fn eval(out: &mut Vec<u8>, verb: &str, script: &str, keys: &[String], args: &[&[u8]]) {
    command(out, 3 + keys.len() + args.len());
    part(out, verb.as_bytes());
    part(out, script.as_bytes());
    part(out, itoa::Buffer::new().format(keys.len()).as_bytes());
    for key in keys {
        part(out, key.as_bytes());
    }
    for arg in args {
        part(out, arg);
    }
}

fn header(out: &mut Vec<u8>, kind: u8, number: usize) {
    // Nearly all are short.
    match number {
        0..10 => out.extend_from_slice(&[kind, digit(number), b'\r', b'\n']),
        10..100 => out.extend_from_slice(&[kind, digit(number / 10), digit(number % 10), b'\r', b'\n']),
        _ => {
            out.push(kind);
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn digit(number: usize) -> u8 {
    b'0' + number as u8
}

/// Looks for the end of the first reply in a buffer that grows. It goes on where it stopped, so a long
/// reply that comes in many pieces is looked at once.
#[derive(Debug)]
pub(crate) struct Scan {
    at: usize,
    /// Values that the reply still lacks.
    open: usize,
}

impl Default for Scan {
    fn default() -> Self {
        Self { at: 0, open: 1 }
    }
}

impl Scan {
    /// The length of the reply that `bytes` begins with; `None` while it is cut short. `bytes` only
    /// grows between calls. After a reply the scan begins anew.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Garbage> {
        while self.open > 0 {
            let Some((kind, number, next)) = line(bytes, self.at)? else { return Ok(None) };
            let mut end = next;
            match kind {
                b'+' | b'-' | b':' => {}
                b'$' if number >= 0 => {
                    end = next + number as usize + 2;
                    if bytes.len() < end {
                        return Ok(None);
                    }
                }
                b'*' => self.open = self.open.checked_add(number.max(0) as usize).ok_or(Garbage)?,
                b'$' => {}
                _ => return Err(Garbage),
            }
            self.at = end;
            self.open -= 1;
        }
        let end = self.at;
        *self = Self::default();
        Ok(Some(end))
    }
}

/// One line from `at`: its kind, its number (0 for texts), and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Result<Option<(u8, i64, usize)>, Garbage> {
    let Some([kind, rest @ ..]) = bytes.get(at..) else { return Ok(None) };
    let Some(length) = rest.iter().position(|byte| *byte == b'\r') else { return Ok(None) };
    let next = at + 1 + length + 2;
    if bytes.len() < next {
        return Ok(None);
    }
    let number = if matches!(kind, b'+' | b'-') { 0 } else { integer(&rest[..length])? };
    Ok(Some((*kind, number, next)))
}

fn integer(text: &[u8]) -> Result<i64, Garbage> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Garbage);
    }
    // The lowest integer of all has no positive twin; nothing answers it.
    let number = digits.iter().try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add((digit - b'0').into()));
    let number = number.ok_or(Garbage)?;
    Ok(if negative { -number } else { number })
}

/// The replies to the calls that one command carried: as many, in order. An error of the whole command is the reply to
/// each.
pub(crate) fn shares(reply: &Bytes, calls: usize) -> Result<Vec<Bytes>, Garbage> {
    if reply.first() == Some(&b'-') {
        return Ok(vec![reply.clone(); calls]);
    }
    let (b'*', number, mut at) = line(reply, 0)?.ok_or(Garbage)? else { return Err(Garbage) };
    if usize::try_from(number) != Ok(calls) {
        return Err(Garbage);
    }
    let mut shares = Vec::with_capacity(calls);
    for _ in 0..calls {
        let length = Scan::default().end(&reply[at..])?.ok_or(Garbage)?;
        shares.push(reply.slice(at..at + length));
        at += length;
    }
    Ok(shares)
}

/// The string that a whole reply is. The outer error is [`Garbage`], the inner one that of the server.
pub(crate) fn string(reply: &Bytes) -> Result<Result<Bytes, RedisError>, Garbage> {
    match line(reply, 0)?.ok_or(Garbage)? {
        (b'-', ..) => Ok(parse_redis_value(reply).and_then(Value::extract_error).map(|_| Bytes::new())),
        (b'$', 0.., start) if reply.len() >= start + 2 => Ok(Ok(reply.slice(start..reply.len() - 2))),
        _ => Err(Garbage),
    }
}

/// Takes one whole reply apart. The outer error is that of the server.
pub(crate) fn value(bytes: &[u8]) -> Result<Result<Value, RedisError>, Garbage> {
    if bytes.first() == Some(&b'-') {
        // Errors are rare: the library knows their kinds.
        return Ok(parse_redis_value(bytes).and_then(Value::extract_error));
    }
    let (value, end) = value_at(bytes, 0, DEPTH_MAX)?;
    if end == bytes.len() { Ok(Ok(value)) } else { Err(Garbage) }
}

fn value_at(bytes: &[u8], at: usize, depth: u32) -> Result<(Value, usize), Garbage> {
    let (kind, number, next) = line(bytes, at)?.ok_or(Garbage)?;
    Ok(match kind {
        b':' => (Value::Int(number), next),
        b'$' | b'*' if number < 0 => (Value::Nil, next),
        b'$' => {
            let end = next + number as usize;
            (Value::BulkString(bytes.get(next..end).ok_or(Garbage)?.to_vec()), end + 2)
        }
        b'*' => {
            let depth = depth.checked_sub(1).ok_or(Garbage)?;
            // Each item has three bytes at least, which bounds what a wrong number can ask for.
            let mut items = Vec::with_capacity((number as usize).min(bytes.len() / 3));
            let mut at = next;
            for _ in 0..number {
                let (item, end) = value_at(bytes, at, depth)?;
                items.push(item);
                at = end;
            }
            (Value::Array(items), at)
        }
        b'+' => match &bytes[at + 1..next - 2] {
            b"OK" => (Value::Okay, next),
            text => (Value::SimpleString(String::from_utf8_lossy(text).into_owned()), next),
        },
        b'-' => (parse_redis_value(&bytes[at..next]).map_err(|_| Garbage)?, next),
        _ => return Err(Garbage),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[&[u8]] = &[
        b"+OK\r\n",
        b"+PONG\r\n",
        b":-12\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3\r\n:1\r\n*2\r\n$1\r\nx\r\n$-1\r\n+fine\r\n",
        b"*2\r\n-ERR no\r\n:1\r\n",
    ];

    #[test]
    fn replies_are_read_as_the_library_reads_them() {
        for bytes in REPLIES {
            let ours = value(bytes).unwrap().unwrap();
            assert_eq!(ours, parse_redis_value(bytes).unwrap(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn commands_are_written_as_the_library_writes_them() {
        let (keys, args) = (["k1".to_owned(), String::new()], [&b"\0\r\n"[..], &[7; 300]]);
        let mut ours = Vec::new();
        eval(&mut ours, "EVALSHA", "abc", &keys, &args);
        let mut theirs = ::redis::cmd("EVALSHA");
        theirs.arg("abc").arg(2).arg(&keys).arg(&args);
        assert_eq!(ours, theirs.get_packed_command());
    }

    #[test]
    fn a_reply_ends_where_it_ends_however_it_is_cut() {
        let stream: Vec<u8> = REPLIES.concat();
        for step in 1..=stream.len() {
            let (mut scan, mut begun, mut found) = (Scan::default(), 0, Vec::new());
            for there in (step..stream.len() + step).step_by(step).map(|there| there.min(stream.len())) {
                while begun < there
                    && let Some(length) = scan.end(&stream[begun..there]).unwrap()
                {
                    found.push(&stream[begun..begun + length]);
                    begun += length;
                }
            }
            assert_eq!(found, REPLIES, "{step} bytes at a time");
        }
    }

    #[test]
    fn calls_that_share_a_command_share_its_reply() {
        let reply = Bytes::from_static(b"*3\r\n$2\r\nok\r\n-WRONGTYPE no\r\n$0\r\n\r\n");
        let parts = shares(&reply, 3).unwrap();
        assert_eq!(parts, [&b"$2\r\nok\r\n"[..], b"-WRONGTYPE no\r\n", b"$0\r\n\r\n"]);
        assert_eq!(string(&parts[0]).unwrap().unwrap(), &b"ok"[..]);
        assert_eq!(string(&parts[1]).unwrap().unwrap_err().code(), Some("WRONGTYPE"));
        assert_eq!(string(&parts[2]).unwrap().unwrap(), &b""[..]);
        assert_eq!(shares(&reply, 2), Err(Garbage), "an answer too many");
        assert_eq!(shares(&Bytes::from_static(b"$2\r\nok\r\n"), 1), Err(Garbage));
        let refused = Bytes::from_static(b"-OOM full\r\n");
        assert_eq!(shares(&refused, 2).unwrap(), [&refused, &refused]);
        assert_eq!(string(&Bytes::from_static(b":1\r\n")), Err(Garbage));
    }

    #[test]
    fn errors_keep_their_code() {
        let error = value(b"-NOSCRIPT No matching script.\r\n").unwrap().unwrap_err();
        assert_eq!(error.code(), Some("NOSCRIPT"));
    }

    #[test]
    fn garbage_is_told_from_replies() {
        for bytes in [&b"HTTP/1.1 400 Bad\r\n"[..], b":\r\n", b":1x\r\n", b":99999999999999999999\r\n", b"$x\r\n"] {
            assert_eq!(Scan::default().end(bytes), Err(Garbage), "{}", bytes.escape_ascii());
        }
        let deep = "*1\r\n".repeat(20) + ":1\r\n";
        assert_eq!(value(deep.as_bytes()).unwrap_err(), Garbage);
        assert_eq!(value(b":1\r\n:2\r\n").unwrap_err(), Garbage);
        assert_eq!(value(b"*9223372036854775807\r\n").unwrap_err(), Garbage);
    }
}
