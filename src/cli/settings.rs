//! `quotad settings …`: what is set at run time, for all sidecars.

use clap::Subcommand;
use serde_json::{Value, json};

use super::noun::{Page, Rate, Verbs, fields};
use crate::app::{ask::Call, failure::Failure};

#[derive(Debug, Subcommand)]
pub enum Settings {
    /// All settings that can be changed at run time.
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One setting.
    Get { name: String },
    /// Sets a setting, on every sidecar within a second.
    Set {
        name: String,
        /// JSON, dollars such as "5 USD", or text.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Only if this is still its version, which `get` shows: else somebody was quicker.
        #[arg(long, value_name = "N")]
        version: Option<u64>,
    },
    /// Back to what the configuration says.
    Reset { name: String },
}

impl Verbs for Settings {
    fn call(&self, rate: &Rate) -> Result<Call, Failure> {
        Ok(match self {
            Settings::List { page } => page
                .of(Call::get(&["settings"]))
                .listed("settings", &["name", "value", "default", "unit", "source", "changed_by"]),
            Settings::Get { name } => Call::get(&["settings", name]),
            Settings::Set { name, value, version } => {
                let typed = fields(&[format!("value={value}")], rate)?;
                let mut body = json!({"value": typed.get("value").unwrap_or(&Value::Null)});
                if let Some(version) = version {
                    body["version"] = (*version).into();
                }
                Call::put(&["settings", name], body)
            }
            Settings::Reset { name } => Call::new(hyper::Method::DELETE, &["settings", name]),
        })
    }
}
