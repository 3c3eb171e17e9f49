//! Issues tokens, for the command line and for development.

use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::VerifierSettings;
use super::keys;
use crate::error::{Error, Result};
use crate::event::Timestamp;

/// The contents of a new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The user.
    pub user: String,
    /// The roles.
    pub roles: Vec<String>,
    /// The channels that it grants: names, or patterns with a trailing `*`.
    pub channels: Vec<String>,
    /// Its lifetime.
    pub ttl: Duration,
}

/// Issues tokens that a [`Verifier`](super::Verifier) with the same settings accepts.
pub struct TokenMint {
    key: EncodingKey,
    algorithm: Algorithm,
    settings: VerifierSettings,
}

impl TokenMint {
    /// Takes the shared secret and the required claims from the settings.
    ///
    /// # Errors
    /// `failed_precondition` if there is no shared secret, or no algorithm that uses one.
    pub fn new(settings: &VerifierSettings) -> Result<Self> {
        let Some(secret) = settings
            .hs256_secret
            .as_ref()
            .filter(|secret| !secret.is_empty())
        else {
            return Err(Error::precondition("making tokens needs auth.hs256_secret"));
        };
        let algorithm = keys::algorithms(settings, keys::of_secret(settings)?.as_slice())?
            .into_iter()
            .find(|algorithm| algorithm.family() == AlgorithmFamily::Hmac)
            .ok_or_else(|| Error::precondition("making tokens needs HS256 in auth.algorithms"))?;
        Ok(TokenMint {
            key: EncodingKey::from_secret(secret.expose().as_bytes()),
            algorithm,
            settings: settings.clone(),
        })
    }

    /// Issues a token that is valid from now on.
    ///
    /// # Errors
    /// `internal` if signing fails.
    pub fn mint(&self, request: &TokenRequest) -> Result<String> {
        let settings = &self.settings;
        let now = Timestamp::now().as_millis() / 1000;
        let ttl = i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX);
        let mut claims = Map::new();
        put(&mut claims, &settings.user_claim, json!(request.user));
        put(&mut claims, &settings.roles_claim, json!(request.roles));
        if !request.channels.is_empty() {
            put(
                &mut claims,
                &settings.channels_claim,
                json!(request.channels),
            );
        }
        claims.insert(String::from("iat"), json!(now));
        claims.insert(String::from("exp"), json!(now.saturating_add(ttl)));
        if let Some(issuer) = &settings.issuer {
            claims.insert(String::from("iss"), json!(issuer));
        }
        if let Some(audience) = &settings.audience {
            claims.insert(String::from("aud"), json!(audience));
        }
        tidings_jwt::encode(&Header::new(self.algorithm), &claims, &self.key)
            .map_err(|_| Error::internal("the token could not be signed"))
    }
}

impl std::fmt::Debug for TokenMint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenMint").finish_non_exhaustive()
    }
}

/// Sets a claim at a dotted path.
fn put(claims: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            claims.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = claims
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
