//! Answers from which an `EventSource` comes back.
//!
//! By WHATWG HTML §9.2.3 it *fails the connection* on a status that is not 200, and never tries
//! again; where a stream of the right type ends, it *reestablishes the connection* after the time
//! that the field `retry` set. So a refusal that will pass is a stream that says so and ends. It is
//! only for clients that ask for `text/event-stream`, as every `EventSource` does: others get the
//! status.

use std::time::Duration;

use axum::body::Body;
use http::HeaderMap;
use http::header::ACCEPT;

use super::dialect::{self, EventStream};
use super::stream;
use crate::error::{CloseCode, Code, Error};
use crate::hub::{Notice, Protocol};
use crate::lifecycle::Lifecycle;
use crate::transport::http::reply::{Answer, Refusal};

/// The least time to wait for whoever is turned away.
const SOONEST: Duration = Duration::from_secs(1);
/// When to try again where an error doesn't say so.
const SOON: Duration = Duration::from_secs(2);

/// The answer in the place of a refusal: a stream that ends at once where the refusal will pass
/// and the client takes streams, else the refusal itself.
pub(super) fn instead_of(refusal: Refusal, headers: &HeaderMap, lifecycle: &Lifecycle) -> Answer {
    match will_pass(refusal.error()) {
        Some(after) if takes_streams(headers) => {
            let leaving = lifecycle.departure().is_some();
            Ok(ends_at_once(refusal.error(), after, leaving))
        }
        _ => Err(refusal),
    }
}

/// After what time the same request can succeed; `None` where it will not by itself.
fn will_pass(error: &Error) -> Option<Duration> {
    match error.code() {
        Code::Unavailable => Some(error.retry_delay().unwrap_or(SOON)),
        // Without a time it is the request that asks for too much.
        Code::ResourceExhausted => error.retry_delay(),
        Code::InvalidArgument
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Internal => None,
    }
}

fn takes_streams(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(ACCEPT).iter();
    kinds
        .filter_map(|kinds| kinds.to_str().ok())
        .flat_map(|kinds| kinds.split(','))
        .filter_map(|kind| kind.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn ends_at_once(error: &Error, after: Duration, leaving: bool) -> axum::response::Response {
    // Those who were turned away together must not come back together, and not at once: where nobody
    // else serves, they would come again and again until the server has stopped.
    let after = after.max(SOONEST);
    let after = after + after.mul_f64(fastrand::f64());
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
    let (mut text, notice, code) = if leaving {
        let reason = "restart";
        // It brings the field along.
        let notice = Notice::Reconnect { after_ms, reason };
        (Vec::new(), notice, CloseCode::Restart)
    } else {
        let code = CloseCode::for_code(error.code());
        let retry = dialect::retry(after_ms).to_vec();
        (retry, Notice::Failure(error), code)
    };
    text.extend_from_slice(&EventStream.notice(&notice).unwrap_or_default());
    text.extend_from_slice(&EventStream.close(code, code.reason()));
    let mut response = stream(Body::from(text));
    // It is counted as the refusal that it is.
    response.extensions_mut().insert(error.code());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(kinds: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, kinds.parse().unwrap());
        takes_streams(&headers)
    }

    #[test]
    fn an_event_source_asks_for_streams_and_others_don_t() {
        assert!(accepts("text/event-stream"));
        assert!(accepts("application/json, Text/Event-Stream;q=0.9"));
        assert!(!accepts("*/*") && !accepts("text/*") && !accepts("text/event-streams"));
        assert!(!takes_streams(&HeaderMap::new()));
    }

    #[test]
    fn only_what_passes_by_itself_is_worth_coming_back_for() {
        let wait = Duration::from_secs(5);
        let exhausted = || Error::exhausted("full");
        assert_eq!(will_pass(&exhausted().retry_after(wait)), Some(wait));
        assert_eq!(will_pass(&exhausted()), None);
        assert_eq!(will_pass(&Error::unavailable("not now")), Some(SOON));
        for code in Code::ALL {
            let passes = matches!(code, Code::Unavailable | Code::ResourceExhausted);
            let error = Error::new(code, "no").retry_after(wait);
            assert_eq!(will_pass(&error).is_some(), passes, "{code}");
        }
    }
}
