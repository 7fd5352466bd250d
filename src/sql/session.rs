//! What a backend must offer, so that the room is written once: transactions that take a statement
//! and values, and the few phrases in which databases differ. A new backend is one file that
//! implements [`Backend`], one folder of migrations, and a line in `connect.rs`; it is right when it
//! passes the contract tests.
//!
//! Statements use `?` for values and only what the databases share; rows come back as plain values,
//! because the room reads few rows and writes many.

use std::borrow::Cow;

use async_trait::async_trait;

use crate::engine::ports::StoreError;

/// A value bound to a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
    /// A text made for the statement.
    Made(String),
    /// One column of many rows, for a backend that takes them so ([`Form::Arrays`]).
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<&'a str>>),
    Blobs(Vec<Option<&'a [u8]>>),
}

/// A value read from a row.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// One row of an answer, in the statement's order of columns.
#[derive(Clone, Debug)]
pub(crate) struct Row(pub Vec<Cell>);

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Sees one state of the database throughout.
    Read,
    /// Also excludes other writers of the rows it reads with [`Dialect::for_update`].
    Write,
}

/// How many rows go into one statement (`bulk.rs` makes the texts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `VALUES (?, ?), (?, ?)`, also where a table may stand.
    Rows,
    /// One array per column and `unnest`: one text for any number of rows.
    Arrays,
    /// `VALUES` to insert, `JSON_TABLE` over one text where a table may stand.
    Json,
}

/// Where databases differ.
#[derive(Debug)]
pub(crate) struct Dialect {
    pub form: Form,
    /// Values that one statement may carry.
    pub values_max: usize,
    /// Ends a `SELECT` whose rows will be changed in the same transaction.
    pub for_update: &'static str,
    /// Ends an `INSERT` that leaves an existing row of the same primary key alone, whose first column is
    /// named; whether there was one, the count of rows does not tell everywhere.
    pub keep_first: fn(column: &str) -> String,
    /// Ends the ledger's `INSERT`: skips rows whose operation is posted already. `None` where there is
    /// no such phrase: there the statement fails as a whole and leaves the transaction as it was.
    pub skip_posted: Option<&'static str>,
    /// Ends the `INSERT` into `shards`: replaces the mark.
    pub replace_mark: &'static str,
    /// Ends the `INSERT` into `key_usage`: adds to an existing row.
    pub add_key_usage: &'static str,
    /// Ends the `INSERT` into `windows`: same start adds, newer start replaces, older is dropped.
    pub add_windows: &'static str,
    /// Ends the `INSERT` into `raises`: replaces the row.
    pub replace_raise: &'static str,
    /// Ends the `INSERT` into `server`: replaces the row.
    pub replace_run_id: &'static str,
    /// Adds the rows (account, balance, used, requests) of a table phrase to `accounts`; changes, and
    /// counts, only rows that exist.
    pub sum_accounts: fn(rows: &str) -> String,
}

/// A database. `begin` waits for a connection, at most the pool's time-out.
#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    async fn begin(&self, access: Access) -> Result<Box<dyn Session>, StoreError>;
    fn dialect(&self) -> &'static Dialect;
    /// Closes the connections; what runs is finished first.
    async fn close(&self);
}

/// A transaction. Dropped without [`Session::commit`] it is rolled back.
#[async_trait]
pub(crate) trait Session: Send {
    /// Rows changed.
    async fn execute(&mut self, sql: Cow<'static, str>, values: &[Value<'_>]) -> Result<u64, StoreError>;
    async fn fetch(&mut self, sql: Cow<'static, str>, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError>;
    /// After an `Err` the outcome is unknown: read again, never assume.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Value::Int(value.into())
    }
}

impl From<u16> for Value<'_> {
    fn from(value: u16) -> Self {
        Value::Int(value.into())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Value::Blob(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl Row {
    /// The whole number in a column.
    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.opt_int(column)?.ok_or_else(|| self.unfit(column, "a whole number"))
    }

    /// Narrowed to the type that the reader expects.
    pub fn number<T: TryFrom<i64>>(&self, column: usize) -> Result<T, StoreError> {
        T::try_from(self.int(column)?).map_err(|_| self.unfit(column, "a number in range"))
    }

    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Cell::Int(value)) => Ok(Some(*value)),
            Some(Cell::Null) => Ok(None),
            Some(Cell::Text(_) | Cell::Blob(_)) | None => Err(self.unfit(column, "a whole number")),
        }
    }

    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.opt_text(column)?.ok_or_else(|| self.unfit(column, "a text"))
    }

    pub fn opt_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.0.get(column) {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) => Ok(None),
            Some(Cell::Int(_) | Cell::Blob(_)) | None => Err(self.unfit(column, "a text")),
        }
    }

    pub fn blob(&self, column: usize) -> Result<&[u8], StoreError> {
        self.opt_blob(column)?.ok_or_else(|| self.unfit(column, "a run of bytes"))
    }

    pub fn opt_blob(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        match self.0.get(column) {
            Some(Cell::Blob(bytes)) => Ok(Some(bytes)),
            Some(Cell::Null) => Ok(None),
            Some(Cell::Int(_) | Cell::Text(_)) | None => Err(self.unfit(column, "a run of bytes")),
        }
    }

    fn unfit(&self, column: usize, wanted: &str) -> StoreError {
        StoreError::Corrupt(format!("column {column} of a row of {} is not {wanted}", self.0.len()))
    }
}
