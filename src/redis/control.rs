//! The connections of the stream side: write-back, attach, recovery. There are few of its commands and their
//! answers are long, so each has a connection of a pool to itself and holds up neither calls nor its like.
//!
//! Here too every new connection tells which server it leads to, before anybody uses it.

use std::{pin::Pin, sync::Arc, time::Duration};

use ::redis::{Cmd, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, Value, aio::MultiplexedConnection};
use bb8::{CustomizeConnection, Pool, PooledConnection, RunError};
use bb8_redis::RedisConnectionManager;
use tokio::time::{Instant, timeout_at};

use super::{fault::Fault, script::Script, serving::Serving};

/// Write-back, attach, one look at the server's health and one command more at a time.
const CONNECTIONS_MAX: u32 = 4;
/// How long a command waits for a connection to be opened; bb8 does not say at once that one was refused.
const PLACE_MAX: Duration = Duration::from_millis(250);
/// A command's longest stay within the client; every command has its own, shorter budget.
const RESPONSE_MAX: Duration = Duration::from_secs(60);

type Connection = PooledConnection<'static, RedisConnectionManager>;

/// The pool. One per process.
pub(crate) struct Control {
    pool: Pool<RedisConnectionManager>,
    serving: Arc<Serving>,
}

/// Asks each new connection where it leads.
#[derive(Debug)]
struct Introduced(Arc<Serving>);

impl CustomizeConnection<MultiplexedConnection, RedisError> for Introduced {
    fn on_acquire<'a>(
        &'a self,
        connection: &'a mut MultiplexedConnection,
    ) -> Pin<Box<dyn Future<Output = Result<(), RedisError>> + Send + 'a>> {
        Box::pin(async move {
            connection.set_response_timeout(RESPONSE_MAX);
            self.0.server_seen(&run_id(connection).await?);
            Ok(())
        })
    }
}

impl Control {
    pub(crate) fn new(url: impl IntoConnectionInfo, serving: Arc<Serving>) -> Result<Self, RedisError> {
        let pool = Pool::builder()
            .max_size(CONNECTIONS_MAX)
            .connection_timeout(PLACE_MAX)
            .retry_connection(false)
            .connection_customizer(Box::new(Introduced(Arc::clone(&serving))))
            .build_unchecked(RedisConnectionManager::new(url)?);
        Ok(Self { pool, serving })
    }

    /// One command, within `budget`.
    pub(crate) async fn send<T: FromRedisValue>(&self, budget: Duration, command: &Cmd) -> Result<T, Fault> {
        let until = Instant::now() + budget;
        let mut connection = self.take(until).await?;
        ask(&mut connection, until, command).await
    }

    /// Many commands in one exchange, within `budget`. A command that the server refuses has a fault of its own.
    pub(crate) async fn send_all<T: FromRedisValue>(
        &self,
        budget: Duration,
        commands: &mut Pipeline,
    ) -> Result<Vec<Result<T, Fault>>, Fault> {
        let until = Instant::now() + budget;
        let mut connection = self.take(until).await?;
        let answer = timeout_at(until, commands.ignore_errors().query_async(&mut *connection)).await;
        let answers: Vec<Result<T, RedisError>> =
            answer.map_err(|_| Fault::Timeout)?.map_err(|error| Fault::of(&error))?;
        Ok(answers.into_iter().map(|answer| answer.map_err(|error| Fault::of(&error))).collect())
    }

    /// A script, by its name or, when the server lost it, by its text.
    pub(crate) async fn run(
        &self,
        budget: Duration,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Value, Fault> {
        let until = Instant::now() + budget;
        let mut connection = self.take(until).await?;
        match ask(&mut connection, until, &eval("EVALSHA", &script.sha, keys, args)).await {
            Err(Fault::NoScript) => {}
            answer => return answer,
        }
        // As for a call: only a server that we know may be given the script.
        let server = run_id(&mut connection).await.map_err(|error| Fault::Lost(error.to_string()))?;
        if !self.serving.is_connected_to(&server) {
            self.serving.server_seen(&server);
            return Err(Fault::NoScript);
        }
        self.serving.ask_for_attach();
        ask(&mut connection, until, &eval("EVAL", &script.text, keys, args)).await
    }

    /// A connection to itself. While all are there and busy it waits for its turn, within the command's time: that
    /// says nothing of the server. What cannot be opened does.
    async fn take(&self, until: Instant) -> Result<Connection, Fault> {
        loop {
            match timeout_at(until, self.pool.get_owned()).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(RunError::User(error))) => return Err(Fault::Lost(error.to_string())),
                Ok(Err(RunError::TimedOut)) if self.pool.state().connections == CONNECTIONS_MAX => {}
                Ok(Err(RunError::TimedOut)) => return Err(Fault::Lost("there is no connection just now".to_owned())),
                Err(_) => return Err(Fault::Timeout),
            }
        }
    }
}

async fn ask<T: FromRedisValue>(connection: &mut Connection, until: Instant, command: &Cmd) -> Result<T, Fault> {
    let answer = timeout_at(until, command.query_async(&mut **connection)).await;
    answer.map_err(|_| Fault::Timeout)?.map_err(|error| Fault::of(&error))
}

async fn run_id(connection: &mut MultiplexedConnection) -> Result<String, RedisError> {
    let mut info = ::redis::cmd("INFO");
    info.arg("server");
    let text: String = info.query_async(connection).await?;
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
    let id = id.map(|id| id.trim().to_owned());
    id.ok_or_else(|| RedisError::from((::redis::ErrorKind::UnexpectedReturnType, "INFO names no run_id")))
}

fn eval(verb: &str, script: &str, keys: &[String], args: &[&[u8]]) -> Cmd {
    let mut command = ::redis::cmd(verb);
    command.arg(script).arg(keys.len()).arg(keys).arg(args);
    command
}
