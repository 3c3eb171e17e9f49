//! Failures of a command, and how they are reported.

use std::error::Error as _;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_client::code_name;
use tonic::Status;
use tonic_types::StatusExt;

use super::connection_failure;
use crate::config::Problems;
use crate::error::{Code, Error};

/// The failure of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The reader of the results has closed the pipe (`tidings tail … | head`). This does not count
    /// as a failure.
    ReaderGone,
    /// Invalid arguments.
    Usage(String),
    /// A failure with a message.
    Reported(Box<Report>),
}

/// The message and details of a failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The name of the error code, if a server or a check gave one.
    code: Option<&'static str>,
    message: String,
    /// Invalid fields, and what was expected.
    fields: Vec<(String, String)>,
    /// When the request may be retried.
    retry_after: Option<Duration>,
    /// What to do.
    advice: Option<String>,
    /// Whether the message contains the fields already.
    names_fields: bool,
    /// Whether the connection failed, not the request.
    by_connection: bool,
}

impl Failure {
    /// A failure with this message. It may begin with an error code and a colon.
    pub(super) fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        let code = message.split_once(": ").and_then(|(first, rest)| {
            let code = Code::ALL.iter().find(|code| code.as_str() == first)?;
            Some((code.as_str(), rest.to_owned()))
        });
        let (code, message) = match code {
            Some((code, rest)) => (Some(code), rest),
            None => (None, message),
        };
        Failure::Reported(Box::new(Report {
            code,
            message,
            ..Report::default()
        }))
    }

    /// The same failure with advice on what to do.
    pub(super) fn advise(mut self, advice: &str) -> Self {
        if let Failure::Reported(report) = &mut self {
            report.advice.get_or_insert_with(|| advice.to_owned());
        }
        self
    }

    /// The same failure of a request to this server. A connection failure names the server and the
    /// likely cause.
    pub(super) fn at(mut self, address: &str) -> Self {
        if let Failure::Reported(report) = &mut self
            && report.by_connection
        {
            let cause = std::mem::take(&mut report.message);
            let advice = connection_failure::advice(address, &cause);
            report.advice = report.advice.take().or(advice.map(str::to_owned));
            report.message = format!("the connection to {address} failed: {cause}");
            report.by_connection = false;
        }
        self
    }

    fn by_connection(cause: String) -> Self {
        Failure::Reported(Box::new(Report {
            code: Some("unavailable"),
            message: cause,
            by_connection: true,
            ..Report::default()
        }))
    }

    /// Writes it to stderr, for people or as one line of JSON.
    pub(super) fn report(self, json: bool) -> ExitCode {
        let code = match &self {
            Failure::ReaderGone => return ExitCode::SUCCESS,
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Reported(_) => ExitCode::FAILURE,
        };
        let text = if json {
            self.in_json().to_string()
        } else {
            self.to_string()
        };
        // If even this can't be written, there is nowhere left to report it.
        drop(writeln!(io::stderr(), "{text}"));
        code
    }

    fn in_json(&self) -> Value {
        let report = match self {
            Failure::Reported(report) => report,
            Failure::Usage(message) => {
                return json!({"error": {"code": "usage", "message": message}});
            }
            Failure::ReaderGone => return json!({}),
        };
        let mut error = json!({
            "code": report.code.unwrap_or("failed"),
            "message": report.message,
        });
        if let Some(error) = error.as_object_mut() {
            let field =
                |(field, message): &(String, String)| json!({"field": field, "message": message});
            if !report.fields.is_empty() {
                let fields = report.fields.iter().map(field).collect();
                error.insert(String::from("fields"), Value::Array(fields));
            }
            if let Some(wait) = report.retry_after {
                let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                error.insert(String::from("retry_after_ms"), millis.into());
            }
            if let Some(advice) = &report.advice {
                error.insert(String::from("advice"), advice.as_str().into());
            }
        }
        json!({"error": error})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = match self {
            Failure::ReaderGone => return Ok(()),
            Failure::Usage(message) => return f.write_str(message),
            Failure::Reported(report) => report,
        };
        if let Some(code) = report.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&report.message)?;
        for (field, expected) in &report.fields {
            if !report.names_fields && !is_in_message(&report.message, field, expected) {
                write!(f, "\n  {field}: {expected}")?;
            }
        }
        if let Some(wait) = report.retry_after {
            write!(f, "\n  try again in {wait:?}")?;
        }
        if let Some(advice) = &report.advice {
            write!(f, "\n  {advice}")?;
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::ReaderGone
        } else {
            Failure::new(error.to_string())
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.to_string())
    }
}

