//! Which web pages may use the server: one rule for WebSocket upgrades, event streams and CORS.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method};
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

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

/// How long a browser may remember the answer to a preflight request.
const REMEMBER: Duration = Duration::from_mins(10);

/// Cross-origin resource sharing for these origins; none listed is the same origin only, which
/// needs no such headers. They are looked up for each request, as they may change. Credentials are
/// not allowed: tokens come in a header.
pub fn cors(allowed: Arc<ArcSwap<Vec<String>>>) -> CorsLayer {
    let by_origin = AllowOrigin::predicate(move |_, request| {
        let allowed = allowed.load();
        !allowed.is_empty() && is_allowed(&request.headers, &allowed)
    });
    CorsLayer::new()
        .allow_origin(by_origin)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
        ])
        .expose_headers([RETRY_AFTER])
        .max_age(REMEMBER)
}

/// The same for clients whose library sends credentials, as for a proxy that tells them apart by a
/// cookie, and headers of the application. The server reads neither. Credentials are allowed to
/// pages of origins that are listed one by one, and never by `*`.
pub fn cors_with_credentials(allowed: Arc<ArcSwap<Vec<String>>>) -> CorsLayer {
    let listed = Arc::clone(&allowed);
    let credentials = AllowCredentials::predicate(move |origin, _| {
        let origin = origin.to_str().unwrap_or_default();
        listed.load().iter().any(|o| o.eq_ignore_ascii_case(origin))
    });
    cors(allowed)
        .allow_credentials(credentials)
        .allow_headers(AllowHeaders::mirror_request())
}
