//! Reasons for refusing a token.

use std::fmt;

use crate::error::Error;

/// Why a token was refused. The reasons are few and fixed, so each may be a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// There was no token.
    Missing,
    /// Not a signed JWT (RFC 7519) of at most 8 KiB, or one with an unsupported critical extension.
    Malformed,
    /// Its algorithm is not allowed.
    Algorithm,
    /// Its signature is wrong.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `nbf` has not been reached.
    NotYetValid,
    /// `iss` does not match.
    Issuer,
    /// `aud` does not match.
    Audience,
    /// A claim is missing, repeated or invalid.
    Claims,
    /// No known key matches.
    UnknownKey,
    /// An operator revoked it.
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

    /// The reason in metrics and audit records.
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

    /// The message for the client.
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

/// Why a token was not accepted, and whether that is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) failure: AuthFailure,
    /// True if another key set could verify it. Then the keys are fetched before it is refused.
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
