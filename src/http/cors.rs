//! Which pages of other origins may read answers.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::origin;

/// How long a browser may remember the answer to a preflight request.
const REMEMBER: Duration = Duration::from_mins(10);

/// Cross-origin resource sharing for these origins; none listed is the same origin only, which
/// needs no such headers. They are looked up for each request, as they may change. Credentials are never allowed: tokens come in a header.
pub(super) fn layer(allowed: Arc<ArcSwap<Vec<String>>>) -> CorsLayer {
    let by_origin = AllowOrigin::predicate(move |_, request| {
        let allowed = allowed.load();
        !allowed.is_empty() && origin::is_allowed(&request.headers, &allowed)
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
