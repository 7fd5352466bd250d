//! Many rows in few statements, in the form that fits the database ([`Form`]). Each statement is
//! prepared once and found again, so the number of different texts is small: one for any number of rows
//! with arrays and JSON, one for each size of chunk with `VALUES`. A statement has a price of its own (another
//! thread's turn, or the way to a server), so there are few of them too: where empty rows do no harm a
//! chunk is filled up with them.

use std::borrow::Cow;

use super::session::{Dialect, Form, Row, Session, Value};
use crate::engine::ports::StoreError;

/// Rows per statement where the number shows in the text: where chunks can be filled up, and where not.
const FILLED_ROWS: &[usize] = &[512, 64, 8, 1];
const EXACT_ROWS: &[usize] = &[512, 256, 128, 64, 32, 16, 8, 4, 2, 1];
/// Rows per statement where it does not.
const ARRAY_ROWS: usize = 4096;

/// The longest text in JSON: the field of a window names platform, model and key.
const JSON_TEXT: usize = 512;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Int,
    Text,
    Blob,
}

/// A table to insert into.
pub(super) struct Table<const N: usize> {
    pub name: &'static str,
    pub columns: &'static str,
    pub types: [Type; N],
}

/// Inserts rows, whose first column is never NULL; `end` says what happens to rows that exist. Answers rows
/// changed.
pub(super) async fn insert<const N: usize>(
    session: &mut dyn Session,
    dialect: &Dialect,
    table: &Table<N>,
    rows: &[[Value<'_>; N]],
    end: &str,
) -> Result<u64, StoreError> {
    let mut changed = 0;
    let begin = format!("INSERT INTO {} ({})", table.name, table.columns);
    // Bytes have no place in JSON.
    let has_bytes = table.types.contains(&Type::Blob);
    for chunk in chunks(rows, dialect, N) {
        changed += match dialect.form {
            Form::Rows => {
                // Values that are not bound are NULL.
                let values = values(size_of(chunk.len(), dialect, N), N);
                let sql = format!("{begin} SELECT * FROM ({values}) WHERE column1 IS NOT NULL{end}");
                session.execute(sql.into(), chunk.as_flattened()).await?
            }
            Form::Json if has_bytes => {
                let sql = format!("{begin} {}{end}", values(chunk.len(), N));
                session.execute(sql.into(), chunk.as_flattened()).await?
            }
            Form::Json | Form::Arrays => {
                let (phrase, bound) = as_table(dialect, &table.types, chunk);
                session.execute(format!("{begin} SELECT * FROM {phrase}{end}").into(), &bound).await?
            }
        };
    }
    Ok(changed)
}

/// Runs a statement over rows that stand in it as the table `d` (`column1`, `column2`, …); `make` gets
/// the phrase. Answers rows changed. No column holds bytes.
pub(super) async fn execute_over<const N: usize>(
    session: &mut dyn Session,
    dialect: &Dialect,
    types: &[Type; N],
    rows: &[[Value<'_>; N]],
    make: fn(&str) -> String,
) -> Result<u64, StoreError> {
    let mut changed = 0;
    for chunk in chunks(rows, dialect, N) {
        let (phrase, bound) = as_table(dialect, types, chunk);
        changed += session.execute(make(&phrase).into(), &bound).await?;
    }
    Ok(changed)
}

/// Like [`execute_over`], for a `SELECT`.
pub(super) async fn fetch_over<const N: usize>(
    session: &mut dyn Session,
    dialect: &Dialect,
    types: &[Type; N],
    rows: &[[Value<'_>; N]],
    make: fn(&str) -> String,
) -> Result<Vec<Row>, StoreError> {
    let mut found = Vec::new();
    for chunk in chunks(rows, dialect, N) {
        let (phrase, bound) = as_table(dialect, types, chunk);
        found.extend(session.fetch(make(&phrase).into(), &bound).await?);
    }
    Ok(found)
}

/// `(?,?,?)` for a list of numbers, and the numbers, [`padded`].
pub(super) fn list(numbers: &[u16]) -> (String, Vec<Value<'static>>) {
    let numbers = if numbers.is_empty() { &[0] } else { numbers };
    let values = padded(numbers.iter().map(|number| Value::from(*number)).collect());
    (format!("({})", vec!["?"; values.len()].join(",")), values)
}

/// A list to look for: the last value is repeated up to one of few sizes.
pub(super) fn padded(mut values: Vec<Value<'_>>) -> Vec<Value<'_>> {
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// The rows in order, in chunks that a statement can carry.
pub(super) fn chunks<'r, T>(rows: &'r [T], dialect: &Dialect, columns: usize) -> Vec<&'r [T]> {
    let mut rest = rows;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size_of(rest.len(), dialect, columns).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// Rows of the next statement, when so many are left: the largest size that these rows fill, or more than half of
/// it where it can be filled up.
fn size_of(left: usize, dialect: &Dialect, columns: usize) -> usize {
    let (sizes, filled) = match dialect.form {
        Form::Arrays => return ARRAY_ROWS,
        Form::Rows => (FILLED_ROWS, true),
        Form::Json => (EXACT_ROWS, false),
    };
    let most = dialect.values_max / columns;
    let fits = |size: &usize| *size <= most && (left >= *size || (filled && left > size / 2));
    sizes.iter().copied().find(fits).unwrap_or(1)
}

/// `VALUES (?,?),(?,?)…`.
fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("VALUES {}", vec![row; rows].join(","))
}

/// `unnest(?::BIGINT[], ?::TEXT[])`.
fn unnest(types: &[Type]) -> String {
    let arrays = types.iter().map(|kind| match kind {
        Type::Int => "?::BIGINT[]",
        Type::Text => "?::TEXT[]",
        Type::Blob => "?::BYTEA[]",
    });
    format!("unnest({})", arrays.collect::<Vec<_>>().join(", "))
}

/// The rows as a table in a statement, and what is bound to it.
fn as_table<'v, const N: usize>(
    dialect: &Dialect,
    types: &[Type; N],
    rows: &'v [[Value<'v>; N]],
) -> (String, Cow<'v, [Value<'v>]>) {
    let columns = (1..=N).map(|number| format!("column{number}"));
    match dialect.form {
        Form::Rows => {
            // An empty row matches nothing.
            let values = values(size_of(rows.len(), dialect, N), N);
            (format!("({values}) AS d"), Cow::Borrowed(rows.as_flattened()))
        }
        Form::Arrays => {
            let columns = columns.collect::<Vec<_>>().join(", ");
            (format!("{} AS d ({columns})", unnest(types)), arrays(types, rows).into())
        }
        Form::Json => {
            let paths = columns.zip(types).enumerate().map(|(place, (column, kind))| match kind {
                Type::Int => format!("{column} BIGINT PATH '$[{place}]'"),
                Type::Text | Type::Blob => format!("{column} VARCHAR({JSON_TEXT}) PATH '$[{place}]'"),
            });
            let paths = paths.collect::<Vec<_>>().join(", ");
            (format!("JSON_TABLE(?, '$[*]' COLUMNS ({paths})) AS d"), vec![Value::Made(json(rows))].into())
        }
    }
}

/// One array per column.
fn arrays<'v, const N: usize>(types: &[Type; N], rows: &'v [[Value<'v>; N]]) -> Vec<Value<'v>> {
    let column = |(place, kind): (usize, &Type)| {
        let cells = rows.iter().map(|row| &row[place]);
        match kind {
            Type::Int => {
                Value::Ints(cells.map(|cell| if let Value::Int(int) = cell { Some(*int) } else { None }).collect())
            }
            Type::Text => Value::Texts(cells.map(text_of).collect()),
            Type::Blob => {
                Value::Blobs(cells.map(|cell| if let Value::Blob(blob) = cell { Some(*blob) } else { None }).collect())
            }
        }
    };
    types.iter().enumerate().map(column).collect()
}

fn text_of<'v>(cell: &'v Value<'v>) -> Option<&'v str> {
    match cell {
        Value::Text(text) => Some(text),
        Value::Made(text) => Some(text),
        Value::Null | Value::Int(_) | Value::Blob(_) | Value::Ints(_) | Value::Texts(_) | Value::Blobs(_) => None,
    }
}

/// An array of arrays.
fn json<const N: usize>(rows: &[[Value<'_>; N]]) -> String {
    let cell = |cell: &Value<'_>| match cell {
        Value::Int(int) => serde_json::Value::from(*int),
        other => text_of(other).into(),
    };
    serde_json::Value::from_iter(rows.iter().map(|row| serde_json::Value::from_iter(row.iter().map(cell)))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_every_row_once_and_fit() {
        let rows: Vec<usize> = (0..1999).collect();
        for (columns, most) in [(32_766, 1), (4_680, 7), (4_095, 8), (327, 100), (30, 1092), (4, 8191)] {
            let dialect = super::super::sqlite::DIALECT;
            let chunks = chunks(&rows, &dialect, columns);
            assert!(chunks.iter().all(|chunk| chunk.len() <= most), "at most {most} rows");
            assert_eq!(chunks.concat(), rows);
        }
        let sizes = |rows: usize, dialect: &Dialect| {
            let rows = vec![0; rows];
            chunks(&rows, dialect, 31).iter().map(|chunk| chunk.len()).collect::<Vec<_>>()
        };
        let (filled, exact) =
            (super::super::sqlite::DIALECT, Dialect { form: Form::Json, ..super::super::sqlite::DIALECT });
        for (rows, filled_up, exactly) in [
            (1, vec![1], vec![1]),
            (7, vec![7], vec![4, 2, 1]),
            (63, vec![63], vec![32, 16, 8, 4, 2, 1]),
            (90, vec![64, 8, 8, 8, 1, 1], vec![64, 16, 8, 2]),
            (1000, vec![512, 488], vec![512, 256, 128, 64, 32, 8]),
        ] {
            assert_eq!((sizes(rows, &filled), sizes(rows, &exact)), (filled_up, exactly), "{rows} rows");
        }
        assert_eq!(values(2, 2), "VALUES (?,?),(?,?)");
        assert_eq!(unnest(&[Type::Int, Type::Text, Type::Blob]), "unnest(?::BIGINT[], ?::TEXT[], ?::BYTEA[])");
    }

    #[test]
    fn a_list_has_one_of_few_sizes() {
        for (numbers, size) in [(1, 1), (2, 2), (5, 8), (64, 64), (65, 128)] {
            let numbers: Vec<u16> = (0..numbers).collect();
            let (text, values) = list(&numbers);
            assert_eq!((values.len(), text.matches('?').count()), (size, size));
            assert!(matches!(values.last(), Some(Value::Int(last)) if *last == i64::from(numbers[numbers.len() - 1])));
        }
    }

    #[test]
    fn rows_are_quoted_as_json() {
        let rows =
            [[Value::Int(-1), Value::Text("a\"b"), Value::Null], [Value::Int(2), Value::Made("ü".into()), Value::Null]];
        assert_eq!(json(&rows), r#"[[-1,"a\"b",null],[2,"ü",null]]"#);
    }
}
