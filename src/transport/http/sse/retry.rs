//! Temporary rejections after which an `EventSource` reconnects.
//!
//! By WHATWG HTML §9.2.3 it *fails the connection* on a status that is not 200, and never retries; where
//! a stream of the right type ends, it *reestablishes the connection* after the time of the `retry`
//! field. So a temporary rejection is a stream that says so and ends. Only clients that accept
//! `text/event-stream` get one, as every `EventSource` does: others get the status.

use std::time::Duration;

use axum::body::Body;
use http::HeaderMap;
use http::header::ACCEPT;

use super::protocol::{self, EventStream};
use super::stream;
use crate::error::{CloseCode, Code, Error};
use crate::hub::{Notice, Protocol};
use crate::lifecycle::Lifecycle;
use crate::transport::http::reply::{Answer, Refusal};

/// The shortest reconnection time.
const SOONEST: Duration = Duration::from_secs(1);
/// The reconnection time where an error has none.
const DEFAULT_RETRY: Duration = Duration::from_secs(2);

/// The response to a rejected request: a stream that ends at once if the rejection is temporary and
/// the client accepts streams, else the rejection itself.
pub(super) fn instead_of(refusal: Refusal, headers: &HeaderMap, lifecycle: &Lifecycle) -> Answer {
    match retry_after(refusal.error()) {
        Some(after) if accepts_streams(headers) => {
            let leaving = lifecycle.departure().is_some();
            Ok(ends_at_once(refusal.error(), after, leaving))
        }
        _ => Err(refusal),
    }
}

/// After what time the same request can succeed; `None` if the rejection is permanent.
fn retry_after(error: &Error) -> Option<Duration> {
    match error.code() {
        Code::Unavailable => Some(error.retry_delay().unwrap_or(DEFAULT_RETRY)),
        // Without a time the request itself is too large.
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

fn accepts_streams(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(ACCEPT).iter();
    kinds
        .filter_map(|kinds| kinds.to_str().ok())
        .flat_map(|kinds| kinds.split(','))
        .filter_map(|kind| kind.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn ends_at_once(error: &Error, after: Duration, leaving: bool) -> axum::response::Response {
    // Clients that were rejected together must not reconnect together (thundering herd), and not at
    // once: without another server they would retry until this one has stopped.
    let after = after.max(SOONEST);
    let after = after + after.mul_f64(fastrand::f64());
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
    let (mut text, notice, code) = if leaving {
        let reason = "restart";
        // The notice contains the `retry` field.
        let notice = Notice::Reconnect { after_ms, reason };
        (Vec::new(), notice, CloseCode::Restart)
    } else {
        let code = CloseCode::for_code(error.code());
        let retry = protocol::retry(after_ms).to_vec();
        (retry, Notice::Failure(error), code)
    };
    text.extend_from_slice(&EventStream.notice(&notice).unwrap_or_default());
    text.extend_from_slice(&EventStream.close(code, code.reason()));
    let mut response = stream(Body::from(text));
    // Counted as the error that it is, though the status is 200.
    response.extensions_mut().insert(error.code());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(kinds: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, kinds.parse().unwrap());
        accepts_streams(&headers)
    }

    #[test]
    fn only_an_event_source_accepts_streams() {
        assert!(accepts("text/event-stream"));
        assert!(accepts("application/json, Text/Event-Stream;q=0.9"));
        assert!(!accepts("*/*") && !accepts("text/*") && !accepts("text/event-streams"));
        assert!(!accepts_streams(&HeaderMap::new()));
    }

    #[test]
    fn only_temporary_rejections_have_a_reconnection_time() {
        let wait = Duration::from_secs(5);
        let exhausted = || Error::exhausted("full");
        assert_eq!(retry_after(&exhausted().retry_after(wait)), Some(wait));
        assert_eq!(retry_after(&exhausted()), None);
        assert_eq!(
            retry_after(&Error::unavailable("not now")),
            Some(DEFAULT_RETRY)
        );
        for code in Code::ALL {
            let passes = matches!(code, Code::Unavailable | Code::ResourceExhausted);
            let error = Error::new(code, "no").retry_after(wait);
            assert_eq!(retry_after(&error).is_some(), passes, "{code}");
        }
    }
}
