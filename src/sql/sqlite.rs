//! SQLite as a backend: one connection that writes, a few that read beside it (write-ahead log).
//! `synchronous = FULL`, because a mark that moved must never come back after a power cut.

use std::{borrow::Cow, path::Path, str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Row as _, Sqlite, SqlitePool, Transaction, TypeInfo as _,
    ValueRef as _,
    error::DatabaseError,
    pool::PoolOptions,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};

use super::{
    connect::OpenError,
    session::{Access, Backend, Cell, Dialect, Form, Row, Session, Value},
};
use crate::engine::ports::StoreError;

/// Readers beside the writer: policy look-ups and the loader; each costs a thread.
const READERS: u32 = 4;
/// Pages of the write-ahead log, 32 MiB, before they are copied into the file. A batch of the ledger touches many
/// pages of its indexes, and the next one many of the same: each is copied once for several batches.
const CHECKPOINT_PAGES: &str = "8192";
/// How long a connection waits for another process' transaction before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a file that others open is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct SqliteBackend {
    writer: SqlitePool,
    readers: SqlitePool,
}

pub(super) const DIALECT: Dialect = Dialect {
    form: Form::Rows,
    values_max: 32_766,
    for_update: "",
    keep_first: |_| " ON CONFLICT DO NOTHING".to_owned(),
    skip_posted: Some(" ON CONFLICT (account, op_id, kind, part) WHERE status = 'posted' DO NOTHING"),
    replace_mark: " ON CONFLICT (shard) DO UPDATE SET generation = excluded.generation, seq = excluded.seq, \
                   digest = excluded.digest, fence = excluded.fence",
    add_key_usage: " ON CONFLICT (account, key_id) DO UPDATE SET \
                    used = key_usage.used + excluded.used, requests = key_usage.requests + excluded.requests",
    add_windows: " ON CONFLICT (account, field, code) DO UPDATE SET \
                  used = CASE WHEN excluded.start_s > windows.start_s THEN excluded.used \
                  ELSE windows.used + excluded.used END, start_s = excluded.start_s \
                  WHERE excluded.start_s >= windows.start_s",
    replace_raise: " ON CONFLICT (account) DO UPDATE SET version = excluded.version, due_at = excluded.due_at",
    replace_run_id: " ON CONFLICT (one) DO UPDATE SET run_id = excluded.run_id",
    sum_accounts: |rows| {
        format!(
            "UPDATE accounts SET balance = accounts.balance + d.column2, used = accounts.used + d.column3, \
             requests = accounts.requests + d.column4 FROM {rows} WHERE accounts.account = d.column1"
        )
    },
};

impl SqliteBackend {
    /// Opens the file (creating it and its folder when absent) and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| OpenError::Url(format!("this is no URL of an SQLite file: {error}")))?
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        if let Some(folder) = options.get_filename().parent().filter(|folder| *folder != Path::new("")) {
            std::fs::create_dir_all(folder)
                .map_err(|error| OpenError::Url(format!("the folder {} cannot be made: {error}", folder.display())))?;
        }
        let writing = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("cache_size", "-32768")
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let pool = |most: u32| PoolOptions::<Sqlite>::new().max_connections(most).acquire_timeout(ACQUIRE_TIMEOUT);
        let writer = open_writer(&pool(1), &writing).await?;
        let readers = pool(READERS).connect_with(options.pragma("query_only", "ON")).await.map_err(open_error)?;
        Ok(Self { writer, readers })
    }
}

/// Opens and migrates. Several processes may do so at the same moment with a new file: the switch to the
/// write-ahead log answers "locked" without waiting, so it is tried again; migrations run under the write
/// lock, because the migrator brings none for SQLite.
async fn open_writer(pool: &PoolOptions<Sqlite>, options: &SqliteConnectOptions) -> Result<SqlitePool, OpenError> {
    let mut waited = Duration::ZERO;
    let writer = loop {
        match pool.clone().connect_with(options.clone()).await {
            Err(sqlx::Error::Database(error)) if is_busy(&*error) && waited < ACQUIRE_TIMEOUT => {
                tokio::time::sleep(BUSY_PAUSE).await;
                waited += BUSY_PAUSE;
            }
            opened => break opened.map_err(open_error)?,
        }
    };
    let mut migrating = writer.begin_with("BEGIN IMMEDIATE").await.map_err(open_error)?;
    sqlx::migrate!("src/sql/migrations/sqlite").run_direct(None, &mut *migrating, false).await.map_err(open_error)?;
    migrating.commit().await.map_err(open_error)?;
    Ok(writer)
}

