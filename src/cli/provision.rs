//! `quotad provision`: an account with everything it begins with, in one step.

use clap::Args;
use serde_json::Value;

use super::noun::{Rate, Verbs, fields, object, text};
use crate::app::{ask::Call, failure::Failure};

#[derive(Args, Debug)]
pub struct Ask {
    account: String,
    /// Where it signed up: email, linuxdo, oidc, wechat, github, google or dingtalk.
    #[arg(long)]
    source: String,
    /// Price group.
    #[arg(long)]
    group: Option<String>,
    /// The account that invited it.
    #[arg(long, value_name = "ACCOUNT")]
    inviter: Option<String>,
    /// Id of a first key; its secret is shown, once.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// A field of the first key, as `quotad key put` takes it; may be given often.
    #[arg(long = "key-field", value_name = "FIELD=VALUE", requires = "key")]
    key_fields: Vec<String>,
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    contact: Option<String>,
    /// IANA time zone of its days.
    #[arg(long = "zone", value_name = "ZONE")]
    zone: Option<String>,
}

impl Verbs for Ask {
    fn call(&self, rate: &Rate) -> Result<Call, Failure> {
        let mut of_key = fields(&self.key_fields, rate)?;
        let key = self.key.as_ref().map(|key| {
            of_key.insert("key".to_owned(), key.as_str().into());
            Value::Object(of_key)
        });
        let body = object([
            ("account", text(Some(&self.account))),
            ("source", text(Some(&self.source))),
            ("group", text(self.group.as_ref())),
            ("inviter", text(self.inviter.as_ref())),
            ("key", key),
            ("name", text(self.name.as_ref())),
            ("contact", text(self.contact.as_ref())),
            ("timezone", text(self.zone.as_ref())),
        ]);
        Ok(Call::post(&["provision"], body.into()))
    }
}
