//! `quotad code …`.

use clap::Subcommand;
use serde_json::json;

use super::noun::{Page, Rate, Verbs, fields, object, op_id, text, units};
use crate::app::{ask::Call, failure::Failure};

const COLUMNS: &[&str] =
    &["id", "shown", "name", "amount", "status", "expires_at", "created_at", "used_by", "used_at", "batch"];

#[derive(Debug, Subcommand)]
pub enum Code {
    /// Makes codes and shows them, once.
    Create {
        /// 1 to 20 characters.
        #[arg(long)]
        name: String,
        /// Units, or dollars such as "5 USD".
        #[arg(long)]
        amount: String,
        /// 1 to 100 [default: 1].
        #[arg(long)]
        count: Option<u32>,
        /// RFC 3339, in the future [default: never].
        #[arg(long, value_name = "INSTANT")]
        expires_at: Option<String>,
        /// Names the call: repeated, it makes no more [default: a new one].
        #[arg(long)]
        op_id: Option<String>,
    },
    /// Codes, newest first.
    List {
        /// enabled, disabled, used or expired.
        #[arg(long)]
        status: Option<String>,
        #[arg(long)]
        name: Option<String>,
        /// op id of the call that made them.
        #[arg(long)]
        batch: Option<String>,
        /// Part of a name, an id, the first six characters, or a whole code.
        #[arg(long)]
        search: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One code.
    Show { id: String },
    /// Changes a code that nobody has used. Fields: name, amount, expires_at, status.
    Edit {
        id: String,
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
    },
    /// Turns a code into an account's balance.
    Redeem { account: String, code: String },
    /// Switches a code on.
    Enable { id: String },
    /// Switches a code off.
    Disable { id: String },
    /// Deletes a code.
    Delete { id: String },
    /// Deletes all codes that are used, expired or disabled.
    Purge {
        /// Only those of this status; may be repeated.
        #[arg(long)]
        status: Vec<String>,
    },
}

impl Verbs for Code {
    fn call(&self, rate: &Rate) -> Result<Call, Failure> {
        Ok(match self {
            Code::Create { name, amount, count, expires_at, op_id: id } => {
                let body = object([
                    ("op_id", Some(op_id(id.as_deref())?.into())),
                    ("name", text(Some(name))),
                    ("amount", Some(units(amount, rate))),
                    ("count", count.map(Into::into)),
                    ("expires_at", text(expires_at.as_ref())),
                ]);
                Call::post(&["codes"], body.into()).listed("codes", &["code", "id", "name", "amount", "expires_at"])
            }
            Code::List { status, name, batch, search, page } => {
                let call = Call::get(&["codes"]).with("status", status.as_ref()).with("name", name.as_ref());
                let call = call.with("batch", batch.as_ref()).with("search", search.as_ref());
                page.of(call).listed("codes", COLUMNS)
            }
            Code::Show { id } => Call::get(&["codes", id]),
            Code::Edit { id, fields: typed } => Call::put(&["codes", id], fields(typed, rate)?.into()),
            Code::Redeem { account, code } => Call::post(&["accounts", account, "redeem"], json!({"code": code})),
            Code::Enable { id } => Call::put(&["codes", id], json!({"status": "enabled"})),
            Code::Disable { id } => Call::put(&["codes", id], json!({"status": "disabled"})),
            Code::Delete { id } => Call::delete(&["codes", id], format!("deleted {id}")),
            Code::Purge { status } => {
                let status = (!status.is_empty()).then(|| status.clone().into());
                Call::post(&["codes", "purge"], object([("status", status)]).into())
            }
        })
    }
}
