//! `quotad quota …`: what an account may spend on each platform, in dollars.

use clap::Subcommand;
use serde_json::{Value, json};

use super::noun::{Rate, Verbs, op_id};
use crate::app::{ask::Call, failure::Failure};

const COLUMNS: &[&str] = &[
    "platform",
    "daily_usage_usd",
    "daily_limit_usd",
    "weekly_usage_usd",
    "weekly_limit_usd",
    "monthly_usage_usd",
    "monthly_limit_usd",
];

#[derive(Debug, Subcommand)]
pub enum Quota {
    /// An account's quotas, or the one of a platform.
    Show { account: String, platform: Option<String> },
    /// Replaces all quotas of an account: platforms that are not named become unlimited. What is used stays.
    Set {
        account: String,
        /// Dollars a day, a week and a month: openai=10,-,200. `-` is unlimited, 0 is disabled.
        #[arg(value_name = "PLATFORM=DAILY,WEEKLY,MONTHLY", required_unless_present = "none")]
        quotas: Vec<String>,
        /// No quota at all: every platform becomes unlimited.
        #[arg(long, conflicts_with = "quotas")]
        none: bool,
    },
    /// Starts one window of a quota anew.
    Reset {
        account: String,
        platform: String,
        /// daily, weekly or monthly.
        window: String,
        /// Names the reset: repeated, it is done once [default: a new one].
        #[arg(long)]
        op_id: Option<String>,
    },
}

impl Verbs for Quota {
    fn call(&self, _: &Rate) -> Result<Call, Failure> {
        Ok(match self {
            Quota::Show { account, platform: None } => {
                Call::get(&["accounts", account, "platform-quotas"]).listed("quotas", COLUMNS)
            }
            Quota::Show { account, platform: Some(platform) } => {
                Call::get(&["accounts", account, "platform-quotas", platform])
            }
            Quota::Set { account, quotas, none: _ } => {
                let quotas = quotas.iter().map(|typed| quota(typed)).collect::<Result<Vec<_>, _>>()?;
                let call = Call::put(&["accounts", account, "platform-quotas"], json!({"quotas": quotas}));
                call.listed("quotas", COLUMNS)
            }
            Quota::Reset { account, platform, window, op_id: id } => {
                let body = json!({"op_id": op_id(id.as_deref())?, "platform": platform, "window": window});
                Call::post(&["accounts", account, "platform-quotas", "reset"], body)
            }
        })
    }
}

fn quota(typed: &str) -> Result<Value, Failure> {
    let refuse = || Failure::Config(vec![format!("`{typed}` must be PLATFORM=DAILY,WEEKLY,MONTHLY")]);
    let (platform, caps) = typed.rsplit_once('=').ok_or_else(refuse)?;
    let caps: Vec<&str> = caps.split(',').collect();
    let [daily, weekly, monthly] = caps[..] else { return Err(refuse()) };
    let cap = |text: &str| -> Result<Value, Failure> {
        match text {
            "-" => Ok(Value::Null),
            number => serde_json::from_str(number).ok().filter(Value::is_number).ok_or_else(refuse),
        }
    };
    Ok(json!({"platform": platform, "daily_limit_usd": cap(daily)?, "weekly_limit_usd": cap(weekly)?,
        "monthly_limit_usd": cap(monthly)?}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_are_typed_in_a_row() {
        let read = quota("openai=10.5,-,0").unwrap();
        let expected = json!({"platform": "openai", "daily_limit_usd": 10.5, "weekly_limit_usd": null,
            "monthly_limit_usd": 0});
        assert_eq!(read, expected);
        for bad in ["openai", "openai=1,2", "openai=1,2,3,4", "openai=a,b,c", "openai=\"1\",2,3", "openai=,,"] {
            assert!(quota(bad).is_err(), "{bad}");
        }
    }
}
