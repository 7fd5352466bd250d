//! The verbs of `quotad tariff` that ask a running quotad; the others work on the database.

use clap::Args;

use super::noun::{Page, Verbs};
use crate::app::{ask::Call, failure::Failure};

#[derive(Args, Debug)]
#[group(skip)]
pub struct Versions {
    #[command(flatten)]
    page: Page,
}

#[derive(Args, Debug)]
#[group(skip)]
pub struct Activate {
    /// Number of the version whose prices shall hold again.
    version: String,
}

impl Verbs for Versions {
    fn call(&self, _: i64) -> Result<Call, Failure> {
        Ok(self.page.of(Call::get(&["tariffs"])).listed("tariffs", &["version", "source", "imported_at"]))
    }
}

impl Verbs for Activate {
    fn call(&self, _: i64) -> Result<Call, Failure> {
        Ok(Call::new(hyper::Method::POST, &["tariffs", &self.version, "activate"]))
    }
}
