//! `GET` or `POST /v1/authz`: a reserve asked with headers alone, for proxies that can do no more
//! (nginx `auth_request`, Traefik and Caddy forward-auth, Envoy HTTP ext_authz).
//!
//! `X-Quota-Account` names the payer; without it, `Authorization: Bearer` is the caller's API key. With
//! both, a Bearer that is an API key must be one of that account, and its rules apply; any other (a
//! token meant for the upstream) is none of our business.
//! When the gateway listener has a token, the proxy presents it as `X-Quota-Token`; or, when the
//! payer is named by `X-Quota-Account`, as Bearer token or Basic password in `Authorization`.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderName, HeaderValue},
};

use super::reserve;
use crate::{
    engine::Payer,
    http::{
        Service,
        answer::{Answer, Handled, Media},
        auth::{basic_password, bearer},
        error::Problem,
        path, ratelimit,
        wire::{
            gateway,
            read::{Bad, Value},
            scalar::{Count, GroupName, Ip, Secret, TtlMs, Units},
        },
    },
    quota::{
        group::is_name,
        id::{AccountId, BadId, KeyId, Model, Platform, ReservationId},
        verdict::Verdict,
    },
};

const QUOTA_ID: HeaderName = HeaderName::from_static("x-quota-id");
const QUOTA_HELD: HeaderName = HeaderName::from_static("x-quota-held");
const QUOTA_GROUP: HeaderName = HeaderName::from_static("x-quota-group");
const FORWARDED_FOR: &str = "X-Forwarded-For";
const QUOTA_STATUS: HeaderName = HeaderName::from_static("x-quota-status");

pub(super) async fn answer(service: &Service, headers: &HeaderMap, query: Option<&str>) -> Handled {
    let deny = match path::parameter(query, "deny")?.as_deref() {
        None => false,
        Some("403") => true,
        Some(_) => return Err(Problem::invalid("deny", "deny can only be 403")),
    };
    match granted(service, headers).await {
        Ok(answer) => Ok(answer),
        Err(problem) if deny && problem.is_denial() => Ok(forbidden(&problem)),
        Err(problem) => Err(problem),
    }
}

async fn granted(service: &Service, headers: &HeaderMap) -> Handled {
    let account = text(headers, "x-quota-account")?;
    check_gateway(service, headers, account.is_some())?;
    let account = if keyed(service, headers, account).await? { None } else { account };
    let now = service.engine.clock.now();
    let (reserved, replayed) =
        reserve::ask(service, asked(headers, account, service.config.trusted_hops)?, None).await?;
    let mut answer = Answer::new(StatusCode::OK, Media::Nothing, Vec::new(), "ok");
    answer.header(QUOTA_ID, said(reserved.id.as_str()));
    answer.header(QUOTA_HELD, HeaderValue::from(reserved.held));
    if let Some(group) = &reserved.group {
        answer.header(QUOTA_GROUP, said(group));
    }
    ratelimit::describe(&mut answer, &reserved.limits, now);
    Ok(answer.replayed(replayed).degraded(reserved.balance.is_none()))
}

/// Whether the caller's own API key decides although `X-Quota-Account` is there too: proxies pass
/// client headers on, and no client may choose another payer or step outside its key by adding one.
async fn keyed(service: &Service, headers: &HeaderMap, account: Option<&str>) -> Result<bool, Problem> {
    let (Some(account), Some(token)) = (account, bearer(headers)) else { return Ok(false) };
    if service.config.gateway_tokens.accept(token) {
        return Ok(false);
    }
    match service.engine.identify(&Payer::Secret(token.into())).await {
        Ok(Verdict::Done { answer: (owner, _), .. }) if owner.as_str() == account => Ok(true),
        Ok(Verdict::Done { .. }) => {
            Err(Problem::invalid("X-Quota-Account", "X-Quota-Account is not the account of the API key"))
        }
        Ok(Verdict::Refused(_)) => Ok(false),
        Err(unavailable) => Err(unavailable.into()),
    }
}

/// A denial as nginx can pass it on.
fn forbidden(problem: &Problem) -> Answer {
    let mut answer = problem.answer();
    let shown = Problem { status: 403, ..problem.clone() };
    answer.header(QUOTA_STATUS, HeaderValue::from(problem.status));
    answer.status = StatusCode::FORBIDDEN;
    answer.body = shown.body();
    answer
}

