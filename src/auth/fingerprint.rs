//! Fingerprints, which identify a token without storing it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The first 128 bits of a SHA-256 digest. Enough to recognize a token, useless for authentication.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of a token's signed part. Some signatures have a second encoding that anyone
    /// can compute, and a revocation must cover both.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Fingerprint::exact(token.rsplit_once('.').map_or(token, |(signed, _)| signed))
    }

    /// Its bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A stored fingerprint.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Fingerprint(bytes)
    }

    /// The fingerprint of a whole token, including its signature.
    pub(super) fn exact(text: &str) -> Self {
        Fingerprint::of_bytes(text.as_bytes())
    }

    /// The fingerprint of some bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Fingerprint(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::field("fingerprint", "expected 32 hexadecimal digits");
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let bits = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
        Ok(Fingerprint(bits.to_be_bytes()))
    }
}
