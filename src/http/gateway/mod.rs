//! The gateway listener: one file per verb. Each turns a wire request into the engine's, asks, and
//! writes the answer; a batch calls the same functions for each of its operations.

mod authz;
mod balance;
mod batch;
mod charge;
mod compat;
mod estimate;
mod extend;
mod own_key;
pub(super) mod redeem;
mod refund;
mod release;
pub(super) mod reserve;
pub(super) mod settle;

use hyper::HeaderMap;

use super::{
    admin,
    answer::Handled,
    error::Problem,
    request_id::{hex, random},
    route::{Call, Route},
    wire::{read, scalar::Secret},
};
use crate::{
    engine::{Answer as Asked, Payer},
    quota::{
        id::{AccountId, BadId, ReservationId},
        verdict::Verdict,
    },
};

pub(super) async fn handle(route: Route<'_>, call: &Call<'_>) -> Handled {
    let Call { service, headers, body, .. } = call;
    match route {
        Route::Reserve => reserve::answer(service, read::body(body)?, idempotency_key(headers)?).await,
        Route::Settle => settle::answer(service, read::body(body)?, idempotency_key(headers)?).await,
        Route::Release => release::answer(service, read::body(body)?, idempotency_key(headers)?).await,
        Route::Extend => extend::answer(service, read::body(body)?, idempotency_key(headers)?).await,
        Route::Charge => charge::answer(service, read::body(body)?, idempotency_key(headers)?).await,
        Route::Refund => refund::answer(service, read::body(body)?, idempotency_key(headers)?).await,
        Route::Redeem => redeem::answer(service, read::body(body)?).await,
        Route::Estimate => estimate::answer(service, read::body(body)?).await,
        Route::Batch => batch::answer(service, body).await,
        Route::Balance(account) => balance::answer(service, account).await,
        Route::OwnKey => own_key::answer(service, headers).await,
        Route::Subscription => compat::subscription(service, headers).await,
        Route::BillingUsage => compat::usage(service, headers).await,
        Route::TokenUsage => compat::token(service, headers).await,
        Route::Authz => authz::answer(service, headers, call.query).await,
        other => admin::probes(other, call),
    }
}

/// Who pays: exactly one of the two ways to say it.
fn payer(account: Option<AccountId>, api_key: Option<Secret>) -> Result<Payer, Problem> {
    match (account, api_key) {
        (Some(account), None) => Ok(Payer::Account(account)),
        (None, Some(Secret(secret))) => Ok(Payer::Secret(secret)),
        (None, None) => Err(Problem::invalid("account", "account or api_key is required")),
        (Some(_), Some(_)) => Err(Problem::invalid("api_key", "account and api_key exclude each other")),
    }
}

/// The header `Idempotency-Key`, which may be quoted like a structured field's string.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().map_err(|_| Problem::invalid("Idempotency-Key", BadId::Id.to_string()))?.trim();
    Ok(Some(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)))
}

/// The id of a call: in the body, in the header, or (when both) the same in both.
pub(super) fn id_of<T: AsId>(field: &'static str, body: Option<T>, header: Option<&str>) -> Result<Option<T>, Problem> {
    let Some(header) = header else { return Ok(body) };
    let header = T::read(header).map_err(|bad| Problem::invalid("Idempotency-Key", bad.to_string()))?;
    match body {
        Some(body) if body != header => Err(Problem::invalid(field, "differs from the header Idempotency-Key")),
        _ => Ok(Some(header)),
    }
}

/// An id that `Idempotency-Key` may carry.
pub(super) trait AsId: PartialEq + Sized {
    fn read(text: &str) -> Result<Self, BadId>;
}

impl AsId for ReservationId {
    fn read(text: &str) -> Result<Self, BadId> {
        Self::new(text)
    }
}

impl AsId for crate::quota::id::OpId {
    fn read(text: &str) -> Result<Self, BadId> {
        Self::new(text)
    }
}

pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::invalid(field, format!("{field} is required")))
}

/// An id made by the server: `q-` and 128 random bits.
fn made_up_id() -> ReservationId {
    let mut id = *b"q-00000000000000000000000000000000";
    hex(&mut id[2..], random());
    let id = std::str::from_utf8(&id).ok().and_then(|id| ReservationId::new(id).ok());
    id.expect("hexadecimal digits are id characters")
}

/// The engine's answer, and whether it is a repeated one; a refusal is a problem.
pub(super) fn done<T>(asked: Asked<T>) -> Result<(T, bool), Problem> {
    match asked? {
        Verdict::Done { answer, replayed } => Ok((answer, replayed)),
        Verdict::Refused(refusal) => Err(refusal.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_payer() {
        let account = || Some(AccountId::new("a").unwrap());
        let secret = || Some(Secret("s".into()));
        assert!(matches!(payer(account(), None), Ok(Payer::Account(_))));
        assert!(matches!(payer(None, secret()), Ok(Payer::Secret(_))));
        assert_eq!(payer(None, None).unwrap_err().field.as_deref(), Some("account"));
        assert_eq!(payer(account(), secret()).unwrap_err().field.as_deref(), Some("api_key"));
    }

    #[test]
    fn an_id_comes_by_body_or_header() {
        let id = |text| ReservationId::new(text).unwrap();
        assert_eq!(id_of("id", None, Some("r")).unwrap(), Some(id("r")));
        assert_eq!(id_of("id", Some(id("r")), None).unwrap(), Some(id("r")));
        assert_eq!(id_of("id", Some(id("r")), Some("r")).unwrap(), Some(id("r")));
        assert_eq!(id_of::<ReservationId>("id", None, None).unwrap(), None);
        assert_eq!(id_of("id", Some(id("r")), Some("s")).unwrap_err().field.as_deref(), Some("id"));
        assert_eq!(id_of::<ReservationId>("id", None, Some("{}")).unwrap_err().status, 400);
        let quoted = HeaderMap::from_iter([("idempotency-key".parse().unwrap(), "\"r\"".parse().unwrap())]);
        assert_eq!(idempotency_key(&quoted).unwrap(), Some("r"));
    }

    #[test]
    fn made_up_ids_are_long_and_differ() {
        let (a, b) = (made_up_id(), made_up_id());
        assert_eq!(a.as_str().len(), 34);
        assert_ne!(a, b);
    }
}
