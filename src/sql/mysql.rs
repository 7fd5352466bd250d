//! MySQL and MariaDB as a backend. Ids compare byte for byte (`utf8mb4_bin`), the SQL mode is strict, so
//! that nothing is cut to fit, and writing transactions read what is committed, so that their locks are
//! those of rows and not of the gaps between them.

use std::{borrow::Cow, str::FromStr as _};

use async_trait::async_trait;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Executor as _, MySql, MySqlConnection, Row as _, Type,
    ValueRef as _,
    error::DatabaseError,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlDatabaseError, MySqlRow},
};
use tracing::warn;

use super::{
    connect::OpenError,
    server::{SILENCE_TIMEOUT_S, STATEMENT_TIMEOUT_S, Server},
    session::{Cell, Dialect, Form, Row, Value},
};
use crate::engine::ports::StoreError;

/// The oldest MySQL that holds CHECK constraints, and the oldest MariaDB that has JSON_TABLE.
const MYSQL_MIN: [u32; 3] = [8, 0, 16];
const MARIADB_MIN: [u32; 3] = [10, 6, 0];
/// A statement with a chunk of ledger rows must fit into a packet, whatever their `meta`.
const PACKET_BYTES_MIN: i64 = 16 << 20;

/// After this MySQL closes a connection that says nothing, in a transaction or not; longer than the pool
/// keeps idle ones.
const MYSQL_SILENCE_S: u32 = 30;

pub(super) struct MySqlServer;

static DIALECT: Dialect = Dialect {
    form: Form::Json,
    values_max: 65_535,
    for_update: " FOR UPDATE",
    // Not INSERT IGNORE: that locks an existing row for reading, and two such transactions that go on to
    // change it wait for each other.
    keep_first: |column| format!(" ON DUPLICATE KEY UPDATE {column} = {column}"),
    // Every phrase that skips rows here would also run into the ledger's trigger or hide other errors.
    skip_posted: None,
    replace_mark: " ON DUPLICATE KEY UPDATE generation = VALUES(generation), seq = VALUES(seq), \
                   digest = VALUES(digest), fence = VALUES(fence)",
    add_key_usage: " ON DUPLICATE KEY UPDATE used = used + VALUES(used), requests = requests + VALUES(requests)",
    // Assignments run from left to right: `start_s` is still the old one in the first.
    add_windows: " ON DUPLICATE KEY UPDATE used = CASE WHEN VALUES(start_s) > start_s THEN VALUES(used) \
                  WHEN VALUES(start_s) = start_s THEN used + VALUES(used) ELSE used END, \
                  start_s = GREATEST(start_s, VALUES(start_s))",
    replace_raise: " ON DUPLICATE KEY UPDATE version = VALUES(version), due_at = VALUES(due_at)",
    replace_run_id: " ON DUPLICATE KEY UPDATE run_id = VALUES(run_id)",
    // In this order of tables, so that rows are found, and locked, in the order given.
    sum_accounts: |rows| {
        format!(
            "UPDATE {rows} STRAIGHT_JOIN accounts ON accounts.account = d.column1 SET \
             accounts.balance = accounts.balance + d.column2, accounts.used = accounts.used + d.column3, \
             accounts.requests = accounts.requests + d.column4"
        )
    },
};

