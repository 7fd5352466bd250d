//! The database of a seed: its address, and what faults do to it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, Connection, FromRow, MySqlConnection, PgConnection, SqliteConnection, mysql::MySqlRow,
    postgres::PgRow, sqlite::SqliteConnectOptions, sqlite::SqliteRow,
};

use super::{
    patience::Patience,
    plan::Backend,
    sql_server::{MariaDb, Postgres, SqlServer},
};

/// The database servers of a test, each started when a seed first asks for it.
#[derive(Default)]
pub struct Servers {
    postgres: RwLock<Option<Shared>>,
    mariadb: RwLock<Option<Shared>>,
}

struct Shared {
    server: SqlServer,
    /// When it first answered after its last start.
    since: Instant,
}

impl Servers {
    fn place(&self, backend: Backend) -> &RwLock<Option<Shared>> {
        match backend {
            Backend::Postgres => &self.postgres,
            Backend::MariaDb | Backend::Sqlite => &self.mariadb,
        }
    }

    /// Asks the server of a backend.
    pub fn with<T>(&self, backend: Backend, ask: impl FnOnce(&SqlServer) -> T) -> T {
        let place = self.place(backend);
        if place.read().expect("servers").is_none() {
            let mut empty = place.write().expect("servers");
            let start = || if backend == Backend::Postgres { Postgres::start() } else { MariaDb::start() };
            empty.get_or_insert_with(|| Shared { server: start(), since: Instant::now() });
        }
        ask(&place.read().expect("servers").as_ref().expect("a server").server)
    }

    /// Since when the server answers; waits while it is killed and started, and is now when it does not.
    pub fn answers_since(&self, backend: Backend) -> Instant {
        match self.place(backend).read().expect("servers").as_ref() {
            Some(shared) if shared.server.try_query("", "SELECT 1").status.success() => shared.since,
            Some(_) | None => Instant::now(),
        }
    }

    /// `kill -9`, and a start after a while: for every seed that uses it.
    pub fn kill(&self, backend: Backend, away: Duration) {
        if let Some(shared) = self.place(backend).write().expect("servers").as_mut() {
            shared.server.kill();
            std::thread::sleep(away);
            shared.server.restart();
            shared.since = Instant::now();
        }
    }
}

/// A database of its own for each seed.
pub enum Sql {
    Sqlite(PathBuf),
    Server { servers: Arc<Servers>, backend: Backend, url: String },
}

impl Sql {
    pub fn create(backend: Backend, folder: &Path, servers: &Arc<Servers>) -> Self {
        match backend {
            Backend::Sqlite => Sql::Sqlite(folder.join("quotad.db")),
            Backend::Postgres | Backend::MariaDb => {
                let url = servers.with(backend, SqlServer::database);
                Sql::Server { servers: Arc::clone(servers), backend, url }
            }
        }
    }

    /// Address for `database_url`.
    pub fn url(&self) -> String {
        match self {
            Sql::Sqlite(path) => format!("sqlite://{}", path.display()),
            Sql::Server { url, .. } => url.clone(),
        }
    }

    /// The database's name on its server.
    fn name(&self) -> &str {
        match self {
            Sql::Sqlite(_) => "",
            Sql::Server { url, .. } => url.rsplit('/').next().unwrap_or_default(),
        }
    }

    /// So long, not counting the time in which the server is away.
    pub fn patience(&self, within: Duration) -> Patience {
        let server = match self {
            Sql::Sqlite(_) => None,
            Sql::Server { servers, backend, .. } => Some((Arc::clone(servers), *backend)),
        };
        Patience::new(within, server)
    }

    /// Nobody else can read or write any table until this ends; `None`: that cannot be had. Readers of a file are never
    /// kept out.
    pub async fn shut(&self) -> Option<Connected> {
        let Sql::Server { backend, .. } = self else { return None };
        let mut connection = Connected::open(self).await.ok()?;
        let tables = if *backend == Backend::Postgres {
            "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public'"
        } else {
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE()"
        };
        let tables: Vec<String> =
            connection.all::<(String,)>(tables).await.ok()?.into_iter().map(|(name,)| name).collect();
        connection.lock(&tables).await.ok()?;
        Some(connection)
    }

    /// Nobody else can use it for that long.
    pub fn hold(&self, runtime: &tokio::runtime::Runtime, hold: Duration) {
        let seconds = hold.as_secs_f64();
        match self {
            Sql::Sqlite(path) => runtime.block_on(hold_sqlite(path, hold)),
            Sql::Server { servers, backend, .. } => {
                let held = if *backend == Backend::Postgres {
                    format!("BEGIN; LOCK TABLE shards IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds}); COMMIT")
                } else {
                    format!("LOCK TABLES shards WRITE; SELECT SLEEP({seconds}); UNLOCK TABLES")
                };
                servers.with(*backend, |server| server.query(self.name(), &held));
            }
        }
    }

    /// `kill -9` of the server, which is away for a while. A file has no server.
    pub fn kill(&self, runtime: &tokio::runtime::Runtime, away: Duration) {
        match self {
            Sql::Sqlite(_) => self.hold(runtime, away),
            Sql::Server { servers, backend, .. } => servers.kill(*backend, away),
        }
    }

