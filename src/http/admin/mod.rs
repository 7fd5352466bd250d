//! The admin listener: accounts, keys, money from outside, look-ups; and the probes that both
//! listeners have. One file per noun.

mod accounts;
mod adjust;
mod audit;
mod codes;
mod defaults;
mod keys;
mod onboarding;
mod platforms;
mod probes;
mod reconcile;
mod reservations;
mod reset;
mod settings;
mod tariffs;

pub(super) use probes::probes;
pub(super) use tariffs::imported;

use hyper::Method;

use super::{
    answer::Handled,
    error::Problem,
    route::{Call, Route},
};
use crate::quota::id::{Actor, BadId};

/// Who makes an admin call, for the audit.
const X_QUOTA_ACTOR: &str = "x-quota-actor";

impl Call<'_> {
    /// The header `X-Quota-Actor`, else `admin`.
    fn actor(&self) -> Result<Actor, Problem> {
        let Some(value) = self.headers.get(X_QUOTA_ACTOR) else { return Ok(Actor::admin()) };
        let actor = value.to_str().map_err(|_| BadId::Id).and_then(Actor::new);
        actor.map_err(|bad| Problem::invalid("X-Quota-Actor", format!("X-Quota-Actor {bad}")))
    }
}

pub(super) async fn handle(route: Route<'_>, call: &Call<'_>) -> Handled {
    match (route, call.method) {
        (Route::Accounts, _) => accounts::list(call).await,
        (Route::Account(account), &Method::PUT) => accounts::put(call, account).await,
        (Route::Account(account), &Method::DELETE) => accounts::delete(call, account).await,
        (Route::Account(account), _) => accounts::get(call, account).await,
        (Route::Credit(account), _) => adjust::credit(call, account).await,
        (Route::Debit(account), _) => adjust::debit(call, account).await,
        (Route::Reset(account), _) => reset::answer(call, account).await,
        (Route::PlatformQuotas(account), &Method::PUT) => platforms::put(call, account).await,
        (Route::PlatformQuotas(account), _) => platforms::list(call, account).await,
        (Route::PlatformQuota(account, _), &Method::POST) => platforms::reset(call, account).await,
        (Route::PlatformQuota(account, platform), _) => platforms::get(call, account, platform).await,
        (Route::AllDefaults, &Method::PUT) => defaults::put_all(call).await,
        (Route::AllDefaults, _) => defaults::all(call).await,
        (Route::Defaults(layer), &Method::PUT) => defaults::put(call, layer).await,
        (Route::Defaults(layer), _) => defaults::get(call, layer).await,
        (Route::Provision, _) => onboarding::provision(call).await,
        (Route::Referrals(account), _) => onboarding::referrals(call, account).await,
        (Route::ReferralTransfer(account), _) => onboarding::transfer(call, account).await,
        (Route::Keys(account), _) => keys::list(call, account).await,
        (Route::Key(account, key), &Method::PUT) => keys::put(call, account, key).await,
        (Route::Key(account, key), &Method::DELETE) => keys::delete(call, account, key).await,
        (Route::Key(account, key), _) => keys::get(call, account, key).await,
        (Route::Reservation(account, id), _) => reservations::get(call, account, id).await,
        (Route::Codes, &Method::POST) => codes::make(call).await,
        (Route::Codes, _) => codes::list(call).await,
        (Route::CodesPurge, _) => codes::purge(call).await,
        (Route::Code(id), &Method::PUT) => codes::put(call, id).await,
        (Route::Code(id), &Method::DELETE) => codes::delete(call, id).await,
        (Route::Code(id), _) => codes::get(call, id).await,
        (Route::RedeemFor(account), _) => codes::redeem(call, account).await,
        (Route::Reconcile, _) => reconcile::answer(call).await,
        (Route::Tariffs, &Method::POST) => tariffs::import(call).await,
        (Route::Tariffs, _) => tariffs::list(call).await,
        (Route::Tariff(version), _) => tariffs::get(call, version).await,
        (Route::TariffModels(version), _) => tariffs::models(call, version).await,
        (Route::TariffActivate(version), _) => tariffs::activate(call, version).await,
        (Route::Audit, _) => audit::list(call).await,
        (Route::Settings, _) => settings::list(call).await,
        (Route::Setting(name), &Method::PUT) => settings::put(call, name).await,
        (Route::Setting(name), &Method::DELETE) => settings::delete(call, name).await,
        (Route::Setting(name), _) => settings::get(call, name).await,
        (other, _) => probes(other, call),
    }
}
