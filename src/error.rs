//! The catalogue of all errors that clients see.
//!
//! Each [`Code`] has one meaning on all transports. Only this file maps it to a gRPC status, an
//! HTTP status and a retry rule. [`CloseCode`] does the same for the WebSocket.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The result of a client's request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of failure. Named like gRPC's codes, in lower case with underscores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The request is invalid. Sending it again does not help.
    InvalidArgument,
    /// There is no valid token. Obtain a new one.
    Unauthenticated,
    /// The identity lacks the permission.
    PermissionDenied,
    /// The resource does not exist.
    NotFound,
    /// The resource exists already.
    AlreadyExists,
    /// The server or channel is not configured for this.
    FailedPrecondition,
    /// A limit was reached. Retry after `retry_after`, if it is given.
    ResourceExhausted,
    /// A position or page is outside of what exists.
    OutOfRange,
    /// Temporarily unavailable. Retry.
    Unavailable,
    /// An internal error of the server.
    Internal,
}

impl Code {
    /// Every code, in the order of [`Code::index`].
    pub const ALL: [Code; 10] = [
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::ResourceExhausted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::Internal,
    ];

    /// The code as it appears in messages, metrics and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::InvalidArgument => "invalid_argument",
            Code::Unauthenticated => "unauthenticated",
            Code::PermissionDenied => "permission_denied",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::FailedPrecondition => "failed_precondition",
            Code::ResourceExhausted => "resource_exhausted",
            Code::OutOfRange => "out_of_range",
            Code::Unavailable => "unavailable",
            Code::Internal => "internal",
        }
    }

    /// The index of the code in [`Code::ALL`], for tables of counters.
    #[must_use]
    #[expect(
        clippy::as_conversions,
        reason = "the only way to a discriminant in a const fn"
    )]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The HTTP status, as `google.rpc.Code` documents the mapping.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists => 409,
            Code::ResourceExhausted => 429,
            Code::Unavailable => 503,
            Code::Internal => 500,
        }
    }

    /// The number in `google.rpc.Code`.
    #[must_use]
    pub const fn grpc(self) -> i32 {
        match self {
            Code::InvalidArgument => 3,
            Code::NotFound => 5,
            Code::AlreadyExists => 6,
            Code::PermissionDenied => 7,
            Code::ResourceExhausted => 8,
            Code::FailedPrecondition => 9,
            Code::OutOfRange => 11,
            Code::Internal => 13,
            Code::Unavailable => 14,
            Code::Unauthenticated => 16,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure that a client receives. It never contains a token, a secret or a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    code: Code,
    message: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    places: Vec<(String, String)>,
}

impl Error {
    /// A failure with a message for developers.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner {
            code,
            message: message.into(),
            field: None,
            retry_after: None,
            places: Vec::new(),
        }))
    }

    /// An invalid field of a request: its name and what was expected.
    pub fn field(
        field: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut error = Error::new(Code::InvalidArgument, expected);
        error.0.field = Some(field.into());
        error
    }

    /// An invalid field, with the places within its value. Each is a JSON Pointer (RFC 6901), empty
    /// for the whole value, and what was expected there. The message lists all of them.
    pub fn places(field: &'static str, places: impl IntoIterator<Item = (String, String)>) -> Self {
        let places: Vec<(String, String)> = places.into_iter().collect();
        let listed = places.iter().map(|(path, expected)| match path.as_str() {
            "" => expected.clone(),
            path => format!("{field}{path}: {expected}"),
        });
        let mut error = Error::field(field, listed.collect::<Vec<_>>().join("; "));
        error.0.places = places;
        error
    }

    /// The same failure one level up: `field` becomes `outer.field`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        if let Some(field) = &self.0.field {
            self.0.field = Some(Cow::Owned(format!("{outer}.{field}")));
        }
        self
    }

    /// The same failure, attributed to this field of the request.
    #[must_use]
    pub fn about(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// The same failure, shortened to at most [`Error::BRIEF`] bytes in every form. For responses
    /// that contain many failures.
    #[must_use]
    pub fn brief(mut self) -> Self {
        const BRIEF_TEXT: usize = 200;
        let clip = |text: &mut Cow<'static, str>| {
            if text.len() > BRIEF_TEXT {
                let end = (0..=BRIEF_TEXT).rev().find(|at| text.is_char_boundary(*at));
                let start = text.get(..end.unwrap_or_default()).unwrap_or_default();
                *text = Cow::Owned(format!("{start}…"));
            }
        };
        clip(&mut self.0.message);
        if let Some(field) = &mut self.0.field {
            clip(field);
        }
        self.0.places = Vec::new();
        self
    }

    /// The most bytes of a shortened failure.
    pub const BRIEF: usize = 1536;

    /// Sets when to retry.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Appends a sentence to the message.
    #[must_use]
    pub fn note(mut self, more: &str) -> Self {
        self.0.message = Cow::Owned(format!("{}; {more}", self.0.message));
        self
    }
    /// [`Code::InvalidArgument`].
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::InvalidArgument, message)
    }
    /// [`Code::Unauthenticated`].
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::Unauthenticated, message)
    }
    /// [`Code::PermissionDenied`].
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::PermissionDenied, message)
    }
    /// [`Code::NotFound`].
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::NotFound, message)
    }
    /// [`Code::FailedPrecondition`].
    pub fn precondition(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::FailedPrecondition, message)
    }
    /// [`Code::ResourceExhausted`].
    pub fn exhausted(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::ResourceExhausted, message)
    }
    /// [`Code::Unavailable`].
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::Unavailable, message)
    }
    /// [`Code::Internal`].
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::Internal, message)
    }

    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }
    /// The message, prefixed with the field's name if there is one.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.0.field {
            Some(field) => format!("{field}: {}", self.0.message),
            None => self.0.message.clone().into_owned(),
        }
    }
    /// The invalid field of the request, as a dotted path.
    #[must_use]
    pub fn field_name(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
    /// What was expected, without the field's name.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.0.message
    }
    /// The places within the field, as [`Error::places`] takes them. Empty if they are not known.
    #[must_use]
    pub fn wrong_places(&self) -> &[(String, String)] {
        &self.0.places
    }
    /// When to retry.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message())
    }
}

