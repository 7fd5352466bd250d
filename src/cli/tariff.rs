//! The verbs of `quotad tariff` that ask a running quotad; the others work on the database.

use clap::Args;

use super::noun::{Page, Rate, Verbs};
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

#[derive(Args, Debug)]
#[group(skip)]
pub struct Models {
    /// Number of a version [default: the one in force].
    #[arg(default_value = "current")]
    version: String,
    /// Only models whose name contains this.
    #[arg(long, value_name = "SUBSTR")]
    model: Option<String>,
    #[command(flatten)]
    page: Page,
}

impl Verbs for Models {
    fn call(&self, _: &Rate) -> Result<Call, Failure> {
        let call = Call::get(&["tariffs", &self.version, "models"]).with("match", self.model.as_ref());
        Ok(self.page.of(call).listed("models", &["model", "provider", "max_output", "prices", "tiers"]))
    }
}

impl Verbs for Versions {
    fn call(&self, _: &Rate) -> Result<Call, Failure> {
        Ok(self.page.of(Call::get(&["tariffs"])).listed("tariffs", &["version", "source", "imported_at"]))
    }
}

impl Verbs for Activate {
    fn call(&self, _: &Rate) -> Result<Call, Failure> {
        Ok(Call::new(hyper::Method::POST, &["tariffs", &self.version, "activate"]))
    }
}
