//! The tokens of the load generator.

use std::fmt;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::error::{Error, Result};

/// The lifetime of a signed token.
const TOKEN_LIFETIME: Duration = Duration::from_hours(24);

/// A value that never shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The source of tokens.
#[derive(Debug, Clone)]
pub enum Tokens {
    /// No tokens: the server accepts anonymous clients.
    None,
    /// The same token for all connections.
    Shared(Secret),
    /// A token for each user, signed here.
    Minted(Minter),
}

impl Tokens {
    /// The token of user `name`, if it has one.
    ///
    /// # Errors
    ///
    /// If the signing key is invalid.
    pub fn token(&self, name: &str) -> Result<Option<Secret>> {
        match self {
            Tokens::None => Ok(None),
            Tokens::Shared(token) => Ok(Some(token.clone())),
            Tokens::Minted(minter) => minter.mint(name).map(Some),
        }
    }
}

/// Signs tokens with HS256.
#[derive(Clone)]
pub struct Minter {
    key: EncodingKey,
    role: String,
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minter")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    roles: [&'a str; 1],
    exp: u64,
}

impl Minter {
    /// Signs with `secret`, for users with role `role`.
    #[must_use]
    pub fn new(secret: &Secret, role: String) -> Self {
        Self {
            key: EncodingKey::from_secret(secret.expose().as_bytes()),
            role,
        }
    }

    fn mint(&self, name: &str) -> Result<Secret> {
        let expiry = SystemTime::now() + TOKEN_LIFETIME;
        let exp = expiry
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let claims = Claims {
            sub: name,
            roles: [&self.role],
            exp,
        };
        tidings_jwt::encode(&Header::new(Algorithm::HS256), &claims, &self.key)
            .map(Secret)
            .map_err(|_| Error::field("hs256-secret", "a key that can sign"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_tokens_differ_and_are_not_printed() {
        let minter = Minter::new(
            &Secret::from("a-secret-of-32-bytes-for-the-test"),
            "service".into(),
        );
        let tokens = Tokens::Minted(minter);
        let one = tokens.token("bench-1").unwrap().unwrap();
        let two = tokens.token("bench-2").unwrap().unwrap();
        assert_ne!(one, two);
        assert_eq!(one.expose().split('.').count(), 3);
        let shown = format!("{tokens:?} {one:?}");
        assert!(
            !shown.contains("a-secret") && !shown.contains(one.expose()),
            "{shown}"
        );
    }

    #[test]
    fn given_token_is_shared() {
        let tokens = Tokens::Shared(Secret::from("abc"));
        assert_eq!(tokens.token("x").unwrap(), tokens.token("y").unwrap());
        assert_eq!(Tokens::None.token("x").unwrap(), None);
    }
}
