//! What the backends behind a network share: a pool, transactions whose every step has a time limit,
//! and the way from a URL to them. A server that hangs is as good as away: the caller hears
//! `Unavailable`, and the connection is thrown away unless it comes round.

use std::{borrow::Cow, future::Future, marker::PhantomData, time::Duration};

use async_trait::async_trait;
use sqlx::{ConnectOptions as _, Connection as _, Pool, Transaction, error::DatabaseError};

use super::{
    connect::OpenError,
    session::{Access, Backend, Dialect, Row, Session, Value},
};
use crate::engine::ports::StoreError;

/// How long a call waits for a connection, a new one included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this the server itself gives a statement up.
pub(super) const STATEMENT_TIMEOUT_S: u32 = 10;
/// After this we do: the server had its chance to say so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// After this the server ends a transaction whose owner says nothing: a sidecar that was stopped in the
/// middle of one must not hold the marks of its shards for ever.
pub(super) const SILENCE_TIMEOUT_S: u32 = 5;
/// A connection that nobody needed so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long start-up may wait for others that bring the tables up to date.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) type Connection<S> = <<S as Server>::Db as sqlx::Database>::Connection;

/// One kind of server.
#[async_trait]
pub(super) trait Server: Send + Sync + 'static {
    type Db: sqlx::Database;
    /// Its name in sentences.
    const NAME: &'static str;
    const DIALECT: &'static Dialect;
    const BEGIN_READ: &'static str;
    const BEGIN_WRITE: &'static str;

    /// What every new connection is told.
    async fn set_up(connection: &mut Connection<Self>) -> Result<(), sqlx::Error>;
    /// Whether money can be trusted to this server; the sentence if not.
    async fn inspect(connection: &mut Connection<Self>) -> Result<Result<(), String>, sqlx::Error>;
    /// Brings the tables up to date; several may try at once.
    async fn migrate(connection: &mut Connection<Self>) -> Result<(), sqlx::migrate::MigrateError>;
    async fn execute(
        connection: &mut Connection<Self>,
        sql: Cow<'static, str>,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error>;
    async fn fetch(
        connection: &mut Connection<Self>,
        sql: Cow<'static, str>,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error>;
    /// What an error of the server's own asks for.
    fn judge(error: &dyn DatabaseError) -> StoreError;
}

pub(super) struct ServerBackend<S: Server> {
    pool: Pool<S::Db>,
    server: PhantomData<S>,
}

impl<S: Server> ServerBackend<S> {
    /// Connects, looks at the server, brings its tables up to date.
    pub async fn open(
        options: <Connection<S> as sqlx::Connection>::Options,
        connections: u32,
    ) -> Result<Self, OpenError> {
        let open = |error: &dyn std::fmt::Display| OpenError::Open(format!("{}: {error}", S::NAME));
        let silent = |_| OpenError::Open(format!("{} does not answer", S::NAME));
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let mut connection = options.connect().await?;
            let verdict = S::inspect(&mut connection).await?;
            Ok::<_, sqlx::Error>((connection, verdict))
        });
        let (mut connection, verdict) = connecting.await.map_err(silent)?.map_err(|error| open(&error))?;
        verdict.map_err(OpenError::Open)?;
        let migrating = tokio::time::timeout(MIGRATE_TIMEOUT, S::migrate(&mut connection));
        migrating.await.map_err(silent)?.map_err(|error| open(&error))?;
        // Once here, where its error has a reader: the pool would only try again.
        S::set_up(&mut connection).await.map_err(|error| open(&error))?;
        let _ = connection.close().await;
        let pool = sqlx::pool::PoolOptions::<S::Db>::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .after_connect(|connection, _| Box::pin(S::set_up(connection)))
            // A connection whose server fell silent must not keep its place in the pool.
            .after_release(|connection, _| {
                Box::pin(async move {
                    Ok(tokio::time::timeout(ANSWER_TIMEOUT, connection.ping()).await.is_ok_and(|pong| pong.is_ok()))
                })
            })
            .connect_lazy_with(options);
        Ok(Self { pool, server: PhantomData })
    }
}

#[async_trait]
impl<S: Server> Backend for ServerBackend<S> {
    async fn begin(&self, access: Access) -> Result<Box<dyn Session>, StoreError> {
        let begin = match access {
            Access::Read => S::BEGIN_READ,
            Access::Write => S::BEGIN_WRITE,
        };
        let transaction = in_time::<S, _>(self.pool.begin_with(begin)).await?;
        Ok(Box::new(ServerSession::<S>(transaction)))
    }

    fn dialect(&self) -> &'static Dialect {
        S::DIALECT
    }

    async fn close(&self) {
        // What hangs is not waited for.
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, self.pool.close()).await;
    }
}

struct ServerSession<S: Server>(Transaction<'static, S::Db>);

#[async_trait]
impl<S: Server> Session for ServerSession<S> {
    async fn execute(&mut self, sql: Cow<'static, str>, values: &[Value<'_>]) -> Result<u64, StoreError> {
        in_time::<S, _>(S::execute(&mut self.0, sql, values)).await
    }

    async fn fetch(&mut self, sql: Cow<'static, str>, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        in_time::<S, _>(S::fetch(&mut self.0, sql, values)).await
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        in_time::<S, _>(self.0.commit()).await
    }
}

async fn in_time<S: Server, T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(match &error {
            sqlx::Error::Database(cause) => S::judge(&**cause),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt(error.to_string()),
            other => StoreError::Unavailable(other.to_string()),
        }),
        Err(_) => Err(StoreError::Unavailable(format!("{} does not answer within {ANSWER_TIMEOUT:?}", S::NAME))),
    }
}