    /// Keeps a copy; nobody must write. False: this one cannot be copied.
    pub fn copy_to(&self, copy: &Path) -> bool {
        match self {
            Sql::Sqlite(path) => {
                let _ = fs::remove_dir_all(copy);
                fs::create_dir_all(copy).expect("a folder for the copy");
                for part in ["", "-wal"] {
                    let _ = fs::copy(side(path, part), copy.join(format!("db{part}")));
                }
                true
            }
            Sql::Server { servers, backend: Backend::Postgres, .. } => {
                let name = self.name();
                self.replace(servers, &format!("{name}_copy"), name);
                true
            }
            Sql::Server { .. } => false,
        }
    }

    /// Comes back from the copy; nobody must have it open.
    pub fn restore_from(&self, copy: &Path) {
        match self {
            Sql::Sqlite(path) => {
                for part in ["", "-wal", "-shm"] {
                    let _ = fs::remove_file(side(path, part));
                    let _ = fs::copy(copy.join(format!("db{part}")), side(path, part));
                }
            }
            Sql::Server { servers, .. } => self.replace(servers, self.name(), &format!("{}_copy", self.name())),
        }
    }

    /// PostgreSQL makes a database from another one, when nobody is connected to that.
    fn replace(&self, servers: &Servers, name: &str, from: &str) {
        servers.with(Backend::Postgres, |server| {
            server.query(
                "",
                &format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('{name}', '{from}')"
                ),
            );
            server.query("", &format!("DROP DATABASE IF EXISTS {name}"));
            server.query("", &format!("CREATE DATABASE {name} TEMPLATE {from}"));
        });
    }
}

/// A server takes the longer to come back after a kill the more databases it has: each goes with its seed.
impl Drop for Sql {
    fn drop(&mut self) {
        let name = self.name().to_owned();
        if let Sql::Server { servers, backend, .. } = self {
            let force = if *backend == Backend::Postgres { " WITH (FORCE)" } else { "" };
            for name in [format!("{name}_copy"), name] {
                servers
                    .with(*backend, |server| server.try_query("", &format!("DROP DATABASE IF EXISTS {name}{force}")));
            }
        }
    }
}

async fn hold_sqlite(path: &Path, hold: Duration) {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(5));
    let Ok(mut connection) = SqliteConnection::connect_with(&options).await else { return };
    let until = Instant::now() + hold;
    // Write-back waits for its turn as well, and may be quicker for a while.
    while sqlx::query("BEGIN EXCLUSIVE").execute(&mut connection).await.is_err() {
        if Instant::now() > until {
            return;
        }
    }
    tokio::time::sleep(hold).await;
    let _ = sqlx::query("ROLLBACK").execute(&mut connection).await;
}

fn side(path: &Path, part: &str) -> PathBuf {
    PathBuf::from(format!("{}{part}", path.display()))
}

/// A connection to look at what is there.
pub enum Connected {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

impl Connected {
    pub async fn open(sql: &Sql) -> Result<Self, sqlx::Error> {
        match sql {
            Sql::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
                SqliteConnection::connect_with(&options).await.map(Connected::Sqlite)
            }
            Sql::Server { backend: Backend::Postgres, url, .. } => {
                PgConnection::connect(url).await.map(Connected::Postgres)
            }
            Sql::Server { url, .. } => MySqlConnection::connect(url).await.map(Connected::MariaDb),
        }
    }

    /// What is read from now on is of one moment.
    pub async fn stand_still(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Connected::Sqlite(connection) => sqlx::query("BEGIN").execute(connection).await.map(|_| ()),
            Connected::Postgres(connection) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
                sqlx::query(begin).execute(connection).await.map(|_| ())
            }
            Connected::MariaDb(connection) => {
                let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
                sqlx::raw_sql(begin).execute(connection).await.map(|_| ())
            }
        }
    }

    /// No other connection reads or writes these tables, until this one is closed.
    async fn lock(&mut self, tables: &[String]) -> Result<(), sqlx::Error> {
        match self {
            Connected::Sqlite(_) => Ok(()),
            Connected::Postgres(connection) => {
                let lock = format!("BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", "));
                sqlx::raw_sql(AssertSqlSafe(lock)).execute(connection).await.map(|_| ())
            }
            Connected::MariaDb(connection) => {
                let lock = format!("LOCK TABLES {} WRITE", tables.join(" WRITE, "));
                sqlx::raw_sql(AssertSqlSafe(lock)).execute(connection).await.map(|_| ())
            }
        }
    }

    pub async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Connected::Sqlite(connection) => connection.close().await,
            Connected::Postgres(connection) => connection.close().await,
            Connected::MariaDb(connection) => connection.close().await,
        }
    }

    /// All rows of a query. A whole number is `CAST(… AS BIGINT)` in it.
    pub async fn all<T>(&mut self, query: &str) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, MySqlRow> + Send + Unpin,
    {
        let safe = |query: &str| AssertSqlSafe(query.to_owned());
        match self {
            Connected::Sqlite(connection) => sqlx::query_as(safe(query)).fetch_all(connection).await,
            Connected::Postgres(connection) => sqlx::query_as(safe(query)).fetch_all(connection).await,
            Connected::MariaDb(connection) => {
                sqlx::query_as(safe(&query.replace("AS BIGINT", "AS SIGNED"))).fetch_all(connection).await
            }
        }
    }
}
