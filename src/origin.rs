//! Which web pages may use the server: one rule for WebSocket upgrades, event streams and CORS.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

/// Whether a page of this origin may connect: one of `allowed`, where `*` is any; the same origin
/// where none is listed. What sends no `Origin` is no browser.
#[must_use]
pub fn is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if allowed
        .iter()
        .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    {
        return true;
    }
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let of_origin = origin.split_once("://").map_or("", |(_, rest)| rest);
    allowed.is_empty() && !host.is_empty() && of_origin.eq_ignore_ascii_case(host)
}
