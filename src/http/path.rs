//! Pieces of a request target: decoded path segments and query parameters.

use super::error::Problem;
use crate::{http::wire::read::Bad, quota::id::BadId};

/// Decodes `%41` and, in queries, `+`. `None` for a broken escape or text that is not UTF-8.
fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(rest.next())? << 4 | digit(rest.next())?) as u8
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A path segment as the id it must be.
pub(crate) fn id<T>(
    segment: &str,
    field: &'static str,
    parse: impl FnOnce(String) -> Result<T, BadId>,
) -> Result<T, Problem> {
    let text = decode(segment, false).ok_or(BadId::Id);
    text.and_then(parse).map_err(|bad| Bad::at(field, bad.to_string()).into())
}

/// The value of a query parameter; the first when it is given more than once.
pub(crate) fn parameter(query: Option<&str>, field: &'static str) -> Result<Option<String>, Problem> {
    let pairs = query.unwrap_or("").split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    for (name, value) in pairs {
        if decode(name, true).is_some_and(|name| name == field) {
            let value = decode(value, true);
            return value.map(Some).ok_or_else(|| Bad::at(field, "is not valid percent-encoded UTF-8").into());
        }
    }
    Ok(None)
}

/// Entries of one page.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// The query parameter `limit`: how many entries the caller wants on a page.
pub(crate) fn page(query: Option<&str>) -> Result<u32, Problem> {
    let Some(limit) = parameter(query, "limit")? else { return Ok(PAGE_DEFAULT) };
    let digits = !limit.is_empty() && limit.bytes().all(|byte| byte.is_ascii_digit());
    let limit = limit.parse().ok().filter(|limit| digits && (1..=PAGE_MAX).contains(limit));
    limit.ok_or_else(|| Problem::invalid("limit", format!("limit must be a whole number from 1 to {PAGE_MAX}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::id::AccountId;

    #[test]
    fn ids_are_decoded_once_and_checked() {
        assert_eq!(id("a%3Ab%40c", "account", AccountId::new).unwrap().as_str(), "a:b@c");
        for bad in ["", "a%2Fb", "%", "%4", "%zz", "%ff", "a+b", "a%20b", "%2541"] {
            let problem = id(bad, "account", AccountId::new).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some("account")), "{bad}");
        }
    }

    #[test]
    fn a_page_has_a_bound() {
        assert_eq!(page(None).unwrap(), PAGE_DEFAULT);
        assert_eq!(page(Some("limit=1000")).unwrap(), 1000);
        for bad in ["limit=", "limit=0", "limit=1001", "limit=-1", "limit=%2B1", "limit=1.0", "limit=x"] {
            assert_eq!(page(Some(bad)).unwrap_err().field.as_deref(), Some("limit"), "{bad}");
        }
    }

    #[test]
    fn parameters_are_found_by_name() {
        let query = Some("cursor=a%3Ab&limit=5&limit=6&x");
        assert_eq!(parameter(query, "cursor").unwrap().as_deref(), Some("a:b"));
        assert_eq!(parameter(query, "limit").unwrap().as_deref(), Some("5"));
        assert_eq!(parameter(query, "x").unwrap().as_deref(), Some(""));
        assert_eq!(parameter(query, "y").unwrap(), None);
        assert!(parameter(Some("x=%f"), "x").is_err());
    }
}
