//! `quotad reservation …`.

use clap::Subcommand;

use super::noun::{Rate, Verbs};
use crate::app::{ask::Call, failure::Failure};

#[derive(Debug, Subcommand)]
pub enum Reservation {
    /// What became of a call: its hold, what it was charged, when it ends.
    Show { account: String, id: String },
}

impl Verbs for Reservation {
    fn call(&self, _: &Rate) -> Result<Call, Failure> {
        let Reservation::Show { account, id } = self;
        Ok(Call::get(&["reservations", account, id]))
    }
}
