//! Responses: JSON, or a problem.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::api::problem::{problem, problem_with_status};
use crate::error::{Code, Error};

/// The result of a handler.
pub(super) type Answer = Result<Response, Refusal>;

/// An error to be sent to the client. The response carries its [`Code`] as an extension, for the
/// metrics.
#[derive(Debug)]
pub(super) struct Refusal {
    error: Error,
    status: Option<StatusCode>,
}

impl Refusal {
    /// An error with a more precise HTTP status than the code's own.
    pub(super) fn with_status(error: Error, status: StatusCode) -> Self {
        Refusal {
            error,
            status: Some(status),
        }
    }

    /// The error.
    pub(super) fn error(&self) -> &Error {
        &self.error
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal {
            error,
            status: None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response: Response = match self.status {
            Some(status) => problem_with_status(&self.error, status),
            None => problem(&self.error),
        };
        if self.error.code() == Code::Unauthenticated {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response.extensions_mut().insert(self.error.code());
        response
    }
}

/// JSON that caches must not store, because it describes the current state.
pub(super) fn json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value)
        .map_err(|_| Error::internal("the answer could not be written as JSON"))?;
    Ok(json_text(text.into()))
}

/// The same for encoded JSON.
pub(super) fn json_text(text: Bytes) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Success without content.
pub(super) fn nothing() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The path exists, but not for this method; the router adds `Allow` (RFC 9110 §15.5.6).
pub(super) async fn not_allowed() -> Refusal {
    let text = format!("the header {ALLOW} names the methods that this path takes");
    Refusal::with_status(Error::invalid(text), StatusCode::METHOD_NOT_ALLOWED)
}
