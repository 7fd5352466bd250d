//! `quotad referral …`.

use clap::Subcommand;

use super::noun::{Page, Rate, Verbs, object, op_id, units};
use crate::app::{ask::Call, failure::Failure};

#[derive(Debug, Subcommand)]
pub enum Referral {
    /// What an account has from those it invited, and who they are.
    Show {
        account: String,
        #[command(flatten)]
        page: Page,
    },
    /// Moves what is pending to the balance, all or nothing.
    Transfer {
        account: String,
        /// Units, or dollars such as "5 USD".
        amount: String,
        /// Names the transfer: repeated, it is done once [default: a new one].
        #[arg(long)]
        op_id: Option<String>,
    },
}

impl Verbs for Referral {
    fn call(&self, rate: &Rate) -> Result<Call, Failure> {
        Ok(match self {
            Referral::Show { account, page } => page.of(Call::get(&["accounts", account, "referrals"])),
            Referral::Transfer { account, amount, op_id: id } => {
                let body =
                    object([("op_id", Some(op_id(id.as_deref())?.into())), ("amount", Some(units(amount, rate)))]);
                Call::post(&["accounts", account, "referrals", "transfer"], body.into())
            }
        })
    }
}
