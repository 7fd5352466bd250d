//! A profile: what a load run is made of. `conv` and `code` ship inside the program; any other name
//! is a path of a TOML file of the same shape.

use serde::Deserialize;

use crate::usage::Shape;

const CONV: &str = include_str!("../profiles/conv.toml");
const CODE: &str = include_str!("../profiles/code.toml");

/// The keys are those of the files, see `profiles/conv.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `conv` or `code`.
    pub trace: String,
    /// How many times faster than it happened the trace is replayed.
    pub speed: f64,
    pub accounts: u32,
    /// Keys of each account.
    pub keys: u32,
    /// Skew of the accounts: 0 is even, 1 is the classic Zipf law.
    pub zipf: f64,
    pub connections: u32,
    /// How long a hold lives.
    pub ttl_ms: u64,
    /// The same for a call whose settle gets lost: short, so that the audit sees the hold end.
    pub lost_ttl_ms: u64,
    /// What the upstream takes for one generated token, divided by the speed; between reserve and settle.
    pub token_ms: f64,
    /// Units each account begins with.
    pub initial_balance: i64,
    /// Units of a tight account's balance, cap or allowance: soon spent, then denied.
    pub tight_amount: i64,
    /// Output limits the clients ask for, ascending; each call takes one that fits what is generated.
    pub max_tokens: Vec<i64>,
    pub shares: Shares,
    pub models: Vec<Model>,
    pub limits: Vec<Limit>,
}

/// Shares of all calls, 0 to 1.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Released: the upstream was never called.
    pub release: f64,
    /// Settled with outcome `client_abort` and neither usage nor amount.
    pub client_abort: f64,
    /// Settled with outcome `upstream_error`, likewise.
    pub upstream_error: f64,
    /// Never settled: the hold expires.
    pub lost: f64,
    /// Settled after the hold expired.
    pub late: f64,
    /// Reserve or settle sent again.
    pub repeat: f64,
    /// Costs more than was held.
    pub overrun: f64,
    /// Part of the prompt came from a cache.
    pub cached: f64,
    /// Share of the accounts (not of the calls) that have little money, a low cap or poor keys.
    pub tight_accounts: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub platform: String,
    /// A name of the public price list.
    pub model: String,
    pub usage: Shape,
    /// Weight in the mix.
    pub weight: u32,
}

/// A limit of every account, with a cap too high to be met but in tight accounts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// A platform of the mix, or `*`.
    pub platform: String,
    pub metric: Metric,
    pub period: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Cost,
    Requests,
}

impl Metric {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Cost => "cost",
            Metric::Requests => "requests",
        }
    }
}

impl Profile {
    /// Loads a profile by name or path.
    ///
    /// # Errors
    /// A sentence naming the profile and what is wrong with it.
    pub fn load(name: &str) -> Result<Self, String> {
        let text = match name {
            "conv" => CONV.to_owned(),
            "code" => CODE.to_owned(),
            path => std::fs::read_to_string(path)
                .map_err(|error| format!("there is no profile {name:?} (conv, code or the path of a file): {error}"))?,
        };
        let profile: Self = toml::from_str(&text).map_err(|error| format!("profile {name:?}: {error}"))?;
        profile.check().map_err(|problem| format!("profile {name:?}: {problem}"))?;
        Ok(profile)
    }

    /// Whether the numbers make sense together.
    ///
    /// # Errors
    /// A sentence naming the field.
    pub fn check(&self) -> Result<(), String> {
        let shares = &self.shares;
        let fates = [shares.release, shares.client_abort, shares.upstream_error, shares.lost, shares.late];
        let others = [shares.repeat, shares.overrun, shares.cached, shares.tight_accounts];
        let mut all = fates.iter().chain(&others);
        let checks = [
            (self.speed > 0.0 && self.speed.is_finite(), "speed must be above 0"),
            (self.accounts > 0, "accounts must be at least 1"),
            (self.keys > 0, "keys must be at least 1"),
            (self.zipf >= 0.0 && self.zipf.is_finite(), "zipf must not be negative"),
            (self.connections > 0, "connections must be at least 1"),
            (self.ttl_ms >= 1000 && self.lost_ttl_ms >= 1000, "ttl_ms and lost_ttl_ms must be at least 1000"),
            (self.token_ms >= 0.0 && self.token_ms.is_finite(), "token_ms must not be negative"),
            (self.initial_balance > 0 && self.tight_amount > 0, "initial_balance and tight_amount must be above 0"),
            (!self.max_tokens.is_empty() && self.max_tokens.is_sorted(), "max_tokens must be ascending numbers"),
            (self.max_tokens.iter().all(|tokens| *tokens > 0), "max_tokens must be above 0"),
            (self.models.iter().any(|model| model.weight > 0), "models must have a weight above 0"),
            (all.all(|share| (0.0..=1.0).contains(share)), "shares must be between 0 and 1"),
            (fates.iter().sum::<f64>() <= 1.0, "the shares of releases, aborts, lost and late settles exceed 1"),
        ];
        checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, problem)| Err((*problem).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{price::Price, trace::Trace};

    #[test]
    fn shipped_profiles_load_and_their_models_are_priced() {
        for name in ["conv", "code"] {
            let profile = Profile::load(name).unwrap();
            let trace = Trace::named(&profile.trace).unwrap();
            let models: Vec<&str> = profile.models.iter().map(|model| model.model.as_str()).collect();
            Price::of(&models).unwrap();
            let longest = trace.rows.iter().map(|row| row.generated_tokens).max();
            assert!(
                profile.max_tokens.last().copied() >= longest,
                "{name}: an answer of {longest:?} tokens does not fit"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(Profile::load("/no/such/profile.toml").unwrap_err().contains("no profile"));
        let mut profile = Profile::load("conv").unwrap();
        profile.shares.release = 0.9;
        profile.shares.lost = 0.2;
        assert!(profile.check().unwrap_err().contains("exceed 1"));
        profile.shares.lost = -0.1;
        assert!(profile.check().unwrap_err().contains("between 0 and 1"));
        assert!(toml::from_str::<Profile>(&format!("{CONV}\n[extra]\n")).is_err());
    }
}