impl std::error::Error for Error {}

/// Why the server closes a WebSocket (RFC 6455 §7.4; 4000–4999 are for private use).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The client requested it.
    Normal = 1000,
    /// The server shuts down.
    Shutdown = 1001,
    /// A frame violates RFC 6455.
    Protocol = 1002,
    /// A binary message, but the dialect is text only.
    Unsupported = 1003,
    /// A text message is not UTF-8, or data cannot be inflated.
    InvalidPayload = 1007,
    /// A message exceeds `limits.message_bytes`.
    TooBig = 1009,
    /// An internal error of the server.
    Internal = 1011,
    /// The server restarts. The message `reconnect` contains the delay.
    Restart = 1012,
    /// The server is at capacity. Reconnect later.
    Full = 1013,
    /// No valid token, or it has expired. Obtain a new one.
    Unauthenticated = 4401,
    /// Not permitted. Do not reconnect.
    Forbidden = 4403,
    /// Nothing was received for `heartbeat.timeout`. Reconnect.
    HeartbeatTimeout = 4408,
    /// An operator disconnected it.
    Disconnected = 4410,
    /// The outbox was full. Reconnect and resume.
    TooSlow = 4411,
    /// Exceeded `limits.messages_per_second` for too long. Reconnect later.
    TooManyMessages = 4429,
}

impl From<tidings_websocket::CloseCode> for CloseCode {
    fn from(code: tidings_websocket::CloseCode) -> Self {
        match code {
            tidings_websocket::CloseCode::Protocol => CloseCode::Protocol,
            tidings_websocket::CloseCode::InvalidPayload => CloseCode::InvalidPayload,
            tidings_websocket::CloseCode::TooBig => CloseCode::TooBig,
        }
    }
}

impl CloseCode {
    /// The number in the close frame.
    #[must_use]
    #[expect(
        clippy::as_conversions,
        reason = "the only way to a discriminant in a const fn"
    )]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The reason in the close frame, unless the server gives another.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            CloseCode::Normal => "",
            CloseCode::Shutdown => "the server stops",
            CloseCode::Protocol => "protocol error",
            CloseCode::Unsupported => "binary messages are not taken here",
            CloseCode::InvalidPayload => "invalid payload",
            CloseCode::TooBig => "message too big",
            CloseCode::Internal => "internal error",
            CloseCode::Restart => "the server restarts",
            CloseCode::Full => "the server is full",
            CloseCode::Unauthenticated => "unauthenticated",
            CloseCode::Forbidden => "forbidden",
            CloseCode::HeartbeatTimeout => "heartbeat timeout",
            CloseCode::Disconnected => "disconnected by an operator",
            CloseCode::TooSlow => "too slow",
            CloseCode::TooManyMessages => "too many messages",
        }
    }

    /// The code for a failure that ends a connection.
    #[must_use]
    pub const fn for_code(code: Code) -> Self {
        match code {
            Code::Unauthenticated => CloseCode::Unauthenticated,
            Code::PermissionDenied => CloseCode::Forbidden,
            Code::ResourceExhausted | Code::Unavailable => CloseCode::Full,
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Internal => CloseCode::Internal,
        }
    }
}
