//! The server's SQLite file, opened read-only beside it. All SQL of the harness is in this file.

use std::{collections::HashMap, path::Path};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

/// Sums of the ledger's posted rows by account: what the deltas add up to.
const LEDGER_SUMS: &str = "SELECT account, CAST(SUM(balance) AS INTEGER), CAST(SUM(used) AS INTEGER), \
     CAST(SUM(requests) AS INTEGER) FROM ledger WHERE status = 'posted' AND account >= ?1 AND account < ?2 \
     GROUP BY account";
/// The accounts' posted numbers, kept beside the ledger in the same transactions.
const POSTED: &str = "SELECT account, balance, used, requests FROM accounts WHERE account >= ?1 AND account < ?2";
/// Posted sums of each key.
const KEYS: &str = "SELECT account, key_id, used, requests FROM key_usage WHERE account >= ?1 AND account < ?2";
const REJECTED_ROWS: &str = "SELECT COUNT(*) FROM ledger WHERE status = 'rejected' AND account >= ?1 AND account < ?2";

/// An account's numbers in SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub balance: i64,
    pub used: i64,
    pub requests: i64,
}

/// The accounts of one run in the database.
#[derive(Debug)]
pub struct Ledger {
    pool: SqlitePool,
    /// Account names of the run are in `from .. to`.
    from: String,
    to: String,
}

impl Ledger {
    /// # Errors
    /// A sentence when the file cannot be opened.
    pub async fn open(path: &Path, run: &str) -> Result<Self, String> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|error| format!("the database {} cannot be opened: {error}", path.display()))?;
        // '.' follows '-' in ASCII, so that this is the range of names that begin with "load-<run>-".
        Ok(Self { pool, from: format!("load-{run}-"), to: format!("load-{run}.") })
    }

    /// # Errors
    /// A sentence with the database's own.
    pub async fn sums(&self) -> Result<HashMap<String, Sums>, String> {
        self.by_account(LEDGER_SUMS).await
    }

    /// # Errors
    /// A sentence with the database's own.
    pub async fn posted(&self) -> Result<HashMap<String, Sums>, String> {
        self.by_account(POSTED).await
    }

    /// By account and key; a key has no balance.
    ///
    /// # Errors
    /// A sentence with the database's own.
    pub async fn keys(&self) -> Result<HashMap<(String, String), Sums>, String> {
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(KEYS)
            .bind(&self.from)
            .bind(&self.to)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| format!("the keys' usage cannot be read: {error}"))?;
        let sums = |(account, key, used, requests)| ((account, key), Sums { balance: 0, used, requests });
        Ok(rows.into_iter().map(sums).collect())
    }

    /// # Errors
    /// A sentence with the database's own.
    pub async fn rejected(&self) -> Result<i64, String> {
        sqlx::query_scalar(REJECTED_ROWS)
            .bind(&self.from)
            .bind(&self.to)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| format!("the ledger cannot be read: {error}"))
    }

    async fn by_account(&self, sql: &'static str) -> Result<HashMap<String, Sums>, String> {
        let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(sql)
            .bind(&self.from)
            .bind(&self.to)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| format!("the ledger cannot be read: {error}"))?;
        Ok(rows
            .into_iter()
            .map(|(account, balance, used, requests)| (account, Sums { balance, used, requests }))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sums_are_those_of_the_run_and_of_posted_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        for sql in [
            "CREATE TABLE ledger (account TEXT, op_id TEXT, kind TEXT, part INTEGER, balance INTEGER, used INTEGER, \
             requests INTEGER, tokens INTEGER, status TEXT)",
            "CREATE TABLE accounts (account TEXT PRIMARY KEY, balance INTEGER, used INTEGER, requests INTEGER)",
            "INSERT INTO ledger VALUES ('load-t-0', 'v1', 'initial', 0, 1000, 0, 0, 0, 'posted'), \
             ('load-t-0', 'r-1', 'settle', 0, -300, 300, 1, 9, 'posted'), \
             ('load-t-0', 'r-1', 'settle', 0, -300, 300, 1, 9, 'rejected'), \
             ('load-t-1', 'v1', 'initial', 0, 7, 0, 0, 0, 'posted'), \
             ('load-t2-0', 'v1', 'initial', 0, 8, 0, 0, 0, 'posted'), ('demo', 'v1', 'initial', 0, 9, 0, 0, 0, 'posted')",
            "CREATE TABLE key_usage (account TEXT, key_id TEXT, used INTEGER, requests INTEGER)",
            "INSERT INTO key_usage VALUES ('load-t-0', 'k1', 300, 1), ('demo', 'k', 1, 1)",
            "INSERT INTO accounts VALUES ('load-t-0', 700, 300, 1), ('demo', 9, 0, 0)",
        ] {
            sqlx::query(sql).execute(&writer).await.unwrap();
        }
        let ledger = Ledger::open(&path, "t").await.unwrap();
        let sums = ledger.sums().await.unwrap();
        assert_eq!(sums.len(), 2);
        assert_eq!(sums["load-t-0"], Sums { balance: 700, used: 300, requests: 1 });
        assert_eq!(sums["load-t-1"], Sums { balance: 7, used: 0, requests: 0 });
        assert_eq!(ledger.posted().await.unwrap().len(), 1);
        let keys = ledger.keys().await.unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[&("load-t-0".into(), "k1".into())], Sums { balance: 0, used: 300, requests: 1 });
        assert_eq!(ledger.rejected().await.unwrap(), 1);
        assert!(Ledger::open(&folder.path().join("none.db"), "t").await.is_err());
    }
}
