//! Every setting that can be changed while quotad runs, one entry each. To add one, add an entry: it is then
//! a field of [`Values`], kept in SQL, listed, read and changed by the admin API, audited, and seen by every
//! sidecar within a second. An entry is
//!
//! ```text
//! /// What it does, for people.
//! name: Type = default of the package, "its JSON type", "its unit, or nothing", |raw| how its JSON text is read;
//! ```
//!
//! The closure gets the value's JSON text and answers the value, or a sentence that follows the name and says
//! what is wrong; `kinds` has the usual ones. A nested document is a type with serde's derives and
//! `deny_unknown_fields` that is read with `document`. What several settings must keep between them stands
//! in [`Values::judge`]. The code reads `engine.live().name` at every use and keeps no copy.
//!
//! A setting that the configuration file knows too has the same name there (`config.rs` fills it in): the
//! file's value is this deployment's default, the one in SQL wins.

use std::collections::BTreeMap;

use super::kinds::{AMOUNT, document, number, runtime_settings, units, units_or_null};
use crate::{
    engine::AbortCharge,
    quota::{
        amount::COUNTER_MAX,
        defaults::InitialBalance,
        group::{GroupTables, Row},
        id::Platform,
        platform::Month,
        policy::OnUnavailable,
    },
};

/// Platforms listed at most.
const PLATFORMS_MAX: usize = 64;

runtime_settings! {
    /// held when a reserve names neither amount nor estimate
    default_hold: i64 = 1_000_000, AMOUNT, "units", units;
    /// a single amount above it is refused, at settle clamped
    max_amount: i64 = 1_000_000_000_000, AMOUNT, "units", units;
    /// how long a hold lives when a reserve does not say
    default_ttl_ms: u32 = 300_000, "integer", "ms", |raw| number(raw, 1_000, 86_400_000);
    /// what a settle with neither amount nor usage costs after success: `nothing`, `prompt` or `estimate`
    abort_ok: AbortCharge = AbortCharge::Estimate, "string", "", document;
    /// the same when the client went away
    abort_client_abort: AbortCharge = AbortCharge::Prompt, "string", "", document;
    /// the same when the upstream failed
    abort_upstream_error: AbortCharge = AbortCharge::Nothing, "string", "", document;
    /// the same when nobody knows, or no outcome was given
    abort_unknown: AbortCharge = AbortCharge::Estimate, "string", "", document;
    /// reserves of models priced 0 count their tokens and request; false: not at all
    hold_free_models: bool = true, "boolean", "", document;
    /// while more than this stays available, calls are granted without a hold; null: never
    trust_threshold: Option<i64> = None, "integer or null", "units", units_or_null;
    /// while Redis cannot decide, for accounts that do not say: `deny`, or `allow` within the next two
    on_unavailable: OnUnavailable = OnUnavailable::Deny, "string", "", document;
    /// what one account may spend on a sidecar in an outage
    unavailable_allowance: i64 = 100_000_000, AMOUNT, "units", units;
    /// the same for all accounts together
    unavailable_total: i64 = 10_000_000_000, AMOUNT, "units", units;
    /// the platforms that platform quotas and sign-up defaults may name
    platforms: Vec<Platform> = default_platforms(), "array of strings", "", platforms;
    /// the price groups that accounts may use besides their own, with descriptions: by account's group, `*` for those without a row; empty: a key's group stands as it was written
    usable_groups: BTreeMap<Box<str>, Row> = BTreeMap::new(), "object", "", |raw| GroupTables::read_usable(document(raw)?);
    /// the order in which `auto` tries price groups
    auto_groups: Vec<Box<str>> = GroupTables::default().auto, "array of strings", "", |raw| GroupTables::read_auto(document(raw)?);
    /// the models that a price group serves, names or beginnings with `*` at the end; a group without a row serves all
    group_models: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new(), "object", "", |raw| GroupTables::read_models(document(raw)?);
    /// which month a new platform quota counts over: `month`, or `rolling:2592000` (30 days from the first use on)
    platform_quota_month: Month = Month::Calendar, "string", "", document;
    /// what a provisioned account begins with: of its group, else of its source, else the default
    initial_balance: InitialBalance = InitialBalance::default(), "object", "units", initial_balance;
    /// what a provisioned account gets besides when it was invited
    invitee_reward: i64 = 0, AMOUNT, "units", reward;
    /// what its inviter gets, pending until it is moved by a transfer
    inviter_reward: i64 = 0, AMOUNT, "units", reward;
    /// the least that such a transfer moves
    referral_transfer_min: i64 = 100_000_000, AMOUNT, "units", units;
}

impl Values {
    /// What single values cannot tell.
    ///
    /// # Errors
    /// The setting that cannot stand beside the others, and a sentence about it.
    pub fn judge(&self) -> Result<(), (&'static str, String)> {
        if self.default_hold > self.max_amount {
            let sentence = format!(
                "`default_hold` ({} units) is above `max_amount` ({} units): no reserve could use it",
                self.default_hold, self.max_amount
            );
            return Err(("value", sentence));
        }
        Ok(())
    }
}

fn default_platforms() -> Vec<Platform> {
    ["anthropic", "openai", "gemini", "antigravity"].into_iter().filter_map(|name| Platform::new(name).ok()).collect()
}

/// Amounts that a balance has room for, with a reward beside them.
fn initial_balance(raw: &str) -> Result<InitialBalance, String> {
    let initial: InitialBalance = document(raw)?;
    if initial.is_in_range() { Ok(initial) } else { Err(format!("must be amounts from 0 to {}", COUNTER_MAX / 2)) }
}

fn reward(raw: &str) -> Result<i64, String> {
    units(raw)
        .ok()
        .filter(|units| *units <= COUNTER_MAX / 2)
        .ok_or_else(|| format!("must be a whole number of units from 0 to {}", COUNTER_MAX / 2))
}

/// Names of platforms, each once; `*` is all of them, and none.
fn platforms(raw: &str) -> Result<Vec<Platform>, String> {
    let platforms: Vec<Platform> = document(raw)?;
    judge_platforms(&platforms)?;
    Ok(platforms)
}

/// # Errors
/// A sentence that follows the name.
pub fn judge_platforms(platforms: &[Platform]) -> Result<(), String> {
    if platforms.len() > PLATFORMS_MAX {
        return Err(format!("must name at most {PLATFORMS_MAX} platforms"));
    }
    for (at, platform) in platforms.iter().enumerate() {
        if platform.as_str() == "*" {
            return Err("must not name `*`, which is every platform".to_owned());
        }
        if platforms[..at].contains(platform) {
            return Err(format!("must name `{platform}` once"));
        }
    }
    Ok(())
}
