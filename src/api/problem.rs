//! Errors as RFC 9457 problem+json.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::error::Error;

/// The media type (RFC 9457 §3).
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The response for an error: its code's status, with `code`, and the field if there is one.
#[must_use]
pub fn problem<B: From<Bytes>>(error: &Error) -> Response<B> {
    let status = StatusCode::from_u16(error.code().http_status());
    problem_with_status(error, status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

/// The same with a more precise HTTP status.
#[must_use]
pub fn problem_with_status<B: From<Bytes>>(error: &Error, status: StatusCode) -> Response<B> {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": error.code().as_str(),
        "detail": error.message(),
    });
    if let (Some(field), Some(map)) = (error.field_name(), body.as_object_mut()) {
        let mut wrong: Vec<Value> = error
            .wrong_places()
            .iter()
            .map(|(path, expected)| json!({ "field": field, "path": path, "message": expected }))
            .collect();
        if wrong.is_empty() {
            wrong.push(json!({ "field": field, "message": error.description() }));
        }
        map.insert("errors".to_owned(), wrong.into());
    }
    let mut response = Response::new(B::from(Bytes::from(body.to_string())));
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