fn is_busy(error: &dyn DatabaseError) -> bool {
    const BUSY: i64 = 5;
    const LOCKED: i64 = 6;
    matches!(primary_code(error), BUSY | LOCKED)
}

/// The error's code without its extension.
fn primary_code(error: &dyn DatabaseError) -> i64 {
    error.code().and_then(|code| code.parse::<i64>().ok()).unwrap_or(0) & 0xff
}

fn open_error(error: impl std::fmt::Display) -> OpenError {
    OpenError::Open(error.to_string())
}

#[async_trait]
impl Backend for SqliteBackend {
    async fn begin(&self, access: Access) -> Result<Box<dyn Session>, StoreError> {
        let transaction = match access {
            Access::Read => self.readers.begin().await,
            // Takes the write lock at once: a transaction that reads first and writes later could
            // find its snapshot outdated and fail.
            Access::Write => self.writer.begin_with("BEGIN IMMEDIATE").await,
        };
        Ok(Box::new(SqliteSession(transaction.map_err(|error| store_error(&error))?)))
    }

    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

struct SqliteSession(Transaction<'static, Sqlite>);

#[async_trait]
impl Session for SqliteSession {
    async fn execute(&mut self, sql: Cow<'static, str>, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let done = sqlx::query_with(AssertSqlSafe(sql), arguments(values)?).execute(&mut *self.0).await;
        Ok(done.map_err(|error| store_error(&error))?.rows_affected())
    }

    async fn fetch(&mut self, sql: Cow<'static, str>, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let rows = sqlx::query_with(AssertSqlSafe(sql), arguments(values)?).fetch_all(&mut *self.0).await;
        rows.map_err(|error| store_error(&error))?.iter().map(read_row).collect()
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.0.commit().await.map_err(|error| store_error(&error))
    }
}

fn arguments(values: &[Value<'_>]) -> Result<SqliteArguments, StoreError> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        let added = match value {
            Value::Int(int) => arguments.add(*int),
            Value::Text(text) => arguments.add(*text),
            Value::Made(text) => arguments.add(text.as_str()),
            Value::Blob(bytes) => arguments.add(*bytes),
            Value::Null | Value::Ints(_) | Value::Texts(_) | Value::Blobs(_) => arguments.add(None::<i64>),
        };
        added.map_err(|error| StoreError::Unavailable(format!("a value cannot be bound: {error}")))?;
    }
    Ok(arguments)
}

fn read_row(row: &SqliteRow) -> Result<Row, StoreError> {
    let cell = |column: usize| -> Result<Cell, sqlx::Error> {
        let raw = row.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        Ok(match raw.type_info().name() {
            "INTEGER" => Cell::Int(row.try_get(column)?),
            "BLOB" => Cell::Blob(row.try_get(column)?),
            _ => Cell::Text(row.try_get(column)?),
        })
    };
    let cells: Result<Vec<Cell>, sqlx::Error> = (0..row.len()).map(cell).collect();
    cells.map(Row).map_err(|error| store_error(&error))
}

/// Sorts an error by what to do about it: wait, look at the row, or call for help.
fn store_error(error: &sqlx::Error) -> StoreError {
    const CORRUPT: i64 = 11;
    const CONSTRAINT: i64 = 19;
    const MISMATCH: i64 = 20;
    const NOT_A_DATABASE: i64 = 26;
    match error {
        sqlx::Error::Database(cause) => match primary_code(&**cause) {
            CONSTRAINT | MISMATCH => StoreError::Refused { field: "row", detail: cause.message().to_owned() },
            CORRUPT | NOT_A_DATABASE => StoreError::Corrupt(cause.message().to_owned()),
            _ => StoreError::Unavailable(cause.to_string()),
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt(error.to_string()),
        other => StoreError::Unavailable(other.to_string()),
    }
}
