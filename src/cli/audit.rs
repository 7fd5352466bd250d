//! `quotad audit list`: who changed what.

use clap::Subcommand;

use super::noun::{Page, Rate, Verbs};
use crate::app::{ask::Call, failure::Failure};

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Changes, newest first.
    List {
        /// account/<id>, code/<id>, setting/<name> and the like; also what is below it.
        #[arg(long)]
        subject: Option<String>,
        #[command(flatten)]
        page: Page,
    },
}

impl Verbs for Audit {
    fn call(&self, _: &Rate) -> Result<Call, Failure> {
        let Audit::List { subject, page } = self;
        let call = Call::get(&["audit"]).with("subject", subject.as_ref());
        Ok(page.of(call).listed("changes", &["at", "by", "what", "subject", "before", "after", "op_id"]))
    }
}
