//! `quotad key …`.

use clap::Subcommand;

use super::noun::{Page, Rate, Verbs, fields};
use crate::app::{ask::Call, failure::Failure};

#[derive(Debug, Subcommand)]
pub enum Key {
    /// The keys of an account.
    List {
        account: String,
        #[command(flatten)]
        page: Page,
    },
    /// One key with its live numbers.
    Show { account: String, key: String },
    /// Creates or changes a key; a new one's secret is shown, once.
    ///
    /// Fields: status, allowance, expires_at, models, networks, group, limits, secret_sha256 and what else the API
    /// knows. Values are JSON, dollars (`allowance="5 USD"`) or text; `null` is without.
    Put {
        account: String,
        key: String,
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
    },
    /// Deletes a key.
    Delete { account: String, key: String },
}

impl Verbs for Key {
    fn call(&self, rate: &Rate) -> Result<Call, Failure> {
        Ok(match self {
            Key::List { account, page } => page.of(Call::get(&["accounts", account, "keys"])).listed(
                "keys",
                &["key", "status", "allowance", "left", "used", "requests", "expires_at", "models", "group"],
            ),
            Key::Show { account, key } => Call::get(&["accounts", account, "keys", key]),
            Key::Put { account, key, fields: typed } => {
                Call::put(&["accounts", account, "keys", key], fields(typed, rate)?.into())
            }
            Key::Delete { account, key } => {
                Call::delete(&["accounts", account, "keys", key], format!("deleted {key} of {account}"))
            }
        })
    }
}
