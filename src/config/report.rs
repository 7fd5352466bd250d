//! What `check-config` prints: every setting with its effective value and where it came from; what the
//! database may say otherwise is marked, because nobody asks it here. The output is TOML, so that it can be the start of a configuration file.

use std::fmt::Write;

use super::{
    layers::Layers,
    secret::{REDACTED, ServerUrl},
    settings::SETTINGS,
};
use crate::engine::settings as runtime;

/// One line per setting; secrets and passwords are not in it.
#[must_use]
pub fn report(layers: &Layers) -> String {
    let mut out = String::new();
    for setting in SETTINGS.iter().filter(|setting| setting.key != "config") {
        let value = layers.value(setting.key);
        let shown = if value.text.is_empty() {
            format!("# {} is not set", setting.key)
        } else if setting.secret {
            format!("{} = \"{REDACTED}\"", setting.key)
        } else if setting.key.ends_with("_url") {
            format!("{} = {}", setting.key, toml_text(&ServerUrl::new(value.text.as_str()).to_string()))
        } else {
            format!("{} = {}", setting.key, toml_text(&value.text))
        };
        let unless = if runtime::find(setting.key).is_some() { ", unless set at run time" } else { "" };
        let _ = writeln!(out, "{shown:<44} # {}{unless}", value.source);
    }
    out
}

/// Whole numbers and truth values plain, all else as a string: JSON's are TOML's too.
fn toml_text(text: &str) -> String {
    if text == "true" || text == "false" || text.parse::<i64>().is_ok_and(|number| number.to_string() == text) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}
