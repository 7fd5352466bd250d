//! The few questions put to the child: who it is, whether it is ready, and to stop. A connection
//! for each, plain RESP; the traffic of the verbs belongs to the redis room.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// How long one answer may take; a loading server answers these questions too.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub pid: u32,
    pub run_id: String,
    pub loading: bool,
    /// Its working directory.
    pub dir: PathBuf,
}

/// Who answers on the socket; `None` when nobody does, or not as a Redis server.
pub(super) async fn identity(socket: &Path) -> Option<Identity> {
    let info = command(socket, &["INFO"]).await.ok()?.pop()?;
    let dir = command(socket, &["CONFIG", "GET", "dir"]).await.ok()?.pop()?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Some(Identity {
        pid: field("process_id")?.parse().ok()?,
        run_id: field("run_id")?.to_owned(),
        loading: field("loading")? != "0",
        dir: PathBuf::from(dir),
    })
}

/// Sends one command; the strings of its answer, those of an array in order.
///
/// # Errors
/// When the server cannot be reached, does not answer in time, or answers with an error.
pub(super) async fn command(socket: &Path, words: &[&str]) -> io::Result<Vec<String>> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(strings) = parse(&answer) {
                return strings;
            }
        }
    };
    tokio::time::timeout(ANSWER_WAIT, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Reads one answer; `None` while it is not complete.
fn parse(answer: &[u8]) -> Option<io::Result<Vec<String>>> {
    let (line, mut rest) = split_line(answer)?;
    let tail = String::from_utf8_lossy(line.get(1..)?).into_owned();
    match line.first()? {
        b'+' | b':' => Some(Ok(vec![tail])),
        b'-' => Some(Err(io::Error::other(tail))),
        b'$' => Some(Ok(vec![bulk(&tail, rest)?.0])),
        b'*' => {
            let mut strings = Vec::new();
            for _ in 0..tail.parse::<usize>().ok()? {
                let (head, after) = split_line(rest)?;
                let length = String::from_utf8_lossy(head.get(1..)?).into_owned();
                let (text, after) = bulk(&length, after)?;
                strings.push(text);
                rest = after;
            }
            Some(Ok(strings))
        }
        _ => Some(Err(io::ErrorKind::InvalidData.into())),
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

fn bulk<'a>(length: &str, rest: &'a [u8]) -> Option<(String, &'a [u8])> {
    let length: usize = length.parse().ok()?;
    let text = rest.get(..length)?;
    Some((String::from_utf8_lossy(text).into_owned(), rest.get(length + 2..)?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn answers_read_when_complete_and_not_before() {
        let whole = b"*2\r\n$3\r\ndir\r\n$4\r\n/a b\r\n";
        assert_eq!(parse(whole).unwrap().unwrap(), ["dir", "/a b"]);
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_none(), "{cut}");
        }
        assert_eq!(parse(b"+OK\r\n").unwrap().unwrap(), ["OK"]);
        assert_eq!(parse(b"-LOADING wait\r\n").unwrap().unwrap_err().to_string(), "LOADING wait");
    }
}
