//! Which web pages may use the server: one rule for WebSocket upgrades, event streams and CORS.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

/// Whether a page of this origin may connect: one of `allowed`, where `*` is any; the same origin
/// where none is listed. What sends no `Origin` is no browser.
#[must_use]
pub fn is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return true,
        // No browser sends two.
        (Some(_), Some(_)) => return false,
        (Some(origin), None) => origin.to_str().unwrap_or_default(),
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
    // Whether a proxy in front speaks TLS is not known here.
    let of_origin = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    let same = of_origin.is_some_and(|of_origin| of_origin.eq_ignore_ascii_case(host));
    allowed.is_empty() && !host.is_empty() && same
}
