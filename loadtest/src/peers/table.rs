//! The rows as people read them: aligned on a terminal, or as Markdown.

use super::figures::{Goal, Row, Spread};

const HEAD: [&str; 7] = ["line", "compared", "medians", "result", "min–max", "goal", ""];

/// Aligned with spaces.
#[must_use]
pub fn plain(rows: &[Row]) -> String {
    let table: Vec<[String; 7]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 7]| {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    table.iter().map(line).collect()
}

/// A Markdown table.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let line = |row: &[String; 7]| format!("| {} |\n", row.join(" | "));
    let head = line(&HEAD.map(str::to_owned)) + "|---|---|---|---|---|---|---|\n";
    rows.iter().fold(head, |table, row| table + &line(&cells(row)))
}

fn cells(row: &Row) -> [String; 7] {
    let name = serde_json::to_value(row.line).ok().and_then(|name| name.as_str().map(str::to_owned));
    let name = name.unwrap_or_default();
    let spread = Spread::of(&row.figures());
    let Some((Spread { median, min, max }, None)) = spread.map(|spread| (spread, row.skipped.as_ref())) else {
        let why = row.skipped.clone().unwrap_or_default();
        return [name, why, String::new(), String::new(), String::new(), String::new(), "skipped".to_owned()];
    };
    let is_ratio = !row.theirs.is_empty();
    let of = |figures: &[f64]| Spread::of(figures).map_or_else(String::new, |spread| number(spread.median));
    let medians =
        if is_ratio { format!("{} : {} {}", of(&row.ours), of(&row.theirs), row.unit) } else { String::new() };
    let unit = if is_ratio { " ×".to_owned() } else { format!(" {}", row.unit) };
    let goal = row.goal.map_or_else(String::new, |goal| match goal {
        Goal::AtLeast(least) => format!("≥ {}", number(least)),
        Goal::AtMost(most) => format!("≤ {}", number(most)),
        Goal::Below(bound) => format!("< {}", number(bound)),
    });
    let verdict = row.is_met().map_or("shown", |met| if met { "met" } else { "MISSED" });
    [
        name,
        row.what.clone(),
        medians,
        format!("{}{unit}", number(median)),
        format!("{}–{}", number(min), number(max)),
        goal,
        verdict.to_owned(),
    ]
}

/// As many digits as say something: `2.04`, `37.2`, `71 204`.
fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::args::Name;

    fn rows() -> Vec<Row> {
        let pair: (&[f64], &[f64]) = (&[70_000.0, 72_000.0], &[36_000.0, 36_000.0]);
        vec![
            Row::ratio(Name::Reserve, "quotad : nginx + Lua", "/s", pair, Some(Goal::AtLeast(2.0))),
            Row::figure(Name::Memory, "idle account", "B", &[274.0], Some(Goal::AtMost(300.0))),
            Row::figure(Name::Memory, "sidecar", "MiB", &[31.5], None),
            Row::skipped(Name::Trust, "not in this build".to_owned()),
        ]
    }

    #[test]
    fn numbers_have_as_many_digits_as_matter() {
        let shown = [2.0, 0.695, 37.25, 999.6, 71_204.4, 1_234_567.0].map(number);
        assert_eq!(shown, ["2.00", "0.69", "37.2", "1 000", "71 204", "1 234 567"]);
    }

    #[test]
    fn markdown_shows_median_spread_goal_and_verdict() {
        let lines: Vec<String> = markdown(&rows()).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "| line | compared | medians | result | min–max | goal |  |");
        assert_eq!(
            lines[2],
            "| reserve | quotad : nginx + Lua | 71 000 : 36 000 /s | 1.97 × | 1.94–2.00 | ≥ 2.00 | MISSED |"
        );
        assert_eq!(lines[3], "| memory | idle account |  | 274 B | 274–274 | ≤ 300 | met |");
        assert_eq!(lines[4], "| memory | sidecar |  | 31.5 MiB | 31.5–31.5 |  | shown |");
        assert_eq!(lines[5], "| trust | not in this build |  |  |  |  | skipped |");
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let text = plain(&rows());
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let goal = text.lines().next().and_then(|head| head.find("goal")).map(|at| text[..at].chars().count()).unwrap();
        assert_eq!(lines[1][goal], '≥');
        assert_eq!(lines[2][goal], '≤');
    }
}
