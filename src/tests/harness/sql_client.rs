//! A plain SQL client for tests: text in, text out, on any of the three databases, without the library.

use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection, Row as _, SqliteConnection};
use tokio::runtime::Runtime;

/// One connection.
pub struct SqlClient {
    runtime: Runtime,
    connection: Inner,
}

enum Inner {
    /// Taken out when it is closed.
    Sqlite(Option<SqliteConnection>),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl SqlClient {
    /// # Errors
    /// When the database cannot be reached.
    pub fn connect(url: &str) -> Result<Self, sqlx::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = runtime.block_on(async {
            Ok::<_, sqlx::Error>(match url.split(':').next() {
                Some("sqlite") => Inner::Sqlite(Some(SqliteConnection::connect(url).await?)),
                Some("postgres" | "postgresql") => Inner::Postgres(PgConnection::connect(url).await?),
                _ => Inner::MySql(MySqlConnection::connect(&url.replacen("mariadb:", "mysql:", 1)).await?),
            })
        })?;
        Ok(Self { runtime, connection })
    }

    /// Runs one statement. What is read must be text (see [`SqlClient::text`]).
    ///
    /// # Errors
    /// As the database says.
    pub fn try_ask(&mut self, sql: &str) -> Result<Vec<Vec<String>>, sqlx::Error> {
        macro_rules! rows {
            ($connection:expr) => {{
                let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all($connection).await?;
                rows.iter().map(|row| (0..row.len()).map(|column| row.try_get(column)).collect()).collect()
            }};
        }
        self.runtime.block_on(async {
            match &mut self.connection {
                Inner::Sqlite(connection) => rows!(connection.as_mut().expect("it is open")),
                Inner::Postgres(connection) => rows!(connection),
                Inner::MySql(connection) => rows!(connection),
            }
        })
    }

    #[track_caller]
    pub fn ask(&mut self, sql: &str) -> Vec<Vec<String>> {
        self.try_ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// An expression as text; an absent value is the empty one.
    pub fn text(&self, expression: &str) -> String {
        match self.connection {
            Inner::Sqlite(_) | Inner::Postgres(_) => format!("COALESCE(CAST({expression} AS TEXT), '')"),
            // Of the connection's own character set: of a binary one the driver makes bytes.
            Inner::MySql(_) => format!("COALESCE(CONVERT({expression} USING utf8mb4), '')"),
        }
    }

    /// Bytes as hexadecimal digits.
    pub fn hex(&self, column: &str) -> String {
        match self.connection {
            Inner::Sqlite(_) | Inner::MySql(_) => format!("hex({column})"),
            Inner::Postgres(_) => format!("encode({column}, 'hex')"),
        }
    }

    /// Statements that begin a transaction which sees one state throughout.
    pub fn snapshot(&self) -> &'static [&'static str] {
        match self.connection {
            Inner::Sqlite(_) => &["BEGIN"],
            Inner::Postgres(_) => &["BEGIN ISOLATION LEVEL REPEATABLE READ"],
            Inner::MySql(_) => &["START TRANSACTION WITH CONSISTENT SNAPSHOT"],
        }
    }

    /// Statements that keep everybody else from writing what write-back writes, until [`SqlClient::unlock`].
    pub fn lock(&mut self) {
        let statements: &[&str] = match self.connection {
            Inner::Sqlite(_) => &["BEGIN IMMEDIATE"],
            Inner::Postgres(_) => &["BEGIN", "LOCK TABLE ledger, shards IN ACCESS EXCLUSIVE MODE"],
            Inner::MySql(_) => &["LOCK TABLES ledger WRITE, shards WRITE"],
        };
        for statement in statements {
            self.ask(statement);
        }
    }

    pub fn unlock(&mut self) {
        let statement = match self.connection {
            Inner::Sqlite(_) | Inner::Postgres(_) => "ROLLBACK",
            Inner::MySql(_) => "UNLOCK TABLES",
        };
        self.ask(statement);
    }
}

/// A connection to SQLite that is only dropped closes later, on a thread of its own, and takes the database's side files
/// away while a test copies them.
impl Drop for SqlClient {
    fn drop(&mut self) {
        if let Inner::Sqlite(connection) = &mut self.connection
            && let Some(connection) = connection.take()
        {
            let _ = self.runtime.block_on(connection.close());
        }
    }
}
