//! What the Engine.IO protocol says of requests that it refuses.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::error::Code;

/// A refusal, as the reference implementation numbers and words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// `transport` is neither `polling` nor `websocket`.
    Transport,
    /// There is no session of this `sid`, or no more.
    Session,
    /// A session is opened with GET.
    Method,
    /// Something else is wrong with it.
    Request,
    /// The origin may not connect.
    Forbidden,
    /// `EIO` is not 4.
    Version,
}

impl Failure {
    const fn code(self) -> u8 {
        match self {
            Failure::Transport => 0,
            Failure::Session => 1,
            Failure::Method => 2,
            Failure::Request => 3,
            Failure::Forbidden => 4,
            Failure::Version => 5,
        }
    }

    /// What it would be elsewhere.
    pub(super) const fn means(self) -> Code {
        match self {
            Failure::Session => Code::NotFound,
            Failure::Forbidden => Code::PermissionDenied,
            Failure::Transport | Failure::Method | Failure::Request | Failure::Version => {
                Code::InvalidArgument
            }
        }
    }

    /// What is wrong.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Failure::Transport => "Transport unknown",
            Failure::Session => "Session ID unknown",
            Failure::Method => "Bad handshake method",
            Failure::Request => "Bad request",
            Failure::Forbidden => "Forbidden",
            Failure::Version => "Unsupported protocol version",
        }
    }

    /// The answer: 400, or 403 where it is forbidden.
    pub(super) fn response(self) -> Response<Body> {
        let status = if self == Failure::Forbidden {
            StatusCode::FORBIDDEN
        } else {
            StatusCode::BAD_REQUEST
        };
        self.response_with(status)
    }

    /// The answer, where HTTP has a status that says it better.
    pub(super) fn response_with(self, status: StatusCode) -> Response<Body> {
        let body = json!({ "code": self.code(), "message": self.message() });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
