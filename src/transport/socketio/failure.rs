//! The errors of Engine.IO requests.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::error::Code;

/// An error with the number and text of the reference implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// `transport` is neither `polling` nor `websocket`.
    Transport,
    /// No session has this `sid`.
    Session,
    /// A handshake must be a GET.
    Method,
    /// Any other error.
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

    /// The code of the same error on other transports.
    pub(super) const fn means(self) -> Code {
        match self {
            Failure::Session => Code::NotFound,
            Failure::Forbidden => Code::PermissionDenied,
            Failure::Transport | Failure::Method | Failure::Request | Failure::Version => {
                Code::InvalidArgument
            }
        }
    }

    /// The error's text.
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

    /// The response: 400, or 403 for [`Failure::Forbidden`].
    pub(super) fn response(self) -> Response<Body> {
        let status = if self == Failure::Forbidden {
            StatusCode::FORBIDDEN
        } else {
            StatusCode::BAD_REQUEST
        };
        self.response_with(status)
    }

    /// The response with a more precise HTTP status.
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
