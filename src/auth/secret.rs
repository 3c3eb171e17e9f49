//! Secrets that must not be printed.

use std::fmt;

use serde::Deserialize;

/// A secret from the configuration. It can be used but not printed: `Debug` hides it, and there is
/// no `Display`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(Box<str>);

impl Secret {
    /// The shortest secret, in bytes, that is not [weak](Secret::is_weak): HS256 needs a key at
    /// least as long as its hash (RFC 7518 §3.2).
    pub const STRONG_LEN: usize = 32;

    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<Box<str>>) -> Self {
        Secret(secret.into())
    }

    /// Generates a secret of 256 random bits.
    ///
    /// # Errors
    /// `internal` if the system provides no randomness.
    pub fn random() -> crate::error::Result<Self> {
        use base64::Engine;
        use ring::rand::{SecureRandom as _, SystemRandom};
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| crate::error::Error::internal("the system provides no randomness"))?;
        Ok(Secret::new(
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes),
        ))
    }

    /// The secret, for signing and verification only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if it is shorter than [`Secret::STRONG_LEN`], which deserves a warning.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.0.len() < Self::STRONG_LEN
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_never_printed() {
        let secret = Secret::new("correct horse battery staple");
        assert!(!format!("{secret:?} {:?}", Some(&secret)).contains("horse"));
    }

    #[test]
    fn secret_shorter_than_hash_is_weak() {
        assert!(Secret::new("x".repeat(31)).is_weak());
        assert!(!Secret::new("x".repeat(32)).is_weak());
        assert!(!Secret::random().unwrap().is_weak());
    }
}
