//! Many rows in few statements: `VALUES (…),(…),…`, as many rows as a statement may carry values.

use super::session::{Dialect, Session, Value};
use crate::engine::ports::StoreError;

/// Rows per statement: few sizes, so that each statement is prepared once and found again.
const CHUNK_ROWS: [usize; 4] = [512, 64, 8, 1];

/// Inserts rows of `N` values; `end` says what happens to rows that exist. Answers rows changed.
pub(super) async fn insert<const N: usize>(
    session: &mut dyn Session,
    dialect: &Dialect,
    into: &str,
    rows: &[[Value<'_>; N]],
    end: &str,
) -> Result<u64, StoreError> {
    let mut changed = 0;
    for chunk in chunks(rows, dialect.values_max / N) {
        changed += session.execute(statement(into, chunk.len(), N, end).into(), chunk.as_flattened()).await?;
    }
    Ok(changed)
}

/// The rows in order, in chunks of the sizes above that are not larger than `most`.
pub(super) fn chunks<T>(rows: &[T], most: usize) -> Vec<&[T]> {
    let mut rest = rows;
    let mut chunks = Vec::new();
    for size in CHUNK_ROWS.into_iter().filter(|size| *size <= most) {
        while rest.len() >= size {
            let (chunk, after) = rest.split_at(size);
            chunks.push(chunk);
            rest = after;
        }
    }
    chunks
}

/// `<into> VALUES (?,?),(?,?)… <end>`.
fn statement(into: &str, rows: usize, columns: usize, end: &str) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("{into} VALUES {}{end}", vec![row; rows].join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_every_row_once_and_fit() {
        let rows: Vec<usize> = (0..1999).collect();
        for most in [1, 7, 8, 100, 1092, 8191] {
            let chunks = chunks(&rows, most);
            assert!(chunks.iter().all(|chunk| chunk.len() <= most), "at most {most} rows");
            assert_eq!(chunks.concat(), rows);
        }
        assert_eq!(statement("INSERT INTO t (a, b)", 2, 2, " X"), "INSERT INTO t (a, b) VALUES (?,?),(?,?) X");
    }
}
