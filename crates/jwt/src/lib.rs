//! Signs and verifies JSON Web Tokens (RFC 7519) with ring, the cryptography that TLS uses as well.
//!
//! `jsonwebtoken` has two providers: one needs aws-lc, whose C takes longer to compile than any
//! crate of this workspace, the other adds a second implementation of every algorithm. This crate
//! provides a third. Each function here first installs that provider for the process, so that none
//! can be called without it.

mod provider;

use std::sync::Once;

use jsonwebtoken::errors::Result;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;

/// Signs a token with these claims.
///
/// # Errors
///
/// The key can't be used with the algorithm of the header, or the claims can't be serialized as
/// JSON.
pub fn encode<T: Serialize>(header: &Header, claims: &T, key: &EncodingKey) -> Result<String> {
    install();
    jsonwebtoken::encode(header, claims, key)
}

/// Signs a message; the signature is in base64url.
///
/// # Errors
/// The key can't be used with this algorithm.
pub fn sign(message: &[u8], key: &EncodingKey, algorithm: Algorithm) -> Result<String> {
    install();
    jsonwebtoken::crypto::sign(message, key, algorithm)
}

/// True if the signature, in base64url, matches the message.
///
/// # Errors
///
/// The key can't be used with this algorithm, or the signature is not base64url.
pub fn verify(
    signature: &str,
    message: &[u8],
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<bool> {
    install();
    jsonwebtoken::crypto::verify(signature, message, key, algorithm)
}

/// Installs the provider, once per process.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Fails only if the process has a provider already, which then stays in use.
        let _kept = provider::RING.install_default();
    });
}