/// The proxy's own credential, when the listener asks for one.
fn check_gateway(service: &Service, headers: &HeaderMap, named: bool) -> Result<(), Problem> {
    let tokens = &service.config.gateway_tokens;
    if tokens.is_empty() {
        return Ok(());
    }
    let accepted = match text(headers, "x-quota-token")? {
        Some(token) => tokens.accept(token),
        None if !named => false,
        None => {
            bearer(headers).is_some_and(|token| tokens.accept(token))
                || basic_password(headers).is_some_and(|token| tokens.accept(&token))
        }
    };
    if accepted {
        Ok(())
    } else {
        Err(Problem::unauthorized("the gateway's token is missing or wrong (X-Quota-Token)"))
    }
}

/// The reserve that the headers ask for.
fn asked(headers: &HeaderMap, account: Option<&str>, hops: usize) -> Result<gateway::Reserve, Problem> {
    let account = account.map(|id| named("X-Quota-Account", id, AccountId::new)).transpose()?;
    let api_key = match &account {
        Some(_) => None,
        None => Some(Secret(
            bearer(headers).ok_or_else(|| Problem::unauthorized("an API key or X-Quota-Account is required"))?.into(),
        )),
    };
    Ok(gateway::Reserve {
        account,
        api_key,
        key: id(headers, "X-Quota-Key", KeyId::new)?,
        id: id(headers, "X-Quota-Id", ReservationId::new)?,
        platform: id(headers, "X-Quota-Platform", Platform::new)?,
        model: id(headers, "X-Quota-Model", Model::new)?,
        amount: number::<Units>(headers, "X-Quota-Amount")?,
        estimate: None,
        tokens: number::<Count>(headers, "X-Quota-Tokens")?,
        ttl_ms: number::<TtlMs>(headers, "X-Quota-Ttl-Ms")?,
        client_ip: client_ip(headers, hops)?.map(Ip),
        group: group(headers)?,
        mode: None,
        min_amount: None,
        on_expiry: None,
        verbose: None,
    })
}

/// A header's text; an empty one counts as absent, because proxies send variables that are unset.
fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Problem::invalid(name, format!("{name} is not printable ASCII")))?.trim();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn named<T>(name: &'static str, text: &str, parse: impl FnOnce(String) -> Result<T, BadId>) -> Result<T, Problem> {
    parse(text.to_owned()).map_err(|bad| Problem::invalid(name, format!("{name} {bad}")))
}

fn id<T>(
    headers: &HeaderMap,
    name: &'static str,
    parse: impl FnOnce(String) -> Result<T, BadId>,
) -> Result<Option<T>, Problem> {
    text(headers, name)?.map(|id| named(name, id, parse)).transpose()
}

/// The one header that may hold more than ASCII, in UTF-8.
fn group(headers: &HeaderMap) -> Result<Option<GroupName>, Problem> {
    let Some(value) = headers.get("X-Quota-Group") else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()).map(str::trim) {
        Ok("") => Ok(None),
        Ok(name) if is_name(name) => Ok(Some(GroupName(name.into()))),
        _ => Err(Problem::invalid("X-Quota-Group", "X-Quota-Group is not the name of a price group")),
    }
}

fn number<T: Value>(headers: &HeaderMap, name: &'static str) -> Result<Option<T>, Problem> {
    let read = |text| T::read(text).map_err(|bad: Bad| Problem::invalid(name, format!("{name} {}", bad.detail)));
    text(headers, name)?.map(read).transpose()
}

/// The entry of `X-Forwarded-For` that our outermost proxy appended, `hops` from the right: what stands before it is
/// the client's own text. An entry that is no address, or not there, is refused rather than passed over: the key's
/// networks must not be skipped by a header that cannot be read.
fn client_ip(headers: &HeaderMap, hops: usize) -> Result<Option<IpAddr>, Problem> {
    let mut entries = Vec::new();
    // A proxy may add a line of its own instead of an entry.
    for line in headers.get_all(FORWARDED_FOR) {
        let refused = |_| Problem::invalid(FORWARDED_FOR, "X-Forwarded-For is not printable ASCII");
        entries.extend(line.to_str().map_err(refused)?.split(',').map(str::trim).filter(|entry| !entry.is_empty()));
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let refused = || {
        let sentence = format!("X-Forwarded-For has no IP address as entry {hops} from the right (trusted_hops)");
        Problem::invalid(FORWARDED_FOR, sentence)
    };
    let entry = entries.len().checked_sub(hops).map(|at| entries[at]).ok_or_else(refused)?;
    let address = entry.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()));
    let bare = || entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|ip| ip.parse().ok());
    address.or_else(bare).map(Some).ok_or_else(refused)
}

