//! Tokens as an identity provider would sign them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// The secret of every server under test.
pub const SECRET: &str = "a-secret-of-the-tests-that-is-long-enough-for-hs256";

/// A builder for a JSON Web Token (RFC 7519).
#[derive(Clone)]
pub struct Token {
    claims: Map<String, Value>,
    secret: String,
    algorithm: Algorithm,
}

impl Token {
    /// A token for this user, valid for an hour.
    pub fn new(user: &str) -> Self {
        let claims = Map::from_iter([("sub".to_owned(), json!(user))]);
        Self {
            claims,
            secret: SECRET.to_owned(),
            algorithm: Algorithm::HS256,
        }
        .expires_in(3600)
    }

    /// Sets the roles.
    pub fn roles(self, roles: &[&str]) -> Self {
        self.claim("roles", json!(roles))
    }

    /// Sets this claim.
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    /// Removes this claim.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Valid for this many seconds from now on. Negative if it has expired.
    pub fn expires_in(self, seconds: i64) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let expires = i64::try_from(now).unwrap() + seconds;
        self.claim("exp", json!(expires))
    }

    /// Signed with another secret.
    pub fn secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.secret);
        self
    }

    /// Signed with another HMAC algorithm.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The token.
    pub fn sign(&self) -> String {
        let key = EncodingKey::from_secret(self.secret.as_bytes());
        tidings_jwt::encode(&Header::new(self.algorithm), &self.claims, &key).unwrap()
    }
}

/// A token with this raw payload, which no library would write.
pub fn handmade(payload: &str) -> String {
    let base64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", base64(r#"{"alg":"HS256"}"#), base64(payload));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = tidings_jwt::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.unwrap())
}
