//! new-api's `/api/pricing`, the list that its users see: one row per model with its ratios or its price. Read into
//! the settings that the same program keeps by ratio, so that both mean the same.
//!
//! The list shows a reader only the groups that it may use.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;

use super::import::List;

/// Ratios of a row, and the settings that they are.
const RATIOS: [(&str, &str); 7] = [
    ("model_ratio", "ModelRatio"),
    ("completion_ratio", "CompletionRatio"),
    ("cache_ratio", "CacheRatio"),
    ("create_cache_ratio", "CreateCacheRatio"),
    ("image_ratio", "ImageRatio"),
    ("audio_ratio", "AudioRatio"),
    ("audio_completion_ratio", "AudioCompletionRatio"),
];

/// Settings as texts, and rows that cannot be read: model and reason.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) refused: Vec<(String, String)>,
}

/// A row's fields.
struct Row<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Row<'a> {
    /// What a field says, if it says something.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.0.iter().find(|(field, _)| field == name)?;
        Some(*value).filter(|value| !matches!(value.get(), "null" | "\"\""))
    }

    fn model(&self) -> Option<Cow<'a, str>> {
        serde_json::from_str(self.get("model_name")?.get()).ok()
    }
}

/// `None`: not one of the rows is a model's.
pub(super) fn read(rows: &[&RawValue]) -> Option<Page> {
    let mut page = Page::default();
    let mut tables: BTreeMap<&'static str, BTreeMap<String, &RawValue>> = BTreeMap::new();
    let mut found = false;
    for row in rows.iter().filter_map(|row| serde_json::from_str(row.get()).ok()).map(|List(fields)| Row(fields)) {
        let Some(model) = row.model() else { continue };
        found = true;
        let mut put = |setting, value| {
            tables.entry(setting).or_default().insert(model.clone().into_owned(), value);
        };
        // By token, or by call; other ways of billing came later, and are formulas.
        let billed = row.get("billing_mode").map_or("\"ratio\"", RawValue::get);
        let way = row.get("quota_type").map_or("0", RawValue::get);
        match (billed, way, row.get("model_ratio"), row.get("model_price")) {
            ("\"ratio\"", "1", _, Some(price)) => put("ModelPrice", price),
            ("\"ratio\"", "0", Some(_), _) => {
                for (field, setting) in RATIOS {
                    if let Some(ratio) = row.get(field) {
                        put(setting, ratio);
                    }
                }
            }
            _ => {
                let why =
                    format!("is billed in a way that is not known here (quota_type {way}, billing_mode {billed})");
                page.refused.push((model.into_owned(), why));
            }
        }
    }
    // Numbers as they were found: they cannot fail to be written again.
    let text = |table: &BTreeMap<String, &RawValue>| serde_json::to_string(table).unwrap_or_default();
    page.settings = tables.iter().map(|(setting, table)| (*setting, text(table))).collect();
    found.then_some(page)
}
