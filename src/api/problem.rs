//! Errors as RFC 9457 problem+json.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::Type;
use utoipa::openapi::schema::{Object, ObjectBuilder};

use crate::error::{Code, Error};

/// The media type (RFC 9457 §3).
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A failure (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status and the code identify the problem.
    pub r#type: String,
    /// The name of the status.
    pub title: String,
    /// The status.
    pub status: u16,
    /// The code, with gRPC's name.
    #[schema(schema_with = code)]
    pub code: String,
    /// What is wrong.
    pub detail: String,
    /// The invalid fields of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// An invalid field, or an invalid place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Its name.
    pub field: String,
    /// A JSON Pointer (RFC 6901) into the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub path: Option<String>,
    /// What was expected.
    pub message: String,
}

fn code() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(Code::ALL.map(Code::as_str)))
        .build()
}

impl Problem {
    fn new(error: &Error, status: StatusCode) -> Self {
        let mut errors = Vec::new();
        if let Some(field) = error.field_name() {
            let wrong = |path: Option<&str>, message: &str| FieldError {
                field: field.to_owned(),
                path: path.map(str::to_owned),
                message: message.to_owned(),
            };
            let places = error.wrong_places().iter();
            errors.extend(places.map(|(path, expected)| wrong(Some(path), expected)));
            if errors.is_empty() {
                errors.push(wrong(None, error.description()));
            }
        }
        Problem {
            r#type: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            code: error.code().as_str().to_owned(),
            detail: error.message(),
            errors,
        }
    }
}

/// The response for a failure: its code's status, with `code`, and the field where there is one.
#[must_use]
pub fn problem<B: From<Bytes>>(error: &Error) -> Response<B> {
    let status = StatusCode::from_u16(error.code().http_status());
    problem_with_status(error, status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

/// The same with a more precise HTTP status.
#[must_use]
pub fn problem_with_status<B: From<Bytes>>(error: &Error, status: StatusCode) -> Response<B> {
    let body = serde_json::to_vec(&Problem::new(error, status)).unwrap_or_default();
    let mut response = Response::new(B::from(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
    if let Some(wait) = error.retry_delay() {
        // Whole seconds, rounded up (RFC 9110 §10.2.3).
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        if let Ok(value) = HeaderValue::try_from(seconds.to_string()) {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
    }
    response
}