impl From<tidings_loadgen::Error> for Failure {
    fn from(error: tidings_loadgen::Error) -> Self {
        Failure::new(error.to_string())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let fields = problems.0.iter();
        let fields = fields.map(|problem| (problem.key.clone(), problem.message.clone()));
        Failure::Reported(Box::new(Report {
            fields: fields.collect(),
            message: problems.to_string(),
            names_fields: true,
            ..Report::default()
        }))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::from(io::Error::from(error))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(cause) = broken_connection(&status) {
            return Failure::by_connection(cause);
        }
        let violations = status
            .get_details_bad_request()
            .map(|details| details.field_violations);
        let violations = violations.unwrap_or_default().into_iter();
        let retry_after = status
            .get_details_retry_info()
            .and_then(|details| details.retry_delay);
        let advice = (status.code() == tonic::Code::Unauthenticated).then(|| {
            String::from("give a token with --token or TIDINGS_TOKEN, or `tidings context`")
        });
        Failure::Reported(Box::new(Report {
            code: Some(code_name(status.code())),
            message: status.message().to_owned(),
            fields: violations.map(|v| (v.field, v.description)).collect(),
            retry_after,
            advice,
            ..Report::default()
        }))
    }
}

/// Why the connection failed, if the transport made this status and not a server.
fn broken_connection(status: &Status) -> Option<String> {
    if status.message().starts_with("grpc-status header missing") {
        return Some(status.message().to_owned());
    }
    if !status.details().is_empty() {
        return None;
    }
    status.source().map(deepest)
}

/// The innermost cause's message.
fn deepest(mut cause: &(dyn std::error::Error + 'static)) -> String {
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// True if the message of a status contains a violation already. It names places in a payload
/// relative to the event: `data/n` if the field is `requests[0].data/n`.
fn is_in_message(message: &str, field: &str, description: &str) -> bool {
    let within = field.rsplit_once("].").map_or(field, |(_, within)| within);
    let contains = |piece: &str| {
        message.match_indices(piece).any(|(at, _)| {
            let before = message.get(..at).unwrap_or_default();
            let after = message.get(at + piece.len()..).unwrap_or_default();
            (before.is_empty() || before.ends_with(": ") || before.ends_with("; "))
                && (after.is_empty() || after.starts_with("; "))
        })
    };
    // A violation of the payload as a whole has no name in the message.
    contains(&format!("{within}: {description}"))
        || (!within.contains('/') && contains(description))
        || message == format!("{field}: {description}")
}

impl From<tidings_client::Error> for Failure {
    fn from(error: tidings_client::Error) -> Self {
        match error.source() {
            Some(cause) => Failure::by_connection(deepest(cause)),
            None => Failure::from(error.status().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::{Error, Failure, Status, StatusExt as _, io, json};
    use std::time::Duration;

    #[test]
    fn status_names_code_and_fields() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("requests[0].type", "expected a letter");
        let status =
            Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details);
        let expected =
            "invalid_argument: 2 fields are wrong\n  requests[0].type: expected a letter";
        assert_eq!(Failure::from(status).to_string(), expected);
    }

    #[test]
    fn violation_is_printed_once() {
        let details = ErrorDetails::with_bad_request_violation("type", "expected a letter");
        let status =
            Status::with_error_details(Code::InvalidArgument, "type: expected a letter", details);
        assert_eq!(
            Failure::from(status).to_string(),
            "invalid_argument: type: expected a letter"
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
            let expected = format!("invalid_argument: {message}");
            assert_eq!(Failure::from(status).to_string(), expected);
        }
    }

    #[test]
    fn closed_stdout_is_not_a_failure() {
        assert_eq!(
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            Failure::ReaderGone
        );
    }

    #[test]
    fn failure_in_json_has_code_fields_and_retry() {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        details.add_bad_request_violation("type", "expected a letter");
        let status = Status::with_error_details(Code::ResourceExhausted, "too many", details);
        assert_eq!(
            Failure::from(status).in_json(),
            json!({"error": {
                "code": "resource_exhausted",
                "message": "too many",
                "fields": [{"field": "type", "message": "expected a letter"}],
                "retry_after_ms": 1500,
            }})
        );
        assert_eq!(
            Failure::new("not_found: no event type a").in_json(),
            json!({"error": {"code": "not_found", "message": "no event type a"}})
        );
        assert_eq!(
            Failure::new("a.toml: no such file").in_json(),
            json!({"error": {"code": "failed", "message": "a.toml: no such file"}})
        );
    }

    #[test]
    fn failed_connection_names_address_and_advice() {
        let failure = Failure::by_connection(String::from("Connection refused (os error 111)"));
        let text = failure.at("http://127.0.0.1:1").to_string();
        let first = "unavailable: the connection to http://127.0.0.1:1 failed: Connection refused (os error 111)\n  ";
        assert!(
            text.starts_with(first) && text.contains("--server"),
            "{text}"
        );
        let answer = Status::with_error_details(Code::NotFound, "no channel", ErrorDetails::new());
        let text = Failure::from(answer).at("http://127.0.0.1:1").to_string();
        assert_eq!(text, "not_found: no channel");
    }
}
