//! Answers for people: tables and records as text.

use std::fmt::Write;

use serde_json::Value;

/// Between two columns.
const GAP: &str = "  ";
/// Stands for null, and for a field that is not there.
const NOTHING: &str = "-";

/// A line for each row, with these of its fields; above them their names when `head` is set.
pub(super) fn table(columns: &[&str], rows: &[Value], head: bool) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(&row[*column])).collect()).collect();
    let is_numeric = |column: &&str| {
        let mut values = rows.iter().map(|row| &row[*column]).filter(|value| !value.is_null()).peekable();
        values.peek().is_some() && values.all(Value::is_number)
    };
    let numeric: Vec<bool> = columns.iter().map(is_numeric).collect();
    let titles: Vec<String> = columns.iter().map(|column| column.to_ascii_uppercase()).collect();
    let heading = head.then_some(&titles);
    let widest = |place: usize| {
        let texts = heading.into_iter().chain(&cells).map(|line| line[place].chars().count());
        texts.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    let mut said = String::new();
    for line in heading.into_iter().chain(&cells) {
        let mut text = String::new();
        for (place, cell) in line.iter().enumerate() {
            let padding = " ".repeat(widths[place] - cell.chars().count());
            let _ = match numeric[place] {
                true => write!(text, "{padding}{cell}{GAP}"),
                false => write!(text, "{cell}{padding}{GAP}"),
            };
        }
        said.push_str(text.trim_end());
        said.push('\n');
    }
    said
}

/// A line for each field of an object; lists of objects stand below it as tables.
pub(super) fn record(body: &Value) -> String {
    let Some(fields) = body.as_object() else { return format!("{}\n", cell(body)) };
    let is_list = |value: &Value| value.as_array().is_some_and(|items| items.iter().any(Value::is_object));
    let width = fields.iter().filter(|(_, value)| !is_list(value)).map(|(name, _)| name.len()).max().unwrap_or(0);
    let (mut said, mut below) = (String::new(), String::new());
    for (name, value) in fields {
        match value.as_array().filter(|_| is_list(value)) {
            Some(items) => {
                let mut columns: Vec<&str> = Vec::new();
                for field in items.iter().filter_map(Value::as_object).flat_map(|item| item.keys()) {
                    if !columns.contains(&field.as_str()) {
                        columns.push(field);
                    }
                }
                let _ = write!(below, "\n{name}\n{}", table(&columns, items, true));
            }
            None => {
                let _ = writeln!(said, "{name:width$}{GAP}{}", cell(value));
            }
        }
    }
    said + &below
}

/// A value in one line. No control character reaches the terminal.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => NOTHING.to_owned(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [
            json!({"id": "a", "amount": 5, "name": "spring — 春", "used_by": null}),
            json!({"id": "bb", "amount": 1000, "name": "x\u{1b}[31m", "more": 1}),
        ];
        let said = table(&["id", "amount", "name", "used_by"], &rows, true);
        let expected = "ID  AMOUNT  NAME        USED_BY\n\
                        a        5  spring — 春  -\n\
                        bb    1000  x?[31m      -\n";
        assert_eq!(said, expected);
        assert_eq!(table(&["id"], &[], true), "ID\n");
        assert_eq!(table(&["id"], &rows[..1], false), "a\n");
    }

    #[test]
    fn a_record_has_a_line_for_each_field_and_tables_below() {
        let body = json!({"account": "a", "balance": 5, "name": null, "models": ["m", "n"], "tags": [],
            "limits": [{"cap": 1, "period": "day"}, {"cap": null, "period": "week"}]});
        let expected = "account  a\nbalance  5\nmodels   m,n\nname     -\ntags     -\n\nlimits\nCAP  PERIOD\n  1  day\n  -  week\n";
        assert_eq!(record(&body), expected);
        assert_eq!(record(&json!(null)), "-\n");
    }
}
