//! Why a token was refused.

use std::fmt;

use crate::error::Error;

/// Why a token was refused. Few and fixed, so that each may be a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// There was none.
    Missing,
    /// Not a signed JWT (RFC 7519) of at most 8 KiB, or one that needs an extension.
    Malformed,
    /// Its algorithm is not allowed.
    Algorithm,
    /// Its signature is wrong.
    Signature,
    /// `exp` is past.
    Expired,
    /// `nbf` is to come.
    NotYetValid,
    /// `iss` is not the one expected.
    Issuer,
    /// `aud` is not the one expected.
    Audience,
    /// Its claims are missing, doubled or not what they should be.
    Claims,
    /// No known key could have signed it.
    UnknownKey,
    /// An operator took it back.
    Revoked,
    /// There was more than one `Authorization` header.
    Ambiguous,
}

impl AuthFailure {
    /// Every reason.
    pub const ALL: [AuthFailure; 12] = [
        AuthFailure::Missing,
        AuthFailure::Malformed,
        AuthFailure::Algorithm,
        AuthFailure::Signature,
        AuthFailure::Expired,
        AuthFailure::NotYetValid,
        AuthFailure::Issuer,
        AuthFailure::Audience,
        AuthFailure::Claims,
        AuthFailure::UnknownKey,
        AuthFailure::Revoked,
        AuthFailure::Ambiguous,
    ];

    /// The reason as it stands in metrics and audit records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthFailure::Missing => "missing",
            AuthFailure::Malformed => "malformed",
            AuthFailure::Algorithm => "algorithm",
            AuthFailure::Signature => "signature",
            AuthFailure::Expired => "expired",
            AuthFailure::NotYetValid => "not_yet_valid",
            AuthFailure::Issuer => "issuer",
            AuthFailure::Audience => "audience",
            AuthFailure::Claims => "claims",
            AuthFailure::UnknownKey => "unknown_key",
            AuthFailure::Revoked => "revoked",
            AuthFailure::Ambiguous => "ambiguous",
        }
    }

    /// What the client is told.
    const fn message(self) -> &'static str {
        match self {
            AuthFailure::Missing => "a token is needed",
            AuthFailure::Malformed => "the token is malformed",
            AuthFailure::Algorithm => "the token's algorithm is not allowed",
            AuthFailure::Signature => "the token's signature is wrong",
            AuthFailure::Expired => "the token has expired",
            AuthFailure::NotYetValid => "the token is not valid yet",
            AuthFailure::Issuer => "the token is from another issuer",
            AuthFailure::Audience => "the token is for another audience",
            AuthFailure::Claims => "the token's claims are missing or not as expected",
            AuthFailure::UnknownKey => "the token's key is not known",
            AuthFailure::Revoked => "the token was revoked",
            AuthFailure::Ambiguous => "expected one authorization header, not several",
        }
    }
}

/// Why a token was not taken, and whether that is the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) failure: AuthFailure,
    /// True where another set of keys could find it good: then it is not judged before the keys
    /// were fetched.
    pub(super) by_keys: bool,
}

impl From<AuthFailure> for Refusal {
    fn from(failure: AuthFailure) -> Self {
        Refusal {
            failure,
            by_keys: false,
        }
    }
}

impl fmt::Display for AuthFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<AuthFailure> for Error {
    fn from(failure: AuthFailure) -> Self {
        Error::unauthenticated(failure.message())
    }
}
