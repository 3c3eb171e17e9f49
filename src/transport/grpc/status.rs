//! Errors as gRPC statuses with `google.rpc` details.

use std::collections::HashMap;

use prost::Message;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt, pb};

use crate::error::{CloseCode, Error};

/// The domain of an `ErrorInfo`.
const DOMAIN: &str = "tidings";

/// The status of a failed call.
pub(super) fn status(error: &Error) -> Status {
    let code = error.code();
    let mut details = ErrorDetails::new();
    details.set_error_info(code.as_str(), DOMAIN, HashMap::new());
    if let Some(field) = error.field_name() {
        for (path, expected) in error.wrong_places() {
            details.add_bad_request_violation(format!("{field}{path}"), expected);
        }
        if error.wrong_places().is_empty() {
            details.add_bad_request_violation(field, error.description());
        }
    }
    if let Some(wait) = error.retry_delay() {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(tonic::Code::from_i32(code.grpc()), error.message(), details)
}

/// The same as a message, for the responses of batches and streams.
pub(super) fn message(error: &Error) -> pb::Status {
    let status = status(error);
    // The details of a status are this same message, encoded.
    pb::Status::decode(status.details()).unwrap_or_else(|_| pb::Status {
        code: error.code().grpc(),
        message: error.message(),
        details: Vec::new(),
    })
}

/// The error with which a subscription's stream ends when its connection closes; `None` is a normal
/// end.
pub(super) fn ended(code: CloseCode, reason: String) -> Option<Error> {
    let reason = if reason.is_empty() {
        code.reason().to_owned()
    } else {
        reason
    };
    Some(match code {
        CloseCode::Normal => return None,
        CloseCode::Unauthenticated => Error::unauthenticated(reason),
        CloseCode::Forbidden => Error::denied(reason),
        CloseCode::TooSlow => Error::exhausted("too slow: resume from the last position"),
        CloseCode::TooManyMessages => Error::exhausted(reason),
        CloseCode::Shutdown
        | CloseCode::Restart
        | CloseCode::Full
        | CloseCode::HeartbeatTimeout
        | CloseCode::Disconnected => Error::unavailable(reason),
        CloseCode::Protocol
        | CloseCode::Unsupported
        | CloseCode::InvalidPayload
        | CloseCode::TooBig
        | CloseCode::Internal => Error::internal(reason),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn invalid_field_becomes_a_violation() {
        let status = status(&Error::field("type", "expected a name"));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(status.message(), "type: expected a name");
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(
            (&*violations[0].field, &*violations[0].description),
            ("type", "expected a name")
        );
        let info = details.error_info().unwrap();
        assert_eq!(
            (&*info.reason, &*info.domain),
            ("invalid_argument", "tidings")
        );
    }

    #[test]
    fn retry_delay_is_in_the_status() {
        let wait = Duration::from_millis(1500);
        let status = status(&Error::exhausted("slow down").retry_after(wait));
        assert_eq!(
            status.get_details_retry_info().unwrap().retry_delay,
            Some(wait)
        );
    }

    #[test]
    fn batch_error_equals_status() {
        let error = Error::field("requests[3].type", "expected a name");
        let message = message(&error);
        assert_eq!(message.code, 3);
        assert_eq!(message.message, "requests[3].type: expected a name");
        assert_eq!(message.details.len(), 2);
    }

    #[test]
    fn only_normal_end_has_no_error() {
        assert!(ended(CloseCode::Normal, String::new()).is_none());
        let restart = ended(CloseCode::Restart, String::new()).unwrap();
        assert_eq!(
            (restart.code().as_str(), restart.description()),
            ("unavailable", "the server restarts")
        );
    }
}
