//! The difference of two price lists as a table for people.

use std::fmt::Write;

use rust_decimal::Decimal;

use crate::quota::tariff::{Change, Diff};

/// One line per price that differs, in USD: per million tokens or seconds, per image or per call.
pub(super) fn table(diff: &Diff, units_per_usd: i64) -> String {
    let usd = |units: Option<i64>| match units {
        Some(units) => (Decimal::from(units) / Decimal::from(units_per_usd)).normalize().to_string(),
        None => "-".to_owned(),
    };
    let mut rows = Vec::new();
    for model in &diff.models {
        let change = match model.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        };
        for price in &model.prices {
            let tokens = price.price.ends_with("max_output");
            let shown = |number: Option<i64>| match number {
                Some(number) if tokens => number.to_string(),
                number => usd(number),
            };
            let (before, after) = (shown(price.before), shown(price.after));
            rows.push([change.to_owned(), model.model.clone(), price.price.clone(), before, after]);
        }
        if let Some(provider) = &model.provider {
            let named = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
            let (before, after) = (named(&provider.before), named(&provider.after));
            rows.push([change.to_owned(), model.model.clone(), "provider".into(), before, after]);
        } else if model.prices.is_empty() {
            rows.push([change.to_owned(), model.model.clone(), "-".into(), "-".into(), "-".into()]);
        }
    }
    for ratio in &diff.ratios {
        let groups = match &ratio.user_group {
            Some(user) => format!("{user} in {}", ratio.group),
            None => ratio.group.clone(),
        };
        let or_none = |ratio: &Option<String>| ratio.clone().unwrap_or_else(|| "-".to_owned());
        rows.push(["group".into(), groups, "ratio".into(), or_none(&ratio.before), or_none(&ratio.after)]);
    }
    if rows.is_empty() {
        return String::new();
    }
    rows.insert(0, ["change", "model", "price", "before", "after"].map(str::to_owned));
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let [a, b, c, d, e] = widths;
    let mut out = String::new();
    for [change, model, price, before, after] in &rows {
        let _ = writeln!(out, "{change:a$}  {model:b$}  {price:c$}  {before:>d$}  {after:>e$}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::tariff::TariffDoc;

    #[test]
    fn prices_are_shown_in_dollars() {
        let doc = |text: &str| -> TariffDoc { serde_json::from_str(text).unwrap() };
        let before = doc(
            r#"{"format":1,"units_per_usd":100000000,"models":{"gpt-4o":{"input":250000000,"max_output":16384,"provider":"openai"},
                "old":{"per_request":4000000}}}"#,
        );
        let after =
            doc(r#"{"format":1,"units_per_usd":100000000,"models":{"gpt-4o":{"input":300000000,"max_output":32768}},
                "user_group_ratio":{"gold":{"vip":"0.5"}}}"#);
        let expected = "\
change   model        price        before  after
changed  gpt-4o       input           2.5      3
changed  gpt-4o       max_output    16384  32768
changed  gpt-4o       provider     openai      -
removed  old          per_request    0.04      -
group    gold in vip  ratio             -    0.5
";
        assert_eq!(table(&Diff::between(&before, &after), 100_000_000), expected);
        assert_eq!(table(&Diff::between(&after, &after), 100_000_000), "");
    }
}
