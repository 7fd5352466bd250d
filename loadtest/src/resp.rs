//! A small Redis client: inline commands, RESP2 answers, over a Unix socket or TCP. Enough to ask a
//! server what its scripts cost.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpStream, UnixStream},
};

use crate::client::Target;

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for S {}

/// One connection.
pub struct Resp(BufStream<Box<dyn Stream>>);

/// What `INFO commandstats` says of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CommandStat {
    pub calls: u64,
    /// Microseconds in all.
    pub usec: u64,
    pub usec_per_call: f64,
}

impl Resp {
    /// # Errors
    /// A sentence when the server cannot be reached.
    pub async fn connect(target: &Target) -> Result<Self, String> {
        let failed = |error| format!("Redis at {target:?} cannot be reached: {error}");
        let stream: Box<dyn Stream> = match target {
            Target::Tcp(address) => Box::new(TcpStream::connect(address).await.map_err(failed)?),
            Target::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        };
        Ok(Self(BufStream::new(stream)))
    }

    /// Sends one command and reads its answer as text: a status, an integer or a bulk string.
    ///
    /// # Errors
    /// A sentence with Redis' error, or the connection's.
    pub async fn ask(&mut self, words: &[&str]) -> Result<String, String> {
        let answers = self.ask_many(words, 1).await?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    /// Sends the same command `times` times at once and reads all answers.
    ///
    /// # Errors
    /// As [`Resp::ask`].
    pub async fn ask_many(&mut self, words: &[&str], times: usize) -> Result<Vec<String>, String> {
        let commands = command(words).repeat(times);
        self.exchange(&commands, times).await
    }

    /// Sends several commands at once and reads all answers.
    ///
    /// # Errors
    /// As [`Resp::ask`].
    pub async fn ask_each(&mut self, commands: &[Vec<&str>]) -> Result<Vec<String>, String> {
        let text: String = commands.iter().map(|words| command(words)).collect();
        self.exchange(&text, commands.len()).await
    }

    async fn exchange(&mut self, commands: &str, answers: usize) -> Result<Vec<String>, String> {
        let broken = |error: std::io::Error| format!("the connection to Redis broke: {error}");
        self.0.write_all(commands.as_bytes()).await.map_err(broken)?;
        self.0.flush().await.map_err(broken)?;
        let mut read = Vec::with_capacity(answers);
        for _ in 0..answers {
            read.push(self.answer().await?);
        }
        Ok(read)
    }

    async fn answer(&mut self) -> Result<String, String> {
        let broken = |error: std::io::Error| format!("the connection to Redis broke: {error}");
        let mut line = String::new();
        if self.0.read_line(&mut line).await.map_err(broken)? == 0 {
            return Err("Redis closed the connection".into());
        }
        let text = line.trim_end();
        let (kind, rest) = text.split_at_checked(1).ok_or("Redis sent an empty line")?;
        match kind {
            "+" | ":" => Ok(rest.to_owned()),
            "-" => Err(format!("Redis answered {rest}")),
            "$" => {
                let Ok(length) = rest.parse::<usize>() else { return Ok(String::new()) };
                let mut bulk = vec![0; length + 2];
                self.0.read_exact(&mut bulk).await.map_err(broken)?;
                bulk.truncate(length);
                String::from_utf8(bulk).map_err(|_| "Redis sent text that is not UTF-8".into())
            }
            _ => Err(format!("Redis answered in a form not known here: {text}")),
        }
    }

    /// The server's process.
    ///
    /// # Errors
    /// As [`Resp::ask`], and when it does not say.
    pub async fn process_id(&mut self) -> Result<i32, String> {
        let info = self.ask(&["INFO", "server"]).await?;
        let id = info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok());
        id.ok_or_else(|| "INFO names no process_id".to_owned())
    }

    /// Bytes that the server says it uses.
    ///
    /// # Errors
    /// As [`Resp::ask`], and when it does not say.
    pub async fn used_memory(&mut self) -> Result<u64, String> {
        let info = self.ask(&["INFO", "memory"]).await?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        used.ok_or_else(|| "INFO names no used_memory".to_owned())
    }

    /// Sets the counters of `INFO commandstats` to 0.
    ///
    /// # Errors
    /// As [`Resp::ask`].
    pub async fn reset_stats(&mut self) -> Result<(), String> {
        self.ask(&["CONFIG", "RESETSTAT"]).await.map(drop)
    }

    /// Calls and time of the commands that run scripts, since the last reset.
    ///
    /// # Errors
    /// As [`Resp::ask`].
    pub async fn script_stats(&mut self) -> Result<BTreeMap<String, CommandStat>, String> {
        let info = self.ask(&["INFO", "commandstats"]).await?;
        let mut stats = command_stats(&info);
        stats.retain(|command, _| ["eval", "evalsha", "fcall"].contains(&command.as_str()));
        Ok(stats)
    }
}

fn command(words: &[&str]) -> String {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    command
}

/// Reads lines like `cmdstat_evalsha:calls=3,usec=60,usec_per_call=20.00,…`.
fn command_stats(info: &str) -> BTreeMap<String, CommandStat> {
    let stat = |line: &str| {
        let (command, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let field = |name: &str| {
            fields
                .split(',')
                .find_map(|field| field.split_once('=').filter(|(key, _)| *key == name))
                .map(|(_, value)| value)
        };
        let stat = CommandStat {
            calls: field("calls")?.parse().ok()?,
            usec: field("usec")?.parse().ok()?,
            usec_per_call: field("usec_per_call")?.parse().ok()?,
        };
        Some((command.to_owned(), stat))
    };
    info.lines().filter_map(stat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_statistics_are_read() {
        let info = "# Commandstats\r\ncmdstat_evalsha:calls=3,usec=61,usec_per_call=20.33,rejected_calls=0\r\n\
                    cmdstat_config|resetstat:calls=1,usec=9,usec_per_call=9.00\r\n";
        let stats = command_stats(info);
        assert_eq!(stats["evalsha"], CommandStat { calls: 3, usec: 61, usec_per_call: 20.33 });
        assert_eq!(stats.len(), 2);
    }

    /// Against the real thing, on a socket of its own.
    #[tokio::test]
    async fn a_real_redis_answers() {
        let (mut server, target, _folder) = crate::tests::redis_server().await;
        let mut resp = Resp::connect(&target).await.unwrap();
        let script = "return redis.call('HINCRBY', KEYS[1], 'n', 1)";
        let sha = resp.ask(&["SCRIPT", "LOAD", script]).await.unwrap();
        resp.reset_stats().await.unwrap();
        let answers = resp.ask_many(&["EVALSHA", &sha, "1", "k"], 3).await.unwrap();
        assert_eq!(answers, ["1", "2", "3"]);
        assert_eq!(resp.script_stats().await.unwrap()["evalsha"].calls, 3);
        assert_eq!(resp.ask(&["GET", "absent"]).await.unwrap(), "");
        assert!(resp.ask(&["NO", "SUCH"]).await.unwrap_err().contains("unknown command"));
        server.kill().await.unwrap();
    }
}
