//! Failures of a command, and how they are reported.

use std::error::Error as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use tidings_client::code_name;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::config::Problems;
use crate::error::Error;

/// The failure of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The reader of stdout has exited (`tidings tail … | head`): not reported as a failure.
    ReaderGone,
    /// Invalid arguments.
    Usage(String),
    /// A failure message for people.
    Message(String),
}

impl Failure {
    /// A failure with this message.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Failure::Message(message.into())
    }

    /// Prints it on stderr.
    pub(super) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Failure::ReaderGone => return ExitCode::SUCCESS,
            Failure::Usage(message) => (message, ExitCode::from(2)),
            Failure::Message(message) => (message, ExitCode::FAILURE),
        };
        // If even stderr can't be written, the message is lost.
        drop(writeln!(io::stderr(), "{message}"));
        code
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::ReaderGone
        } else {
            Failure::Message(error.to_string())
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Message(error.to_string())
    }
}

impl From<tidings_loadgen::Error> for Failure {
    fn from(error: tidings_loadgen::Error) -> Self {
        Failure::Message(error.to_string())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Failure::Message(problems.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::from(io::Error::from(error))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let mut text = format!("{}: {}", code_name(status.code()), status.message());
        let violations = status
            .get_details_bad_request()
            .map(|details| details.field_violations);
        for violation in violations.unwrap_or_default() {
            let line = format!("{}: {}", violation.field, violation.description);
            if !is_told(status.message(), &violation.field, &violation.description) {
                text.extend(["\n  ", &line]);
            }
        }
        let wait = status
            .get_details_retry_info()
            .and_then(|details| details.retry_delay);
        if let Some(wait) = wait {
            text.extend(["\n  try again in ", &format!("{wait:?}")]);
        }
        if status.code() == Code::Unauthenticated {
            text.push_str("\n  give a token with --token or TIDINGS_TOKEN");
        }
        Failure::Message(text)
    }
}

/// True if the message of a status already contains a violation. The message has all places in a
/// payload, with names relative to the payload: `data/n` where the field is `requests[0].data/n`.
fn is_told(message: &str, field: &str, description: &str) -> bool {
    let within = field.rsplit_once("].").map_or(field, |(_, within)| within);
    let stands = |piece: &str| {
        message.match_indices(piece).any(|(at, _)| {
            let before = message.get(..at).unwrap_or_default();
            let after = message.get(at + piece.len()..).unwrap_or_default();
            (before.is_empty() || before.ends_with(": ") || before.ends_with("; "))
                && (after.is_empty() || after.starts_with("; "))
        })
    };
    // The whole payload as a place has no name in the message.
    stands(&format!("{within}: {description}"))
        || (!within.contains('/') && stands(description))
        || message == format!("{field}: {description}")
}

impl From<tidings_client::Error> for Failure {
    fn from(error: tidings_client::Error) -> Self {
        let Some(mut cause) = error.source() else {
            return Failure::from(error.status().clone());
        };
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Failure::Message(format!("unavailable: the server can't be reached: {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn status_names_code_and_fields() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("requests[0].type", "expected a letter");
        let status =
            Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details);
        let expected =
            "invalid_argument: 2 fields are wrong\n  requests[0].type: expected a letter";
        assert_eq!(Failure::from(status), Failure::new(expected));
    }

    #[test]
    fn violation_is_printed_once() {
        let details = ErrorDetails::with_bad_request_violation("type", "expected a letter");
        let status =
            Status::with_error_details(Code::InvalidArgument, "type: expected a letter", details);
        assert_eq!(
            Failure::from(status),
            Failure::new("invalid_argument: type: expected a letter")
        );
    }

    #[test]
    fn payload_places_are_printed_once() {
        let places = [("/n", "expected a number"), ("", "expected 3 members")];
        let places = places.map(|(path, text)| (path.to_owned(), text.to_owned()));
        for error in [
            Error::places("data", places.clone()),
            Error::places("data", places).within("requests[0]"),
        ] {
            let mut details = ErrorDetails::new();
            for (path, expected) in error.wrong_places() {
                let field = error.field_name().unwrap();
                details.add_bad_request_violation(format!("{field}{path}"), expected);
            }
            let message = error.message();
            let status =
                Status::with_error_details(Code::InvalidArgument, message.clone(), details);
            let failure = Failure::new(format!("invalid_argument: {message}"));
            assert_eq!(Failure::from(status), failure);
        }
    }

    #[test]
    fn closed_stdout_is_not_a_failure() {
        assert_eq!(
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            Failure::ReaderGone
        );
    }
}
