//! `quotad defaults …`.

use clap::Subcommand;
use serde_json::Value;

use super::noun::{Rate, Verbs};
use crate::app::{ask::Call, failure::Failure};

#[derive(Debug, Subcommand)]
pub enum Defaults {
    /// What new accounts begin with.
    Show {
        /// system, or a source of sign-ups such as github [default: all].
        layer: Option<String>,
    },
    /// Replaces what new accounts begin with, as a whole.
    Set {
        /// system, or a source of sign-ups.
        layer: String,
        /// In dollars: {"openai":{"daily":10,"weekly":null,"monthly":0}}.
        #[arg(value_name = "JSON")]
        value: String,
    },
}

impl Verbs for Defaults {
    fn call(&self, _: &Rate) -> Result<Call, Failure> {
        Ok(match self {
            Defaults::Show { layer: None } => Call::get(&["defaults"]),
            Defaults::Show { layer: Some(layer) } => Call::get(&["defaults", layer]),
            Defaults::Set { layer, value } => {
                let body: Value = serde_json::from_str(value)
                    .map_err(|error| Failure::Config(vec![format!("the defaults are no JSON: {error}")]))?;
                Call::put(&["defaults", layer], body)
            }
        })
    }
}