/// Ids and groups hold no control character, so they always fit into a header.
fn said(id: &str) -> HeaderValue {
    HeaderValue::from_bytes(id.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static("unprintable"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::verdict::Code;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<gateway::Reserve, Problem> {
        let headers = headers(pairs);
        asked(&headers, text(&headers, "x-quota-account")?, 1)
    }

    /// A client that sends the header itself once passed for whatever address it named.
    #[test]
    fn the_client_is_the_entry_that_our_own_proxies_appended() {
        let ip = |lines: &[&str], hops| {
            let pairs: Vec<_> = lines.iter().map(|line| ("X-Forwarded-For", *line)).collect();
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            client_ip(&headers, hops)
        };
        let address = |text: &str| Some(text.parse().unwrap());
        let spoofed = "10.0.0.1, 192.0.2.1";
        assert_eq!(ip(&[spoofed], 1).unwrap(), address("192.0.2.1"));
        assert_eq!(ip(&[spoofed], 2).unwrap(), address("10.0.0.1"));
        assert_eq!(ip(&["10.0.0.1", "192.0.2.1"], 1).unwrap(), address("192.0.2.1"), "a line of its own");
        assert_eq!(ip(&["unknown, 192.0.2.1,"], 1).unwrap(), address("192.0.2.1"), "the client's text is not read");
        assert_eq!((ip(&[], 1).unwrap(), ip(&[" , "], 1).unwrap()), (None, None));
        for (lines, hops) in [(&["10.0.0.1"][..], 2), (&["10.0.0.1, x"], 1), (&["x"], 1), (&["10.0.0.1"], 16)] {
            assert_eq!(ip(lines, hops).unwrap_err().field.as_deref(), Some("X-Forwarded-For"), "{lines:?} {hops}");
        }
    }

    #[test]
    fn headers_say_what_a_body_would() {
        let ask = read(&[
            ("X-Quota-Account", "a"),
            ("X-Quota-Key", "k"),
            ("X-Quota-Id", "r"),
            ("X-Quota-Platform", "openai"),
            ("X-Quota-Model", "gpt 4"),
            ("X-Quota-Amount", "12"),
            ("X-Quota-Tokens", "7"),
            ("X-Quota-Ttl-Ms", "1000"),
            ("X-Forwarded-For", "10.0.0.2, 10.0.0.1"),
            ("Authorization", "Bearer someone"),
        ])
        .unwrap();
        assert_eq!((ask.account.unwrap().as_str(), ask.amount, ask.tokens), ("a", Some(Units(12)), Some(Count(7))));
        assert_eq!((ask.ttl_ms, ask.client_ip), (Some(TtlMs(1000)), Some(Ip("10.0.0.1".parse().unwrap()))));
        assert!(ask.api_key.is_none(), "a named account pays, whoever the caller is");
    }

    #[test]
    fn the_caller_pays_with_its_key_or_not_at_all() {
        let ask = read(&[("Authorization", "Bearer sk-1"), ("X-Quota-Account", "")]).unwrap();
        assert_eq!(&*ask.api_key.unwrap().0, "sk-1");
        assert_eq!(read(&[]).unwrap_err().status, 401);
    }

    #[test]
    fn bad_headers_are_named() {
        for (name, value) in [
            ("X-Quota-Id", "{}"),
            ("X-Quota-Amount", "1.0"),
            ("X-Quota-Amount", "-1"),
            ("X-Quota-Tokens", "\"7\""),
            ("X-Quota-Ttl-Ms", "999"),
            ("X-Quota-Group", "*"),
            ("X-Forwarded-For", "unknown"),
        ] {
            let problem = read(&[("X-Quota-Account", "a"), (name, value)]).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some(name)), "{value}");
        }
        for good in ["::1", "[::1]:80", "[::1]", "10.0.0.1:443"] {
            assert!(
                read(&[("X-Quota-Account", "a"), ("X-Forwarded-For", good)]).unwrap().client_ip.is_some(),
                "{good}"
            );
        }
    }

    #[test]
    fn deny_403_keeps_the_true_status_beside() {
        let answer = forbidden(&Problem::of(Code::LimitExceeded, "no"));
        assert_eq!((answer.status.as_u16(), answer.find("x-quota-status")), (403, Some("429")));
        assert_eq!(answer.find("retry-after"), Some("1"));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&body["status"], &body["code"]), (&403.into(), &"limit_exceeded".into()));
        assert!(!Problem::unauthorized("no").is_denial());
        assert!(!Problem::unavailable("no").is_denial());
    }
}
