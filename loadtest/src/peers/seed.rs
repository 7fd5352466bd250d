//! Databases with accounts in them, made once and copied for every quotad that is started. Accounts are
//! written straight into SQL, as the admin API would leave them: it takes seconds instead of an hour, and
//! Redis knows none of them until they are asked for.

use std::path::{Path, PathBuf};

use sqlx::{
    ConnectOptions as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tempfile::TempDir;
use tokio::process::Command;

/// Letter that the names of ordinary accounts begin with; then seven digits from 1000000 on.
pub const ORDINARY: char = 'a';
/// The same of accounts with a trust threshold.
pub const TRUSTED: char = 't';
/// 10 USD, the default that the rules name.
const TRUST_THRESHOLD: i64 = 1_000_000_000;
/// What an account may spend, its key and each of its windows too: more than a run can.
const PLENTY: i64 = 9_000_000_000_000;
const FIRST_NAME: u64 = 1_000_000;
const DATABASE: &str = "quotad.db";

/// A database that no quotad has served yet.
#[derive(Debug)]
pub struct Seed {
    folder: TempDir,
}

impl Seed {
    /// Lets quotad make the tables, then puts in the accounts: so many ordinary ones, and so many with
    /// a trust threshold, each with one key and three cost windows.
    ///
    /// # Errors
    /// A sentence when quotad or SQLite refuses.
    pub async fn make(quotad: &Path, ordinary: u32, trusted: u32) -> Result<Self, String> {
        let folder = TempDir::with_prefix("quotad-peers-seed-").map_err(|error| format!("no folder: {error}"))?;
        // Opens the database, and needs no Redis.
        let made = Command::new(quotad).args(["tariff", "list", "--data"]).arg(folder.path()).output().await;
        let made = made.map_err(|error| format!("{} cannot be started: {error}", quotad.display()))?;
        let path = folder.path().join(DATABASE);
        if !path.exists() {
            return Err(format!("quotad made no database: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let options = SqliteConnectOptions::new().filename(&path).journal_mode(SqliteJournalMode::Wal);
        let connected = options.synchronous(SqliteSynchronous::Off).disable_statement_logging().connect().await;
        let mut connection = connected.map_err(|error| error.to_string())?;
        insert(&mut connection, ORDINARY, ordinary, None).await?;
        insert(&mut connection, TRUSTED, trusted, Some(TRUST_THRESHOLD)).await?;
        execute(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)".to_owned()).await?;
        execute(&mut connection, "PRAGMA journal_mode = DELETE".to_owned()).await?;
        Ok(Self { folder })
    }

    /// A copy of its own for one quotad.
    ///
    /// # Errors
    /// A sentence when the disk refuses.
    pub fn copy_to(&self, folder: &Path) -> Result<PathBuf, String> {
        let path = folder.join(DATABASE);
        std::fs::copy(self.folder.path().join(DATABASE), &path)
            .map_err(|error| format!("the seeded database cannot be copied: {error}"))?;
        Ok(path)
    }
}

/// The name of an account.
#[must_use]
pub fn account(letter: char, index: u64) -> String {
    format!("{letter}{}", FIRST_NAME + index)
}

/// Puts in accounts whose names begin with `letter`. No balance but a credit limit: a balance would need
/// a ledger entry each.
///
/// # Errors
/// A sentence when the tables are not as expected.
pub async fn insert(to: &mut SqliteConnection, letter: char, accounts: u32, trust: Option<i64>) -> Result<(), String> {
    let names = format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 WHERE {accounts} > 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {accounts}), \
         named(account) AS (SELECT '{letter}' || ({FIRST_NAME} + i) FROM n)"
    );
    let trust = trust.map_or_else(|| "NULL".to_owned(), |units| units.to_string());
    for statement in [
        "BEGIN".to_owned(),
        format!(
            "INSERT INTO accounts (account, version, status, price_group, credit_limit, zone, trust, initial_op, \
             created_at, changed_at) {names} SELECT account, 1, 'enabled', 'default', {PLENTY}, 'UTC', {trust}, 'v1', 0, 0 \
             FROM named"
        ),
        format!(
            "INSERT INTO api_keys (account, key_id, status, allowance, models, networks) {names} \
             SELECT account, 'k1', 'enabled', {PLENTY}, '[]', '[]' FROM named"
        ),
        format!(
            "INSERT INTO limits (account, key_id, position, platform, model, metric, period, cap) {names}, \
             periods(position, period) AS (VALUES (0, 'day'), (1, 'week'), (2, 'month')) \
             SELECT account, '', position, 'openai', '*', 'cost', period, {PLENTY} FROM named CROSS JOIN periods"
        ),
        "COMMIT".to_owned(),
    ] {
        execute(to, statement).await?;
    }
    Ok(())
}

async fn execute(connection: &mut SqliteConnection, statement: String) -> Result<(), String> {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await;
    done.map(drop).map_err(|error| format!("the database cannot be seeded: {error}"))
}
