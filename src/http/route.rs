//! From a request to its handler: path, method, credential, body, answer; and what is the same for
//! every answer (request id, metrics, time budget).

use std::{pin::pin, sync::Arc, time::Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Method, Request, Response, body::Body, http::request::Parts};

use super::{
    Config, Service, admin,
    answer::{Answer, Handled},
    body,
    error::{Problem, Word},
    gateway,
    panic::Caught,
    request_id,
};
use crate::metrics;

/// Bytes of a price list in a request: the public one has 3 MiB, and 160 KiB compressed.
pub(super) const TARIFF_BODY_BYTES_MAX: usize = 16 << 20;

/// Which listener a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Gateway,
    Admin,
}

impl Side {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Side::Gateway => "gateway",
            Side::Admin => "admin",
        }
    }
}

/// A resource; the texts are path segments as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'p> {
    Reserve,
    Settle,
    Release,
    Extend,
    Charge,
    Refund,
    Redeem,
    Estimate,
    Batch,
    Balance(&'p str),
    /// A key, for whoever has its secret; the next three the same in the shapes of new-api.
    OwnKey,
    Subscription,
    BillingUsage,
    TokenUsage,
    Authz,
    Accounts,
    Account(&'p str),
    Credit(&'p str),
    Debit(&'p str),
    Reset(&'p str),
    RedeemFor(&'p str),
    Codes,
    CodesPurge,
    Code(&'p str),
    PlatformQuotas(&'p str),
    PlatformQuota(&'p str, &'p str),
    AllDefaults,
    Defaults(&'p str),
    Provision,
    Referrals(&'p str),
    ReferralTransfer(&'p str),
    Keys(&'p str),
    Key(&'p str, &'p str),
    Reservation(&'p str, &'p str),
    Reconcile,
    Audit,
    Tariffs,
    Tariff(&'p str),
    TariffModels(&'p str),
    TariffActivate(&'p str),
    Settings,
    Setting(&'p str),
    Metrics,
    Healthz,
    Readyz,
    Openapi,
}

/// The last segment of a path that is a verb.
const RESET: &str = "reset";

impl<'p> Route<'p> {
    pub(super) fn find(side: Side, path: &'p str) -> Option<Self> {
        let mut segments = [""; 6];
        let mut count = 0;
        for segment in path.strip_prefix('/')?.split('/') {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        match (side, &segments[..count]) {
            (_, ["healthz"]) => Some(Route::Healthz),
            (_, ["readyz"]) => Some(Route::Readyz),
            (_, ["openapi.json"]) => Some(Route::Openapi),
            (Side::Gateway, ["v1", "dashboard", rest @ ..]) => Self::dashboard(rest),
            (Side::Gateway, ["v1", rest @ ..]) => Self::gateway(rest),
            (Side::Gateway, ["dashboard", rest @ ..]) => Self::dashboard(rest),
            (Side::Gateway, ["api", "usage", "token"] | ["api", "usage", "token", ""]) => Some(Route::TokenUsage),
            (Side::Admin, ["metrics"]) => Some(Route::Metrics),
            (Side::Admin, ["admin", "v1", rest @ ..]) => Self::admin(rest),
            _ => None,
        }
    }

    fn gateway(segments: &[&'p str]) -> Option<Self> {
        Some(match segments {
            ["reserve"] => Route::Reserve,
            ["settle"] => Route::Settle,
            ["release"] => Route::Release,
            ["extend"] => Route::Extend,
            ["charge"] => Route::Charge,
            ["refund"] => Route::Refund,
            ["redeem"] => Route::Redeem,
            ["estimate"] => Route::Estimate,
            ["batch"] => Route::Batch,
            ["accounts", account, "balance"] => Route::Balance(account),
            ["key"] => Route::OwnKey,
            // Envoy appends the original path to the one it is given.
            ["authz", ..] => Route::Authz,
            _ => return None,
        })
    }

    fn dashboard(segments: &[&'p str]) -> Option<Self> {
        match segments {
            ["billing", "subscription"] => Some(Route::Subscription),
            ["billing", "usage"] => Some(Route::BillingUsage),
            _ => None,
        }
    }

    fn admin(segments: &[&'p str]) -> Option<Self> {
        Some(match segments {
            ["accounts"] => Route::Accounts,
            ["accounts", account] => Route::Account(account),
            ["accounts", account, "credit"] => Route::Credit(account),
            ["accounts", account, "debit"] => Route::Debit(account),
            ["accounts", account, "reset"] => Route::Reset(account),
            ["accounts", account, "redeem"] => Route::RedeemFor(account),
            ["codes"] => Route::Codes,
            ["codes", "purge"] => Route::CodesPurge,
            ["codes", id] => Route::Code(id),
            ["accounts", account, "keys"] => Route::Keys(account),
            ["accounts", account, "keys", key] => Route::Key(account, key),
            ["accounts", account, "platform-quotas"] => Route::PlatformQuotas(account),
            ["accounts", account, "platform-quotas", platform] => Route::PlatformQuota(account, platform),
            ["accounts", account, "referrals"] => Route::Referrals(account),
            ["accounts", account, "referrals", "transfer"] => Route::ReferralTransfer(account),
            ["provision"] => Route::Provision,
            ["defaults"] => Route::AllDefaults,
            ["defaults", layer] => Route::Defaults(layer),
            ["reservations", account, id] => Route::Reservation(account, id),
            ["reconcile"] => Route::Reconcile,
            ["audit"] => Route::Audit,
            ["tariffs"] => Route::Tariffs,
            ["tariffs", version] => Route::Tariff(version),
            ["tariffs", version, "models"] => Route::TariffModels(version),
            ["tariffs", version, "activate"] => Route::TariffActivate(version),
            ["settings"] => Route::Settings,
            ["settings", name] => Route::Setting(name),
            // The same four under the prefix, for proxies that forward only it.
            ["metrics"] => Route::Metrics,
            ["healthz"] => Route::Healthz,
            ["readyz"] => Route::Readyz,
            ["openapi.json"] => Route::Openapi,
            _ => return None,
        })
    }

    /// The methods of a resource, as `Allow` names them. GET brings HEAD along.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Route::Reserve | Route::Settle | Route::Release | Route::Extend => "POST",
            Route::Charge | Route::Refund | Route::Redeem | Route::Estimate | Route::Batch => "POST",
            Route::TariffActivate(_) => "POST",
            Route::Tariffs => "GET, HEAD, POST",
            Route::Tariff(_) | Route::TariffModels(_) => "GET, HEAD",
            Route::Credit(_) | Route::Debit(_) | Route::Reset(_) | Route::Reconcile => "POST",
            Route::RedeemFor(_) | Route::CodesPurge => "POST",
            Route::Codes | Route::Authz => "GET, HEAD, POST",
            Route::Account(_) | Route::Key(..) | Route::Code(_) | Route::Setting(_) => "GET, HEAD, PUT, DELETE",
            Route::Balance(_) | Route::Accounts | Route::Keys(_) | Route::Reservation(..) => "GET, HEAD",
            Route::OwnKey | Route::Subscription | Route::BillingUsage | Route::TokenUsage => "GET, HEAD",
            Route::Audit | Route::Settings => "GET, HEAD",
            Route::Provision | Route::ReferralTransfer(_) => "POST",
            // `reset` is a verb; as the name of a platform it can be looked at like any other.
            Route::PlatformQuota(_, RESET) => "GET, HEAD, POST",
            Route::PlatformQuota(..) | Route::Referrals(_) => "GET, HEAD",
            Route::PlatformQuotas(_) | Route::AllDefaults | Route::Defaults(_) => "GET, HEAD, PUT",
            Route::Metrics | Route::Healthz | Route::Readyz | Route::Openapi => "GET, HEAD",
        }
    }

    /// The metrics' word.
    fn verb(self) -> &'static str {
        match self {
            Route::Reserve => "reserve",
            Route::Settle => "settle",
            Route::Release => "release",
            Route::Extend => "extend",
            Route::Charge => "charge",
            Route::Refund => "refund",
            Route::Redeem => "redeem",
            Route::Estimate => "estimate",
            Route::Batch => "batch",
            Route::Balance(_) => "balance",
            Route::OwnKey | Route::Subscription | Route::BillingUsage | Route::TokenUsage => "key",
            Route::Authz => "authz",
            Route::Metrics | Route::Healthz | Route::Readyz | Route::Openapi => "other",
            Route::PlatformQuotas(_) | Route::PlatformQuota(..) | Route::AllDefaults | Route::Defaults(_) => "admin",
            Route::Provision | Route::Referrals(_) | Route::ReferralTransfer(_) => "admin",
            Route::Accounts | Route::Account(_) | Route::Credit(_) | Route::Debit(_) | Route::Reset(_) => "admin",
            Route::RedeemFor(_) | Route::Codes | Route::CodesPurge | Route::Code(_) => "admin",
            Route::Keys(_) | Route::Key(..) | Route::Reservation(..) | Route::Reconcile | Route::Audit => "admin",
            Route::Settings | Route::Setting(_) => "admin",
            Route::Tariffs | Route::Tariff(_) | Route::TariffModels(_) | Route::TariffActivate(_) => "admin",
        }
    }

    /// Bytes that a body may have. Texts to be counted are longer than calls, price lists far longer.
    fn body_max(self, config: &Config) -> usize {
        match self {
            Route::Batch | Route::Estimate => config.batch_body_bytes_max,
            Route::Tariffs => TARIFF_BODY_BYTES_MAX,
            _ => config.body_bytes_max,
        }
    }

    /// Health, metrics and the document are open; authz and whoever has a key's secret see to their own credentials.
    fn check(self, service: &Service, headers: &HeaderMap) -> Result<(), Problem> {
        match self.verb() {
            "other" | "authz" | "key" => Ok(()),
            "admin" => service.config.admin_tokens.check(headers),
            _ if service.config.gateway_tokens.is_empty() => Ok(()),
            _ => service.config.gateway_tokens.check(headers),
        }
    }
}

/// What a handler may need of a request.
pub(super) struct Call<'c> {
    pub(super) service: &'c Arc<Service>,
    /// HEAD comes as GET.
    pub(super) method: &'c Method,
    pub(super) query: Option<&'c str>,
    pub(super) headers: &'c HeaderMap,
    pub(super) body: &'c [u8],
}

/// Answers one request, whatever it is.
pub(super) async fn serve<B>(service: &Arc<Service>, side: Side, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let began = Instant::now();
    let _counted = metrics::in_flight();
    let id = request_id::of(request.headers());
    let (head, body) = request.into_parts();
    let verb = Route::find(side, head.uri.path()).map_or("other", Route::verb);
    let answer = Answer::from(answer(service, side, head, body).await);
    metrics::answered(verb, answer.code);
    metrics::request_took(verb, began.elapsed());
    let mut response = answer.into_response();
    response.headers_mut().insert(request_id::X_REQUEST_ID, id);
    response
}

async fn answer<B>(service: &Arc<Service>, side: Side, head: Parts, body: B) -> Handled
where
    B: Body<Data = Bytes> + Unpin,
{
    let Some(route) = Route::find(side, head.uri.path()) else { return Err(nowhere()) };
    let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
    if !route.allow().split(", ").any(|allowed| allowed == method.as_str()) {
        return Err(Problem::method_not_allowed(route.allow()));
    }
    route.check(service, &head.headers)?;
    let config = &service.config;
    let wants_body = matches!(*method, Method::POST | Method::PUT) && route != Route::Authz;
    let most = route.body_max(config);
    let body = if wants_body { body::collect(config, &head.headers, body, most).await? } else { Bytes::new() };
    if route.verb() == "admin" {
        // A change of policy has two steps, SQL and the version in Redis: a task of its own ends both,
        // also when the operator hangs up between them, or has waited long enough. Comparing all accounts
        // takes as long as there are accounts.
        let patient = route == Route::Reconcile;
        let task = tokio::spawn(administered(service.clone(), side, head, body));
        let ended = if patient { Ok(task.await) } else { tokio::time::timeout(config.admin_budget, task).await };
        return match ended {
            Ok(Ok(handled)) => handled,
            Ok(Err(_)) => Err(failed()),
            Err(_) => Err(Problem::unavailable("the change is still being made: ask again to see what became of it")),
        };
    }
    let call = Call { service, method, query: head.uri.query(), headers: &head.headers, body: &body };
    let handler = pin!(gateway::handle(route, &call));
    // The engine bounds a verb by itself; the budget here is for many in turn. A timer less for each call.
    if !matches!(route, Route::Batch | Route::Estimate) && service.engine.verb_budget() <= config.request_budget {
        return Caught(handler).await.unwrap_or_else(|| Err(failed()));
    }
    match tokio::time::timeout(config.request_budget, Caught(handler)).await {
        Ok(handled) => handled.unwrap_or_else(|| Err(failed())),
        Err(_) => Err(Problem::unavailable("the call was not decided within its time budget")),
    }
}

async fn administered(service: Arc<Service>, side: Side, head: Parts, body: Bytes) -> Handled {
    let Some(route) = Route::find(side, head.uri.path()) else { return Err(nowhere()) };
    let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
    let call = Call { service: &service, method, query: head.uri.query(), headers: &head.headers, body: &body };
    admin::handle(route, &call).await
}

fn nowhere() -> Problem {
    Problem::new(Word::NotFound, "no resource has this path")
}

fn failed() -> Problem {
    Problem::new(Word::Internal, "the server failed while it answered")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_resource_on_their_side_only() {
        let gateway = |path| Route::find(Side::Gateway, path);
        let admin = |path| Route::find(Side::Admin, path);
        assert_eq!(gateway("/v1/reserve"), Some(Route::Reserve));
        assert_eq!(gateway("/v1/accounts/a%3Ab/balance"), Some(Route::Balance("a%3Ab")));
        assert_eq!(gateway("/v1/authz/v1/chat/completions"), Some(Route::Authz));
        assert_eq!(gateway("/v1/key"), Some(Route::OwnKey));
        for path in ["/dashboard/billing/subscription", "/v1/dashboard/billing/subscription"] {
            assert_eq!(gateway(path), Some(Route::Subscription), "{path}");
        }
        for path in ["/dashboard/billing/usage", "/v1/dashboard/billing/usage"] {
            assert_eq!(gateway(path), Some(Route::BillingUsage), "{path}");
        }
        for path in ["/api/usage/token", "/api/usage/token/"] {
            assert_eq!((gateway(path), admin(path)), (Some(Route::TokenUsage), None), "{path}");
        }
        assert_eq!(gateway("/healthz"), Some(Route::Healthz));
        assert_eq!(admin("/admin/v1/accounts/a/keys/k"), Some(Route::Key("a", "k")));
        assert_eq!(admin("/admin/v1/accounts/a"), Some(Route::Account("a")));
        assert_eq!(admin("/metrics"), Some(Route::Metrics));
        assert_eq!(admin("/admin/v1/reservations/a/r"), Some(Route::Reservation("a", "r")));
        for path in ["/v1/reserve/", "/v1", "/", "", "*", "/metrics", "/admin/v1/accounts", "/v1/accounts/a/b/balance"]
        {
            assert_eq!(gateway(path), None, "{path}");
        }
        for path in ["/v1/reserve", "/admin/v1/accounts/a/keys/k/x", "/admin/v1/accounts/a/x", "/admin/v2/accounts"] {
            assert_eq!(admin(path), None, "{path}");
        }
    }
}
