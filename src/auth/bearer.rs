//! Extracts the bearer token of an HTTP request.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::AuthFailure;

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1). `None` if there is no such
/// header, or one of another scheme.
///
/// # Errors
/// [`AuthFailure::Ambiguous`] for several headers, because a proxy in front might have checked
/// another one.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthFailure> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(AUTHORIZATION) {
            Err(AuthFailure::Ambiguous)
        } else {
            Ok(None)
        };
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    Ok(token)
}
