//! PostgreSQL as a backend. Rows travel as one array per column (`unnest`), so that a statement is
//! prepared once for any number of them. `synchronous_commit = on` is forced on every connection: what a
//! server is told elsewhere must not make a commit less than a commit.

use std::{borrow::Cow, str::FromStr as _};

use async_trait::async_trait;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Encode, Executor as _, PgConnection, Postgres, Row as _, Type,
    TypeInfo as _, ValueRef as _,
    encode::IsNull,
    error::{BoxDynError, DatabaseError},
    postgres::{PgArgumentBuffer, PgArguments, PgConnectOptions, PgRow, PgTypeInfo, types::Oid},
};
use tracing::warn;

use super::{
    connect::OpenError,
    server::{SILENCE_TIMEOUT_S, STATEMENT_TIMEOUT_S, Server},
    session::{Cell, Dialect, Form, Row, Value},
};
use crate::engine::ports::StoreError;

/// PostgreSQL 13, as `server_version_num` has it.
const VERSION_MIN: i64 = 130_000;

pub(super) struct PostgresServer;

static DIALECT: Dialect = Dialect {
    form: Form::Arrays,
    values_max: 65_535,
    for_update: " FOR UPDATE",
    keep_first: |_| " ON CONFLICT DO NOTHING".to_owned(),
    ..super::sqlite::DIALECT
};

/// Parameters that a URL may carry, TLS among them; another one is a mistake of spelling, and may be a
/// secret that sqlx would write to the log.
pub(super) const PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

pub(super) fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| OpenError::Url(format!("this is no URL of a PostgreSQL server: {error}")))?;
    Ok(options.disable_statement_logging())
}

#[async_trait]
impl Server for PostgresServer {
    type Db = Postgres;
    const NAME: &'static str = "PostgreSQL";
    const DIALECT: &'static Dialect = &DIALECT;
    const BEGIN_READ: &'static str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    // Each statement sees what was committed before it: after the wait for a mark's lock, the mark as
    // it is now.
    const BEGIN_WRITE: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

    async fn set_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sql = format!(
            "SET synchronous_commit = on; SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'; \
             SET idle_in_transaction_session_timeout = '{SILENCE_TIMEOUT_S}s'; SET client_min_messages = warning"
        );
        connection.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }

    async fn inspect(connection: &mut PgConnection) -> Result<Result<(), String>, sqlx::Error> {
        let sql = "SELECT current_setting('server_version_num')::BIGINT, current_setting('server_version'), \
                   pg_is_in_recovery() OR current_setting('transaction_read_only')::BOOLEAN, \
                   current_setting('fsync')::BOOLEAN, current_setting('server_encoding')";
        let (number, version, read_only, fsync, encoding): (i64, String, bool, bool, String) =
            sqlx::query_as(sql).fetch_one(connection).await?;
        Ok(if number < VERSION_MIN {
            Err(format!("this is PostgreSQL {version}, and 13 is the oldest that quotad works with"))
        } else if read_only {
            Err("this PostgreSQL only reads (a replica, or default_transaction_read_only): name the primary".into())
        } else if encoding != "UTF8" {
            Err(format!("the database has the encoding {encoding}: create it with ENCODING 'UTF8'"))
        } else {
            if !fsync {
                warn!("PostgreSQL runs with fsync = off: a power cut can lose what it has committed");
            }
            Ok(())
        })
    }

    async fn migrate(connection: &mut PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
        // The migrator's own lock makes the others wait.
        sqlx::migrate!("src/sql/migrations/postgres").run_direct(None, connection, false).await
    }

    async fn execute(
        connection: &mut PgConnection,
        sql: Cow<'static, str>,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(numbered(&sql)), arguments(values)?);
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn fetch(
        connection: &mut PgConnection,
        sql: Cow<'static, str>,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(numbered(&sql)), arguments(values)?);
        query.fetch_all(connection).await?.iter().map(read_row).collect()
    }

    fn judge(error: &dyn DatabaseError) -> StoreError {
        let code = error.code().unwrap_or_default();
        match (code.get(..2).unwrap_or_default(), &*code) {
            // A value or a constraint; P0: what a trigger raises.
            ("22" | "23" | "P0", _) => StoreError::Refused { field: "row", detail: error.message().to_owned() },
            (_, "XX001" | "XX002") => StoreError::Corrupt(error.message().to_owned()),
            _ => StoreError::Unavailable(format!("{} ({code})", error.message())),
        }
    }
}

/// `$1`, `$2` … in place of each `?`; no statement of ours holds one in a literal.
fn numbered(sql: &str) -> String {
    let mut numbered = String::with_capacity(sql.len() + 64);
    for (number, part) in sql.split('?').enumerate() {
        if number > 0 {
            numbered.push('$');
            numbered.push_str(&number.to_string());
        }
        numbered.push_str(part);
    }
    numbered
}

/// NULL of whatever type the statement wants: a statement is prepared with the types of its first
/// values, and a NULL among them must not decide.
struct Null;

impl Type<Postgres> for Null {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Null {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

fn arguments(values: &[Value<'_>]) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Value::Null => arguments.add(Null),
            Value::Int(int) => arguments.add(*int),
            Value::Text(text) => arguments.add(*text),
            Value::Made(text) => arguments.add(text.as_str()),
            Value::Blob(bytes) => arguments.add(*bytes),
            Value::Ints(ints) => arguments.add(ints),
            Value::Texts(texts) => arguments.add(texts),
            Value::Blobs(blobs) => arguments.add(blobs),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn read_row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let cell = |column: usize| -> Result<Cell, sqlx::Error> {
        let raw = row.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        Ok(match raw.type_info().name() {
            "INT8" => Cell::Int(row.try_get(column)?),
            "INT4" => Cell::Int(row.try_get::<i32, _>(column)?.into()),
            "BOOL" => Cell::Int(row.try_get::<bool, _>(column)?.into()),
            "BYTEA" => Cell::Blob(row.try_get(column)?),
            _ => Cell::Text(row.try_get(column)?),
        })
    };
    (0..row.len()).map(cell).collect::<Result<_, _>>().map(Row)
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn placeholders_are_numbered() {
        assert_eq!(numbered("SELECT ? WHERE a = ? AND b = c"), "SELECT $1 WHERE a = $2 AND b = c");
        assert_eq!(numbered("unnest(?::BIGINT[])"), "unnest($1::BIGINT[])");
        assert_eq!(numbered("SELECT 1"), "SELECT 1");
    }
}
