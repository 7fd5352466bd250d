//! `quotad account …`.

use clap::Subcommand;
use serde_json::Value;

use super::noun::{Page, Rate, Verbs, fields, object, op_id, text, units};
use crate::app::{ask::Call, failure::Failure};

#[derive(Debug, Subcommand)]
pub enum Account {
    /// All accounts.
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One account with its live numbers.
    Show { account: String },
    /// Creates or changes an account.
    ///
    /// Fields: status, group, credit_limit, timezone, trust_threshold, on_unavailable, limits, initial_balance, name,
    /// contact. Values are JSON, dollars (`initial_balance="50 USD"`) or text.
    Put {
        account: String,
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
    },
    /// Deletes an account that holds nothing.
    Delete { account: String },
    /// Adds to the balance.
    Credit {
        account: String,
        /// Units, or dollars such as "5 USD".
        amount: String,
        /// Names the credit: repeated, it is done once [default: a new one].
        #[arg(long)]
        op_id: Option<String>,
        /// topup, grant, redeem, referral or adjust [default: topup].
        #[arg(long)]
        kind: Option<String>,
        #[arg(long)]
        note: Option<String>,
    },
    /// Takes from the balance.
    Debit {
        account: String,
        /// Units, or dollars such as "5 USD".
        amount: String,
        /// Names the debit: repeated, it is done once [default: a new one].
        #[arg(long)]
        op_id: Option<String>,
        /// Also when it overdraws.
        #[arg(long)]
        force: bool,
        #[arg(long)]
        note: Option<String>,
    },
    /// Starts a window's usage anew.
    Reset {
        account: String,
        platform: String,
        /// minute, hour, day, week, month or rolling:<seconds>.
        period: String,
        #[arg(long)]
        model: Option<String>,
        /// cost, tokens or requests [default: cost].
        #[arg(long)]
        metric: Option<String>,
        /// The key whose limit it is.
        #[arg(long)]
        key: Option<String>,
        /// Names the reset: repeated, it is done once [default: a new one].
        #[arg(long)]
        op_id: Option<String>,
    },
}

impl Verbs for Account {
    fn call(&self, rate: &Rate) -> Result<Call, Failure> {
        Ok(match self {
            Account::List { page } => page
                .of(Call::get(&["accounts"]))
                .listed("accounts", &["account", "status", "group", "timezone", "credit_limit", "name", "contact"]),
            Account::Show { account } => Call::get(&["accounts", account]),
            Account::Put { account, fields: typed } => Call::put(&["accounts", account], fields(typed, rate)?.into()),
            Account::Delete { account } => Call::delete(&["accounts", account], format!("deleted {account}")),
            Account::Credit { account, amount, op_id: id, kind, note } => {
                let body = object([
                    ("op_id", Some(op_id(id.as_deref())?.into())),
                    ("amount", Some(units(amount, rate))),
                    ("kind", text(kind.as_ref())),
                    ("note", text(note.as_ref())),
                ]);
                Call::post(&["accounts", account, "credit"], body.into())
            }
            Account::Debit { account, amount, op_id: id, force, note } => {
                let body = object([
                    ("op_id", Some(op_id(id.as_deref())?.into())),
                    ("amount", Some(units(amount, rate))),
                    ("force", force.then_some(Value::Bool(true))),
                    ("note", text(note.as_ref())),
                ]);
                Call::post(&["accounts", account, "debit"], body.into())
            }
            Account::Reset { account, platform, period, model, metric, key, op_id: id } => {
                let body = object([
                    ("op_id", Some(op_id(id.as_deref())?.into())),
                    ("platform", text(Some(platform))),
                    ("period", text(Some(period))),
                    ("model", text(model.as_ref())),
                    ("metric", text(metric.as_ref())),
                    ("key", text(key.as_ref())),
                ]);
                Call::post(&["accounts", account, "reset"], body.into())
            }
        })
    }
}