/// Parameters that a URL may carry, TLS among them.
pub(super) const PARAMETERS: &[&str] =
    &["sslmode", "ssl-mode", "sslca", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key", "socket"];

pub(super) fn options(url: &str) -> Result<MySqlConnectOptions, OpenError> {
    let options = MySqlConnectOptions::from_str(url)
        .map_err(|error| OpenError::Url(format!("this is no URL of a MySQL server: {error}")))?;
    Ok(options.charset("utf8mb4").collation("utf8mb4_bin").disable_statement_logging())
}

#[async_trait]
impl Server for MySqlServer {
    type Db = MySql;
    const NAME: &'static str = "MySQL";
    const DIALECT: &'static Dialect = &DIALECT;
    const BEGIN_READ: &'static str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                                      START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    const BEGIN_WRITE: &'static str = "START TRANSACTION READ WRITE";

    async fn set_up(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        let (version,): (String,) = sqlx::query_as("SELECT VERSION()").fetch_one(&mut *connection).await?;
        // MySQL limits reading statements alone, and knows no limit for silence within a transaction, so
        // there it is one for silence at all.
        let limits = if version.contains("MariaDB") {
            format!(
                "max_statement_time = {STATEMENT_TIMEOUT_S}, SESSION idle_transaction_timeout = {SILENCE_TIMEOUT_S}"
            )
        } else {
            format!("max_execution_time = {STATEMENT_TIMEOUT_S}000, SESSION wait_timeout = {MYSQL_SILENCE_S}")
        };
        let sql = format!(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO', \
             SESSION innodb_lock_wait_timeout = {STATEMENT_TIMEOUT_S}, SESSION autocommit = 1, SESSION {limits}; \
             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
        );
        connection.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }

    async fn inspect(connection: &mut MySqlConnection) -> Result<Result<(), String>, sqlx::Error> {
        let sql = "SELECT CAST(@@read_only AS CHAR), CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), \
                   CAST(@@max_allowed_packet AS SIGNED), VERSION()";
        let (read_only, flush, packet, version): (String, i64, i64, String) =
            sqlx::query_as(sql).fetch_one(&mut *connection).await?;
        if let Some(sentence) = too_old(&version) {
            return Ok(Err(sentence));
        }
        if !matches!(read_only.as_str(), "0" | "OFF") {
            return Ok(Err("this server only reads (read_only is set): name the primary".into()));
        }
        if packet < PACKET_BYTES_MIN {
            let sentence = format!("max_allowed_packet is {packet} bytes: set it to {PACKET_BYTES_MIN} or more");
            return Ok(Err(sentence));
        }
        if flush != 1 {
            warn!(
                innodb_flush_log_at_trx_commit = flush,
                "the server does not flush its log at every commit: a crash can lose what it has committed"
            );
        }
        Ok(Ok(()))
    }

    async fn migrate(connection: &mut MySqlConnection) -> Result<(), sqlx::migrate::MigrateError> {
        // Under our own lock, because the first step is ours: tables cannot be made in a transaction here,
        // so what died half way is forgotten and done again. Every statement of a migration can be repeated.
        connection.execute("SELECT GET_LOCK(CONCAT('quotad:', MD5(DATABASE())), 60)").await?;
        let half = "SELECT COUNT(*) FROM information_schema.tables \
                    WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'";
        let (begun,): (i64,) = sqlx::query_as(half).fetch_one(&mut *connection).await?;
        if begun > 0 {
            connection.execute("DELETE FROM _sqlx_migrations WHERE success = FALSE").await?;
        }
        let migrated = sqlx::migrate!("src/sql/migrations/mysql").run_direct(None, connection, false).await;
        connection.execute("SELECT RELEASE_LOCK(CONCAT('quotad:', MD5(DATABASE())))").await?;
        migrated
    }

    async fn execute(
        connection: &mut MySqlConnection,
        sql: Cow<'static, str>,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(values)?);
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn fetch(
        connection: &mut MySqlConnection,
        sql: Cow<'static, str>,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(values)?);
        query.fetch_all(connection).await?.iter().map(read_row).collect()
    }

    fn judge(error: &dyn DatabaseError) -> StoreError {
        let detail = error.message().to_owned();
        match error.downcast_ref::<MySqlDatabaseError>().number() {
            // NULL, duplicate key, out of range, no default, incorrect value, too long, foreign keys (both
            // ways), what a trigger signals, a sum out of range, CHECK of MySQL and of MariaDB.
            1048 | 1062 | 1264 | 1364 | 1366 | 1406 | 1451 | 1452 | 1644 | 1690 | 3819 | 4025 => {
                StoreError::Refused { field: "row", detail }
            }
            // Incorrect key file, crashed table, corrupted index or tablespace.
            1034 | 1194 | 1712 | 1814 => StoreError::Corrupt(detail),
            number => StoreError::Unavailable(format!("{detail} ({number})")),
        }
    }
}

/// The sentence that refuses a server of this version.
fn too_old(version: &str) -> Option<String> {
    let (name, least) = if version.contains("MariaDB") { ("MariaDB", MARIADB_MIN) } else { ("MySQL", MYSQL_MIN) };
    let number = version.split(['-', '+', '~']).next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found: [u32; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    let [major, minor, patch] = least;
    (found < least)
        .then(|| format!("this is {name} {number}, and {major}.{minor}.{patch} is the oldest that quotad works with"))
}

fn arguments(values: &[Value<'_>]) -> Result<MySqlArguments, sqlx::Error> {
    let mut arguments = MySqlArguments::default();
    for value in values {
        let added = match value {
            Value::Int(int) => arguments.add(*int),
            Value::Text(text) => arguments.add(*text),
            Value::Made(text) => arguments.add(text.as_str()),
            Value::Blob(bytes) => arguments.add(*bytes),
            Value::Null | Value::Ints(_) | Value::Texts(_) | Value::Blobs(_) => arguments.add(None::<i64>),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn read_row(row: &MySqlRow) -> Result<Row, sqlx::Error> {
    let cell = |column: usize| -> Result<Cell, sqlx::Error> {
        let raw = row.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        // Not by the type's name: that calls a text of a binary collation binary.
        let kind = raw.type_info();
        Ok(if <i64 as Type<MySql>>::compatible(&kind) {
            Cell::Int(row.try_get(column)?)
        } else if <String as Type<MySql>>::compatible(&kind) {
            Cell::Text(row.try_get(column)?)
        } else {
            Cell::Blob(row.try_get(column)?)
        })
    };
    (0..row.len()).map(cell).collect::<Result<_, _>>().map(Row)
}

#[cfg(test)]
mod tests {
    use super::too_old;

    #[test]
    fn old_servers_are_named() {
        for fine in ["8.0.16", "8.4.3", "9.1.0", "8.0.36-0ubuntu0.22.04.1", "10.6.0-MariaDB", "11.4.2-MariaDB-ubu2404"]
        {
            assert_eq!(too_old(fine), None, "{fine}");
        }
        for (old, says) in [
            ("5.7.44-log", "MySQL 5.7.44"),
            ("8.0.15", "8.0.16 is the oldest"),
            ("10.5.29-MariaDB-1", "MariaDB 10.5.29"),
        ] {
            assert!(too_old(old).is_some_and(|sentence| sentence.contains(says)), "{old}");
        }
    }
}
