//! Failures, as reported by the server or the network.

use std::fmt;
use std::time::Duration;

pub use tonic::Code;
use tonic::Status;
use tonic_types::StatusExt;

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request was refused, or failed within its timeout.
#[derive(Debug, Clone)]
pub struct Error {
    status: Status,
    field: Option<String>,
    retry_after: Option<Duration>,
    channel: Option<String>,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Error::from(Status::new(code, message))
    }

    pub(crate) fn of_channel(code: Code, message: String, channel: String) -> Self {
        Error {
            channel: Some(channel),
            ..Error::new(code, message)
        }
    }

    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// A message for developers.
    #[must_use]
    pub fn message(&self) -> &str {
        self.status.message()
    }

    /// The invalid field of the request, if there is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// How long to wait before the same request may succeed, if the server reports it.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The channel whose subscription was refused or ended, if there is one.
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    /// The gRPC status with all details.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// True if the same request may succeed when retried.
    pub(crate) fn is_passing(&self) -> bool {
        self.code() == Code::Unavailable
            || (self.code() == Code::ResourceExhausted && self.retry_after.is_some())
    }

    /// True if it ends a subscription.
    pub(crate) fn is_final(&self) -> bool {
        match self.code() {
            Code::AlreadyExists
            | Code::DataLoss
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => true,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", code_name(self.code()), self.message())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.status.source()
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|b| &b.field_violations);
        let field = violations.and_then(|all| all.first().map(|first| first.field.clone()));
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        // gRPC itself reports these codes for a broken call. The server sends them only with
        // details.
        let broken = matches!(
            status.code(),
            Code::Cancelled | Code::Internal | Code::Unknown
        ) && status.details().is_empty();
        let status = if broken {
            Status::unavailable(status.message().to_owned())
        } else {
            status
        };
        Error {
            status,
            field,
            retry_after,
            channel: None,
        }
    }
}

impl From<tonic_types::pb::Status> for Error {
    fn from(status: tonic_types::pb::Status) -> Self {
        let code = Code::from_i32(status.code);
        let details = prost::Message::encode_to_vec(&status);
        Error::from(Status::with_details(code, status.message, details.into()))
    }
}

impl From<tonic::transport::Error> for Error {
    fn from(error: tonic::transport::Error) -> Self {
        let mut status = Status::unavailable(error.to_string());
        status.set_source(std::sync::Arc::new(error));
        Error::from(status)
    }
}

/// A code's name in the protocol: lower case with underscores.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// The code with this name. `Unknown` if there is none.
pub(crate) fn named(text: &str) -> Code {
    (0..=16)
        .map(Code::from_i32)
        .find(|code| code_name(*code) == text)
        .unwrap_or(Code::Unknown)
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn error_details_have_field_and_retry_delay() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("type", "expected a letter");
        let wrong = Status::with_error_details(Code::InvalidArgument, "type: no", details);
        let wrong = Error::from(wrong);
        assert_eq!(wrong.field(), Some("type"));
        assert_eq!(wrong.to_string(), "invalid_argument: type: no");
        assert!(wrong.is_final() && !wrong.is_passing());

        let wait = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        let wait = Error::from(Status::with_error_details(
            Code::ResourceExhausted,
            "too many",
            wait,
        ));
        assert_eq!(wait.retry_after(), Some(Duration::from_millis(1500)));
        assert!(wait.is_passing() && !wait.is_final());
    }

    #[test]
    fn broken_call_is_retryable_but_internal_is_not() {
        assert!(Error::from(Status::unknown("h2: connection reset")).is_passing());
        let status = Status::with_error_details(Code::Internal, "a fault", ErrorDetails::new());
        let status = Error::from(Status::with_details(
            status.code(),
            status.message(),
            bytes::Bytes::from_static(&[8, 13]),
        ));
        assert!(!status.is_passing());
    }

    #[test]
    fn code_names_round_trip() {
        for number in 0..=16 {
            let code = Code::from_i32(number);
            assert_eq!(named(code_name(code)), code);
        }
        assert_eq!(named("new_one"), Code::Unknown);
    }
}
